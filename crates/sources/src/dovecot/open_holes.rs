//! Holes that the server may still fill.
//!
//! A hole ends in one of three ways: all mailboxes it may concern were looked at, and what was
//! missing is told as inferred; or the server refuses to say; or it doesn't answer in time. In the
//! latter two the hole itself is told, as a gap, and in the first where mailboxes can't show all
//! that is known to be missing. It is never forgotten in silence.

use std::collections::{BTreeMap, BTreeSet};

use mail_event::Timestamp;
use serde::{Deserialize, Serialize};

use super::holes::Hole;
use crate::spool::Change;
use crate::{Pair, saved};

/// Holes that are waited for. Restored from, and stored with, the source's checkpoint.
#[derive(Debug, Default)]
pub(super) struct OpenHoles {
    /// By what makes each this one and no other.
    open: BTreeMap<String, Open>,
    changed: BTreeSet<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Open {
    hole: Hole,
    /// When it was found, in milliseconds since 1970.
    found: i64,
}

impl OpenHoles {
    /// What the checkpoint says.
    pub(super) fn restore(kept: &[Pair]) -> Self {
        Self { open: saved::restore(KEY, kept), changed: BTreeSet::new() }
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed.map(|name| saved::change(KEY, &name, self.open.get(&name))).collect()
    }

    /// Keeps a hole that was found at `at`; one too many takes the place of the oldest, which is
    /// to be told.
    pub(super) fn add(&mut self, hole: Hole, at: Timestamp) -> Option<Hole> {
        let name = hole.identity();
        self.changed.insert(name.clone());
        self.open.insert(name, Open { hole, found: at.unix_millis() });
        if self.open.len() <= OPEN_MAX {
            return None;
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.found)?.0.clone();
        self.take(&oldest)
    }

    /// Whether a hole may concern `owner`'s mail.
    pub(super) fn concern(&self, owner: &str) -> bool {
        self.open.values().any(|open| open.concerns(owner))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes out those whose users were all looked at; none of them means everybody.
    pub(super) fn fill(&mut self, were_looked_at: impl Fn(&[String]) -> bool) -> Vec<Hole> {
        let filled = self.open.iter().filter(|(_, open)| were_looked_at(&open.hole.users));
        let filled: Vec<_> = filled.map(|(name, _)| name.clone()).collect();
        filled.iter().filter_map(|name| self.take(name)).collect()
    }

    /// Takes out what the server doesn't let us look for, since it refuses us `owner`'s mail:
    /// that is to be told.
    pub(super) fn refuse(&mut self, owner: &str) -> Vec<Hole> {
        let concerned = self.open.iter().filter(|(_, open)| open.concerns(owner));
        let concerned: Vec<_> = concerned.map(|(name, _)| name.clone()).collect();
        let mut told = Vec::new();
        for name in concerned {
            let Some(open) = self.open.get_mut(&name) else { continue };
            told.push(Hole { users: vec![owner.to_owned()], ..open.hole.clone() });
            // Of the others it may still be found.
            if !open.hole.users.is_empty() {
                open.hole.users.retain(|user| user != owner);
                self.changed.insert(name.clone());
                if open.hole.users.is_empty() {
                    self.take(&name);
                }
            }
        }
        told
    }

    /// Takes out one that was found longer than `window_millis` before `now`.
    pub(super) fn take_due(&mut self, now: Timestamp, window_millis: i64) -> Option<Hole> {
        let is_due = |open: &Open| now.unix_millis().saturating_sub(open.found) >= window_millis;
        let name = self.open.iter().find(|(_, open)| is_due(open))?.0.clone();
        self.take(&name)
    }

    fn take(&mut self, name: &str) -> Option<Hole> {
        self.changed.insert(name.to_owned());
        self.open.remove(name).map(|open| open.hole)
    }
}

impl Open {
    fn concerns(&self, owner: &str) -> bool {
        self.hole.users.is_empty() || self.hole.users.iter().any(|user| user == owner)
    }
}

/// Where a hole is in the checkpoint.
pub(super) const KEY: &[u8] = b"hole/";

/// Holes waited for at a time: more come only where the spool can't be written to at all, and
/// then one says as much as a thousand.
const OPEN_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::super::holes::Lost;
    use super::*;

    fn hole(run: &str, users: &[&str]) -> Hole {
        let users = users.iter().map(|&user| user.to_owned()).collect();
        Hole { what: Lost::LastLine { run: run.to_owned(), pid: 7 }, users, since: None }
    }

    fn at(millis: i64) -> Timestamp {
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap();
        Timestamp::new(instant, jiff::tz::Offset::UTC)
    }

    #[test]
    fn a_hole_is_open_until_all_it_concerns_was_looked_at() {
        let mut holes = OpenHoles::default();
        holes.add(hole("a", &["alice"]), at(0));
        holes.add(hole("b", &[]), at(0));
        assert!(holes.concern("bob"));
        let filled = holes.fill(|users| users.contains(&"alice".to_owned()));
        assert_eq!((filled, holes.len()), (vec![hole("a", &["alice"])], 1));
        holes.fill(|users| users.is_empty());
        assert!(holes.len() == 0 && !holes.concern("bob"));
    }

    #[test]
    fn a_hole_that_is_waited_for_too_long_is_told_over_restarts() {
        let mut holes = OpenHoles::default();
        holes.add(hole("a", &["alice"]), at(5_000));
        let kept: Vec<_> = holes
            .drain_changes()
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let mut again = OpenHoles::restore(&kept);
        assert_eq!(again.take_due(at(5_999), 1_000), None);
        assert_eq!(again.take_due(at(6_000), 1_000), Some(hole("a", &["alice"])));
        let changes = again.drain_changes();
        assert_eq!((changes.len(), &changes[0].1), (1, &None));
    }

    #[test]
    fn what_the_server_refuses_is_told_of_the_one_refused_alone() {
        let mut holes = OpenHoles::default();
        holes.add(hole("a", &["alice"]), at(0));
        holes.add(hole("b", &[]), at(0));
        assert_eq!(holes.refuse("bob"), [hole("b", &["bob"])]);
        assert_eq!(holes.refuse("alice"), [hole("a", &["alice"]), hole("b", &["alice"])]);
        assert_eq!(holes.len(), 1, "of all others it may still be found");
    }

    #[test]
    fn r157_one_too_many_is_told_and_not_kept() {
        let mut holes = OpenHoles::default();
        for run in 0..1_000 {
            assert_eq!(holes.add(hole(&run.to_string(), &[]), at(run)), None);
        }
        assert_eq!(holes.add(hole("new", &[]), at(9_999)), Some(hole("0", &[])));
        assert_eq!(holes.len(), 1_000);
    }
}
