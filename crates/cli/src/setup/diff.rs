//! What a file would become, line by line.

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

/// The lines of `old` and `new`: what both begin and end with stays, the rest goes and comes.
///
/// Our files change little between two versions; a shortest difference is not needed to see that.
pub(super) fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let shorter = old.len().min(new.len());
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let end = end.min(shorter - begin);
    let middle = |lines: &[&'a str]| -> Vec<&'a str> {
        lines.get(begin..lines.len() - end).unwrap_or_default().to_vec()
    };
    let mut all: Vec<Line<'a>> = new.iter().take(begin).copied().map(Line::Same).collect();
    all.extend(middle(&old).into_iter().map(Line::Old));
    all.extend(middle(&new).into_iter().map(Line::New));
    all.extend(new.iter().skip(new.len() - end).copied().map(Line::Same));
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
    let mut shown = Vec::new();
    for (at, line) in all.iter().enumerate() {
        let near = all.iter().skip(at.saturating_sub(AROUND)).take(at.min(AROUND) + AROUND + 1);
        if near.clone().any(is_change) {
            let text = match line {
                Line::Same(text) => format!("  {text}"),
                Line::New(text) => format!("+ {text}"),
                Line::Old(text) => format!("- {text}"),
            };
            shown.push(text.trim_end().to_owned());
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
