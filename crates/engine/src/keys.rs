//! What an event is matched on, found again without decoding the event.

mod url;
mod view;

use mail_event::json::{self, Checked, Span};
use mail_event::{EventName, ParameterName};

use crate::members::Members;

pub use view::View;

pub(crate) use url::{lane, owner_and_mailbox};
pub(crate) use view::Spelled;

/// Where the few texts an event is matched on stand in its JSON: 24 octets beside each record.
///
/// Made once, at the door, from what [`mail_event::json::check`] found; the journal keeps them
/// as they are, and matching never parses JSON again. Private parameters are noted too, so that
/// an event without any can leave without being looked into.
///
/// The layout, version 1, integers big-endian: version (1 octet); event (1: a number of
/// [`Keys`]'s own, 255 where the name isn't registered); marks (1: bit 0 private, bit 1 has a
/// user); 0 (1); then start (4) and length (2) of the inside of the strings `event`, `uri` and
/// `user`; 0 (2). A head of another version is not understood and the body is read instead:
/// slower, never wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Keys([u8; HEAD_OCTETS]);

/// Length of a head, the same as the journal's.
pub const HEAD_OCTETS: usize = 24;

impl Keys {
    /// The keys of `json`, which `checked` was made from.
    #[must_use]
    pub fn new(checked: &Checked, json: &[u8]) -> Self {
        let code = inside(json, checked.name).map_or(UNREGISTERED, code);
        let private = if checked.private { PRIVATE } else { 0 };
        let has_user = if checked.user.is_some() { HAS_USER } else { 0 };
        let [n0, n1, n2, n3, n4, n5] = span_octets(checked.name);
        let [u0, u1, u2, u3, u4, u5] = span_octets(checked.uri);
        let [p0, p1, p2, p3, p4, p5] = checked.user.map_or([0; 6], span_octets);
        Self([
            VERSION,
            code,
            private | has_user,
            0, //
            n0,
            n1,
            n2,
            n3,
            n4,
            n5, //
            u0,
            u1,
            u2,
            u3,
            u4,
            u5, //
            p0,
            p1,
            p2,
            p3,
            p4,
            p5, //
            0,
            0,
        ])
    }

    /// The keys of a strict event that [`mail_event::json::check`] finds too unusual to look
    /// at: one with more than a few vendor parameters, or content that is not text. Nothing
    /// where it is no event at all.
    #[must_use]
    pub fn find(json: &[u8]) -> Option<Self> {
        if let Ok(checked) = json::check(json) {
            return Some(Self::new(&checked, json));
        }
        let (mut name, mut uri, mut user, mut private) = (None, None, None, false);
        for member in Members::new(json) {
            let span = || {
                let start = u32::try_from(member.value_start + 1).ok()?;
                Some(Span { start, len: u16::try_from(member.string()?.len()).ok()? })
            };
            match member.name {
                b"event" => name = span(),
                b"uri" => uri = span(),
                b"user" => user = Some(span()?),
                b"messageContent" | b"bodyStructure" | b"envelope" => private = true,
                name => {
                    let vendors = ParameterName::PRIVATE_VENDORS;
                    private |= vendors.iter().any(|vendor| vendor.as_bytes() == name);
                }
            }
        }
        let (name, uri) = (name?, uri?);
        let checked =
            Checked { name, uri, user, private, event_id: None, unix_millis: 0, stamped: false };
        Some(Self::new(&checked, json))
    }

    /// The place of the event's name in the registry's order, where it is a registered one.
    #[must_use]
    pub fn place(self) -> Option<u8> {
        match self.0 {
            [VERSION, code, ..] if code != UNREGISTERED => Some(code),
            _ => None,
        }
    }

    /// The octets the journal keeps.
    #[must_use]
    pub fn to_head(self) -> [u8; HEAD_OCTETS] {
        self.0
    }

    /// Keys as the journal gave them back. Nothing is checked here: [`Keys::view`] does.
    #[must_use]
    pub fn from_head(head: &[u8; HEAD_OCTETS]) -> Self {
        Self(*head)
    }

    /// What the keys point at in `json`, the event they were made from.
    #[must_use]
    pub fn view(self, json: &[u8]) -> View<'_> {
        self.lookup(json).or_else(|| View::read(json)).unwrap_or(View::OPAQUE)
    }

    fn lookup(self, json: &[u8]) -> Option<View<'_>> {
        let [
            VERSION,
            code,
            marks,
            _,
            n0,
            n1,
            n2,
            n3,
            n4,
            n5,
            u0,
            u1,
            u2,
            u3,
            u4,
            u5,
            p0,
            p1,
            p2,
            p3,
            p4,
            p5,
            ..,
        ] = self.0
        else {
            return None;
        };
        let user = match marks & HAS_USER {
            0 => None,
            _ => Some(inside(json, span_from([p0, p1, p2, p3, p4, p5]))?),
        };
        Some(View {
            code,
            name: inside(json, span_from([n0, n1, n2, n3, n4, n5]))?,
            uri: inside(json, span_from([u0, u1, u2, u3, u4, u5]))?,
            user,
            private: marks & PRIVATE != 0,
        })
    }
}

fn span_octets(span: Span) -> [u8; 6] {
    let [a, b, c, d] = span.start.to_be_bytes();
    let [e, f] = span.len.to_be_bytes();
    [a, b, c, d, e, f]
}

fn span_from([a, b, c, d, e, f]: [u8; 6]) -> Span {
    Span { start: u32::from_be_bytes([a, b, c, d]), len: u16::from_be_bytes([e, f]) }
}

fn inside(json: &[u8], span: Span) -> Option<&[u8]> {
    let start = usize::try_from(span.start).ok()?;
    json.get(start..start.checked_add(usize::from(span.len))?)
}

/// The layout this version writes and reads.
const VERSION: u8 = 1;
/// A mark: the event carries a private parameter.
const PRIVATE: u8 = 1;
/// A mark: the event has a user.
const HAS_USER: u8 = 1 << 1;
/// The code of a name outside the registry, or of one spelled with JSON escapes.
const UNREGISTERED: u8 = u8::MAX;

/// The number of a registered name. On disk in every record: never to be changed.
fn code(name: &[u8]) -> u8 {
    match name {
        b"MessageAppend" => 0,
        b"MessageExpire" => 1,
        b"MessageExpunge" => 2,
        b"MessageNew" => 3,
        b"QuotaExceed" => 4,
        b"QuotaWithin" => 5,
        b"QuotaChange" => 6,
        b"MessageRead" => 7,
        b"MessageTrash" => 8,
        b"FlagsSet" => 9,
        b"FlagsClear" => 10,
        b"Login" => 11,
        b"Logout" => 12,
        b"MailboxCreate" => 13,
        b"MailboxDelete" => 14,
        b"MailboxRename" => 15,
        b"MailboxSubscribe" => 16,
        b"MailboxUnSubscribe" => 17,
        _ => UNREGISTERED,
    }
}

/// The name with a number; the reverse of [`code`].
fn registered(code: u8) -> Option<EventName> {
    Some(match code {
        0 => EventName::MessageAppend,
        1 => EventName::MessageExpire,
        2 => EventName::MessageExpunge,
        3 => EventName::MessageNew,
        4 => EventName::QuotaExceed,
        5 => EventName::QuotaWithin,
        6 => EventName::QuotaChange,
        7 => EventName::MessageRead,
        8 => EventName::MessageTrash,
        9 => EventName::FlagsSet,
        10 => EventName::FlagsClear,
        11 => EventName::Login,
        12 => EventName::Logout,
        13 => EventName::MailboxCreate,
        14 => EventName::MailboxDelete,
        15 => EventName::MailboxRename,
        16 => EventName::MailboxSubscribe,
        17 => EventName::MailboxUnSubscribe,
        _ => return None,
    })
}
