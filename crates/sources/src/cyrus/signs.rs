//! Signs that Cyrus said something that nobody heard.
//!
//! With each change of a mailbox its process says MailboxModseq, shortly before or after it says
//! what happened. Where it says nothing else, a notification was too long for a datagram, or it is
//! of what Cyrus never tells, such as mailboxes that come and go over JMAP.
//!
//! A rename is told once, and said to have changed whatever was below the mailbox as well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mail_event::{ImapUrl, Timestamp};
use serde::{Deserialize, Serialize};

use super::namespace::Namespace;
use super::notification::Notification;
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
    stored: BTreeMap<Key, Kept>,
    /// More was spoken of than is remembered.
    is_overfull: bool,
}

/// A mailbox of which something must have been said that wasn't heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sign {
    /// As an admin names it.
    pub(super) mailbox: String,
    pub(super) uid_validity: Option<u32>,
    /// Whether it holds mail; else it is a calendar or the like.
    pub(super) is_mail: bool,
}

/// The process, and the mailbox as an admin names it.
type Key = (u32, String);

#[derive(Clone, Debug)]
struct Said {
    last: Instant,
    kept: Kept,
    /// What explained a MailboxModseq before it, and when: more of its kind is explained by that
    /// as well, such as other messages of one APPEND.
    explained: Option<(String, i64)>,
    /// There was a MailboxModseq since it was made, be it for that or for the first message.
    is_first_changed: bool,
}

/// What of it outlives a run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Kept {
    /// MailboxModseq so often, and nothing else.
    unexplained: u32,
    /// When what happened was sent whose MailboxModseq is still to come.
    ahead_ms: Option<i64>,
    /// When it was made, which comes with a MailboxModseq where that gave it a special use.
    made_ms: Option<i64>,
    /// When it was renamed, or something below it changed for that.
    renamed_ms: Option<i64>,
    uid_validity: Option<u32>,
    is_mail: bool,
}

impl Kept {
    /// Whether nothing is open.
    fn is_even(&self) -> bool {
        let Self { unexplained, ahead_ms, made_ms, renamed_ms, .. } = self;
        *unexplained == 0 && [ahead_ms, made_ms, renamed_ms].iter().all(|at| at.is_none())
    }
}

impl Said {
    fn new(now: Instant, kept: Kept) -> Self {
        Self { last: now, kept, explained: None, is_first_changed: false }
    }

    /// A MailboxModseq: either what happened came before it, or is to come.
    fn changed(&mut self, sent_ms: i64) {
        let is_just = |at: i64| is_together(at, sent_ms);
        if self.kept.ahead_ms.take().is_some_and(is_just) {
            return;
        }
        if self.kept.made_ms.take().is_some_and(is_just) {
            self.is_first_changed = true;
            return;
        }
        self.kept.unexplained += 1;
        self.explained = None;
    }

    /// What happened.
    fn happened(&mut self, event: &str, sent_ms: i64) {
        if event == "MailboxCreate" {
            self.kept.made_ms = Some(sent_ms);
            return;
        }
        let is_more = |(kind, at): &(String, i64)| kind == event && is_together(*at, sent_ms);
        let is_first = std::mem::take(&mut self.is_first_changed);
        if self.kept.unexplained > 0 {
            self.kept.unexplained -= 1;
        } else if !is_first && !self.explained.as_ref().is_some_and(is_more) {
            self.kept.ahead_ms = Some(sent_ms);
            return;
        }
        self.explained = Some((event.to_owned(), sent_ms));
    }
}

impl Signs {
    /// What the checkpoint says, as if it had been said at `now`.
    pub(super) fn restore(saved: &[Pair], now: Instant) -> Self {
        let read = |(name, kept): (String, Kept)| {
            let (pid, mailbox) = name.split_once(' ')?;
            Some(((pid.parse().ok()?, mailbox.to_owned()), kept))
        };
        let stored: BTreeMap<Key, Kept> =
            saved::restore(KEY, saved).into_iter().filter_map(read).collect();
        let said = stored.iter().map(|(key, kept)| (key.clone(), Said::new(now, kept.clone())));
        Self { said: said.collect(), stored, is_overfull: false }
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let open = self.said.iter().filter(|(_, said)| !said.kept.is_even());
        let wanted: BTreeMap<Key, Kept> =
            open.map(|(key, said)| (key.clone(), said.kept.clone())).collect();
        let change =
            |key: &Key| saved::change(KEY, &format!("{} {}", key.0, key.1), wanted.get(key));
        let gone = self.stored.keys().filter(|key| !wanted.contains_key(*key));
        let new = wanted.iter().filter(|(key, kept)| self.stored.get(*key) != Some(kept));
        let changes = gone.map(change).chain(new.map(|(key, _)| change(key))).collect();
        self.stored = wanted;
        changes
    }

    /// Notes what a process said, which was sent at `sent`, and is heard at `now`.
    pub(super) fn note(
        &mut self,
        said: &Notification,
        namespace: &Namespace,
        (sent, now): (Timestamp, Instant),
    ) {
        let name = said.uri.as_ref().and_then(ImapUrl::mailbox);
        let Some((pid, name)) = said.pid.zip(name) else { return };
        let sent_ms = sent.unix_millis();
        match said.event.as_str() {
            // A list of names, which is no change of the mailbox.
            "MailboxSubscribe" | "MailboxUnSubscribe" => {}
            "MailboxModseq" if self.is_renamed_above((pid, name), namespace, sent_ms) => {}
            "MailboxModseq" => {
                if let Some(one) = self.at((pid, name), said, now) {
                    one.changed(sent_ms);
                }
            }
            "MailboxRename" => {
                let old = said.old.as_ref().and_then(ImapUrl::mailbox);
                for name in [Some(name), old].into_iter().flatten() {
                    self.renamed((pid, name), said, namespace, (sent_ms, now));
                }
            }
            event => {
                if let Some(one) = self.at((pid, name), said, now) {
                    one.happened(event, sent_ms);
                }
            }
        }
    }

    /// What is remembered of a mailbox, while there is room.
    fn at(
        &mut self,
        (pid, name): (u32, &str),
        said: &Notification,
        now: Instant,
    ) -> Option<&mut Said> {
        let key = (pid, name.to_owned());
        if self.said.len() >= KEPT_MAX && !self.said.contains_key(&key) {
            if !self.is_overfull {
                self.said.retain(|_, said| !said.kept.is_even());
            }
            if self.said.len() >= KEPT_MAX {
                self.is_overfull = true;
                return None;
            }
        }
        let one = self.said.entry(key).or_insert_with(|| Said::new(now, Kept::default()));
        one.last = now;
        one.kept.is_mail = said.is_mail();
        let uid_validity = said.uri.as_ref().and_then(ImapUrl::uid_validity);
        one.kept.uid_validity = uid_validity.or(one.kept.uid_validity);
        Some(one)
    }

    /// A mailbox was renamed: explains what was said of it and of those below, and will be.
    fn renamed(
        &mut self,
        (pid, name): (u32, &str),
        said: &Notification,
        namespace: &Namespace,
        (sent_ms, now): (i64, Instant),
    ) {
        for (_, below) in self.of(pid).filter(|(key, _)| namespace.is_below(&key.1, name)) {
            below.kept.unexplained = below.kept.unexplained.saturating_sub(1);
        }
        let Some(one) = self.at((pid, name), said, now) else { return };
        one.kept.unexplained = one.kept.unexplained.saturating_sub(1);
        one.kept.renamed_ms = Some(sent_ms);
    }

    /// Whether the process just renamed the mailbox, or one above it.
    fn is_renamed_above(
        &mut self,
        (pid, name): (u32, &str),
        namespace: &Namespace,
        sent_ms: i64,
    ) -> bool {
        let mut renamed = self.of(pid).filter_map(|(key, said)| {
            let is_it = key.1 == name || namespace.is_below(name, &key.1);
            let at = said.kept.renamed_ms.as_mut().filter(|_| is_it)?;
            is_together(*at, sent_ms).then_some(at)
        });
        // Those below are renamed one after the other.
        renamed.next().map(|at| *at = sent_ms).is_some()
    }

    /// What one process spoke of.
    fn of(&mut self, pid: u32) -> impl Iterator<Item = (&Key, &mut Said)> {
        self.said.range_mut((pid, String::new())..).take_while(move |(key, _)| key.0 == pid)
    }

    /// Mailboxes of which something must have been said that wasn't heard. Of those that were
    /// spoken of a moment ago, which is as long as `patience` has it, it isn't clear yet.
    pub(super) fn take(&mut self, now: Instant, patience: impl Fn(&Sign) -> Duration) -> Vec<Sign> {
        let sign = |key: &Key, kept: &Kept| Sign {
            mailbox: key.1.clone(),
            uid_validity: kept.uid_validity,
            is_mail: kept.is_mail,
        };
        let is_clear = |key: &Key, said: &mut Said| {
            now.saturating_duration_since(said.last) >= patience(&sign(key, &said.kept))
        };
        let clear = self.said.extract_if(.., is_clear);
        let missed = clear.filter(|(_, said)| said.kept.unexplained > 0);
        missed.map(|(key, said)| sign(&key, &said.kept)).collect()
    }

    /// Whether there was a sign for which there was no room.
    pub(super) fn take_overfull(&mut self) -> bool {
        std::mem::take(&mut self.is_overfull)
    }
}

/// Whether one process sent this for that.
fn is_together(one_ms: i64, other_ms: i64) -> bool {
    u128::from(one_ms.abs_diff(other_ms)) <= CERTAIN.as_millis()
}

/// What was said of a mailbox, in the checkpoint.
pub(super) const KEY: &[u8] = b"sign/";

/// For how long a sign may stay unexplained before somebody is asked what it was of: a process says
/// both within milliseconds, and a look that finds nothing is told to nobody.
pub(super) const TOGETHER: Duration = Duration::from_secs(2);

/// The same before it is told as missed, which nobody takes back. Between the two Cyrus waits for
/// its disk, and then for notifyd, which waits for its own: seconds, where that is slow.
pub(super) const CERTAIN: Duration = Duration::from_secs(10);

/// Mailboxes that processes spoke of within that time.
const KEPT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event: &str, pid: u32, mailbox: &str) -> Notification {
        let uri = format!("imap://host/{mailbox};UIDVALIDITY=5").parse().ok();
        Notification { event: event.to_owned(), pid: Some(pid), uri, ..Notification::default() }
    }

    fn noon() -> Timestamp {
        "2026-11-29T12:00:00+01:00".parse().unwrap()
    }

    /// Hears it now, as sent so long after noon.
    fn hear(signs: &mut Signs, said: &Notification, after: Duration, now: Instant) {
        let sent = noon().instant() + jiff::SignedDuration::try_from(after).unwrap();
        let sent = Timestamp::new(sent, jiff::tz::Offset::UTC);
        signs.note(said, &Namespace::default(), (sent, now));
    }

    fn names(signs: &mut Signs, now: Instant) -> Vec<String> {
        signs.take(now, |_| TOGETHER).into_iter().map(|sign| sign.mailbox).collect()
    }

    /// What is missed, of one process and one mailbox. Each is sent 10 ms after the one before; `-`
    /// stands for a minute.
    fn missed(events: &str) -> bool {
        let (mut signs, now) = (Signs::default(), Instant::now());
        let mut after = Duration::ZERO;
        for event in events.split_terminator(' ') {
            let event = if event == "Modseq" { "MailboxModseq" } else { event };
            if event == "-" {
                after += Duration::from_secs(60);
                continue;
            }
            after += Duration::from_millis(10);
            hear(&mut signs, &said(event, 7, "user/alice"), after, now);
        }
        assert!(names(&mut signs, now).is_empty(), "too early to say");
        let missed = names(&mut signs, now + TOGETHER);
        assert!(names(&mut signs, now + TOGETHER).is_empty(), "said once");
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
            ("MailboxSubscribe Modseq", true),
            ("Modseq MessageAppend MessageAppend MessageAppend Modseq", true),
            ("Modseq MessageAppend MessageAppend FlagsSet Modseq", false),
            ("MessageAppend MessageAppend Modseq", false),
            ("MailboxCreate Modseq MessageAppend", false),
            ("MailboxCreate Modseq", false),
            ("MailboxCreate Modseq MessageAppend Modseq", true),
            ("MailboxCreate Modseq Modseq MessageAppend", false),
            ("MailboxCreate Modseq Modseq MessageAppend FlagsSet Modseq", false),
            ("MailboxCreate MessageAppend Modseq", false),
            ("FlagsSet - Modseq", true),
        ] {
            assert_eq!(missed(events), is_missed, "{events}");
        }
    }

    #[test]
    fn a_rename_is_said_once_for_all_that_is_below() {
        let rename = |old: &str| Notification {
            old: format!("imap://host/{old};UIDVALIDITY=5").parse().ok(),
            ..said("MailboxRename", 7, "user/alice/q")
        };
        let (mut signs, now) = (Signs::default(), Instant::now());
        let mut after = Duration::ZERO;
        let mut play = |said: &Notification| {
            after += Duration::from_secs(3);
            hear(&mut signs, said, after, now);
        };
        play(&said("MailboxModseq", 7, "user/alice/p"));
        play(&rename("user/alice/p"));
        let below = ["q", "q/three", "p/one", "p/two", "p/three"];
        for below in below.map(|name| format!("user/alice/{name}")) {
            play(&said("MailboxModseq", 7, &below));
        }
        for beside in ["user/alice/park", "user/alice"] {
            play(&said("MailboxModseq", 7, beside));
        }
        play(&said("MailboxModseq", 8, "user/alice/p/one"));
        let missed = names(&mut signs, now + TOGETHER);
        assert_eq!(missed, ["user/alice", "user/alice/park", "user/alice/p/one"]);
    }

    #[test]
    fn a_sign_says_where_and_whether_that_holds_mail() {
        let (mut signs, now) = (Signs::default(), Instant::now());
        let mut calendar = said("MailboxModseq", 7, "user/alice/%23calendars/Team");
        calendar.others = vec![("vnd.cmu.mbtype".to_owned(), "c".into())];
        hear(&mut signs, &calendar, Duration::ZERO, now);
        let patience = |sign: &Sign| if sign.is_mail { TOGETHER } else { CERTAIN };
        assert!(signs.take(now + TOGETHER, patience).is_empty(), "as patient as is asked");
        let mailbox = "user/alice/#calendars/Team".to_owned();
        let sign = Sign { mailbox, uid_validity: Some(5), is_mail: false };
        assert_eq!(signs.take(now + CERTAIN, patience), [sign]);
    }

    #[test]
    fn what_one_process_says_explains_nothing_of_another() {
        let (mut signs, now) = (Signs::default(), Instant::now());
        hear(&mut signs, &said("MailboxModseq", 7, "user/alice"), Duration::ZERO, now);
        hear(&mut signs, &said("MessageAppend", 8, "user/alice"), Duration::ZERO, now);
        hear(&mut signs, &said("MessageAppend", 7, "user/bob"), Duration::ZERO, now);
        assert_eq!(names(&mut signs, now + TOGETHER), ["user/alice"]);
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
            let hear_all = |signs: &mut Signs, events: &str| {
                for event in events.split_terminator(' ') {
                    let event = if event == "Modseq" { "MailboxModseq" } else { event };
                    hear(signs, &said(event, 7, "user/alice"), Duration::ZERO, now);
                }
            };
            let mut signs = Signs::default();
            hear_all(&mut signs, before);
            let saved = signs.drain_changes().into_iter();
            let saved: Vec<Pair> = saved.map(|(key, value)| (key, value.unwrap())).collect();
            assert!(signs.drain_changes().is_empty(), "once");
            let mut signs = Signs::restore(&saved, now);
            hear_all(&mut signs, after);
            assert!(names(&mut signs, now).is_empty(), "too early to say");
            let missed = names(&mut signs, now + TOGETHER);
            assert_eq!(missed == ["user/alice"], is_missed, "{before}, {after}");
            let gone = signs.drain_changes();
            assert!(gone.iter().all(|(_, value)| value.is_none()) && gone.len() == saved.len());
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (mut signs, now) = (Signs::default(), Instant::now());
        for pid in 0..20_000 {
            hear(&mut signs, &said("MailboxModseq", pid, "user/alice"), Duration::ZERO, now);
        }
        assert_eq!(names(&mut signs, now + TOGETHER).len(), KEPT_MAX);
        assert!(signs.take_overfull() && !signs.take_overfull(), "said once");
    }
}
