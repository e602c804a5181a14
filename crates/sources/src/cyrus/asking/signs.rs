//! Signs that Cyrus said something that nobody heard.
//!
//! With each change of a mailbox its process says MailboxModseq, shortly before or after it says
//! what happened. Where it says nothing else, a notification was too long for a datagram, or it is
//! of what Cyrus never tells, such as mailboxes that come and go over JMAP.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::notification::Notification;
use crate::spool::Change;
use crate::{Pair, saved};

/// What was said of mailboxes lately, by process.
///
/// Restored from, and stored with, the source's checkpoint: what explains it may be told by the next
/// run.
#[derive(Debug, Default)]
pub(super) struct Signs {
    said: BTreeMap<Key, Said>,
    /// What is in the checkpoint.
    stored: BTreeMap<Key, i64>,
}

/// The process, and the mailbox as an admin names it.
type Key = (u32, String);

#[derive(Clone, Copy, Debug)]
struct Said {
    last: Instant,
    /// MailboxModseq so often, and nothing else.
    unexplained: u32,
    /// What happened, with its MailboxModseq still to come.
    is_ahead: bool,
}

impl Said {
    /// How many MailboxModseq are unexplained; -1 where one is still to come.
    fn balance(self) -> i64 {
        if self.is_ahead { -1 } else { self.unexplained.into() }
    }
}

impl Signs {
    /// What the checkpoint says, as if it had been said at `now`.
    pub(super) fn restore(saved: &[Pair], now: Instant) -> Self {
        let read = |(name, balance): (String, i64)| {
            let (pid, mailbox) = name.split_once(' ')?;
            Some(((pid.parse().ok()?, mailbox.to_owned()), balance))
        };
        let stored: BTreeMap<Key, i64> =
            saved::restore(KEY, saved).into_iter().filter_map(read).collect();
        let said = stored.iter().map(|(key, balance)| {
            let unexplained = u32::try_from(*balance).unwrap_or(0);
            (key.clone(), Said { last: now, unexplained, is_ahead: *balance < 0 })
        });
        Self { said: said.collect(), stored }
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let balances = self.said.iter().map(|(key, said)| (key.clone(), said.balance()));
        let wanted: BTreeMap<Key, i64> = balances.filter(|(_, balance)| *balance != 0).collect();
        let change =
            |key: &Key| saved::change(KEY, &format!("{} {}", key.0, key.1), wanted.get(key));
        let gone = self.stored.keys().filter(|key| !wanted.contains_key(*key));
        let new = wanted.iter().filter(|(key, balance)| self.stored.get(*key) != Some(*balance));
        let changes = gone.map(change).chain(new.map(|(key, _)| change(key))).collect();
        self.stored = wanted;
        changes
    }

    /// Notes what a process said at `now`.
    pub(super) fn note(&mut self, said: &Notification, now: Instant) {
        let name = said.uri.as_ref().and_then(mail_event::ImapUrl::mailbox);
        let Some(key) = said.pid.zip(name.map(str::to_owned)) else { return };
        if self.said.len() >= KEPT_MAX && !self.said.contains_key(&key) {
            return;
        }
        let fresh = Said { last: now, unexplained: 0, is_ahead: false };
        let one = self.said.entry(key).or_insert(fresh);
        one.last = now;
        if said.event == "MailboxModseq" {
            one.unexplained += u32::from(!std::mem::take(&mut one.is_ahead));
        } else if one.unexplained > 0 {
            one.unexplained -= 1;
        } else {
            one.is_ahead = true;
        }
    }

    /// Mailboxes of which something must have been said that wasn't heard; of those that were
    /// spoken of a moment ago it isn't clear yet.
    pub(super) fn take(&mut self, now: Instant) -> Vec<String> {
        let is_clear = |said: &Said| now.saturating_duration_since(said.last) >= TOGETHER;
        let clear = self.said.extract_if(.., |_, said| is_clear(said));
        clear.filter(|(_, said)| said.unexplained > 0).map(|((_, name), _)| name).collect()
    }
}

/// What was said of a mailbox, in the checkpoint.
pub(super) const KEY: &[u8] = b"sign/";

/// How long after one another a process says MailboxModseq and what happened: it takes
/// milliseconds.
const TOGETHER: Duration = Duration::from_secs(2);

/// Mailboxes that processes spoke of within that time.
const KEPT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event: &str, pid: u32, mailbox: &str) -> Notification {
        let uri = format!("imap://host/{mailbox};UIDVALIDITY=5").parse().ok();
        Notification { event: event.to_owned(), pid: Some(pid), uri, ..Notification::default() }
    }

    /// What is missed, of one process and one mailbox.
    fn missed(events: &str) -> bool {
        let (mut signs, now) = (Signs::default(), Instant::now());
        for event in events.split_terminator(' ') {
            let event = if event == "Modseq" { "MailboxModseq" } else { event };
            signs.note(&said(event, 7, "user/alice"), now);
        }
        assert!(signs.take(now).is_empty(), "too early to say");
        let missed = signs.take(now + TOGETHER);
        assert!(signs.take(now + TOGETHER).is_empty(), "said once");
        !missed.is_empty()
    }

    #[test]
    fn a_change_of_which_nothing_else_is_said_was_missed() {
        for (events, is_missed) in [
            ("", false),
            ("Modseq", true),
            ("Modseq MessageAppend", false),
            ("MessageTrash Modseq", false),
            ("MessageTrash MessageRead FlagsSet Modseq Modseq MessageExpunge", false),
            ("MessageTrash Modseq Modseq Modseq MessageExpunge", true),
            ("MailboxSubscribe", false),
        ] {
            assert_eq!(missed(events), is_missed, "{events}");
        }
    }

    #[test]
    fn what_one_process_says_explains_nothing_of_another() {
        let (mut signs, now) = (Signs::default(), Instant::now());
        signs.note(&said("MailboxModseq", 7, "user/alice"), now);
        signs.note(&said("MessageAppend", 8, "user/alice"), now);
        signs.note(&said("MessageAppend", 7, "user/bob"), now);
        assert_eq!(signs.take(now + TOGETHER), ["user/alice"]);
    }

    #[test]
    fn what_one_run_heard_the_next_may_hear_explained() {
        for (before, after, is_missed) in [
            ("Modseq", "", true),
            ("Modseq", "MessageAppend", false),
            ("MessageTrash", "Modseq", false),
            ("Modseq MessageAppend", "Modseq", true),
        ] {
            let now = Instant::now();
            let hear = |signs: &mut Signs, events: &str| {
                for event in events.split_terminator(' ') {
                    let event = if event == "Modseq" { "MailboxModseq" } else { event };
                    signs.note(&said(event, 7, "user/alice"), now);
                }
            };
            let mut signs = Signs::default();
            hear(&mut signs, before);
            let saved = signs.drain_changes().into_iter();
            let saved: Vec<Pair> = saved.map(|(key, value)| (key, value.unwrap())).collect();
            assert!(signs.drain_changes().is_empty(), "once");
            let mut signs = Signs::restore(&saved, now);
            hear(&mut signs, after);
            assert!(signs.take(now).is_empty(), "too early to say");
            let missed = signs.take(now + TOGETHER);
            assert_eq!(missed == ["user/alice"], is_missed, "{before}, {after}");
            let gone = signs.drain_changes();
            assert!(gone.iter().all(|(_, value)| value.is_none()) && gone.len() == saved.len());
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (mut signs, now) = (Signs::default(), Instant::now());
        for pid in 0..20_000 {
            signs.note(&said("MailboxModseq", pid, "user/alice"), now);
        }
        assert_eq!(signs.take(now + TOGETHER).len(), KEPT_MAX);
    }
}
