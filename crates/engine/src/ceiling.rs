//! How much of what policy lets be made may leave, by the role of whoever gets it.

use std::num::NonZeroU32;

use mail_event::limits::EVENT_OCTETS_MAX;

use crate::members::{Member, Members};
use crate::{Policy, Role};

/// What the operator lets one role have of what is made at all, and how much of it.
///
/// The default lets everything leave that [`Policy`] lets be made, but for what stores said whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ceiling {
    /// The largest `messageContent` that may leave, in octets; `None` means never.
    pub content_max_octets: Option<u64>,
    /// Whether `bodyStructure` may leave.
    pub body_structure: bool,
    /// Whether `envelope` may, and what says the same under a vendor's name.
    pub envelope: bool,
    /// Whether `vnd.postbell.raw` may: what a store said, whole.
    pub raw: bool,
    /// The largest event, in octets of JSON. Of a larger one the largest parameters stay here, but
    /// never what the binding demands.
    pub event_max_octets: usize,
    /// How many subscriptions one user, or one token of a service, may have.
    pub subscriptions: usize,
    /// How many streams one user, or one token of a service, may follow at once.
    pub streams: usize,
    /// How many events may leave in a minute to one subscription, or down one stream; `None` is as many
    /// as come. The rest waits in the journal.
    pub events_per_minute: Option<NonZeroU32>,
}

impl Default for Ceiling {
    fn default() -> Self {
        Self {
            content_max_octets: Some(u64::MAX),
            body_structure: true,
            envelope: true,
            raw: false,
            event_max_octets: EVENT_OCTETS_MAX,
            subscriptions: SUBSCRIPTIONS,
            streams: STREAMS,
            events_per_minute: None,
        }
    }
}

impl Policy {
    /// The same, judged for a role: what may leave, and what a condition may look at.
    #[must_use]
    pub fn for_role(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }

    /// The ceiling of the role it is judged for; whoever runs the hub has none.
    #[must_use]
    pub fn ceiling(&self) -> Option<&Ceiling> {
        match self.role {
            Role::Admin => None,
            Role::Service => Some(&self.service),
            Role::User => Some(&self.user),
        }
    }

    /// The largest content that may be had, in octets: in its event or by its link.
    #[must_use]
    pub fn content_had(&self) -> Option<u64> {
        let ceiling = self.ceiling().map_or(Some(u64::MAX), |ceiling| ceiling.content_max_octets);
        Some(self.content_max_octets?.min(ceiling?))
    }

    /// The largest that leaves in its event.
    pub(crate) fn content_leaves(&self) -> Option<u64> {
        Some(self.content_had()?.min(self.content_inline_octets))
    }

    /// The largest event that may, in octets of JSON.
    pub(crate) fn event_leaves(&self) -> usize {
        self.ceiling().map_or(usize::MAX, |ceiling| ceiling.event_max_octets)
    }

    /// How many events may leave in a minute to one subscription, or down one stream; none where as many
    /// may as come.
    #[must_use]
    pub fn events_per_minute(&self) -> Option<NonZeroU32> {
        self.ceiling()?.events_per_minute
    }

    /// The key of the configuration that keeps a private parameter from leaving, where one does.
    pub(crate) fn keeps(&self, parameter: &str) -> Option<&'static str> {
        let private = Private::of(parameter)?;
        let is_made = match private {
            Private::Content => self.content_max_octets.is_some(),
            Private::Structure => self.body_structure,
            Private::Envelope => self.envelope,
            // What of it there is, is the source's own to say.
            Private::Raw => true,
        };
        if !is_made {
            return Some(private.key(Role::Admin));
        }
        let may = self.ceiling().is_none_or(|ceiling| match private {
            Private::Content => ceiling.content_max_octets.is_some(),
            Private::Structure => ceiling.body_structure,
            Private::Envelope => ceiling.envelope,
            Private::Raw => ceiling.raw,
        });
        (!may).then(|| private.key(self.role))
    }

    /// The key that says how large content may be for whom it is judged.
    pub(crate) fn content_key(&self) -> &'static str {
        let is_lower = self.content_had() != self.content_max_octets;
        Private::Content.key(if is_lower { self.role } else { Role::Admin })
    }
}

/// Kinds of what leaves only where it is asked for by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Private {
    Content,
    Structure,
    Envelope,
    Raw,
}

impl Private {
    fn of(parameter: &str) -> Option<Self> {
        match parameter {
            "messageContent" | "vnd.postbell.contentUrl" => Some(Self::Content),
            "bodyStructure" => Some(Self::Structure),
            "envelope" | "vnd.cmu.envelope" | "vnd.fastmail.jmapEmail" => Some(Self::Envelope),
            "vnd.postbell.raw" => Some(Self::Raw),
            _ => None,
        }
    }

    /// The key that lets it leave, for a role or for all.
    fn key(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::Content, Role::Admin) => "policy.content_max_octets",
            (Self::Content, Role::Service) => "policy.service.content_max_octets",
            (Self::Content, Role::User) => "policy.user.content_max_octets",
            (Self::Structure, Role::Admin) => "policy.body_structure",
            (Self::Structure, Role::Service) => "policy.service.body_structure",
            (Self::Structure, Role::User) => "policy.user.body_structure",
            (Self::Envelope, Role::Admin) => "policy.envelope",
            (Self::Envelope, Role::Service) => "policy.service.envelope",
            (Self::Envelope, Role::User) => "policy.user.envelope",
            (Self::Raw, Role::Admin) => "sources.*.notify_raw",
            (Self::Raw, Role::Service) => "policy.service.raw",
            (Self::Raw, Role::User) => "policy.user.raw",
        }
    }
}

/// Whether a member is content of more than `max` octets.
pub(crate) fn is_content_over(member: &Member<'_>, max: u64) -> bool {
    // As JSON it is never shorter.
    member.name == b"messageContent"
        && member.value.len() as u64 > max
        && content_octets(member.value) > max
}

/// Octets of the message that `messageContent` holds, as strict JSON has it: a text, or base64 in
/// an object.
pub(crate) fn content_octets(value: &[u8]) -> u64 {
    if let Some(encoded) = Members::new(value).find_map(|member| member.string()) {
        let padding = encoded.iter().rev().take_while(|octet| **octet == b'=').count();
        return (encoded.len() / 4 * 3).saturating_sub(padding) as u64;
    }
    // The quotation marks around it aren't its own.
    let mut octets = value.len().saturating_sub(2) as u64;
    let mut escapes = value.iter().enumerate();
    while let Some((at, octet)) = escapes.next() {
        if *octet != b'\\' {
            continue;
        }
        escapes.next();
        octets = octets.saturating_sub(1);
        let Some(digits) = value.get(at..at + 6).and_then(|text| text.strip_prefix(b"\\u")) else {
            continue;
        };
        let unit = std::str::from_utf8(digits).ok().and_then(|it| u32::from_str_radix(it, 16).ok());
        // Of the five octets left of an escape, what its letter takes in UTF-8 stays; half of a
        // surrogate pair is half of four.
        octets = octets.saturating_sub(match unit {
            Some(0..=0x7f) => 4,
            Some(0x80..=0x7ff | 0xd800..=0xdfff) => 3,
            _ => 2,
        });
    }
    octets
}

/// Subscriptions of one owner, so that none takes everybody's.
const SUBSCRIPTIONS: usize = 100;

/// Streams of one owner: as many devices and windows as a person has, or programs share a token.
const STREAMS: usize = 32;

#[cfg(test)]
mod tests {
    use mail_event::{Event, MessageContent, json};
    use proptest::prelude::*;

    use super::*;

    fn open() -> Policy {
        Policy {
            content_max_octets: Some(5_000),
            content_inline_octets: 5_000,
            body_structure: true,
            envelope: true,
            ..Policy::default()
        }
    }

    #[test]
    fn r43_a_role_gets_no_more_than_policy_lets_be_made() {
        let policy = Policy {
            user: Ceiling { content_max_octets: Some(2_048), ..Ceiling::default() },
            ..open()
        };
        assert_eq!(policy.content_leaves(), Some(5_000));
        assert_eq!(policy.for_role(Role::Service).content_leaves(), Some(5_000));
        assert_eq!(policy.for_role(Role::User).content_leaves(), Some(2_048));
        let shut = Policy { content_max_octets: None, ..policy };
        assert_eq!(shut.for_role(Role::User).content_leaves(), None);
    }

    #[test]
    fn r43_each_role_has_a_rate_of_its_own_and_whoever_runs_the_hub_none() {
        let rated =
            |rate| Ceiling { events_per_minute: NonZeroU32::new(rate), ..Ceiling::default() };
        let policy = Policy { user: rated(60), service: rated(600), ..open() };
        let rate = |role| policy.for_role(role).events_per_minute().map(NonZeroU32::get);
        let rates = [Role::User, Role::Service, Role::Admin].map(rate);
        assert_eq!(rates, [Some(60), Some(600), None]);
        assert_eq!(open().for_role(Role::User).events_per_minute(), None);
    }

    #[test]
    fn r43_the_key_that_keeps_a_parameter_is_the_one_to_change() {
        let policy = Policy { user: Ceiling { envelope: false, ..Ceiling::default() }, ..open() };
        let user = policy.for_role(Role::User);
        assert_eq!(user.keeps("vnd.cmu.envelope"), Some("policy.user.envelope"));
        assert_eq!(user.keeps("vnd.postbell.raw"), Some("policy.user.raw"));
        assert_eq!(user.keeps("bodyStructure"), None);
        assert_eq!(policy.for_role(Role::Service).keeps("envelope"), None);
        assert_eq!(policy.keeps("vnd.postbell.raw"), None);
        let shut = Policy { envelope: false, ..policy }.for_role(Role::User);
        assert_eq!(shut.keeps("envelope"), Some("policy.envelope"));
    }

    proptest! {
        #[test]
        fn content_is_measured_as_it_was_before_it_became_json(
            content in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                "[a\"\\\\\r\n\t\u{1}é€🔔]{0,30}".prop_map(String::into_bytes),
            ],
        ) {
            let uri = "imap://a@h/INBOX;UIDVALIDITY=7/;UID=5".parse().unwrap();
            let at = "2026-08-20T12:00:00+02:00".parse().unwrap();
            let octets = content.len() as u64;
            let event = Event::builder(mail_event::EventName::MessageNew, uri, at)
                .message_content(MessageContent::new(content))
                .build();
            let text = json::to_string(&event.unwrap());
            let mut members = Members::new(text.as_bytes());
            let member = members.find(|one| one.name == b"messageContent").unwrap();
            prop_assert_eq!(content_octets(member.value), octets);
            prop_assert!(!is_content_over(&member, octets));
            prop_assert!(octets == 0 || is_content_over(&member, octets - 1));
        }

        #[test]
        fn escapes_that_need_not_be_are_measured_too(content in "[a\u{7f}é€🔔\\\\/]{0,20}") {
            let units: String = content.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(content_octets(format!("\"{units}\"").as_bytes()), content.len() as u64);
        }
    }
}
