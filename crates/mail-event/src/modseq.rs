//! MODSEQ, the 63-bit number of a message's last change.

use std::fmt;

/// A mod-sequence of one message (RFC 7162; RFC 5423, section 5, modseq): 1 to 2^63−1.
///
/// In JSON it is a number up to 2^53−1 and a decimal string above, since many readers of JSON
/// round larger numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Modseq(u64);

impl Modseq {
    /// Nothing for 0 and above 2^63−1.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        (1..=i64::MAX.unsigned_abs()).contains(&value).then_some(Self(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Modseq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r125_the_largest_modseq_has_63_bits() {
        assert_eq!(Modseq::new(0x7FFF_FFFF_FFFF_FFFF).unwrap().get(), 0x7FFF_FFFF_FFFF_FFFF);
        assert_eq!(Modseq::new(0x8000_0000_0000_0000), None);
        assert_eq!(Modseq::new(0), None);
    }
}
