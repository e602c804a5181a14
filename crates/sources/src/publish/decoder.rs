//! Where the frames stand in what was read.

use std::ops::Range;

use mail_event::limits::EVENT_OCTETS_MAX;

use super::LENGTH_OCTETS;

/// Finds the whole frames at the start of a buffer, one after the other.
///
/// Looks at lengths only and copies nothing, so it can't fail but for a length over the limit,
/// after which nothing in the buffer means anything any more.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    buffer: &'a [u8],
    at: usize,
    wanted: usize,
}

/// A frame says it is longer than an event may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a frame of {octets} octets is over the limit of {EVENT_OCTETS_MAX}")]
pub struct TooLong {
    /// What it says.
    pub octets: u32,
}

impl<'a> Decoder<'a> {
    /// Begins at the start of `buffer`.
    #[must_use]
    pub fn new(buffer: &'a [u8]) -> Self {
        Self { buffer, at: 0, wanted: 0 }
    }

    /// Where the last whole frame ended: what may be dropped from the buffer.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// Once there is no whole frame any more: how many octets are still missing of the next one,
    /// as far as can be told; at least 1.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted.max(1)
    }
}

impl Iterator for Decoder<'_> {
    /// Where in the buffer the event of a frame stands.
    type Item = Result<Range<usize>, TooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_OCTETS>() else {
            self.wanted = LENGTH_OCTETS - rest.len();
            return None;
        };
        let octets = u32::from_be_bytes(*length);
        let length = usize::try_from(octets).unwrap_or(usize::MAX);
        if length > EVENT_OCTETS_MAX {
            return Some(Err(TooLong { octets }));
        }
        if rest.len() < length {
            self.wanted = length - rest.len();
            return None;
        }
        let start = self.at + LENGTH_OCTETS;
        self.at = start + length;
        Some(Ok(start..self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::frame;

    fn frames(buffer: &[u8]) -> (Vec<&[u8]>, usize, usize) {
        let mut decoder = Decoder::new(buffer);
        let mut found = Vec::new();
        for range in decoder.by_ref() {
            found.push(&buffer[range.unwrap()]);
        }
        (found, decoder.consumed(), decoder.wanted())
    }

    #[test]
    fn cut_anywhere_whole_frames_are_found_and_the_rest_is_left() {
        let mut all = Vec::new();
        for event in [&b"one"[..], b"", b"three"] {
            frame(&mut all, event);
        }
        for end in 0..=all.len() {
            let (found, consumed, wanted) = frames(&all[..end]);
            let whole = [7, 11, 20].iter().filter(|whole| **whole <= end).count();
            assert_eq!(found.len(), whole, "{end}");
            assert_eq!(consumed, [0, 7, 11, 20][whole]);
            assert!(end == all.len() || end + wanted <= all.len(), "{end} {wanted}");
        }
        assert_eq!(frames(&all).0, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn a_length_over_the_limit_is_told_before_anything_is_read() {
        let over = u32::try_from(EVENT_OCTETS_MAX).unwrap() + 1;
        let buffer = over.to_be_bytes();
        let mut decoder = Decoder::new(&buffer);
        assert_eq!(decoder.next(), Some(Err(TooLong { octets: over })));
        assert_eq!(decoder.consumed(), 0);
    }

    #[test]
    fn it_says_how_much_is_missing() {
        assert_eq!(frames(&[0, 0]).2, 2);
        assert_eq!(frames(&[0, 0, 1, 0, b'x']).2, 255);
    }
}
