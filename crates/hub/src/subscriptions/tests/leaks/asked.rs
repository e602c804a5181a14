//! What users ask for, and what happens.

use proptest::prelude::*;

use super::super::*;
use crate::subscriptions::batch::Batching;

pub(super) const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// A mailbox, by its owner and itself; its name says whose it is, so that a leak can be seen.
pub(super) type Place = (usize, usize);

pub(super) fn name((owner, mailbox): Place) -> String {
    format!("{}-of-{}", ["A", "B"][mailbox], USERS[owner])
}

pub(super) fn url(place: Place) -> String {
    format!("imap://{}@h/{};UIDVALIDITY=7", USERS[place.0], name(place))
}

pub(super) fn places() -> impl Iterator<Item = Place> {
    (0..USERS.len()).flat_map(|owner| (0..2).map(move |mailbox| (owner, mailbox)))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Flags,
    /// What its owner does beside, which is nobody else's business.
    Subscribe,
    Rename,
}

/// What a user asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) events: Vec<&'static str>,
    pub(super) users: Vec<&'static str>,
    pub(super) mailboxes: Vec<&'static str>,
    pub(super) condition: Option<&'static str>,
    pub(super) in_batches: bool,
}

/// What happened, under its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) place: Place,
    pub(super) other: Option<Place>,
}

impl Event {
    /// One of a mailbox; a rename names another, whatever else does.
    pub(super) fn new(kind: Kind, place: Place, other: Option<Place>) -> Self {
        let is_another = other.filter(|other| *other != place);
        let other = match kind {
            Kind::Rename => Some(is_another.unwrap_or((place.0, 1 - place.1))),
            Kind::Flags | Kind::Subscribe => other,
        };
        Self { kind, place, other }
    }

    /// The mailboxes that it can't be told without.
    pub(super) fn names(&self) -> impl Iterator<Item = Place> {
        let other = self.other.filter(|_| self.kind == Kind::Rename);
        [self.place].into_iter().chain(other)
    }

    /// What a user's condition sees of it: what is left out for them isn't there.
    pub(super) fn seen_by(&self, user: usize) -> Self {
        let is_own = |place: &Place| self.place.0 == user && place.0 == user;
        let other = self.other.filter(|place| self.kind == Kind::Rename || is_own(place));
        Self { other, ..*self }
    }

    pub(super) fn json(&self, number: u64) -> String {
        let (uri, time) = (url(self.place), "2026-08-20T13:34:14+02:00");
        let other = self.other.map(url);
        let from = other.as_ref().map(|url| format!(r#","vnd.x.from":"{url}""#));
        let from = from.unwrap_or_default();
        match self.kind {
            Kind::Flags => format!(
                r#"{{"event":"FlagsSet","uri":"{uri}","timestamp":"{time}","flagNames":["x"],"uidset":"{number}"{from}}}"#
            ),
            Kind::Subscribe => format!(
                r#"{{"event":"MailboxSubscribe","uri":"{uri}","mailboxID":"{uri}","user":"{}","timestamp":"{time}","vnd.x.number":{number}{from}}}"#,
                USERS[self.place.0]
            ),
            Kind::Rename => {
                let old = other.unwrap_or_default();
                format!(
                    r#"{{"event":"MailboxRename","uri":"{uri}","mailboxID":"{uri}","oldMailboxID":"{old}","timestamp":"{time}","vnd.x.number":{number}}}"#
                )
            }
        }
    }
}

impl Asked {
    pub(super) fn subscription(&self, url: &str) -> NewSubscription {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let max_delay = "20ms".to_owned();
        let batch = Batching { max_events: 3, max_delay, ..Batching::default() };
        let wanted = wanted("phone", url);
        let NewSink::Webhook { url, signature, .. } = wanted.sink;
        let sink = NewSink::Webhook {
            url,
            signature,
            secret: None,
            verify: None,
            batch: self.in_batches.then_some(batch),
            client_certificate: None,
        };
        NewSubscription {
            events: texts(&self.events),
            users: texts(&self.users),
            mailboxes: texts(&self.mailboxes),
            condition: self.condition.map(str::to_owned),
            sink,
            ..super::wanted("phone", "")
        }
    }

    /// Whether an event is asked for, said as plainly as can be.
    pub(super) fn wants(&self, seq: u64, event: &Event) -> bool {
        let kind = match event.kind {
            Kind::Flags => "FlagsSet",
            Kind::Subscribe => "MailboxSubscribe",
            Kind::Rename => "MailboxRename",
        };
        let (owner, mailbox) = (USERS[event.place.0], name(event.place));
        let is_meant = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(begin) => mailbox.starts_with(begin),
            None => mailbox == **pattern,
        };
        let holds = match self.condition {
            Some("uidset != \"3\"") => event.kind == Kind::Flags && seq != 3,
            Some(_) => event.kind == Kind::Rename || event.other.is_none(),
            None => true,
        };
        (self.events.is_empty() || self.events.contains(&kind))
            && (self.users.is_empty() || self.users.contains(&owner))
            && (self.mailboxes.is_empty() || self.mailboxes.iter().any(is_meant))
            && holds
    }
}

/// Mostly one and the same, so that what happens there meets who may read it.
pub(super) fn place() -> impl Strategy<Value = Place> {
    prop_oneof![3 => Just((0, 0)), 1 => (0..USERS.len(), 0..2_usize)]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![
        Kind::Flags,
        Kind::Flags,
        Kind::Flags,
        Kind::Subscribe,
        Kind::Rename,
    ]);
    let parts = (kind, place(), prop::option::of(place()));
    parts.prop_map(|(kind, place, other)| Event::new(kind, place, other))
}

pub(super) fn asked() -> impl Strategy<Value = Asked> {
    // Nearly everything, most of the time.
    let of = |all: Vec<Vec<&'static str>>| prop_oneof![6 => Just(vec![]), 1 => prop::sample::select(all)];
    let events = of(vec![vec!["FlagsSet"], vec!["FlagsSet", "MailboxRename"]]);
    let users = of(vec![vec!["ann"], vec!["ann", "bob", "eve"]]);
    let mailboxes = of(vec![vec!["A*"], vec!["B-of-eve", "A-of-ann"]]);
    let conditions = vec![Some("uidset != \"3\""), Some("!has(vnd[\"x.from\"])")];
    let condition = prop_oneof![4 => Just(None), 1 => prop::sample::select(conditions)];
    (events, users, mailboxes, condition, any::<bool>()).prop_map(
        |(events, users, mailboxes, condition, in_batches)| Asked {
            events,
            users,
            mailboxes,
            condition,
            in_batches,
        },
    )
}
