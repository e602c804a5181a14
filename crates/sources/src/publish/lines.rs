//! The lines of an NDJSON body.

use std::ops::Range;

/// One line that is not empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its number, counted from 1, empty ones included.
    pub number: usize,
    /// Where it stands, without its line end.
    pub range: Range<usize>,
}

/// The lines of a body that hold more than white space, without copying any.
///
/// ```
/// use postbell_sources::publish::Lines;
///
/// let body = b"{}\r\n\n[]";
/// let lines: Vec<_> = Lines::new(body).map(|line| (line.number, line.range)).collect();
/// assert_eq!(lines, [(1, 0..2), (3, 5..7)]);
/// ```
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    body: &'a [u8],
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    /// Begins at the start of `body`.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, number: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or_default();
            let start = self.at;
            self.at += length + 1;
            self.number += 1;
            let blank = line.len() - line.trim_ascii_start().len();
            let kept = line.trim_ascii().len();
            if kept > 0 {
                let from = start + blank;
                return Some(Line { number: self.number, range: from..from + kept });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_needs_no_end_and_empty_ones_only_count() {
        let body = b"\n one \n\t\r\ntwo";
        let found: Vec<_> = Lines::new(body).map(|line| (line.number, &body[line.range])).collect();
        assert_eq!(found, [(2, &b"one"[..]), (4, b"two")]);
        assert_eq!(Lines::new(b"").count(), 0);
        assert_eq!(Lines::new(b"\n\n").count(), 0);
    }
}
