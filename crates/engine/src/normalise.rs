//! What an observation means: RFC 5423's events under the operator's policy.

use mail_event::{
    BindingError, Builder, Event, EventGroup, EventId, EventName, Flag, Flags, UidSet,
};

use crate::memory::{Memory, Resource};
use crate::names::GAP;
use crate::telling::{Telling, vendor};
use crate::{FlagForm, Observation, Policy, Quota, Store, What, event_id};

/// An event and what identifies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    /// Made from the observation's identity, so that a repeat gets the same one.
    pub id: EventId,
    /// The event.
    pub event: Event,
}

/// What an observation means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    /// The events, in the order they are to be told.
    pub events: Vec<Identified>,
    /// What would have been events, and would have broken the binding; the others stand.
    pub refused: Vec<Refused>,
    /// What policy kept from being made, once for each.
    pub suppressed: Vec<Suppressed>,
}

/// What policy kept from being made (R22, R23).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suppressed {
    /// What an observation means, whole: its group of events is switched off.
    Group(EventGroup),
    /// A private parameter of an event that was made.
    Parameter(&'static str),
}

impl Suppressed {
    /// What there may be: every group, and every parameter that policy keeps.
    pub const ALL: [Self; 10] = [
        Self::Group(EventGroup::Access),
        Self::Group(EventGroup::Flags),
        Self::Group(EventGroup::Mailbox),
        Self::Group(EventGroup::Message),
        Self::Group(EventGroup::Quota),
        Self::Group(EventGroup::Subscription),
        Self::Group(EventGroup::Vendor),
        Self::Parameter("bodyStructure"),
        Self::Parameter("envelope"),
        Self::Parameter("messageContent"),
    ];

    /// The private parameter of this name, where there is one.
    pub(crate) fn parameter(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| matches!(one, Self::Parameter(known) if *known == name))
    }

    /// The group's name, or the parameter's.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Group(group) => group.as_str(),
            Self::Parameter(name) => name,
        }
    }
}

/// What can't become a valid event.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an observation is no valid event: {0}")]
pub struct Refused(#[from] BindingError);

/// Turns an observation into the events it means; none where nothing changed, or where policy
/// leaves the whole group out (R22): then nothing else is done for it.
#[must_use]
pub fn normalise(
    memory: &mut Memory,
    store: &Store,
    policy: &Policy,
    source: &str,
    observation: Observation,
) -> Meaning {
    if let Some(group) = policy.switched_off(&observation.what) {
        return Meaning { suppressed: vec![Suppressed::Group(group)], ..Meaning::default() };
    }
    let what = observation.what.clone();
    let telling = Telling::new(store, policy, &observation);
    let owner = telling.owner().unwrap_or_default();
    let mut builders = Vec::new();
    match what {
        What::Delivered { message, envelope } => {
            let mut builder = telling.added(EventName::MessageNew, message);
            if let Some(envelope) = envelope.filter(|_| policy.envelope) {
                builder = builder.envelope(envelope);
            }
            builders.push(builder);
        }
        What::Appended(message) => builders.push(telling.added(EventName::MessageAppend, message)),
        What::Expunged { mailbox, uids, status, moved_to } => {
            let mut builder = telling.removed(EventName::MessageExpunge, &mailbox, uids, status);
            if let Some(to) = &moved_to {
                builder = telling.linked(builder, "movedTo", to);
            }
            builders.push(builder);
        }
        What::Expired { mailbox, uids, status, policy } => {
            let mut builder = telling.removed(EventName::MessageExpire, &mailbox, uids, status);
            if let Some(name) = policy {
                builder = vendor(builder, "vnd.postbell.expirePolicy", name);
            }
            builders.push(builder);
        }
        What::FlagsChanged { mailbox, uids, set, cleared, modseq, status } => {
            let begin = |name: EventName, uids: UidSet| {
                // A MODSEQ is one message's (R124).
                let modseq = modseq.filter(|_| uids.len() == 1);
                let builder = telling.flagged(name, &mailbox, uids, status);
                modseq.into_iter().fold(builder, Builder::modseq)
            };
            // Clear, then set (A11).
            if !cleared.is_empty() {
                let builder = begin(EventName::FlagsClear, uids.clone());
                builders.push(builder.flag_names(cleared));
            }
            builders.extend(flags_set(policy, telling.really_set(vec![(uids, set)]), begin));
        }
        What::FlagsSet { mailbox, groups, status } => {
            let begin = |name, uids| telling.flagged(name, &mailbox, uids, status);
            builders.extend(flags_set(policy, telling.really_set(groups), begin));
        }
        What::MailboxCreated(mailbox) => {
            builders.push(telling.at_mailbox(EventName::MailboxCreate, &mailbox));
        }
        What::MailboxDeleted(mailbox) => {
            builders.push(telling.at_mailbox(EventName::MailboxDelete, &mailbox));
        }
        What::MailboxRenamed { from_owner, from, to } => {
            let old = telling.mailbox(from_owner.as_deref(), &from);
            let builder = telling.at_mailbox(EventName::MailboxRename, &to);
            builders.push(builder.old_mailbox_id(old));
        }
        What::Subscribed(mailbox) => {
            builders.push(telling.subscription(EventName::MailboxSubscribe, &mailbox));
        }
        What::Unsubscribed(mailbox) => {
            builders.push(telling.subscription(EventName::MailboxUnSubscribe, &mailbox));
        }
        What::QuotaRefused { quota, mailbox } => {
            for resource in refused(&quota) {
                for name in memory.quota_refused(owner, &quota, resource) {
                    // A limit is the root's; what was refused was meant for a mailbox (R49).
                    let mailbox = mailbox.as_ref().filter(|_| name == EventName::QuotaExceed);
                    builders.push(telling.quota(name, resource, &quota, mailbox));
                }
            }
        }
        What::QuotaSeen(quota) => {
            for (name, resource) in memory.quota_edges(owner, &quota) {
                builders.push(telling.quota(name, resource, &quota, None));
            }
        }
        What::QuotaWithin(quota) => {
            memory.quota_told(owner, &quota);
            builders.push(telling.quota_told(EventName::QuotaWithin, &quota));
        }
        What::QuotaChanged(quota) => {
            memory.quota_told(owner, &quota);
            builders.push(telling.quota_told(EventName::QuotaChange, &quota));
        }
        What::LoggedIn => builders.push(telling.access(EventName::Login)),
        What::LoggedOut => builders.push(telling.access(EventName::Logout)),
        What::Missed { mailbox, reason } => {
            let uri = telling.uri(mailbox.as_ref());
            let builder = telling.begin(gap_name(), uri);
            builders.push(vendor(builder, "vnd.postbell.gapReason", reason));
        }
        What::Other { name, mailbox, uids } => {
            let name = EventName::Other(name);
            let builder = match &mailbox {
                Some(mailbox) => telling.at_mailbox(name, mailbox),
                None => telling.begin(name, telling.uri(None)),
            };
            builders.push(uids.into_iter().fold(builder, Builder::uidset));
        }
    }
    identify(source, policy, &observation, builders)
}

/// Builds the events that policy lets through, and gives them their ids.
fn identify(
    source: &str,
    policy: &Policy,
    observation: &Observation,
    builders: Vec<Builder>,
) -> Meaning {
    let mut meaning = Meaning::default();
    // One that is refused keeps its place, so that the ids of the others stay.
    for (part, builder) in (0_u32..).zip(builders) {
        match builder.build() {
            Ok(event) => {
                meaning.suppressed.extend(left_out(policy, &event).map(Suppressed::Parameter));
                let millis = observation.at.unix_millis();
                let id = event_id(source, &observation.identity.0, part, millis);
                meaning.events.push(Identified { id, event });
            }
            Err(error) => meaning.refused.push(Refused(error)),
        }
    }
    meaning
}

/// The private parameters that policy keeps off a message's event.
fn left_out(policy: &Policy, event: &Event) -> impl Iterator<Item = &'static str> {
    let is_new = *event.name() == EventName::MessageNew;
    let is_message = is_new || *event.name() == EventName::MessageAppend;
    let is_large = event.vendor("vnd.postbell.contentSuppressed").is_some();
    [
        ("bodyStructure", !policy.body_structure),
        ("envelope", is_new && !policy.envelope),
        ("messageContent", is_large || policy.content_max_octets.is_none()),
    ]
    .into_iter()
    .filter_map(move |(name, is_left_out)| (is_message && is_left_out).then_some(name))
}

/// The simple forms, then the others (A12); never both forms for one change (R62). Whatever is told
/// in the simple form is one event, and so is one list of flags (R60).
fn flags_set(
    policy: &Policy,
    mut groups: Vec<(UidSet, Flags)>,
    begin: impl Fn(EventName, UidSet) -> Builder,
) -> Vec<Builder> {
    let mut builders = Vec::new();
    for (form, flag, name) in [
        (policy.seen_form, Flag::seen(), EventName::MessageRead),
        (policy.deleted_form, Flag::deleted(), EventName::MessageTrash),
    ] {
        if form != FlagForm::Simple {
            continue;
        }
        let having = groups.iter_mut().filter_map(|(of, flags)| flags.remove(&flag).then_some(of));
        let uids = having.fold(UidSet::new(), |uids, of| uids.union(of));
        if !uids.is_empty() {
            builders.push(begin(name, uids));
        }
    }
    let mut rest: Vec<(UidSet, Flags)> = Vec::new();
    for (uids, flags) in groups {
        match rest.iter_mut().find(|(_, known)| *known == flags) {
            Some((known, _)) => *known = known.union(&uids),
            None if flags.is_empty() => {}
            None => rest.push((uids, flags)),
        }
    }
    let told = |(uids, flags)| begin(EventName::FlagsSet, uids).flag_names(flags);
    builders.extend(rest.into_iter().map(told));
    builders
}

/// The resources a refusal was for: those at their limit, or every limited one where usage
/// doesn't tell.
fn refused(quota: &Quota) -> Vec<Resource> {
    let limited = Resource::ALL.into_iter().filter_map(|resource| {
        let (limit, used) = quota.of(resource);
        let limit = limit?;
        Some((resource, used.is_some_and(|used| used >= limit)))
    });
    let limited: Vec<_> = limited.collect();
    let any_full = limited.iter().any(|(_, full)| *full);
    limited
        .into_iter()
        .filter(|(_, full)| *full || !any_full)
        .map(|(resource, _)| resource)
        .collect()
}

fn gap_name() -> EventName {
    // A name of our own, well-formed by a look at it.
    GAP.parse().unwrap_or(EventName::QuotaChange)
}

/// The time of an observation, for tests.
#[cfg(test)]
pub(crate) fn noon() -> mail_event::Timestamp {
    "2026-08-20T12:00:00+05:45".parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, Certainty, Identity, Mailbox, Message, Origin, Status};
    use mail_event::limits::EVENT_OCTETS_MAX;
    use mail_event::{MessageContent, OtherName, json};

    fn observation(what: What) -> Observation {
        Observation {
            identity: Identity(b"one".to_vec()),
            at: noon(),
            certainty: Certainty::Seen,
            owner: Some("a@example.org".to_owned()),
            actor: Actor::default(),
            origin: Origin::default(),
            what,
            extras: Vec::new(),
        }
    }

    fn told(policy: &Policy, what: What) -> Vec<String> {
        let store = Store::new("imap.example.org", None).unwrap();
        let mut memory = Memory::default();
        let told = normalise(&mut memory, &store, policy, "test", observation(what));
        assert_eq!(told.refused, []);
        let texts: Vec<_> = told.events.iter().map(|one| json::to_string(&one.event)).collect();
        for text in &texts {
            assert!(json::check(text.as_bytes()).is_ok(), "{text}");
        }
        texts
    }

    fn names(policy: &Policy, set: &str, cleared: &str) -> Vec<String> {
        let what = What::FlagsChanged {
            mailbox: inbox(),
            uids: UidSet::from_uids([3, 4]),
            set: Flags::parse(set).unwrap(),
            cleared: Flags::parse(cleared).unwrap(),
            modseq: None,
            status: Status::default(),
        };
        let events = told(policy, what);
        events.iter().map(|text| text.split('"').nth(3).unwrap().to_owned()).collect()
    }

    fn inbox() -> Mailbox {
        Mailbox { name: "INBOX".to_owned(), uid_validity: Some(7) }
    }

    fn message() -> Message {
        Message {
            mailbox: inbox(),
            uid: 5,
            status: Status { messages: Some(5), uidnext: Some(6) },
            flags: Flags::parse(r"\Flagged").unwrap(),
            size_octets: Some(120),
            body_structure: Some("(\"TEXT\" \"PLAIN\")".to_owned()),
            content: Some(MessageContent::new(vec![b'x'; 120])),
            modseq: None,
            copied_from: None,
        }
    }

    #[test]
    fn r62_r63_each_change_is_told_in_one_form_and_by_default_the_simple_one() {
        let simple = Policy::default();
        assert_eq!(names(&simple, r"\Seen \Flagged", ""), ["MessageRead", "FlagsSet"]);
        assert_eq!(names(&simple, r"\Deleted", ""), ["MessageTrash"]);
        assert_eq!(names(&simple, "", r"\Seen"), ["FlagsClear"]);
        assert_eq!(names(&simple, r"\Seen", "x"), ["FlagsClear", "MessageRead"]);
        let flags = Policy { seen_form: FlagForm::Flags, ..Policy::default() };
        assert_eq!(names(&flags, r"\Seen \Deleted", ""), ["MessageTrash", "FlagsSet"]);
        let deleted = Policy { deleted_form: FlagForm::Flags, ..Policy::default() };
        assert_eq!(names(&deleted, r"\Seen \Deleted", ""), ["MessageRead", "FlagsSet"]);
        let both = Policy { deleted_form: FlagForm::Flags, ..flags };
        assert_eq!(names(&both, r"\Seen \Deleted", ""), ["FlagsSet"]);
    }

    #[test]
    fn r57_r60_what_one_change_set_is_one_event_for_each_form_and_list() {
        let group = |uids: &str, flags| (uids.parse().unwrap(), Flags::parse(flags).unwrap());
        let groups = vec![
            group("1:99,101:400", r"\Seen"),
            group("100", r"\Seen \Flagged"),
            group("401", r"\Deleted \Flagged"),
            group("402", "$Work"),
        ];
        let named = |policy: &Policy| -> Vec<String> {
            let (mailbox, groups) = (inbox(), groups.clone());
            let what = What::FlagsSet { mailbox, groups, status: Status::default() };
            let one = |text: &String| {
                let member = |name: &str| {
                    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
                    rest.split_once(['"', '[']).map(|(_, rest)| rest.split(['"', ']']).next())?
                };
                format!("{} {}", member("event").unwrap(), member("uidset").unwrap())
            };
            told(policy, what).iter().map(one).collect()
        };
        let simple = ["MessageRead 1:400", "MessageTrash 401", "FlagsSet 100,401", "FlagsSet 402"];
        assert_eq!(named(&Policy::default()), simple);
        let flags = Policy { seen_form: FlagForm::Flags, ..Policy::default() };
        let wanted = [
            "MessageTrash 401",
            "FlagsSet 1:99,101:400",
            "FlagsSet 100",
            "FlagsSet 401",
            "FlagsSet 402",
        ];
        assert_eq!(named(&flags), wanted);
    }

    #[test]
    fn r55_what_pop_fetches_is_not_told_as_read() {
        let what = |set| What::FlagsChanged {
            mailbox: inbox(),
            uids: UidSet::single(3),
            set: Flags::parse(set).unwrap(),
            cleared: Flags::new(),
            modseq: None,
            status: Status::default(),
        };
        let store = Store::new("imap.example.org", None).unwrap();
        for (set, count) in [(r"\Seen", 0), (r"\Seen \Deleted", 1)] {
            let mut seen = observation(what(set));
            seen.actor.service = Some("pop3".to_owned());
            seen.actor.user = Some("a@example.org".to_owned());
            let policy = Policy::default();
            let told = normalise(&mut Memory::default(), &store, &policy, "test", seen);
            assert_eq!(told.events.len(), count, "{set}");
        }
    }

    /// What is told of something that b did, in whose name the help desk had logged in.
    fn by_helpdesk(what: What, service: &str) -> String {
        let store = Store::new("imap.example.org", None).unwrap();
        let mut seen = observation(what);
        seen.actor = Actor {
            user: Some("b@example.org".to_owned()),
            admin: Some("helpdesk".to_owned()),
            client: Some("192.0.2.1:5".parse().unwrap()),
            service: Some(service.to_owned()),
            session: Some("s".to_owned()),
        };
        seen.origin = Origin {
            process: Some("p".to_owned()),
            server_domain: Some("192.0.2.9".to_owned()),
            server_port: Some(993),
            ..Origin::default()
        };
        let policy = Policy::default();
        let told = normalise(&mut Memory::default(), &store, &policy, "test", seen);
        assert_eq!(told.refused, []);
        let [one] = &told.events[..] else { panic!("one event") };
        json::to_string(&one.event)
    }

    /// The members that say who acted, and how they came.
    fn acted(what: What, service: &str) -> String {
        let text = by_helpdesk(what, service);
        let said = ["user", "admin", "clientIP", "service", "serverPort", "process"];
        let said = said.into_iter().filter(|name| text.contains(&format!("\"{name}\"")));
        said.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn r103_r104_r148_a_delivery_agent_has_no_user_and_no_client() {
        let delivered = What::Delivered { message: message(), envelope: None };
        assert_eq!(acted(delivered, "lmtp"), "service serverPort process");
        let made = || What::MailboxCreated(inbox());
        assert_eq!(acted(made(), "lda"), "service serverPort process");
        assert_eq!(acted(made(), "imap"), "user admin clientIP service serverPort process");
    }

    #[test]
    fn r31_r103_r148_what_the_stores_policy_did_nobody_did() {
        let expired = || What::Expired {
            mailbox: inbox(),
            uids: UidSet::single(3),
            status: Status::default(),
            policy: None,
        };
        assert_eq!(acted(expired(), "imap"), "process");
        assert_eq!(acted(expired(), "doveadm"), "service serverPort process");
        let text = by_helpdesk(expired(), "doveadm");
        assert!(text.contains(r#""service":"admincli""#), "{text}");
    }

    #[test]
    fn r59_r64_no_change_is_no_event() {
        assert!(names(&Policy::default(), "", "").is_empty());
    }

    #[test]
    fn r112_initial_flags_go_with_the_message_and_make_no_event_of_their_own() {
        let events = told(&Policy::default(), What::Appended(message()));
        assert_eq!(events.len(), 1);
        assert!(events[0].contains(r#""flagNames":["\\Flagged"]"#), "{}", events[0]);
    }

    #[test]
    fn r158_nothing_private_is_made_unless_policy_asks() {
        let what = What::Delivered { message: message(), envelope: None };
        let text = told(&Policy::default(), what.clone()).remove(0);
        assert!(!text.contains("bodyStructure") && !text.contains("messageContent"), "{text}");
        let open =
            Policy { body_structure: true, content_max_octets: Some(120), ..Policy::default() };
        let text = told(&open, what).remove(0);
        assert!(text.contains("bodyStructure") && text.contains("messageContent"), "{text}");
    }

    #[test]
    fn r120_content_over_the_limit_is_left_out_and_told() {
        for (max, whole) in [(119, false), (120, true), (121, true)] {
            let policy = Policy { content_max_octets: Some(max), ..Policy::default() };
            let text = told(&policy, What::Appended(message())).remove(0);
            assert_eq!(text.contains("messageContent"), whole, "{max}");
            assert_eq!(text.contains("contentSuppressed"), !whole, "{max}");
        }
    }

    #[test]
    fn r120_content_left_unread_for_its_size_is_told_too() {
        let policy = Policy { content_max_octets: Some(119), ..Policy::default() };
        for (octets, told_so) in [(Some(120), true), (Some(119), false), (None, false)] {
            let message = Message { content: None, size_octets: octets, ..message() };
            let text = told(&policy, What::Appended(message)).remove(0);
            assert_eq!(text.contains("contentSuppressed"), told_so, "{octets:?}");
        }
    }

    #[test]
    fn r120_content_no_event_has_room_for_is_left_out_and_told() {
        let policy = Policy { content_max_octets: Some(u64::MAX), ..Policy::default() };
        // Each octet takes six in JSON.
        let content = MessageContent::new(vec![1; EVENT_OCTETS_MAX / 6]);
        let what = What::Appended(Message { content: Some(content), ..message() });
        let text = told(&policy, what).remove(0);
        assert!(text.contains(r#""vnd.postbell.contentSuppressed":"size""#));
        assert!(!text.contains("messageContent"));
    }

    #[test]
    fn r117_a_rename_names_new_and_old() {
        let to = Mailbox { name: "Neu/ä".to_owned(), uid_validity: Some(7) };
        let renamed = |from_owner| {
            let what = What::MailboxRenamed { from_owner, from: inbox(), to: to.clone() };
            told(&Policy::default(), what).remove(0)
        };
        let text = renamed(Some("a@example.org".to_owned()));
        assert!(
            text.contains(r#""mailboxID":"imap://a%40example.org@imap.example.org/Neu/%C3%A4;"#)
        );
        assert!(text.contains(r#""oldMailboxID":"imap://a%40example.org@imap.example.org/INBOX;"#));
        assert!(renamed(None).contains(r#""oldMailboxID":"imap://imap.example.org/INBOX;"#));
    }

    #[test]
    fn r47_r48_a_refusal_names_user_limit_and_usage_of_the_full_resource() {
        let quota = Quota {
            root: "User quota".to_owned(),
            disk_limit_kib: Some(512),
            disk_used_kib: Some(100),
            messages_limit: Some(2),
            messages_used: Some(2),
        };
        let what = What::QuotaRefused { quota, mailbox: Some(inbox()) };
        let [text] = &told(&Policy::default(), what)[..] else { panic!("one event") };
        for part in [
            r#""user":"a@example.org""#,
            r#""maxMessages":2"#,
            r#""messages":2"#,
            r#""vnd.postbell.quotaResource":"MESSAGE""#,
            r#""vnd.postbell.quotaRoot":"User quota""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("disk"), "{text}");
    }

    #[test]
    fn r48_the_user_is_the_one_whose_quota_it_is_whoever_filled_it() {
        let quota = Quota { disk_limit_kib: Some(8), disk_used_kib: Some(8), ..Quota::default() };
        let refused = || What::QuotaRefused { quota: quota.clone(), mailbox: Some(inbox()) };
        let text = by_helpdesk(refused(), "imap");
        for part in [
            r#""user":"a@example.org""#,
            r#""vnd.postbell.actingUser":"b@example.org""#,
            r#""clientIP":"192.0.2.1""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        // The help desk didn't log in as a.
        assert!(!text.contains("admin"), "{text}");
        let text = by_helpdesk(refused(), "lmtp");
        assert!(text.contains(r#""user":"a@example.org""#) && !text.contains("acting"), "{text}");
        assert!(!text.contains("client"), "{text}");
    }

    #[test]
    fn r53_r106_a_limit_taken_away_is_a_change_without_a_limit() {
        let store = Store::new("imap.example.org", None).unwrap();
        let mut memory = Memory::default();
        let mut look = |limit| {
            let quota =
                Quota { disk_limit_kib: limit, disk_used_kib: Some(20), ..Quota::default() };
            let seen = observation(What::QuotaSeen(quota));
            let events = normalise(&mut memory, &store, &Policy::default(), "test", seen).events;
            events.iter().map(|one| json::to_string(&one.event)).collect::<Vec<_>>()
        };
        assert_eq!(look(Some(10)).len(), 1);
        let [text] = &look(None)[..] else { panic!("one event") };
        assert!(text.contains("QuotaChange") && !text.contains("diskQuota"), "{text}");
    }

    #[test]
    fn r52_r53_what_the_store_tells_of_a_quota_is_told_once_and_no_look_repeats_it() {
        let store = Store::new("imap.example.org", None).unwrap();
        let mut memory = Memory::default();
        let mut tell = |what| {
            let seen = observation(what);
            let events = normalise(&mut memory, &store, &Policy::default(), "test", seen).events;
            events.iter().map(|one| json::to_string(&one.event)).collect::<Vec<_>>()
        };
        let quota = |limit| Quota {
            disk_limit_kib: Some(limit),
            disk_used_kib: Some(8),
            messages_used: Some(2),
            ..Quota::default()
        };
        let refused = What::QuotaRefused { quota: quota(8), mailbox: None };
        assert_eq!(tell(refused).len(), 1);
        let [text] = &tell(What::QuotaWithin(quota(20)))[..] else { panic!("one event") };
        for part in [r#""diskQuota":20"#, r#""messages":2"#, r#""user":"a@example.org""#] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("quotaResource"), "{text}");
        assert!(tell(What::QuotaSeen(quota(20))).is_empty());
        assert_eq!(tell(What::QuotaChanged(quota(30))).len(), 1);
        assert!(tell(What::QuotaSeen(quota(30))).is_empty());
        assert_eq!(tell(What::QuotaSeen(quota(40))).len(), 1);
    }

    #[test]
    fn r153_what_is_outside_the_registry_goes_under_the_stores_own_name() {
        let name = |name: &str| OtherName::new(name).unwrap();
        let what = What::Other {
            name: name("vnd.example.Snooze"),
            mailbox: Some(inbox()),
            uids: Some(UidSet::single(3)),
        };
        let mut seen = observation(what);
        seen.extras.push((name("vnd.example.until"), 9.into()));
        let store = Store::new("h", None).unwrap();
        let told =
            normalise(&mut Memory::default(), &store, &Policy::default(), "test", seen).events;
        let text = json::to_string(&told[0].event);
        assert!(text.contains(r#""event":"vnd.example.Snooze""#), "{text}");
        assert!(text.contains(r#""uidset":"3""#) && text.contains(r#""vnd.example.until":9"#));
    }

    /// Something of each group, and what is told whatever is switched off.
    fn one_of_each() -> Vec<(Option<EventGroup>, What)> {
        let quota = Quota {
            root: String::new(),
            disk_limit_kib: Some(100),
            disk_used_kib: Some(50),
            messages_limit: None,
            messages_used: None,
        };
        let (mailbox, uids) = (inbox(), UidSet::single(3));
        let (set, status) = (Flags::parse(r"\Flagged").unwrap(), Status::default());
        let groups = vec![(uids.clone(), set.clone())];
        let name = OtherName::new("vnd.example.Snooze").unwrap();
        let flagged = What::FlagsSet { mailbox: inbox(), groups, status };
        let expunged = What::Expunged { mailbox, uids, status, moved_to: None };
        vec![
            (Some(EventGroup::Access), What::LoggedIn),
            (Some(EventGroup::Flags), flagged),
            (Some(EventGroup::Mailbox), What::MailboxCreated(inbox())),
            (Some(EventGroup::Message), expunged),
            (Some(EventGroup::Message), What::Appended(message())),
            (Some(EventGroup::Quota), What::QuotaChanged(quota)),
            (Some(EventGroup::Subscription), What::Subscribed(inbox())),
            (Some(EventGroup::Vendor), What::Other { name, mailbox: None, uids: None }),
            (None, What::Missed { mailbox: None, reason: "x".to_owned() }),
        ]
    }

    #[test]
    fn r22_a_group_switched_off_makes_no_event_and_all_others_do() {
        let store = Store::new("h", None).unwrap();
        for off in EventGroup::ALL {
            let groups = crate::Groups::all().without(off);
            let policy = Policy { groups, ..Policy::default() };
            for (group, what) in one_of_each() {
                let mut seen = observation(what);
                seen.actor.user = Some("a".to_owned());
                seen.origin.server_domain = Some("h".to_owned());
                seen.origin.server_port = Some(143);
                let meaning = normalise(&mut Memory::default(), &store, &policy, "t", seen);
                assert_eq!(meaning.refused, []);
                let is_off = group == Some(off);
                assert_eq!(meaning.events.is_empty(), is_off, "{off} {group:?}");
                let counted = meaning.suppressed.contains(&Suppressed::Group(off));
                assert_eq!(counted, is_off, "{off} {group:?}");
            }
        }
    }

    #[test]
    fn r23_each_private_parameter_that_policy_keeps_is_counted() {
        let store = Store::new("h", None).unwrap();
        let counted = |policy: &Policy, what| -> Vec<&str> {
            let told = normalise(&mut Memory::default(), &store, policy, "t", observation(what));
            told.suppressed.iter().map(Suppressed::as_str).collect()
        };
        let new = || What::Delivered { message: message(), envelope: None };
        let all = ["bodyStructure", "envelope", "messageContent"];
        assert_eq!(counted(&Policy::default(), new()), all);
        let appended = counted(&Policy::default(), What::Appended(message()));
        assert_eq!(appended, ["bodyStructure", "messageContent"]);
        assert_eq!(counted(&Policy::default(), What::MailboxCreated(inbox())), [""; 0]);
        for (max, kept) in [(119, &all[2..]), (120, &[])] {
            let open = Policy {
                content_max_octets: Some(max),
                body_structure: true,
                envelope: true,
                ..Policy::default()
            };
            assert_eq!(counted(&open, new()), kept, "{max}");
        }
    }

    #[test]
    fn a_repeated_observation_gives_the_same_ids() {
        let store = Store::new("h", None).unwrap();
        let run = || {
            let what = What::MailboxDeleted(inbox());
            normalise(&mut Memory::default(), &store, &Policy::default(), "t", observation(what))
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn what_breaks_the_binding_is_refused_and_the_rest_is_told_under_the_same_ids() {
        let store = Store::new("h", None).unwrap();
        let uri = store.mailbox(None, &inbox());
        let bad = Event::builder(EventName::MailboxSubscribe, uri.clone(), noon()).user("a");
        let good = bad.clone().mailbox_id(uri);
        let seen = observation(What::LoggedIn);
        let run = |builders| identify("t", &Policy::default(), &seen, builders);
        let whole = run(vec![good.clone(), good.clone(), good.clone()]);
        let partly = run(vec![good.clone(), bad, good]);
        assert_eq!((partly.events.len(), partly.refused.len()), (2, 1));
        assert_eq!(partly.events.first(), whole.events.first());
        assert_eq!(partly.events.last(), whole.events.last());
    }
}
