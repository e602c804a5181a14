//! What a file would become, line by line.

use similar::{Algorithm, DiffTag};

/// One line of a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Line<'a> {
    /// It stays.
    Same(&'a str),
    /// It comes.
    New(&'a str),
    /// It goes.
    Old(&'a str),
}

/// The lines of `old` and `new`, as few of them going and coming as can be.
pub(super) fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut all = Vec::with_capacity(new.len());
    for step in similar::capture_diff_slices(Algorithm::Myers, &old, &new) {
        let (tag, from, to) = step.as_tag_tuple();
        let (from, to) = (old.get(from).unwrap_or_default(), new.get(to).unwrap_or_default());
        if tag == DiffTag::Equal {
            all.extend(to.iter().copied().map(Line::Same));
        } else {
            all.extend(from.iter().copied().map(Line::Old));
            all.extend(to.iter().copied().map(Line::New));
        }
    }
    all
}

/// The difference for reading; of a new file longer than `most` lines, only how it begins.
pub(super) fn shown(old: Option<&str>, new: &str, most: usize) -> Vec<String> {
    let Some(old) = old else {
        let count = new.lines().count();
        let all = new.lines().map(|line| format!("+ {line}"));
        if count <= most {
            return all.map(|line| line.trim_end().to_owned()).collect();
        }
        let begin = most.min(BEGIN);
        let mut begun: Vec<String> =
            all.take(begin).map(|line| line.trim_end().to_owned()).collect();
        begun.push(format!("+ … {} more lines (--full shows them)", count - begin));
        return begun;
    };
    let all = lines(old, new);
    let is_change = |line: &Line<'_>| !matches!(line, Line::Same(_));
    let mut shown: Vec<String> = Vec::new();
    let mut is_left_out = false;
    for (at, line) in all.iter().enumerate() {
        let near = all.iter().skip(at.saturating_sub(AROUND)).take(at.min(AROUND) + AROUND + 1);
        if near.clone().any(is_change) {
            if std::mem::take(&mut is_left_out) && !shown.is_empty() {
                shown.push("  …".to_owned());
            }
            let text = match line {
                Line::Same(text) => format!("  {text}"),
                Line::New(text) => format!("+ {text}"),
                Line::Old(text) => format!("- {text}"),
            };
            shown.push(text.trim_end().to_owned());
        } else {
            is_left_out = true;
        }
    }
    shown
}

/// As much of a long file as tells what it is.
const BEGIN: usize = 16;

/// Lines around a change that tell where it is.
const AROUND: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_shown_with_a_little_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let new = "a\nb\nc\nd\nE\nf\ng\nh\n";
        assert_eq!(shown(Some(old), new, 0), ["  c", "  d", "- e", "+ E", "  f", "  g"]);
        let new = "A\nb\nc\nd\ne\nf\ng\nh\ni\n";
        let both = ["- a", "+ A", "  b", "  c", "  …", "  g", "  h", "+ i"];
        assert_eq!(shown(Some(old), new, 0), both);
        assert_eq!(shown(Some(old), old, 0), [""; 0]);
        assert_eq!(shown(Some("a\n"), "", 0), ["- a"]);
        assert_eq!(shown(Some("a\na\n"), "a\n", 0), ["  a", "- a"]);
    }

    #[test]
    fn of_a_long_new_file_the_beginning_is_shown() {
        assert_eq!(shown(None, "a\n\nb\n", 3), ["+ a", "+", "+ b"]);
        assert_eq!(shown(None, "a\nb\nc\n", 1), ["+ a", "+ … 2 more lines (--full shows them)"]);
    }

    #[test]
    fn a_difference_leads_from_the_old_to_the_new() {
        for (old, new) in [("", "a"), ("a\nb", "b\na"), ("x\na\nx", "x"), ("a\na", "a\na\na")] {
            let all = lines(old, new);
            let of = |wanted: fn(&Line<'_>) -> bool| -> Vec<&str> {
                let kept = all.iter().filter(|line| wanted(line));
                kept.map(|line| match line {
                    Line::Same(text) | Line::New(text) | Line::Old(text) => *text,
                })
                .collect()
            };
            let was = of(|line| !matches!(line, Line::New(_)));
            let is = of(|line| !matches!(line, Line::Old(_)));
            assert_eq!((was.join("\n"), is.join("\n")), (old.to_owned(), new.to_owned()));
        }
    }
}
