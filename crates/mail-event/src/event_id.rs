//! What identifies an event wherever it goes.

use std::fmt;
use std::str::FromStr;

/// A 26-character identifier in the shape of a ULID: 48 bits of time, then 80 bits of its own.
///
/// ```
/// use mail_event::EventId;
///
/// let id = EventId::new(1_469_922_850_259, 0x1234);
/// assert_eq!(id.to_string().parse::<EventId>()?, id);
/// # Ok::<(), mail_event::InvalidEventId>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId(u128);

impl EventId {
    /// From milliseconds since 1970 (the low 48 bits count) and the low 80 bits of `own`.
    #[must_use]
    pub fn new(unix_millis: u64, own: u128) -> Self {
        let time = u128::from(unix_millis) & ((1 << 48) - 1);
        Self((time << 80) | (own & ((1 << 80) - 1)))
    }

    /// From all 128 bits.
    #[must_use]
    pub fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// All 128 bits.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// The characters, without allocating.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 26] {
        let mut text = [b'0'; 26];
        let mut bits = self.0;
        for place in text.iter_mut().rev() {
            let digit = (bits & 31) as usize;
            *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        text
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.to_bytes();
        f.pad(std::str::from_utf8(&bytes).unwrap_or_default())
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEventId(text.chars().take(64).collect());
        if text.len() != 26 || text.as_bytes().first().is_some_and(|byte| *byte > b'7') {
            return Err(invalid());
        }
        let mut bits = 0_u128;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = ALPHABET.iter().position(|letter| *letter == upper);
            bits = (bits << 5) | (digit.ok_or_else(invalid)? as u128);
        }
        Ok(Self(bits))
    }
}

/// Why a text is not an event id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not an event id of 26 characters")]
pub struct InvalidEventId(String);

/// Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_as_text_and_as_numbers() {
        let (early, late) = (EventId::new(1_000, u128::MAX), EventId::new(1_001, 0));
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000U"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        assert_eq!(EventId::from_u128(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    }
}
