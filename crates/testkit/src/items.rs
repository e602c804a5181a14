//! Reads the names and values in an IMAP answer.

/// The pairs in the inside of a parenthesised list, such as `UID 4 FLAGS (\Seen)`.
///
/// A value keeps its form, save that a string comes without its quotes or its literal's length.
/// Ends at the first thing it doesn't understand.
pub(crate) fn pairs(mut text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = value(text) {
        let Some((value, rest)) = value(rest) else { break };
        found.push((String::from_utf8_lossy(name).to_ascii_uppercase(), value.to_vec()));
        text = rest;
    }
    found
}

/// One value and what follows it.
pub(crate) fn value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    match text.first()? {
        b'(' => text.split_at_checked(list_length(text)?),
        b'"' => {
            let length = quoted_length(text)?;
            Some((text.get(1..length - 1)?, text.get(length..)?))
        }
        b'{' => {
            let (start, end) = literal(text)?;
            Some((text.get(start..end)?, text.get(end..)?))
        }
        _ => {
            let length = atom_length(text);
            (length > 0).then(|| text.split_at_checked(length)).flatten()
        }
    }
}

/// An atom; blanks inside its square brackets are its own (`BODY[HEADER.FIELDS (TO)]`).
fn atom_length(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    for (at, octet) in text.iter().enumerate() {
        match octet {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b' ' | b'(' | b')' if depth == 0 => return at,
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

/// Where a literal's octets begin and end. The client leaves CRLF after the length.
fn literal(text: &[u8]) -> Option<(usize, usize)> {
    let close = text.iter().position(|&octet| octet == b'}')?;
    let digits = std::str::from_utf8(text.get(1..close)?).ok()?;
    let length: usize = digits.trim_end_matches('+').parse().ok()?;
    let start = close + 3;
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
    use super::*;

    #[test]
    fn parentheses_inside_strings_do_not_end_a_list() {
        let found = pairs(b"UID 4 BODYSTRUCTURE (\"a)\" {3}\r\n)(\" (x)) BODY[HEADER.FIELDS (TO)] {2}\r\nhi FLAGS ()");
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        assert_eq!(
            found,
            [
                ("UID", "4".to_owned()),
                ("BODYSTRUCTURE", "(\"a)\" {3}\r\n)(\" (x))".to_owned()),
                ("BODY[HEADER.FIELDS (TO)]", "hi".to_owned()),
                ("FLAGS", "()".to_owned()),
            ]
        );
    }

    #[test]
    fn what_breaks_off_ends_the_pairs() {
        assert_eq!(pairs(b"UID 4 BODY[] {10}\r\nshort").len(), 1);
    }
}
