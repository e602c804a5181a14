//! Whose events a publisher may hand in, and a user may see: those of their own store, and of no
//! other.

use std::borrow::Cow;

use mail_event::EventId;
use mail_event::json::JsonError;

use crate::members::{Member, Members};
use crate::{InvalidStore, Store, event_id};

/// The stores a publisher speaks for, or a user has mailboxes in, by their hosts.
///
/// What an event says of a store is believed by whoever reads it, so that a publisher that could
/// name any would speak for all of them (R161). And two stores may each have a user of one name, who
/// are not one person (R162).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stores {
    /// `None` where it is any.
    hosts: Option<Box<[Box<str>]>>,
    /// Whether that is the hub's own and no other.
    is_own: bool,
}

impl Stores {
    /// Any there are: for whoever runs the hub.
    #[must_use]
    pub fn any() -> Self {
        Self { hosts: None, is_own: false }
    }

    /// The hub's own, which has this host.
    ///
    /// # Errors
    ///
    /// [`InvalidStore`] where it is no host.
    pub fn own(host: &str) -> Result<Self, InvalidStore> {
        Self::of(&[host]).map(|stores| Self { is_own: true, ..stores })
    }

    /// Those with these hosts; any where one of them is `*`.
    ///
    /// # Errors
    ///
    /// [`InvalidStore`] where one is no host.
    pub fn of(hosts: &[impl AsRef<str>]) -> Result<Self, InvalidStore> {
        if hosts.iter().any(|host| host.as_ref() == ANY) {
            return Ok(Self::any());
        }
        let hosts = hosts.iter().map(|host| {
            Store::new(host.as_ref(), None).map(|store| store.host().to_ascii_lowercase().into())
        });
        let hosts = hosts.collect::<Result<_, _>>()?;
        Ok(Self { hosts: Some(hosts), is_own: false })
    }

    /// What tells their users from those of the same name in the hub's own store; nothing where it
    /// is that one.
    #[must_use]
    pub fn elsewhere(&self) -> Option<String> {
        if self.is_own {
            return None;
        }
        let Some(hosts) = &self.hosts else { return Some(ANY.to_owned()) };
        let mut hosts = hosts.to_vec();
        hosts.sort_unstable();
        hosts.dedup();
        Some(hosts.join(","))
    }

    /// The id an event at `uri` is known by, which its publisher calls `id`: that itself where the
    /// publisher speaks for any. Else the host is part of it, so that nobody can take the id of an
    /// event of a store they don't speak for, which would then be taken for a repeat.
    pub(crate) fn id(&self, id: EventId, uri: &str) -> EventId {
        if self.hosts.is_none() {
            return id;
        }
        let host = host(uri).unwrap_or_default().to_ascii_lowercase();
        let identity = [host.as_str(), "\0", &id.to_string()].concat();
        // The time stays, so that they sort as before.
        let unix_millis = i64::try_from(id.as_u128() >> 80).unwrap_or(0);
        event_id("store", identity.as_bytes(), 0, unix_millis)
    }

    /// Whether they are any.
    pub(crate) fn are_any(&self) -> bool {
        self.hosts.is_none()
    }

    /// Whether a URI is of one of them.
    pub(crate) fn have(&self, uri: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        host(uri).is_some_and(|host| hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
    }

    /// Whether an event may be handed in: `json` is strict. Its `uri`, `mailboxID`, `oldMailboxID`
    /// and `serverDomain` all name one of the stores, or aren't there; ports don't matter. What
    /// else it holds is between the publisher and its readers.
    ///
    /// # Errors
    ///
    /// The first parameter that names another store, or that names none where it should.
    pub fn speak_for(&self, json: &[u8]) -> Result<(), JsonError> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        for member in Members::new(json) {
            let Some(text) = text_of(&member) else { continue };
            let host = match member.name {
                b"uri" | b"mailboxID" | b"oldMailboxID" => host(&text),
                b"serverDomain" => Some(&*text),
                _ => continue,
            };
            let is_theirs =
                host.is_some_and(|host| hosts.iter().any(|own| own.eq_ignore_ascii_case(host)));
            if is_theirs {
                continue;
            }
            let named = match host {
                Some(host) => format!("names the store \"{host}\""),
                None => "names no store".to_owned(),
            };
            let own: Vec<_> = hosts.iter().map(|own| format!("\"{own}\"")).collect();
            return Err(JsonError::Invalid {
                parameter: String::from_utf8_lossy(member.name).into_owned(),
                message: format!("{named}, and this publisher speaks for {} alone", own.join(", ")),
            });
        }
        Ok(())
    }
}

/// The text a member is, decoded.
fn text_of<'a>(member: &Member<'a>) -> Option<Cow<'a, str>> {
    let inside = member.string()?;
    if inside.contains(&b'\\') {
        return serde_json::from_slice::<String>(member.value).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inside).ok().map(Cow::Borrowed)
}

/// The host of an IMAP URL, without its port; nothing of a URL in another scheme.
fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("imap") && !scheme.eq_ignore_ascii_case("imaps") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[') {
        Some(literal) => place.get(..literal.find(']')? + 2),
        None => place.split(':').next(),
    }
}

/// What stands for every store.
const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stores: &Stores, rest: &str) -> String {
        let json = format!(r#"{{"event":"MailboxRename"{rest}}}"#);
        stores.speak_for(json.as_bytes()).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn r161_a_publisher_speaks_for_its_own_stores_and_for_no_other() {
        let own = Stores::of(&["mail.example.org", "[2001:db8::1]"]).unwrap();
        for right in [
            r#","uri":"imap://mail.example.org/""#,
            r#","uri":"imap://john@mail.example.org:1143/INBOX;UIDVALIDITY=7/;UID=1""#,
            r#","uri":"imap://MAIL.example.org/","serverDomain":"mail.EXAMPLE.org""#,
            r#","uri":"imap:\/\/mail.example.org\/""#,
            r#","uri":"imap://a%40b@[2001:db8::1]:143/","vnd.x":"imap://other.example/""#,
            r#","timestamp":"now""#,
        ] {
            assert_eq!(said(&own, right), "", "{right}");
        }
        let wrong = [
            r#","uri":"imap://other.example/""#,
            r#","uri":"imap://mail.example.org@other.example/""#,
            r#","uri":"imap://mail.example.org.other.example/INBOX""#,
            r#","uri":"imap:\/\/other.example\/mail.example.org""#,
            r#","uri":"imap://mail.example.org/","mailboxID":"imap://john@other.example/A""#,
            r#","uri":"imap://mail.example.org/A","oldMailboxID":"imap://other.example/A""#,
            r#","uri":"imap://mail.example.org/","serverDomain":"other.example""#,
            r#","uri":"imap://[2001:db8::2]/""#,
            r#","uri":"urn:mail.example.org""#,
        ];
        let told: Vec<_> = wrong.map(|one| said(&own, one)).into();
        insta::assert_snapshot!(told.join("\n"));
        for one in wrong {
            assert_eq!(said(&Stores::any(), one), "");
            assert_eq!(said(&Stores::of(&["a.example", "*"]).unwrap(), one), "");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in ["", "a b", "imap://a", "a/b", "a@b"] {
            assert!(Stores::of(&[wrong]).is_err(), "{wrong}");
        }
        let none: [&str; 0] = [];
        assert!(said(&Stores::of(&none).unwrap(), r#","uri":"imap://h/""#).contains("\"h\""));
    }

    #[test]
    fn r162_stores_are_told_apart_from_the_hubs_own_however_they_are_written() {
        let of = |hosts: &[&str]| Stores::of(hosts).unwrap().elsewhere();
        assert_eq!(Stores::own("mail.example.org").unwrap().elsewhere(), None);
        assert_eq!(of(&["b.example", "A.example", "a.EXAMPLE"]).unwrap(), "a.example,b.example");
        assert_eq!((of(&["a.example", "*"]), of(&["*"])), (Some("*".into()), Some("*".into())));
    }
}
