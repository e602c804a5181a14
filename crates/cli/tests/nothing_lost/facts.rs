//! What happened, so that what clients were told and what postbell told can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mail_event::{Event, EventName, UidSet, Uri};

/// Facts, and how often each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ledger {
    sure: BTreeMap<String, u32>,
    /// What may be so or not.
    maybe: BTreeSet<String>,
}

impl Ledger {
    pub(crate) fn note(&mut self, fact: String) {
        *self.sure.entry(fact).or_default() += 1;
    }

    pub(crate) fn note_maybe(&mut self, fact: String) {
        self.maybe.insert(fact);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (fact, count) in other.sure {
            *self.sure.entry(fact).or_default() += count;
        }
        self.maybe.extend(other.maybe);
    }

    /// What is here and not there, or here more often.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let left = self.sure.iter().filter_map(|(fact, count)| {
            let there = other.times(fact) + u32::from(other.maybe.contains(fact));
            let left = count.saturating_sub(there);
            (left > 0).then(|| (fact.clone(), left))
        });
        Self { sure: left.collect(), maybe: BTreeSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sure.is_empty()
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = &str> {
        self.sure.keys().map(String::as_str)
    }

    /// What is here more than once.
    pub(crate) fn twice(&self) -> impl Iterator<Item = &str> {
        self.sure.iter().filter(|(_, count)| **count > 1).map(|(fact, _)| fact.as_str())
    }

    pub(crate) fn times(&self, fact: &str) -> u32 {
        self.sure.get(fact).copied().unwrap_or(0)
    }

    /// All of them.
    pub(crate) fn count(&self) -> u32 {
        self.sure.values().sum()
    }
}

impl FromIterator<String> for Ledger {
    fn from_iter<I: IntoIterator<Item = String>>(facts: I) -> Self {
        let mut ledger = Self::default();
        facts.into_iter().for_each(|fact| ledger.note(fact));
        ledger
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("  (nothing)");
        }
        for (fact, count) in self.sure.iter().take(SHOWN_MAX) {
            writeln!(f, "  {count} × {fact}")?;
        }
        match self.sure.len().checked_sub(SHOWN_MAX) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(f, "  and {more} more"),
        }
    }
}

pub(crate) fn login(user: &str) -> String {
    format!("{user} login")
}

pub(crate) fn logout(user: &str) -> String {
    format!("{user} logout")
}

pub(crate) fn added(owner: &str, mailbox: &str, uid: u32) -> String {
    format!("{owner} added {mailbox} {uid}")
}

pub(crate) fn gone(owner: &str, mailbox: &str, uid: u32) -> String {
    format!("{owner} gone {mailbox} {uid}")
}

pub(crate) fn set(owner: &str, mailbox: &str, uid: u32, flag: &str) -> String {
    format!("{owner} set {mailbox} {uid} {flag}")
}

pub(crate) fn cleared(owner: &str, mailbox: &str, uid: u32, flag: &str) -> String {
    format!("{owner} cleared {mailbox} {uid} {flag}")
}

/// `deed` is `created`, `deleted`, `subscribed` or `unsubscribed`.
pub(crate) fn mailbox(owner: &str, deed: &str, mailbox: &str) -> String {
    format!("{owner} {deed} {mailbox}")
}

pub(crate) fn renamed(owner: &str, from: &str, to: &str) -> String {
    format!("{owner} renamed {from} {to}")
}

/// What an event says happened.
pub(crate) fn of(event: &Event) -> Vec<String> {
    let (owner, name) = named(event.uri());
    let user = event.user().unwrap_or_default();
    let of_each = |fact: &dyn Fn(u32) -> String| match event.uidset() {
        Some(uids) => uids.iter().map(fact).collect(),
        None => vec![format!("{owner} ? {name} without UIDs")],
    };
    let flags = |fact: fn(&str, &str, u32, &str) -> String| {
        let names = event.flag_names().into_iter().flat_map(|flags| flags.iter());
        let names: Vec<String> = names.map(ToString::to_string).collect();
        let uids = event.uidset().into_iter().flat_map(UidSet::iter);
        let pairs = uids.flat_map(|uid| names.iter().map(move |flag| (uid, flag)));
        pairs.map(|(uid, flag)| fact(owner, name, uid, flag)).collect()
    };
    let target = || event.mailbox_id().map_or(("", ""), named);
    let of_mailbox = |deed: &str| {
        let (owner, name) = target();
        vec![mailbox(owner, deed, name)]
    };
    match event.name() {
        EventName::Login => vec![login(user)],
        EventName::Logout => vec![logout(user)],
        EventName::MessageAppend | EventName::MessageNew => {
            vec![added(owner, name, uid(event.uri()))]
        }
        EventName::MessageExpunge | EventName::MessageExpire => {
            of_each(&|uid| gone(owner, name, uid))
        }
        EventName::MessageRead => of_each(&|uid| set(owner, name, uid, "\\Seen")),
        EventName::MessageTrash => of_each(&|uid| set(owner, name, uid, "\\Deleted")),
        EventName::FlagsSet => flags(set),
        EventName::FlagsClear => flags(cleared),
        EventName::MailboxCreate => of_mailbox("created"),
        EventName::MailboxDelete => of_mailbox("deleted"),
        EventName::MailboxSubscribe => of_mailbox("subscribed"),
        EventName::MailboxUnSubscribe => of_mailbox("unsubscribed"),
        EventName::MailboxRename => {
            let (owner, to) = target();
            let (_, from) = event.old_mailbox_id().map_or(("", ""), named);
            vec![renamed(owner, from, to)]
        }
        // Cyrus says it beside what is told here.
        other if other.as_str().starts_with("vnd.cmu.") => Vec::new(),
        other => {
            let reason = event.vendor("vnd.postbell.gapReason").map(|reason| reason.to_string());
            vec![format!("{owner} {} {name} {}", other.as_str(), reason.unwrap_or_default())]
        }
    }
}

/// Owner and mailbox of a URI.
pub(crate) fn named(uri: &Uri) -> (&str, &str) {
    match uri {
        Uri::Imap(url) => (url.user().unwrap_or_default(), url.mailbox().unwrap_or_default()),
        Uri::Other(_) => ("", ""),
    }
}

/// The UID in a URI; 0 where there is none.
pub(crate) fn uid(uri: &Uri) -> u32 {
    match uri {
        Uri::Imap(url) => url.uid().unwrap_or(0),
        Uri::Other(_) => 0,
    }
}

/// Facts that a failing test shows.
const SHOWN_MAX: usize = 40;
