//! The texts an event is matched on, decoded only as far as somebody asks.

use std::borrow::Cow;
use std::ops::Range;

use mail_event::{EventGroup, EventName};
use memchr::memchr;

use super::{Keys, registered, url};

/// What [`Keys`] point at in one event's JSON.
///
/// Plain texts are borrowed; JSON escapes and percent-encoding are undone only where there are
/// any, so matching an ordinary event allocates nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct View<'a> {
    pub(super) code: u8,
    pub(super) name: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) user: Option<&'a [u8]>,
    pub(super) private: bool,
}

impl<'a> View<'a> {
    /// An event this version can't read at all: it has no name, no user and no mailbox, and
    /// counts as private. Only a journal written by a later version can hold one.
    pub(super) const OPAQUE: View<'static> =
        View { code: super::UNREGISTERED, name: b"", uri: b"", user: None, private: true };

    /// Reads the body itself, for a head this version doesn't understand.
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        Keys::find(json)?.lookup(json)
    }

    /// The event's name as it is written.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        text(self.name)
    }

    /// The event's name; allocates only where it isn't a registered one. `None` where it is not
    /// a name at all, which no journalled event is.
    #[must_use]
    pub fn event_name(&self) -> Option<EventName> {
        registered(self.code).or_else(|| self.name().parse().ok())
    }

    /// The group the event belongs to.
    #[must_use]
    pub fn group(&self) -> EventGroup {
        self.event_name().map_or(EventGroup::Vendor, |name| name.group())
    }

    /// The authorization identity that acted (R149).
    #[must_use]
    pub fn user(&self) -> Option<Cow<'a, str>> {
        self.user.map(text)
    }

    /// In whose naming scope the mailbox stands: the user of the `uri` (R150).
    #[must_use]
    pub fn owner(&self) -> Option<Cow<'a, str>> {
        match text(self.uri) {
            Cow::Borrowed(uri) => url::owner(uri),
            Cow::Owned(uri) => url::owner(&uri).map(|owner| Cow::Owned(owner.into_owned())),
        }
    }

    /// The mailbox of the `uri`, decoded, if it is an IMAP URL that has one.
    #[must_use]
    pub fn mailbox(&self) -> Option<Cow<'a, str>> {
        match text(self.uri) {
            Cow::Borrowed(uri) => url::mailbox(uri),
            Cow::Owned(uri) => url::mailbox(&uri).map(|mailbox| Cow::Owned(mailbox.into_owned())),
        }
    }

    /// Gives `ask` owner and mailbox, decoded without allocating where they are of ordinary
    /// length.
    pub(crate) fn with_places<R>(&self, ask: impl FnOnce(Option<&str>, Option<&str>) -> R) -> R {
        let Cow::Borrowed(uri) = text(self.uri) else {
            return ask(self.owner().as_deref(), self.mailbox().as_deref());
        };
        let (owner, mailbox) = url::raw(uri);
        let (mut first, mut second) = ([0; ORDINARY_OCTETS], [0; ORDINARY_OCTETS]);
        let owner = owner.map(|raw| decoded(raw, &mut first));
        let mailbox = mailbox.map(|raw| decoded(raw, &mut second));
        ask(owner.as_deref(), mailbox.as_deref())
    }

    /// Owner and mailbox, what is encoded being decoded onto `decoded`.
    pub(crate) fn places_onto(
        &self,
        decoded: &mut Vec<u8>,
    ) -> (Option<Spelled<'a>>, Option<Spelled<'a>>) {
        if memchr(b'\\', self.uri).is_some() {
            let uri = self.uri();
            let (owner, mailbox) = url::owner_and_mailbox(&uri);
            let owner = owner.map(|text| Spelled::onto(&text, decoded));
            return (owner, mailbox.map(|text| Spelled::onto(&text, decoded)));
        }
        let mut spelled = |part: url::Part| {
            let raw = self.uri.get(part.range).filter(|raw| !raw.is_empty())?;
            if !part.is_encoded {
                return Some(Spelled::Plain(raw));
            }
            let begin = decoded.len();
            url::decode_onto(raw, decoded);
            Some(Spelled::Decoded(begin..decoded.len()))
        };
        let (owner, mailbox) = url::parts(self.uri);
        (owner.and_then(&mut spelled), mailbox.and_then(&mut spelled))
    }

    /// Who acted, as [`View::places_onto`] has the others.
    pub(crate) fn user_onto(&self, decoded: &mut Vec<u8>) -> Option<Spelled<'a>> {
        let user = self.user?;
        Some(match memchr(b'\\', user) {
            None => Spelled::Plain(user),
            Some(_) => Spelled::onto(&text(user), decoded),
        })
    }

    /// The place of the event's name in the registry's order, where it is a registered one.
    pub(crate) fn place(&self) -> Option<u8> {
        (self.code != super::UNREGISTERED).then_some(self.code)
    }

    /// The `uri` as it is written.
    #[must_use]
    pub fn uri(&self) -> Cow<'a, str> {
        text(self.uri)
    }

    /// The server the `uri` names, without a user: `imap://imap.example.org/`.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        url::server(&self.uri())
    }

    /// Owner and mailbox as the `uri` has them, percent-encoded: `john%40example.org/INBOX`.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let uri = self.uri();
        match (url::raw_owner(&uri), url::raw_mailbox(&uri)) {
            (None, None) => None,
            (owner, None) => owner.map(str::to_owned),
            (owner, Some(mailbox)) => Some(format!("{}/{mailbox}", owner.unwrap_or_default())),
        }
    }

    /// The same, decoded: what deliveries of one mailbox have in common.
    #[must_use]
    pub fn partition(&self) -> Option<String> {
        match (self.owner(), self.mailbox()) {
            (None, None) => None,
            (owner, None) => owner.map(Cow::into_owned),
            (owner, Some(mailbox)) => Some(format!("{}/{mailbox}", owner.unwrap_or_default())),
        }
    }

    /// What must stay in order among itself: the `uri` up to the mailbox's name, so the same for
    /// all events of one mailbox whatever its UIDVALIDITY, and the server for the rest.
    ///
    /// As written, escapes and all: equal lanes may look different only where one publisher
    /// spells one mailbox in two ways.
    #[must_use]
    pub fn lane(&self) -> &'a [u8] {
        url::lane(self.uri)
    }

    /// Whether the event carries `messageContent`, `bodyStructure`, `envelope`, or what says the
    /// same under a vendor's name.
    #[must_use]
    pub fn private(&self) -> bool {
        self.private
    }
}

/// A text of an event: where it stands in the event, or among what was decoded.
#[derive(Clone, Debug)]
pub(crate) enum Spelled<'a> {
    Plain(&'a [u8]),
    Decoded(Range<usize>),
}

impl Spelled<'_> {
    fn onto(text: &str, decoded: &mut Vec<u8>) -> Self {
        let begin = decoded.len();
        decoded.extend_from_slice(text.as_bytes());
        Self::Decoded(begin..decoded.len())
    }

    /// Its octets, always UTF-8.
    pub(crate) fn octets<'t>(&'t self, decoded: &'t [u8]) -> &'t [u8] {
        match self {
            Self::Plain(octets) => octets,
            Self::Decoded(range) => decoded.get(range.clone()).unwrap_or_default(),
        }
    }
}

/// A percent-encoded text, decoded into `buffer` where that suffices.
fn decoded<'b>(raw: &'b str, buffer: &'b mut [u8]) -> Cow<'b, str> {
    if memchr(b'%', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    url::decode_into(raw, buffer).map_or_else(|| url::decoded(raw), Cow::Borrowed)
}

/// The text of a JSON string's inside.
fn text(inside: &[u8]) -> Cow<'_, str> {
    if memchr(b'\\', inside).is_none() {
        // Faster than looking for what is lossy, and journalled events never are.
        return std::str::from_utf8(inside)
            .map_or_else(|_| String::from_utf8_lossy(inside), Cow::Borrowed);
    }
    let quoted = [b"\"", inside, b"\""].concat();
    serde_json::from_slice(&quoted).map_or_else(|_| String::from_utf8_lossy(inside), Cow::Owned)
}

/// Users and mailbox names up to this many octets are decoded on the stack; few are longer.
const ORDINARY_OCTETS: usize = 256;
