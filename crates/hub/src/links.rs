//! Links to content that is too large to travel in its event (R45): signed, for whom they were
//! made alone, and good for a while.
//!
//! A link says which record, for whom and until when, and nothing of what is in it. Whatever is
//! wrong with one, it opens nothing, and nobody is told what was wrong.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::access::Grant;
use crate::token::{Token, TokenError};
use crate::url_auth::UrlAuth;

/// Makes links and reads them.
#[derive(Debug)]
pub(crate) struct Links {
    /// Printed as `…`.
    key: Token,
    /// Where subscribers reach the API, without a slash at its end.
    base: String,
    lifetime: Duration,
    /// Has the store make URLs in the place of links, where that is wanted.
    url_auth: UrlAuth,
}

/// For whom a link is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Holder {
    /// The receiver of the subscription with this id: whoever has the link.
    Subscription(String),
    /// Whoever followed a stream; they show a token beside it, of the same owner.
    Owner(String),
}

impl Holder {
    /// Whoever follows a stream by this grant.
    pub(crate) fn of(grant: &Grant) -> Self {
        Self::Owner(grant.owner().unwrap_or_default())
    }
}

impl Links {
    /// Reads the key at `path`, making it first where there is none.
    pub(crate) fn load_or_make(
        path: &Path,
        base: &str,
        lifetime: Duration,
    ) -> Result<Self, TokenError> {
        let base = base.trim_end_matches('/').to_owned();
        let url_auth = UrlAuth::default();
        Ok(Self { key: Token::load_or_make(path)?, base, lifetime, url_auth })
    }

    /// The same with another address.
    pub(crate) fn at(self, base: String) -> Self {
        Self { base, ..self }
    }

    /// The same with URLs by the store where it makes any.
    pub(crate) fn authorised_by(self, url_auth: UrlAuth) -> Self {
        Self { url_auth, ..self }
    }

    /// What has the store make URLs.
    pub(crate) fn url_auth(&self) -> &UrlAuth {
        &self.url_auth
    }

    /// Whether the operator said where subscribers reach the API.
    pub(crate) fn has_base(&self) -> bool {
        !self.base.is_empty()
    }

    /// A link to the content of a record's message.
    pub(crate) fn make(&self, seq: u64, holder: &Holder, now_unix: u64) -> String {
        let (kind, whose) = match holder {
            Holder::Subscription(id) => (SUBSCRIPTION, id),
            Holder::Owner(owner) => (OWNER, owner),
        };
        let mut ticket = vec![VERSION, kind];
        ticket.extend_from_slice(&seq.to_be_bytes());
        ticket.extend_from_slice(&now_unix.saturating_add(self.lifetime.as_secs()).to_be_bytes());
        ticket.extend_from_slice(whose.as_bytes());
        let signature = self.signing(&ticket).map(|it| it.finalize().into_bytes());
        ticket.extend_from_slice(signature.as_deref().unwrap_or_default());
        format!("{}{PREFIX}{}", self.base, URL_SAFE_NO_PAD.encode(ticket))
    }

    /// Which record a link's last part opens, and for whom; nothing where it opens none any more
    /// or never did.
    pub(crate) fn read(&self, ticket: &str, now_unix: u64) -> Option<(u64, Holder)> {
        if ticket.len() > TICKET_LETTERS_MAX {
            return None;
        }
        let ticket = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (said, signature) = ticket.split_at_checked(ticket.len().checked_sub(SIGNATURE)?)?;
        self.signing(said)?.verify_slice(signature).ok()?;
        let (head, rest) = said.split_first_chunk::<2>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (until, whose) = rest.split_first_chunk::<8>()?;
        let whose = String::from_utf8(whose.to_vec()).ok()?;
        let holder = match *head {
            [VERSION, SUBSCRIPTION] => Holder::Subscription(whose),
            [VERSION, OWNER] => Holder::Owner(whose),
            _ => return None,
        };
        (now_unix < u64::from_be_bytes(*until)).then_some((u64::from_be_bytes(*seq), holder))
    }

    /// The signature of a ticket, begun; any key will do, so there always is one.
    fn signing(&self, said: &[u8]) -> Option<Hmac<Sha256>> {
        let mut signing = Hmac::<Sha256>::new_from_slice(self.key.reveal().as_bytes()).ok()?;
        signing.update(said);
        Some(signing)
    }
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// What stands before a link's ticket.
const PREFIX: &str = "/v1/content/";

const VERSION: u8 = 1;
const SUBSCRIPTION: u8 = 1;
const OWNER: u8 = 2;

/// Octets of a signature.
const SIGNATURE: usize = 32;

/// Letters of a ticket at most: a user's name has up to 4 KiB.
const TICKET_LETTERS_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn links(folder: &Path, key: &str) -> Links {
        let lifetime = Duration::from_secs(60);
        Links::load_or_make(&folder.join(key), "https://hub.example.org/", lifetime).unwrap()
    }

    fn ticket(link: &str) -> &str {
        link.strip_prefix("https://hub.example.org/v1/content/").unwrap()
    }

    #[test]
    fn r45_a_link_opens_what_it_was_made_for_until_it_expires_and_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let holders =
            [Holder::Subscription("sub_x".to_owned()), Holder::Owner("user:jané@x".to_owned())];
        for holder in holders {
            let link = links(folder.path(), "key").make(7, &holder, 1_000);
            let again = links(folder.path(), "key");
            assert_eq!(again.read(ticket(&link), 1_059), Some((7, holder)));
            assert_eq!(again.read(ticket(&link), 1_060), None);
            assert_eq!(links(folder.path(), "other").read(ticket(&link), 1_000), None);
        }
        assert!(!format!("{:?}", links(folder.path(), "key")).contains("postbell_"));
    }

    #[test]
    fn r45_whatever_is_changed_of_a_link_it_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let links = links(folder.path(), "key");
        let link = links.make(7, &Holder::Owner("user:john".to_owned()), 1_000);
        let whole = URL_SAFE_NO_PAD.decode(ticket(&link)).unwrap();
        let read = |octets: &[u8]| links.read(&URL_SAFE_NO_PAD.encode(octets), 1_000);
        assert!(read(&whole).is_some());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(read(&changed), None, "{at} {bit}");
            }
            assert_eq!(read(&whole[..at]), None, "cut at {at}");
        }
        assert_eq!(read(&[&*whole, b"x"].concat()), None);
        assert_eq!(links.read(&"A".repeat(100_000), 1_000), None);
    }
}
