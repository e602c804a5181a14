//! Signs that Cyrus said something that nobody heard.
//!
//! With each change of a mailbox its process says MailboxModseq, shortly before or after it says
//! what happened. Where it says nothing else, a notification was too long for a datagram, or it is
//! of what Cyrus never tells, such as mailboxes that come and go over JMAP.
//!
//! A rename is told once, and said to have changed whatever was below the mailbox as well.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those of which something was said since what is stored.
    touched: BTreeSet<Key>,
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
    /// When something was heard of it last.
    last: Instant,
    kept: Kept,
    /// When each of `kept.open_ms` was heard.
    heard: Vec<Instant>,
    explained: Option<Explained>,
    /// There was a MailboxModseq since it was made, be it for that or for the first message.
    is_first_changed: bool,
}

/// What happened and explained a MailboxModseq before it: more of its kind is explained by that as
/// well, such as other messages of one APPEND.
#[derive(Clone, Debug)]
struct Explained {
    kind: String,
    at_ms: i64,
    /// The MailboxModseq. It may be the wrong one: the right one may follow.
    change: Option<(i64, Instant)>,
}

/// What of it outlives a run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Kept {
    /// When each MailboxModseq was sent of which nothing else was said, in order.
    open_ms: Vec<i64>,
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
        let Self { open_ms, ahead_ms, made_ms, renamed_ms, .. } = self;
        open_ms.is_empty() && [ahead_ms, made_ms, renamed_ms].iter().all(|at| at.is_none())
    }
}

impl Said {
    fn new(now: Instant, kept: Kept) -> Self {
        let heard = vec![now; kept.open_ms.len()];
        Self { last: now, kept, heard, explained: None, is_first_changed: false }
    }

    /// A MailboxModseq: either what happened came before it, or is to come.
    fn changed(&mut self, sent_ms: i64, now: Instant) {
        let is_just = |at: i64| is_together(at, sent_ms);
        let explained = self.explained.take();
        if self.kept.ahead_ms.take().is_some_and(is_just) {
            return;
        }
        if self.kept.made_ms.take().is_some_and(is_just) {
            self.is_first_changed = true;
            return;
        }
        // Changes of flags are said before it, all else after it: only of those it may be the right
        // one, if it is no farther.
        if let Some(Explained { kind, at_ms, change: Some((before_ms, heard)) }) = explained
            && kind == FLAGS
            && sent_ms.abs_diff(at_ms) <= at_ms.abs_diff(before_ms)
        {
            let at = self.kept.open_ms.partition_point(|open_ms| *open_ms <= before_ms);
            self.kept.open_ms.insert(at, before_ms);
            self.heard.insert(at.min(self.heard.len()), heard);
        } else if self.kept.open_ms.len() < OPEN_MAX {
            self.kept.open_ms.push(sent_ms);
            self.heard.push(now);
        }
    }

    /// What happened.
    fn happened(&mut self, event: &str, sent_ms: i64) {
        if event == "MailboxCreate" {
            self.kept.made_ms = Some(sent_ms);
            return;
        }
        let kind = kind(event);
        let is_more = |one: &Explained| one.kind == kind && is_together(one.at_ms, sent_ms);
        if self.explained.as_ref().is_some_and(is_more) {
            return;
        }
        let is_first = std::mem::take(&mut self.is_first_changed);
        let is_late = self.kept.open_ms.last().is_some_and(|at| !is_together(*at, sent_ms));
        let change = if is_late { None } else { self.close() };
        if change.is_none() && !is_first {
            self.kept.ahead_ms = Some(sent_ms);
            return;
        }
        self.explained = Some(Explained { kind: kind.to_owned(), at_ms: sent_ms, change });
    }

    /// Explains the last MailboxModseq that is open.
    fn close(&mut self) -> Option<(i64, Instant)> {
        self.kept.open_ms.pop().zip(self.heard.pop())
    }

    /// Takes out those heard so long before, and says whether there were any.
    fn judge(&mut self, now: Instant, patience: Duration) -> bool {
        let is_clear = |heard: &Instant| now.saturating_duration_since(*heard) >= patience;
        let clear = self.heard.iter().take_while(|heard| is_clear(heard)).count();
        self.heard.drain(..clear);
        self.kept.open_ms.drain(..clear.min(self.kept.open_ms.len()));
        clear > 0
    }
}

/// What is said together of one change: one STORE may say each of the four of flags.
fn kind(event: &str) -> &str {
    match event {
        "FlagsSet" | "FlagsClear" | "MessageRead" | "MessageTrash" => FLAGS,
        _ => event,
    }
}

/// The kind of changes of flags.
const FLAGS: &str = "flags";

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
        Self { said: said.collect(), stored, ..Self::default() }
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|key| self.store(key)).collect()
    }

    /// What is to be stored of one, where that is not in the checkpoint.
    fn store(&mut self, key: Key) -> Option<Change> {
        let wanted = self.said.get(&key).map(|said| &said.kept).filter(|kept| !kept.is_even());
        if wanted == self.stored.get(&key) {
            return None;
        }
        let change = saved::change(KEY, &format!("{} {}", key.0, key.1), wanted);
        match wanted.cloned() {
            Some(kept) => self.stored.insert(key, kept),
            None => self.stored.remove(&key),
        };
        Some(change)
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
            // A list of names, which is no change of the mailbox; nor is how a quota stands. A
            // change of an ACL is one: Cyrus says MailboxModseq right before it.
            "MailboxSubscribe" | "MailboxUnSubscribe" => {}
            "QuotaChange" | "QuotaExceed" | "QuotaWithin" => {}
            "MailboxModseq" if self.is_renamed_above((pid, name), namespace, sent_ms) => {}
            "MailboxModseq" => {
                if let Some(one) = self.at((pid, name), said, now) {
                    one.changed(sent_ms, now);
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
        self.touched.insert(key.clone());
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
        let mut explained = BTreeSet::new();
        for (key, below) in self.of(pid).filter(|(_, said)| !said.kept.open_ms.is_empty()) {
            if namespace.is_below(&key.1, name) && below.close().is_some() {
                explained.insert(key.clone());
            }
        }
        self.touched.append(&mut explained);
        let Some(one) = self.at((pid, name), said, now) else { return };
        one.close();
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
            let at = said.kept.renamed_ms.as_mut().filter(|at| is_together(**at, sent_ms))?;
            let is_it = key.1 == name || namespace.is_below(name, &key.1);
            is_it.then_some((key, at))
        });
        // Those below are renamed one after the other.
        let Some((key, at)) = renamed.next() else { return false };
        *at = sent_ms;
        let key = key.clone();
        drop(renamed);
        self.touched.insert(key);
        true
    }

    /// What one process spoke of.
    fn of(&mut self, pid: u32) -> impl Iterator<Item = (&Key, &mut Said)> {
        self.said.range_mut((pid, String::new())..).take_while(move |(key, _)| key.0 == pid)
    }

    /// Mailboxes of which something must have been said that wasn't heard: MailboxModseq so long
    /// ago as `patience` has it. `now` is when everything written before had been noted.
    pub(super) fn take(&mut self, now: Instant, patience: impl Fn(&Sign) -> Duration) -> Vec<Sign> {
        let mut missed = Vec::new();
        let touched = &mut self.touched;
        self.said.retain(|key, said| {
            let sign = Sign {
                mailbox: key.1.clone(),
                uid_validity: said.kept.uid_validity,
                is_mail: said.kept.is_mail,
            };
            let patience = patience(&sign);
            let is_missed = said.judge(now, patience);
            // Of what is quiet nothing is to come that belongs to it.
            let is_over = now.saturating_duration_since(said.last) >= patience;
            if is_missed || is_over {
                touched.insert(key.clone());
            }
            if is_missed {
                missed.push(sign);
            }
            !is_over
        });
        missed
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

/// MailboxModseq of one process and mailbox that wait for what happened; of so many, one more says
/// nothing new.
const OPEN_MAX: usize = 64;

/// Mailboxes that processes spoke of within that time.
const KEPT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            ("Modseq QuotaExceed", true),
            ("QuotaChange Modseq", true),
            ("Modseq QuotaWithin MessageExpunge", false),
            ("Modseq AclChange", false),
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
            // One STORE says several things of one change.
            ("Modseq MessageTrash MessageRead Modseq", true),
            ("Modseq FlagsSet FlagsClear MessageRead Modseq", true),
            ("Modseq - MessageTrash MessageRead Modseq", true),
            ("Modseq MessageTrash MessageRead", false),
            ("Modseq MessageAppend MessageTrash MessageRead Modseq Modseq MessageExpunge", false),
        ] {
            assert_eq!(missed(events), is_missed, "{events}");
        }
    }

    /// When, in milliseconds, something is missed while a process says `first` and then `second` of
    /// the same mailbox for a minute, each so many milliseconds after what was said before it.
    fn missed_in_a_minute(
        signs: &mut Signs,
        begun: Instant,
        [(first, pause), (second, delay)]: [(&str, u64); 2],
    ) -> Vec<u64> {
        let (mut after, mut noticed) = (0, Vec::new());
        while after < 60_000 {
            for (event, wait) in [(first, pause), (second, delay)] {
                after += wait;
                let since = Duration::from_millis(after);
                hear(signs, &said(event, 7, "user/alice"), since, begun + since);
                let missed = signs.take(begun + since, |_| CERTAIN);
                noticed.extend(missed.into_iter().map(|_| after));
            }
        }
        noticed
    }

    #[test]
    fn changes_that_follow_each_other_faster_than_they_are_told_are_no_loss() {
        for (pause, delay) in [(10, 100), (2, 2), (1, 300), (100, 10)] {
            for said in [
                [("MailboxModseq", pause), ("MessageAppend", delay)],
                [("MailboxModseq", pause), ("MessageExpunge", delay)],
                [("FlagsSet", pause), ("MailboxModseq", delay)],
            ] {
                let missed = missed_in_a_minute(&mut Signs::default(), Instant::now(), said);
                assert!(missed.is_empty(), "{said:?}: {missed:?}");
            }
        }
    }

    #[test]
    fn a_loss_is_noticed_once_in_a_mailbox_that_changes_as_fast_as_it_is_told() {
        for changes in [
            [("MailboxModseq", 10), ("MessageAppend", 100)],
            [("MailboxModseq", 2), ("MessageExpunge", 2)],
            [("FlagsSet", 2), ("MailboxModseq", 2)],
            [("FlagsSet", 100), ("MailboxModseq", 10)],
        ] {
            let (mut signs, begun) = (Signs::default(), Instant::now());
            hear(&mut signs, &said("MailboxModseq", 7, "user/alice"), Duration::ZERO, begun);
            let missed = missed_in_a_minute(&mut signs, begun, changes);
            let is_in_time = missed.first().is_some_and(|at| (10_000..11_000).contains(at));
            assert!(missed.len() == 1 && is_in_time, "{changes:?}: {missed:?}");
        }
    }

    /// What a process says of one command, with milliseconds before each: what happened comes
    /// before MailboxModseq where flags change, and after it else.
    fn command(number: u8, many: usize) -> Vec<&'static str> {
        let (is_before, events) = match number % 3 {
            0 => (true, ["MessageTrash", "MessageRead", "FlagsSet"]),
            1 => (false, ["MessageAppend"; 3]),
            _ => (false, ["MessageExpunge"; 3]),
        };
        let mut said: Vec<_> = events.into_iter().take(many).collect();
        said.insert(if is_before { said.len() } else { 0 }, "MailboxModseq");
        said
    }

    proptest! {
        #[test]
        fn a_loss_is_noticed_however_busy_the_mailbox_is_and_nothing_else_is(
            commands in proptest::collection::vec(
                (0_u8..3, 1_usize..=3, 0_u64..4_000, proptest::array::uniform4(0_u64..300)), 1..40,
            ),
            lost in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let lost = lost.map(|lost| lost.index(commands.len()));
            let (mut signs, begun) = (Signs::default(), Instant::now());
            let (mut after, mut noticed, mut lost_at) = (Duration::ZERO, Vec::new(), None);
            let certain = |signs: &mut Signs, after| {
                !signs.take(begun + after, |_| CERTAIN).is_empty()
            };
            for (at, (number, many, pause, delays)) in commands.into_iter().enumerate() {
                after += Duration::from_millis(pause);
                for (event, delay) in command(number, many).into_iter().zip(delays) {
                    after += Duration::from_millis(delay);
                    if Some(at) == lost && event != "MailboxModseq" {
                        continue;
                    }
                    lost_at = lost_at.or_else(|| (Some(at) == lost).then_some(after));
                    hear(&mut signs, &said(event, 7, "user/alice"), after, begun + after);
                    noticed.extend(certain(&mut signs, after).then_some(after));
                }
            }
            after += CERTAIN;
            noticed.extend(certain(&mut signs, after).then_some(after));
            prop_assert_eq!(noticed.len(), usize::from(lost.is_some()));
            if let Some((noticed, lost_at)) = noticed.pop().zip(lost_at) {
                // What comes in time may be taken for it, until what comes next shows it; and it
                // is looked at with what comes, 4 s and a command later at most.
                let latest = lost_at + CERTAIN * 2 + Duration::from_secs(6);
                prop_assert!(noticed <= latest, "{noticed:?} is long after {lost_at:?}");
            }
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
