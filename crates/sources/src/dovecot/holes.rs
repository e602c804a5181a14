//! Whether anything is missing: each run of the script numbers its lines, and says when it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::Transaction;
use crate::{Pair, saved};

/// The runs that haven't ended.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<String, Run>,
    /// Whether a process was ever found where a line said it was. Where Dovecot has process ids of
    /// its own, in a container, nothing can be said of who is alive.
    sees_processes: bool,
}

/// One run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Run {
    last: u64,
    pid: u32,
    user: String,
    /// Whether it served others as well.
    is_shared: bool,
    service: Option<String>,
    /// When its last line was written, in milliseconds since 1970; none where that isn't known.
    #[serde(default)]
    at: Option<i64>,
    /// When the process began, in the kernel's ticks; none where it was never seen.
    began: Option<u64>,
    /// Numbers that were passed over and may still come.
    missing: Vec<(u64, u64)>,
    /// It was gone when it was looked for last.
    #[serde(skip)]
    is_gone: bool,
}

/// How a line stands to those of its run before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It is the next.
    Next,
    /// It was told before.
    Repeated,
    /// It was believed missing.
    Late,
    /// Lines before it haven't come.
    Early,
}

/// Something that happened, or may have, and that no line tells of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Hole {
    /// What is missing.
    pub(super) what: Lost,
    /// Whose mail it may concern: none where it may be anybody's.
    pub(super) users: Vec<String>,
    /// Not before then did it happen, in milliseconds since 1970; none where that isn't known.
    #[serde(default)]
    pub(super) since: Option<i64>,
}

/// What a hole is of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Lost {
    /// Numbers of a run that were passed over.
    Lines {
        /// The run.
        run: String,
        /// Its process.
        pid: u32,
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A process died, and it isn't known whether anything is missing.
    LastLine {
        /// The run.
        run: String,
        /// Its process.
        pid: u32,
    },
    /// Nobody could write to the spool, and it isn't known whether anybody wanted to.
    Anything {
        /// Since when, in seconds since 1970.
        since: i64,
        /// Why, for a person.
        why: String,
    },
}

impl Hole {
    /// What makes it this one and no other.
    pub(super) fn identity(&self) -> String {
        match &self.what {
            Lost::Lines { run, first, last, .. } => format!("hole {run} {first} {last}"),
            Lost::LastLine { run, .. } => format!("died {run}"),
            Lost::Anything { since, .. } => format!("unwritable {since}"),
        }
    }

    /// What is missing, for a person.
    pub(super) fn reason(&self) -> String {
        match &self.what {
            Lost::Lines { pid, first, last, .. } if first == last => {
                format!("transaction {first} of Dovecot's process {pid} was not written down")
            }
            Lost::Lines { pid, first, last, .. } => format!(
                "transactions {first} to {last} of Dovecot's process {pid} were not written down"
            ),
            Lost::LastLine { pid, .. } => {
                format!("Dovecot's process {pid} died; its last transaction may be missing")
            }
            Lost::Anything { why, .. } => {
                format!("Dovecot's processes may not have written down what they did: {why}")
            }
        }
    }

    /// What may be missing still when the mailboxes were looked at, for a person; nothing where
    /// nothing need have been missing at all.
    pub(super) fn rest(&self) -> Option<String> {
        matches!(self.what, Lost::Lines { .. }).then(|| {
            let reason = self.reason();
            format!(
                "{reason}: what mailboxes show of it was told as inferred; logins, subscriptions \
                 and what was undone since they don't show"
            )
        })
    }
}

impl Runs {
    /// What the checkpoint says.
    pub(super) fn restore(saved: &[Pair]) -> Self {
        Self { runs: saved::restore(KEY, saved), sees_processes: false }
    }

    /// Where a line stands.
    pub(super) fn turn(&self, line: &Transaction) -> Turn {
        match self.runs.get(&line.run) {
            None if line.seq == 1 => Turn::Next,
            None => Turn::Early,
            Some(run) if line.seq == run.last + 1 => Turn::Next,
            Some(run) if line.seq > run.last => Turn::Early,
            Some(run) if run.missing.iter().any(|(a, b)| (*a..=*b).contains(&line.seq)) => {
                Turn::Late
            }
            Some(_) => Turn::Repeated,
        }
    }

    /// Whether these two lines follow each other in one run.
    pub(super) fn follows(before: &Transaction, after: &Transaction) -> bool {
        before.run == after.run && after.seq == before.seq + 1
    }

    /// Notes a line that is told, and says what is missing before it. `process` tells when the
    /// process of that number and service began, if there is one.
    pub(super) fn take(
        &mut self,
        line: &Transaction,
        process: impl Fn(u32, Option<&str>) -> Option<u64>,
    ) -> Option<Hole> {
        let turn = self.turn(line);
        let known = self.runs.get(&line.run);
        let before = known.map_or(0, |run| run.last);
        let mut users: Vec<_> = known.filter(|run| !run.user.is_empty()).into_iter().collect();
        users.retain(|run| !run.is_shared);
        let mut users: Vec<_> = users.into_iter().map(|run| run.user.clone()).collect();
        let was_shared = known.is_some_and(|run| run.is_shared);
        if !line.user.is_empty() && !users.contains(&line.user) {
            users.push(line.user.clone());
        }
        let since = known.and_then(|run| run.at);
        let hole = (turn == Turn::Early).then(|| Hole {
            what: Lost::Lines {
                run: line.run.clone(),
                pid: line.pid,
                first: before + 1,
                last: line.seq - 1,
            },
            // A process that serves many may have missed a line of anybody's.
            users: if was_shared || users.len() > 1 { Vec::new() } else { users },
            since,
        });
        if line.is_bye() {
            self.runs.remove(&line.run);
            return hole;
        }
        let run = self.runs.entry(line.run.clone()).or_insert_with(|| Run {
            last: 0,
            pid: line.pid,
            user: line.user.clone(),
            is_shared: false,
            service: line.service.clone(),
            at: None,
            began: process(line.pid, line.service.as_deref()),
            missing: Vec::new(),
            is_gone: false,
        });
        self.sees_processes |= run.began.is_some();
        if run.user != line.user {
            run.is_shared = true;
            line.user.clone_into(&mut run.user);
        }
        if matches!(turn, Turn::Next | Turn::Early) {
            run.at = Some(line.at.unix_millis());
        }
        match turn {
            Turn::Next => run.last = line.seq,
            Turn::Early => {
                run.missing.push((run.last + 1, line.seq - 1));
                if run.missing.len() > MISSING_MAX {
                    run.missing.remove(0);
                }
                run.last = line.seq;
            }
            Turn::Late => run.missing = without(&run.missing, line.seq),
            Turn::Repeated => {}
        }
        hole
    }

    /// A run's entry in the checkpoint as it is to be.
    pub(super) fn change(&self, run: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        saved::change(KEY, run, self.runs.get(run))
    }

    /// Looks who is still alive. Gives whether anybody is newly gone: what they wrote last may
    /// still have to be read.
    pub(super) fn look(&mut self, process: impl Fn(u32, Option<&str>) -> Option<u64>) -> bool {
        let mut any = false;
        for run in self.runs.values_mut().filter(|run| !run.is_gone) {
            let now = process(run.pid, run.service.as_deref());
            self.sees_processes |= now.is_some();
            run.is_gone = match (run.began, now) {
                (Some(began), now) => now != Some(began),
                // One that was never seen may have come and gone between two looks.
                (None, now) => self.sees_processes && now.is_none(),
            };
            any |= run.is_gone;
        }
        any
    }

    /// Takes out a run whose process was gone before all it wrote was read: it died within. Gives
    /// the run's name, too.
    pub(super) fn take_dead(&mut self) -> Option<(String, Hole)> {
        let run = self.runs.iter().find(|(_, run)| run.is_gone).map(|(name, _)| name.clone())?;
        let Run { user, is_shared, pid, at: since, .. } = self.runs.remove(&run)?;
        let users = if is_shared || user.is_empty() { Vec::new() } else { vec![user] };
        Some((run.clone(), Hole { what: Lost::LastLine { run, pid }, users, since }))
    }

    /// Runs that haven't ended.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Takes out one run too many, as if it had died.
    pub(super) fn take_excess(&mut self) -> Option<(String, Hole)> {
        if self.runs.len() <= RUNS_MAX {
            return None;
        }
        let run = self.runs.keys().next()?.clone();
        self.runs.get_mut(&run)?.is_gone = true;
        self.take_dead()
    }
}

fn without(ranges: &[(u64, u64)], seq: u64) -> Vec<(u64, u64)> {
    let parts = ranges.iter().flat_map(|&(first, last)| {
        if !(first..=last).contains(&seq) {
            return [Some((first, last)), None];
        }
        let before = (first < seq).then(|| (first, seq - 1));
        let after = (seq < last).then(|| (seq + 1, last));
        [before, after]
    });
    parts.flatten().collect()
}

/// When the process of that number began, in the kernel's ticks, if it is one of Dovecot's that
/// offers `service`.
pub(super) fn process_began(pid: u32, service: Option<&str>) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    began(&stat, service)
}

fn began(stat: &str, service: Option<&str>) -> Option<u64> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    // `imap`, `lmtp`, `dovecot-lda`, `doveadm-server`: the kernel cuts names to 15 octets.
    let wanted = service.unwrap_or_default();
    if !name.contains(wanted) && !name.contains("dove") {
        return None;
    }
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The 22nd field of all, the 3rd being the state.
    fields.nth(18)?.parse().ok()
}

/// Where a run is in the checkpoint.
pub(super) const KEY: &[u8] = b"run/";

/// Ranges of one run that may still come; more is a script gone mad.
const MISSING_MAX: usize = 16;

/// Runs remembered: far more than a machine has processes.
const RUNS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dovecot::record;

    fn line(run: char, seq: u64, user: &str, event: &str) -> Transaction {
        let run = run.to_string().repeat(32);
        let text = format!(
            r#"{{"v":1,"run":"{run}","seq":{seq},"pid":7,"time":9,"user":"{user}","service":"imap","events":[{{"e":"{event}"}}]}}"#
        );
        record::parse(text.as_bytes()).unwrap()
    }

    fn alive(_: u32, _: Option<&str>) -> Option<u64> {
        Some(5)
    }

    fn dead(_: u32, _: Option<&str>) -> Option<u64> {
        None
    }

    #[test]
    fn a_number_left_out_is_a_hole_and_one_that_comes_late_is_told_once() {
        let mut runs = Runs::default();
        assert_eq!(runs.take(&line('a', 1, "u", "login"), alive), None);
        assert_eq!(runs.turn(&line('a', 5, "u", "login")), Turn::Early);
        let hole = runs.take(&line('a', 5, "u", "login"), alive).unwrap();
        assert!(matches!(hole.what, Lost::Lines { first: 2, last: 4, .. }));
        assert_eq!((&hole.users[..], hole.since), (&["u".to_owned()][..], Some(9_000)));
        assert_eq!(
            hole.reason(),
            "transactions 2 to 4 of Dovecot's process 7 were not written down"
        );
        let late = line('a', 3, "u", "login");
        assert_eq!(runs.turn(&late), Turn::Late);
        assert_eq!(runs.take(&late, alive), None);
        assert_eq!(runs.turn(&late), Turn::Repeated);
        assert_eq!(runs.turn(&line('a', 2, "u", "login")), Turn::Late);
        assert_eq!(runs.turn(&line('a', 6, "u", "login")), Turn::Next);
    }

    #[test]
    fn a_run_that_begins_in_the_middle_is_a_hole_too() {
        let hole = Runs::default().take(&line('a', 3, "u", "login"), alive).unwrap();
        assert!(matches!(hole.what, Lost::Lines { first: 1, last: 2, .. }));
    }

    #[test]
    fn a_hole_of_a_process_that_serves_many_may_be_anybodys() {
        let mut runs = Runs::default();
        runs.take(&line('a', 1, "u", "login"), alive);
        let hole = runs.take(&line('a', 3, "w", "login"), alive).unwrap();
        assert_eq!(hole.users, Vec::<String>::new());
    }

    #[test]
    fn what_is_known_survives_a_restart() {
        let mut runs = Runs::default();
        runs.take(&line('a', 1, "u", "login"), alive);
        runs.take(&line('a', 4, "u", "login"), alive);
        let (key, value) = runs.change(&"a".repeat(32));
        let mut again = Runs::restore(&[(key, value.unwrap())]);
        assert_eq!(again.runs, runs.runs);
        again.take(&line('a', 5, "u", "bye"), alive);
        assert_eq!((again.len(), again.change(&"a".repeat(32)).1), (0, None));
    }

    #[test]
    fn a_process_gone_without_a_word_died() {
        let mut runs = Runs::default();
        runs.take(&line('a', 1, "u", "login"), alive);
        assert!(!runs.look(alive) && runs.take_dead().is_none());
        // Another process with the same number is not the same.
        assert!(runs.look(|_, _| Some(6)));
        let (run, hole) = runs.take_dead().unwrap();
        assert_eq!((run, hole.users), ("a".repeat(32), vec!["u".to_owned()]));
        assert_eq!(hole.since, Some(9_000), "when it was last heard of");
        assert_eq!(runs.len(), 0);
    }

    #[test]
    fn where_no_process_can_be_seen_none_is_believed_dead() {
        let mut runs = Runs::default();
        runs.take(&line('a', 1, "u", "login"), dead);
        assert!(!runs.look(dead));
        runs.take(&line('b', 1, "u", "login"), alive);
        assert!(runs.look(dead));
    }

    #[test]
    fn a_process_is_known_by_when_it_began() {
        let stat = "27062 (imap) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 10 11 12";
        assert_eq!(began(stat, Some("imap")), Some(123_456));
        assert_eq!(began(stat, Some("pop3")), None);
        assert_eq!(began(&stat.replace(") S", ") Z"), Some("imap")), None);
        assert_eq!(began("", None), None);
        assert!(process_began(u32::MAX, None).is_none());
    }
}
