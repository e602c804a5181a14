//! IMAP flags and keywords, without `\Recent`.

use std::fmt;
use std::str::FromStr;

use crate::limits::FLAGS_MAX;

/// A flag (`\Seen`) or a keyword (`$Junk`), never `\Recent` (RFC 5423, section 5, flagNames).
///
/// The system flags are known whatever their case and written in the standard's spelling. Other
/// names keep their case, and are compared without it, as IMAP does.
#[derive(Clone, Debug)]
pub struct Flag(Box<str>);

impl Flag {
    /// `\Answered`
    #[must_use]
    pub fn answered() -> Self {
        Self(r"\Answered".into())
    }

    /// `\Deleted`
    #[must_use]
    pub fn deleted() -> Self {
        Self(r"\Deleted".into())
    }

    /// `\Draft`
    #[must_use]
    pub fn draft() -> Self {
        Self(r"\Draft".into())
    }

    /// `\Flagged`
    #[must_use]
    pub fn flagged() -> Self {
        Self(r"\Flagged".into())
    }

    /// `\Seen`
    #[must_use]
    pub fn seen() -> Self {
        Self(r"\Seen".into())
    }

    /// The name as IMAP writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `\Seen`.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        &*self.0 == r"\Seen"
    }

    /// Whether it is `\Deleted`.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        &*self.0 == r"\Deleted"
    }
}

impl PartialEq for Flag {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Flag {}

impl FromStr for Flag {
    type Err = InvalidFlag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_flag(text)?;
        let system = SYSTEM.into_iter().find(|flag| flag.eq_ignore_ascii_case(text));
        Ok(Self(system.unwrap_or(text).into()))
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Checks a flag or keyword without keeping it.
pub(crate) fn check_flag(text: &str) -> Result<(), InvalidFlag> {
    let invalid = || InvalidFlag::Malformed(text.chars().take(64).collect());
    if text.eq_ignore_ascii_case(r"\Recent") {
        return Err(InvalidFlag::Recent);
    }
    let atom = text.strip_prefix('\\').unwrap_or(text);
    if atom.is_empty() || text.len() > 255 || !atom.bytes().all(is_atom_byte) {
        return Err(invalid());
    }
    Ok(())
}

/// Whether it is written as we would write it.
pub(crate) fn is_canonical(text: &str) -> bool {
    SYSTEM.iter().all(|flag| *flag == text || !flag.eq_ignore_ascii_case(text))
}

/// An atom of IMAP: printable ASCII without `( ) { % * " \ ]` and space.
fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#"(){%*"\]"#.contains(&byte)
}

const SYSTEM: [&str; 5] = [r"\Answered", r"\Deleted", r"\Draft", r"\Flagged", r"\Seen"];

/// Why a text is not a flag.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidFlag {
    /// `\Recent`, which RFC 5423 does not permit (R61, R66, R115).
    #[error(r"\Recent may not be named in an event")]
    Recent,
    /// Not an atom, with or without a backslash before it.
    #[error("{0:?} is not an IMAP flag or keyword")]
    Malformed(String),
    /// More than [`FLAGS_MAX`] in one list.
    #[error("more than {FLAGS_MAX} flags in one list")]
    TooMany,
}

/// Flags and keywords, each once, in the order they were given.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<Flag>);

impl Flags {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads IMAP's space-separated form.
    ///
    /// # Errors
    ///
    /// Where a name is not a flag; `\Recent` is one of these.
    pub fn parse(text: &str) -> Result<Self, InvalidFlag> {
        text.split_ascii_whitespace().map(str::parse).collect()
    }

    /// Adds one, unless it is there.
    pub fn insert(&mut self, flag: Flag) {
        if !self.contains(&flag) {
            self.0.push(flag);
        }
    }

    /// Removes one and says whether it was there.
    pub fn remove(&mut self, flag: &Flag) -> bool {
        let before = self.0.len();
        self.0.retain(|one| one != flag);
        self.0.len() < before
    }

    /// Whether it is among them.
    #[must_use]
    pub fn contains(&self, flag: &Flag) -> bool {
        self.0.contains(flag)
    }

    /// All in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Flag> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that `other` lacks.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|flag| !other.contains(flag)).cloned().collect())
    }

    /// All of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).cloned().collect()
    }
}

/// Two lists are equal where they hold the same flags, in whatever order.
impl PartialEq for Flags {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|flag| other.contains(flag))
    }
}

impl Eq for Flags {}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut all = Self::new();
        for flag in flags {
            all.insert(flag);
        }
        all
    }
}

impl<'a> IntoIterator for &'a Flags {
    type Item = &'a Flag;
    type IntoIter = std::slice::Iter<'a, Flag>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Flags {
    type Item = Flag;
    type IntoIter = std::vec::IntoIter<Flag>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, flag) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{flag}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r114_system_flags_are_written_canonically_and_keywords_keep_their_case() {
        assert_eq!(r"\sEEN".parse::<Flag>().unwrap().as_str(), r"\Seen");
        assert_eq!("$JUNK".parse::<Flag>().unwrap().as_str(), "$JUNK");
        assert_eq!("$JUNK".parse::<Flag>().unwrap(), "$Junk".parse::<Flag>().unwrap());
    }

    #[test]
    fn r61_r66_recent_is_refused_in_any_case() {
        for text in [r"\Recent", r"\RECENT", r"\recent"] {
            assert_eq!(text.parse::<Flag>().unwrap_err(), InvalidFlag::Recent);
        }
    }

    #[test]
    fn what_is_no_atom_is_refused() {
        for text in ["", "\\", "a b", "a(b", r"\\Seen", "ä", "x]"] {
            assert!(text.parse::<Flag>().is_err(), "{text}");
        }
    }

    #[test]
    fn r113_the_space_joined_form_splits_back() {
        let flags = Flags::parse(r"\Seen $Junk \Flagged").unwrap();
        assert_eq!(Flags::parse(&flags.to_string()).unwrap(), flags);
        assert_eq!(flags.len(), 3);
    }

    #[test]
    fn differences_are_what_was_set_and_what_was_cleared() {
        let before = Flags::parse(r"\Seen a").unwrap();
        let after = Flags::parse(r"\Seen b").unwrap();
        assert_eq!(after.difference(&before).to_string(), "b");
        assert_eq!(before.difference(&after).to_string(), "a");
    }
}
