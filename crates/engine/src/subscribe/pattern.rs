//! IMAP's LIST wildcards (RFC 9051, section 6.3.9).

use std::str::FromStr;

use memchr::memchr;

/// A mailbox name, or many.
///
/// `*` stands for any octets, `%` for any without the hierarchy's `/`; all else stands for
/// itself. INBOX is recognised in any case, other names are not.
///
/// Whatever the pattern, looking whether a name fits takes no longer than the product of both
/// lengths.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Pattern {
    /// Up to the first wildcard.
    prefix: Box<[u8]>,
    rest: Rest,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Rest {
    /// No wildcard.
    Nothing,
    /// `*` alone.
    Anything,
    /// `%` alone.
    Level,
    /// Anything else, from the first wildcard on.
    Parts(Box<[u8]>),
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > PATTERN_OCTETS_MAX {
            return Err(InvalidPattern::Length);
        }
        if text.contains('\0') {
            return Err(InvalidPattern::Nul(text.to_owned()));
        }
        let octets = text.as_bytes();
        let at = octets.iter().position(is_wild).unwrap_or(octets.len());
        let (prefix, rest) = octets.split_at_checked(at).unwrap_or((octets, &[]));
        let rest = match rest {
            [] => Rest::Nothing,
            b"*" => Rest::Anything,
            b"%" => Rest::Level,
            parts => Rest::Parts(parts.into()),
        };
        Ok(Self { prefix: prefix.into(), rest })
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing, or too much.
    #[error("a mailbox pattern has 1 to {PATTERN_OCTETS_MAX} octets")]
    Length,
    /// It can fit nothing.
    #[error("{0:?} holds a NUL, which no mailbox's name has")]
    Nul(String),
}

impl Pattern {
    /// Whether a mailbox is one of those meant.
    #[must_use]
    pub fn matches(&self, mailbox: &str) -> bool {
        let name = mailbox.as_bytes();
        let case = if name.eq_ignore_ascii_case(INBOX) { Case::Ignored } else { Case::Kept };
        let Some((start, rest)) = name.split_at_checked(self.prefix.len()) else { return false };
        if !case.same(&self.prefix, start) {
            return false;
        }
        match &self.rest {
            Rest::Nothing => rest.is_empty(),
            Rest::Anything => true,
            Rest::Level => memchr(SEPARATOR, rest).is_none(),
            Rest::Parts(parts) => walk(parts, rest, case),
        }
    }
}

impl Pattern {
    /// This mailbox and no other; INBOX in any case.
    pub(super) fn exactly(name: &str) -> Self {
        Self { prefix: name.as_bytes().into(), rest: Rest::Nothing }
    }

    /// The one name meant, where there is no wildcard.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        (self.rest == Rest::Nothing).then_some(&self.prefix)
    }

    /// What every name meant begins with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What every name meant ends with, where there is a wildcard before it.
    pub(super) fn suffix(&self) -> &[u8] {
        match &self.rest {
            Rest::Parts(parts) => parts.rsplit(is_wild).next().unwrap_or_default(),
            Rest::Nothing | Rest::Anything | Rest::Level => &[],
        }
    }
}

fn is_wild(octet: &u8) -> bool {
    matches!(octet, b'*' | b'%')
}

#[derive(Clone, Copy)]
enum Case {
    Kept,
    Ignored,
}

impl Case {
    fn same(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Self::Kept => a == b,
            Self::Ignored => a.eq_ignore_ascii_case(b),
        }
    }
}

/// Follows all ways through the pattern at once, so that no choice is ever tried twice: the time
/// taken is at most the product of both lengths, whatever they hold.
fn walk(parts: &[u8], name: &[u8], case: Case) -> bool {
    // alive[i]: the first i octets of the pattern can stand for what was read so far.
    let mut alive = [false; PATTERN_OCTETS_MAX + 1];
    let Some(alive) = alive.get_mut(..=parts.len()) else { return false };
    let mut before = true;
    for (at, cell) in alive.iter_mut().enumerate() {
        *cell = before;
        before = before && parts.get(at).is_some_and(is_wild);
    }
    for octet in name {
        // What the cell to the left held before this octet, and holds after it.
        let (mut was, mut is) = (false, false);
        let mut part_before = None;
        for (cell, part) in alive.iter_mut().zip(parts.iter().copied().map(Some).chain([None])) {
            let stood = *cell;
            let stays = match part {
                Some(b'*') => stood,
                Some(b'%') => stood && *octet != SEPARATOR,
                _ => false,
            };
            let arrives = match part_before {
                // A wildcard may end wherever it has got to.
                Some(b'*' | b'%') => is,
                Some(part) => was && case.same(&[part], &[*octet]),
                None => false,
            };
            *cell = stays || arrives;
            (was, is, part_before) = (stood, *cell, part);
        }
    }
    alive.last().copied().unwrap_or(false)
}

/// The octets of a pattern at most. Mail systems stop at 255 for a whole name.
const PATTERN_OCTETS_MAX: usize = 255;

/// The mailbox whose name has no case (RFC 9051, section 5.1).
pub(super) const INBOX: &[u8] = b"INBOX";

/// What parts the levels of a mailbox's name in an IMAP URL (RFC 5092, section 2).
const SEPARATOR: u8 = b'/';

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(name)
    }

    #[test]
    fn wildcards_stand_for_what_imap_says() {
        for (pattern, yes, no) in [
            ("Work", vec!["Work"], vec!["work", "Work/A", "Wor", ""]),
            ("*", vec!["Work", "Work/A", "INBOX"], vec![]),
            ("%", vec!["Work"], vec!["Work/A"]),
            ("Work/%", vec!["Work/A", "Work/"], vec!["Work", "Work/A/B"]),
            ("Work/*", vec!["Work/A", "Work/A/B"], vec!["Work", "Works/A"]),
            ("%/A", vec!["Work/A", "/A"], vec!["Work/B/A", "A"]),
            ("*/A", vec!["Work/A", "Work/B/A"], vec!["A", "Work/Ab"]),
            ("%*%", vec!["Work/A", "x"], vec![]),
            ("L%/*x", vec!["Lists/ax", "L/x"], vec!["Lists", "Lists/a"]),
            ("caf%é", vec!["café", "cafxyé"], vec!["cafe"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn inbox_is_the_same_in_any_case_and_its_children_are_not() {
        for pattern in ["INBOX", "inbox", "InBox", "in%", "*X", "*box"] {
            assert!(matches(pattern, "INBOX") && matches(pattern, "inbox"), "{pattern}");
        }
        assert!(!matches("inbox/%", "INBOX/a"));
        assert!(matches("INBOX/%", "INBOX/a"));
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = "*a".repeat(127);
        let name = "a".repeat(5_000);
        assert!(matches(&pattern, &name));
        assert!(!matches(&(pattern + "b"), &name));
    }

    #[test]
    fn an_empty_or_too_long_pattern_and_one_with_a_nul_is_none() {
        assert_eq!("".parse::<Pattern>(), Err(InvalidPattern::Length));
        assert_eq!("x".repeat(256).parse::<Pattern>(), Err(InvalidPattern::Length));
        assert!("x".repeat(255).parse::<Pattern>().is_ok());
        assert_eq!("a\0".parse::<Pattern>(), Err(InvalidPattern::Nul("a\0".to_owned())));
    }

    /// The same, as one would write it down without a thought for its cost.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| naive(rest, &name[at..])),
            Some((b'%', rest)) => (0..=name.len())
                .take_while(|at| !name[..*at].contains(&b'/'))
                .any(|at| naive(rest, &name[at..])),
            Some((octet, rest)) => name.first() == Some(octet) && naive(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_naive_one(pattern in "[ab/%*]{1,8}", name in "[ab/]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
