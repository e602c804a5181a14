//! References to a server, a mailbox or a message.

use std::fmt;
use std::str::FromStr;

use crate::imap_url::{self, ImapUrl, InvalidImapUrl};
use crate::limits::URI_OCTETS_MAX;
use crate::percent;

/// What an event is about (RFC 5423, section 5, uri): usually an IMAP URL, but any URI will do.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Uri {
    /// `imap://…` (RFC 5092).
    Imap(ImapUrl),
    /// Of another scheme, kept as it is.
    Other(OtherUri),
}

/// A URI that is no IMAP URL: a scheme, and what RFC 3986 lets stand behind one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OtherUri(Box<str>);

impl Uri {
    /// The IMAP URL, where it is one.
    #[must_use]
    pub fn as_imap(&self) -> Option<&ImapUrl> {
        match self {
            Self::Imap(url) => Some(url),
            Self::Other(_) => None,
        }
    }

    /// Reads what stores send besides strict URLs, and says whether it was strict.
    ///
    /// # Errors
    ///
    /// Where it is no URI at all, or an IMAP URL that can't be made sense of.
    pub fn parse_lenient(text: &str) -> Result<(Self, bool), InvalidUri> {
        if imap_url::has_scheme(text) {
            let (url, is_strict) = ImapUrl::parse_lenient(text)?;
            return Ok((Self::Imap(url), is_strict));
        }
        check_other(text)?;
        Ok((Self::Other(OtherUri(text.into())), true))
    }
}

impl OtherUri {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ImapUrl> for Uri {
    fn from(url: ImapUrl) -> Self {
        Self::Imap(url)
    }
}

impl FromStr for Uri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::parse_lenient(text)? {
            (uri, true) => Ok(uri),
            (_, false) => Err(InvalidUri::Imap(InvalidImapUrl::NotStrict)),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Imap(url) => url.fmt(f),
            Self::Other(uri) => f.write_str(&uri.0),
        }
    }
}

/// What a strict URI says, as far as the binding cares.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Shape {
    pub(crate) is_imap: bool,
    pub(crate) has_mailbox: bool,
    pub(crate) uid_validity: Option<u32>,
    pub(crate) uid: Option<u32>,
}

impl Uri {
    /// How many octets it takes when written.
    pub(crate) fn written_octets(&self) -> usize {
        match self {
            Self::Imap(url) => url.written_octets(),
            Self::Other(uri) => uri.0.len(),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.as_imap().map_or_else(Shape::default, ImapUrl::shape)
    }
}

/// Checks a strict URI without keeping it.
pub(crate) fn check_strict(text: &str) -> Option<Shape> {
    if imap_url::has_scheme(text) {
        return imap_url::check_strict(text);
    }
    check_other(text).ok().map(|()| Shape::default())
}

fn check_other(text: &str) -> Result<(), InvalidUri> {
    if text.len() > URI_OCTETS_MAX {
        return Err(InvalidUri::TooLong { octets: text.len() });
    }
    let invalid = || InvalidUri::NotAUri(text.chars().take(64).collect());
    let (scheme, rest) = text.split_once(':').ok_or_else(invalid)?;
    let scheme_is_fine = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    let rest_is_fine = percent::is_encoded(rest.as_bytes(), BEYOND_UNRESERVED);
    if scheme_is_fine && rest_is_fine { Ok(()) } else { Err(invalid()) }
}

/// What may stand in a URI beside the unreserved (RFC 3986, section 2.2).
const BEYOND_UNRESERVED: &[u8] = b":/?#[]@!$&'()*+,;=";

/// Why a text is not a URI.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidUri {
    /// It begins with `imap:` and goes on wrongly.
    #[error(transparent)]
    Imap(#[from] InvalidImapUrl),
    /// It has no scheme, or holds a byte that may not stand in a URI.
    #[error("{0:?} is not a URI")]
    NotAUri(String),
    /// Longer than [`URI_OCTETS_MAX`].
    #[error("a URI of {octets} octets is over the limit of {URI_OCTETS_MAX}")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_a_uri_of_another_scheme_is_kept() {
        let text = "https://mail.example.org/jmap/M123?x=1";
        assert_eq!(text.parse::<Uri>().unwrap().to_string(), text);
    }

    #[test]
    fn r147_a_text_that_begins_as_an_imap_url_must_be_one() {
        assert!("imap://h/%ff".parse::<Uri>().is_err());
        assert!(matches!("IMAP://h/a".parse::<Uri>(), Err(InvalidUri::Imap(_))));
    }

    #[test]
    fn r116_a_bare_identifier_is_no_uri() {
        for text in ["a5660caa-3165", "", "imap", "1x:y", "x:", "x:a b", "x:a\"b", "x:%zz"] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }
}
