//! Words of IMAP: what stands between the blanks of a command or an answer.

use std::borrow::Cow;

/// One word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Word<'a> {
    /// An atom, as it stands; `NIL` is one, too.
    Atom(&'a [u8]),
    /// What a quoted string or a literal holds.
    Text(Cow<'a, [u8]>),
    /// A list, with its parentheses.
    List(&'a [u8]),
}

impl<'a> Word<'a> {
    /// What it says, where it isn't a list.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Atom(octets) => Some(String::from_utf8_lossy(octets)),
            Self::Text(octets) => Some(String::from_utf8_lossy(octets)),
            Self::List(_) => None,
        }
    }
}

/// The words of `text`, up to the first thing that is none.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = Word<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, after) = word(rest)?;
        rest = after;
        Some(word)
    })
}

/// The first word and what follows it.
pub(super) fn word(text: &[u8]) -> Option<(Word<'_>, &[u8])> {
    let text = text.trim_ascii_start();
    match text.first()? {
        b'(' => {
            let (list, rest) = text.split_at_checked(list_length(text)?)?;
            Some((Word::List(list), rest))
        }
        b'"' => {
            let length = quoted_length(text)?;
            let inside = text.get(1..length - 1)?;
            Some((Word::Text(unescaped(inside)), text.get(length..)?))
        }
        b'{' => {
            let (start, end) = literal(text)?;
            Some((Word::Text(Cow::Borrowed(text.get(start..end)?)), text.get(end..)?))
        }
        _ => {
            let (atom, rest) = text.split_at_checked(atom_length(text))?;
            (!atom.is_empty()).then_some((Word::Atom(atom), rest))
        }
    }
}

/// An atom; blanks and parentheses inside its square brackets are its own
/// (`BODY[HEADER.FIELDS (TO)]`).
fn atom_length(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (at, octet) in text.iter().enumerate() {
        match octet {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b' ' | b'(' | b')' if depth == 0 => return at,
            b'\r' | b'\n' => return at,
            _ => {}
        }
    }
    text.len()
}

fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn unescaped(inside: &[u8]) -> Cow<'_, [u8]> {
    if !inside.contains(&b'\\') {
        return Cow::Borrowed(inside);
    }
    let mut out = Vec::with_capacity(inside.len());
    let mut is_escaped = false;
    for octet in inside {
        is_escaped = *octet == b'\\' && !is_escaped;
        if !is_escaped {
            out.push(*octet);
        }
    }
    Cow::Owned(out)
}

/// Where a literal's octets begin and end.
fn literal(text: &[u8]) -> Option<(usize, usize)> {
    let close = text.iter().position(|octet| *octet == b'}')?;
    let digits = std::str::from_utf8(text.get(1..close)?).ok()?;
    let length: usize = digits.strip_suffix('+').unwrap_or(digits).parse().ok()?;
    let start = close + 3;
    if text.get(close + 1..start)? != b"\r\n" {
        return None;
    }
    Some((start, start.checked_add(length)?))
}

fn list_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at += quoted_length(text.get(at..)?)? - 1,
            b'{' => at += literal(text.get(at..)?)?.1 - 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &[u8]) -> Vec<String> {
        let one = |word: Word<'_>| match &word {
            Word::List(list) => String::from_utf8_lossy(list).into_owned(),
            word => word.text().unwrap().into_owned(),
        };
        words(text).map(one).collect()
    }

    #[test]
    fn a_word_comes_without_what_only_marks_it() {
        let text = b"INBOX \"a \\\"b\\\" \\\\c\" {3}\r\nx y (a \")\" {1}\r\n)) BODY[HEADER.FIELDS (TO)] NIL\r\n";
        let wanted = [
            "INBOX",
            "a \"b\" \\c",
            "x y",
            "(a \")\" {1}\r\n))",
            "BODY[HEADER.FIELDS (TO)]",
            "NIL",
        ];
        assert_eq!(texts(text), wanted);
    }

    #[test]
    fn what_breaks_off_ends_the_words() {
        assert_eq!(texts(b"a \"b"), ["a"]);
        assert_eq!(texts(b"a {10}\r\nshort"), ["a"]);
        assert_eq!(texts(b"a {99999999999999999999}\r\n"), ["a"]);
        assert_eq!(texts(b"a (b (c)"), ["a"]);
        assert_eq!(texts(b"a ) b"), ["a"]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_to_an_end(text in "[ ()\"\\\\{}a0-9\r\n\\[\\]]{0,60}") {
            let octets = words(text.as_bytes()).count();
            prop_assert!(octets <= text.len());
        }
    }
}
