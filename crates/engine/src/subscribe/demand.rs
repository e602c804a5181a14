//! What anybody wants to have made: the union of what all ask for, under policy (R24).

use std::collections::BTreeMap;

use mail_event::{EventGroup, EventName};

use super::filter::Events;
use super::{Filter, Projection};
use crate::{Policy, What};

/// Which events, and which parameters that cost something to find out, anybody may want.
///
/// It says too much rather than too little: whose events, of which mailboxes and on what condition
/// isn't looked at, and whoever asks for one event of a vendor's counts as asking for all.
/// `vnd.postbell.Gap` is always wanted: who misses something is to know it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// The registered ones, a bit each in the registry's order, then one for all others.
    events: u32,
    /// The largest content wanted in its event, in octets.
    content_max_octets: Option<u64>,
    body_structure: bool,
    envelope: bool,
}

impl Demand {
    /// All there is.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            events: (1 << (VENDOR + 1)) - 1,
            content_max_octets: Some(u64::MAX),
            body_structure: true,
            envelope: true,
        }
    }

    /// Nothing but gaps.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { events: 0, content_max_octets: None, body_structure: false, envelope: false }
    }

    /// No event, and these parameters of those there are.
    pub(super) const fn of_parameters(
        content_max_octets: Option<u64>,
        body_structure: bool,
        envelope: bool,
    ) -> Self {
        Self { events: 0, content_max_octets, body_structure, envelope }
    }

    /// What one subscriber wants: of each event what leaves with it, and what the condition looks at.
    #[must_use]
    pub fn of(filter: &Filter, projection: &Projection) -> Self {
        let events = match &filter.events {
            Events::All => Self::everything().events,
            Events::Some { registered, vendor, names } => {
                registered | u32::from(*vendor || !names.is_empty()) << VENDOR
            }
        };
        let looked_at = filter.condition.as_ref().map(super::condition::Condition::demand);
        let all = Self { events, ..Self::nothing() };
        let leaving = projection.demand(|name| all.wants(name));
        let wanted = leaving.union(looked_at.unwrap_or_default());
        Self { events, ..wanted }.without_idle()
    }

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            events: self.events | other.events,
            content_max_octets: self.content_max_octets.max(other.content_max_octets),
            body_structure: self.body_structure || other.body_structure,
            envelope: self.envelope || other.envelope,
        }
    }

    /// As much of it as policy lets be made.
    #[must_use]
    pub fn under(self, policy: &Policy) -> Self {
        let off = |name: &EventName| !policy.groups.contains(name.group());
        let mut events = self.events;
        for (at, _) in (0_u32..).zip(&EVENTS).filter(|(_, name)| off(name)) {
            events &= !(1 << at);
        }
        if !policy.groups.contains(EventGroup::Vendor) {
            events &= !(1 << VENDOR);
        }
        Self {
            events,
            content_max_octets: least(self.content_max_octets, policy.content_read()),
            body_structure: self.body_structure && policy.structure_read(),
            envelope: self.envelope && policy.envelope,
        }
        .without_idle()
    }

    /// Without the parameters of messages where no message is asked for.
    fn without_idle(self) -> Self {
        let adds = self.wants(&EventName::MessageAppend) || self.wants(&EventName::MessageNew);
        if adds { self } else { Self { events: self.events, ..Self::nothing() } }
    }

    /// Whether all that `other` wants is wanted.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.union(*other) == *self
    }

    /// Whether anybody wants events of this name.
    #[must_use]
    pub fn wants(&self, name: &EventName) -> bool {
        let at = (0_u32..).zip(&EVENTS).find(|(_, known)| *known == name).map(|(at, _)| at);
        name.as_str() == crate::names::GAP || self.events & (1 << at.unwrap_or(VENDOR)) != 0
    }

    /// Whether anybody wants any event that an observation may mean, or it has to be looked at
    /// whatever is wanted: how a quota stands is remembered, so that its edges are told once.
    #[must_use]
    pub fn may_come_of(&self, what: &What) -> bool {
        let any = |names: &[EventName]| names.iter().any(|name| self.wants(name));
        match what {
            What::Delivered { .. } => any(&[EventName::MessageNew]),
            What::Appended(_) => any(&[EventName::MessageAppend]),
            What::Expunged { .. } => any(&[EventName::MessageExpunge]),
            What::Expired { .. } => any(&[EventName::MessageExpire]),
            What::FlagsChanged { cleared, .. } => {
                (!cleared.is_empty() && any(&[EventName::FlagsClear])) || any(&SETTING)
            }
            What::FlagsSet { .. } => any(&SETTING),
            What::MailboxCreated(_) => any(&[EventName::MailboxCreate]),
            What::MailboxDeleted(_) => any(&[EventName::MailboxDelete]),
            What::MailboxRenamed { .. } => any(&[EventName::MailboxRename]),
            What::Subscribed(_) => any(&[EventName::MailboxSubscribe]),
            What::Unsubscribed(_) => any(&[EventName::MailboxUnSubscribe]),
            What::LoggedIn => any(&[EventName::Login]),
            What::LoggedOut => any(&[EventName::Logout]),
            What::Other { name, .. } => any(&[EventName::Other(name.clone())]),
            What::QuotaRefused { .. }
            | What::QuotaSeen(_)
            | What::QuotaWithin(_)
            | What::QuotaChanged(_)
            | What::Missed { .. } => true,
        }
    }

    /// Whether anybody wants flags that are set, or cleared, to be told.
    #[must_use]
    pub fn wants_flags(&self) -> bool {
        SETTING.iter().chain([&EventName::FlagsClear]).any(|name| self.wants(name))
    }

    /// The events wanted: registered names, and `vendor` for all others.
    pub fn events(self) -> impl Iterator<Item = &'static str> {
        let (bits, names) = (self.events, EVENTS.iter().map(EventName::as_str));
        let names = (0_u32..).zip(names.chain([EventGroup::Vendor.as_str()]));
        names.filter(move |(at, _)| bits & (1 << at) != 0).map(|(_, name)| name)
    }

    /// The largest content wanted in its event, in octets; `None` where nobody wants any.
    #[must_use]
    pub fn content_max_octets(&self) -> Option<u64> {
        self.content_max_octets
    }

    /// Whether anybody wants `bodyStructure`.
    #[must_use]
    pub fn body_structure(&self) -> bool {
        self.body_structure
    }

    /// Whether anybody wants `envelope`.
    #[must_use]
    pub fn envelope(&self) -> bool {
        self.envelope
    }

    /// The policy by which events are made where no parameter is that nobody wants.
    #[must_use]
    pub fn narrow(&self, policy: &Policy) -> Policy {
        Policy {
            content_max_octets: least(self.content_max_octets, policy.content_max_octets),
            body_structure: policy.body_structure && self.body_structure,
            envelope: policy.envelope && self.envelope,
            ..policy.clone()
        }
    }
}

/// What many want, counted: whoever comes or goes costs the same, however many there are.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    events: [usize; 19],
    contents: BTreeMap<u64, usize>,
    structures: usize,
    envelopes: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, one: &Demand) {
        for count in self.counted(one) {
            *count += 1;
        }
        if let Some(octets) = one.content_max_octets {
            *self.contents.entry(octets).or_default() += 1;
        }
    }

    /// Counts one less, who was added before.
    pub fn remove(&mut self, one: &Demand) {
        for count in self.counted(one) {
            *count = count.saturating_sub(1);
        }
        if let Some(octets) = one.content_max_octets
            && let Some(count) = self.contents.get_mut(&octets)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.contents.remove(&octets);
            }
        }
    }

    /// What any of them wants.
    #[must_use]
    pub fn union(&self) -> Demand {
        let wanted = (0_u32..).zip(&self.events).filter(|(_, count)| **count > 0);
        Demand {
            events: wanted.fold(0, |bits, (at, _)| bits | 1 << at),
            content_max_octets: self.contents.last_key_value().map(|(octets, _)| *octets),
            body_structure: self.structures > 0,
            envelope: self.envelopes > 0,
        }
    }

    /// How many want each event, in the registry's order; the last are events outside it.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, usize)> {
        Demand::everything().events().zip(self.events)
    }

    fn counted(&mut self, one: &Demand) -> impl Iterator<Item = &mut usize> {
        let bits = one.events;
        let events = (0_u32..).zip(&mut self.events).filter(move |(at, _)| bits & (1 << at) != 0);
        let structures = one.body_structure.then_some(&mut self.structures);
        let envelopes = one.envelope.then_some(&mut self.envelopes);
        events.map(|(_, count)| count).chain(structures).chain(envelopes)
    }
}

/// The lower of two ceilings, where `None` is nothing.
fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.min(other?))
}

/// What setting flags may become.
static SETTING: [EventName; 3] =
    [EventName::FlagsSet, EventName::MessageRead, EventName::MessageTrash];

/// Once, since a constant is made anew wherever it is used.
static EVENTS: [EventName; 18] = EventName::REGISTERED;

/// The place of all events outside the registry.
const VENDOR: u32 = 18;
const _: () = assert!(EventName::REGISTERED.len() == 18);

#[cfg(test)]
mod tests {
    use mail_event::{Flags, MessageContent, UidSet};
    use proptest::prelude::*;

    use super::*;
    use crate::{Ceiling, FlagForm, FlagForms, Groups, Keys, Mailbox, Role, Selection, Stamp};
    use crate::{Status, Verdict};

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn open() -> Policy {
        Policy {
            content_max_octets: Some(5_000),
            body_structure: true,
            envelope: true,
            ..Policy::default()
        }
    }

    fn demand(selection: &Selection, policy: &Policy) -> Demand {
        let (filter, projection) = selection.compile(policy).unwrap();
        Demand::of(&filter, &projection)
    }

    fn names(demand: &Demand) -> Vec<&'static str> {
        demand.events().collect()
    }

    #[test]
    fn r24_whoever_asks_for_nothing_in_particular_wants_every_event_and_nothing_private() {
        let wanted = demand(&Selection::default(), &open());
        assert_eq!(wanted.events, Demand::everything().events);
        assert_eq!((wanted.content_max_octets, wanted.body_structure), (None, false));
        assert!(!wanted.envelope);
    }

    #[test]
    fn r24_a_form_a_subscriber_asks_for_is_made_of_the_other() {
        let forms = FlagForms { seen: Some(FlagForm::Flags), ..FlagForms::default() };
        let selection =
            Selection { events: texts(&["FlagsSet"]), flag_forms: forms, ..Selection::default() };
        assert_eq!(names(&demand(&selection, &open())), ["MessageRead", "FlagsSet"]);
    }

    #[test]
    fn r24_a_vendors_name_counts_as_all_of_them_and_a_gap_is_always_wanted() {
        let selection = Selection { events: texts(&["vnd.a.B"]), ..Selection::default() };
        assert_eq!(names(&demand(&selection, &open())), ["vendor"]);
        let gap = "vnd.postbell.Gap".parse().unwrap();
        assert!(Demand::nothing().wants(&gap));
        assert!(!Demand::nothing().wants(&"vnd.a.B".parse().unwrap()));
    }

    #[test]
    fn r24_what_a_condition_looks_at_is_wanted() {
        let asking = |condition: &str| Selection {
            events: texts(&["MessageNew"]),
            condition: Some(condition.to_owned()),
            ..Selection::default()
        };
        let wanted = demand(&asking("messageContent.contains(\"x\")"), &open());
        assert_eq!((wanted.content_max_octets, wanted.body_structure), (Some(2_048), false));
        assert!(demand(&asking("has(bodyStructure)"), &open()).body_structure);
        assert_eq!(demand(&asking("messageSize > 5"), &open()).content_max_octets, None);
    }

    #[test]
    fn r42_what_is_asked_for_of_one_event_is_wanted_as_far_as_that_event_brings_it() {
        let asking = |usual: &[&str], lists: &[(&str, &[&str])]| {
            let lists = lists.iter().map(|(event, list)| ((*event).to_owned(), texts(list)));
            let selection = Selection {
                events: texts(&["MessageNew", "MessageAppend", "flags"]),
                parameters: texts(usual),
                parameters_of: Some(lists.collect()),
                ..Selection::default()
            };
            let wanted = demand(&selection, &open());
            (wanted.content_max_octets.is_some(), wanted.body_structure, wanted.envelope)
        };
        let all = ["messageContent", "bodyStructure", "envelope"];
        assert_eq!(asking(&[], &[("MessageNew", &all)]), (true, true, true));
        assert_eq!(asking(&[], &[("message", &["envelope"])]), (false, false, true));
        assert_eq!(asking(&[], &[("flags", &all)]), (false, false, false));
        assert_eq!(asking(&all, &[("message", &["uri"])]), (false, false, false));
        assert_eq!(asking(&all, &[("MessageNew", &["uri"])]), (true, true, true));
    }

    #[test]
    fn r23_nothing_of_messages_is_wanted_by_whoever_wants_none() {
        let selection = Selection {
            events: texts(&["flags"]),
            parameters: texts(&["*", "messageContent", "bodyStructure", "envelope"]),
            ..Selection::default()
        };
        let wanted = demand(&selection, &open());
        assert_eq!((wanted.content_max_octets, wanted.body_structure), (None, false));
    }

    #[test]
    fn r22_r43_policy_and_the_ceiling_of_a_role_bound_what_is_wanted() {
        let shut = Policy { groups: Groups::all().without(EventGroup::Flags), ..Policy::default() };
        let all = Demand::everything().under(&shut);
        assert!(!all.wants_flags() && all.wants(&EventName::MessageNew));
        assert_eq!(
            (all.content_max_octets, all.body_structure, all.envelope),
            (None, false, false)
        );
        let user = Ceiling { content_max_octets: Some(100), ..Ceiling::default() };
        let policy = Policy { user, ..open() };
        let selection =
            Selection { parameters: texts(&["messageContent"]), ..Selection::default() };
        let of = |role| demand(&selection, &policy.for_role(role)).content_max_octets;
        assert_eq!((of(Role::Admin), of(Role::User)), (Some(2_048), Some(100)));
    }

    #[test]
    fn r24_only_what_may_come_of_an_observation_decides_about_it() {
        let wanted = demand(
            &Selection { events: texts(&["FlagsClear"]), ..Selection::default() },
            &Policy::default(),
        );
        let changed = |cleared: &str| What::FlagsChanged {
            mailbox: Mailbox { name: "INBOX".to_owned(), uid_validity: Some(7) },
            uids: UidSet::single(1),
            set: Flags::parse("\\Seen").unwrap(),
            cleared: Flags::parse(cleared).unwrap_or_default(),
            modseq: None,
            status: Status::default(),
        };
        assert!(wanted.may_come_of(&changed("\\Flagged")) && !wanted.may_come_of(&changed("")));
        assert!(!wanted.may_come_of(&What::LoggedIn));
        let missed = What::Missed { mailbox: None, reason: String::new() };
        assert!(Demand::nothing().may_come_of(&missed));
    }

    fn selection() -> impl Strategy<Value = Selection> {
        let event = prop::sample::select(vec![
            "message",
            "flags",
            "vendor",
            "MessageNew",
            "MessageRead",
            "FlagsSet",
            "vnd.a.B",
        ]);
        let parameter =
            prop::sample::select(vec!["*", "uri", "messageContent", "bodyStructure", "envelope"]);
        let lists = prop::collection::vec(parameter.clone(), 0..3);
        let named = prop::sample::select(vec!["message", "MessageNew", "vendor", "FlagsSet"]);
        let by_event = prop::option::of(prop::collection::btree_map(named, lists, 1..3));
        let condition = prop::option::of(prop::sample::select(vec![
            "messageSize > 3",
            "has(bodyStructure)",
            "messageContent == \"abc\"",
        ]));
        let form =
            || prop::option::of(prop::sample::select(vec![FlagForm::Simple, FlagForm::Flags]));
        let lists = (
            prop::collection::vec(event, 0..3),
            prop::collection::vec(parameter, 0..4),
            by_event,
            condition,
        );
        (lists, form(), form()).prop_map(|((events, usual, by_event, condition), seen, deleted)| {
            let selection = Selection {
                events: texts(&events),
                parameters: texts(&usual),
                condition: condition.map(str::to_owned),
                flag_forms: FlagForms { seen, deleted },
                ..Selection::default()
            };
            let lists = by_event.into_iter().flatten();
            let lists = lists.map(|(event, list)| (event.to_owned(), texts(&list)));
            // A list for what isn't asked for would be refused.
            let fits = |list: &(String, Vec<String>)| {
                let parameters_of = Some([list.clone()].into_iter().collect());
                Selection { parameters_of, ..selection.clone() }.compile(&open()).is_ok()
            };
            let lists: Vec<_> = lists.filter(fits).collect();
            let parameters_of = (!lists.is_empty()).then(|| lists.into_iter().collect());
            Selection { parameters_of, ..selection }
        })
    }

    fn event(name: &str, flag: &str) -> String {
        let uri = "imap://a@h/INBOX;UIDVALIDITY=7/;UID=5".parse().unwrap();
        let at = "2026-08-20T12:00:00+02:00".parse().unwrap();
        let name: EventName = name.parse().unwrap();
        let is_flags = name == EventName::FlagsSet || name == EventName::MessageRead;
        if is_flags || name.group() == EventGroup::Vendor {
            let flags =
                if is_flags { format!(r#","flagNames":["{flag}"]"#) } else { String::new() };
            let uri = "imap://a@h/INBOX;UIDVALIDITY=7";
            return format!(
                r#"{{"event":"{name}","uri":"{uri}","mailboxID":"{uri}","timestamp":"2026-08-20T12:00:00+02:00","uidset":"5"{flags}}}"#
            );
        }
        let built = mail_event::Event::builder(name, uri, at)
            .mailbox_id("imap://a@h/INBOX;UIDVALIDITY=7".parse().unwrap())
            .message_size(4)
            .message_content(MessageContent::new(b"abcd".to_vec()))
            .body_structure("(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 4 1)")
            .build();
        mail_event::json::to_string(&built.unwrap())
    }

    proptest! {
        #[test]
        fn r24_whatever_anybody_is_delivered_is_in_the_demand(
            all in prop::collection::vec(selection(), 1..6),
            gone in any::<prop::sample::Index>(),
            name in prop::sample::select(vec!["MessageNew", "MessageAppend", "MessageRead", "FlagsSet", "vnd.a.B"]),
            flag in prop::sample::select(vec![r"\\Seen", r"\\Deleted", "x"]),
        ) {
            let policy = open();
            let mut tally = Tally::default();
            all.iter().for_each(|one| tally.add(&demand(one, &policy)));
            tally.remove(&demand(&all[gone.index(all.len())], &policy));
            let stay = (0..all.len()).filter(|at| *at != gone.index(all.len())).map(|at| &all[at]);
            let wanted = tally.union();
            let json = event(name, flag);
            let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
            let mut union = Demand::nothing();
            for one in stay {
                let (filter, projection) = one.compile(&policy).unwrap();
                union = union.union(Demand::of(&filter, &projection));
                if filter.judge(&view, json.as_bytes()) != Verdict::Wanted {
                    continue;
                }
                prop_assert!(wanted.wants(&name.parse().unwrap()), "{one:?} {name}");
                let stamp = Stamp { id: crate::event_id("x", b"y", 0, 0), seq: 1, prev_seq: None };
                let mut told = Vec::new();
                projection.write(&mut told, json.as_bytes(), &view, &stamp);
                let told = String::from_utf8(told).unwrap();
                prop_assert!(!told.contains("\"messageContent\":") || wanted.content_max_octets >= Some(4));
                prop_assert!(!told.contains("\"bodyStructure\":") || wanted.body_structure);
            }
            prop_assert_eq!(wanted, union);
        }

        #[test]
        fn a_tally_of_everybody_who_left_wants_nothing(all in prop::collection::vec(selection(), 0..6)) {
            let mut tally = Tally::default();
            all.iter().for_each(|one| tally.add(&demand(one, &open())));
            all.iter().rev().for_each(|one| tally.remove(&demand(one, &open())));
            prop_assert_eq!(tally.union(), Demand::nothing());
        }
    }
}
