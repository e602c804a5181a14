//! Facts that hold or don't, as they were told last, so that only a change is told.

use std::collections::BTreeMap;

use crate::Pair;
use crate::spool::Change;

/// For each key whether it holds, as far as known.
///
/// Restored from, and stored with, the source's checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    prefix: &'static [u8],
    known_max: usize,
    known: BTreeMap<Vec<u8>, bool>,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Standing {
    /// Kept under keys that begin with `prefix`, from what the checkpoint has there. Beyond
    /// `known_max` the first in order go, and are told once more at their next change.
    pub(crate) fn restore(
        prefix: &'static [u8],
        known_max: usize,
        kept: impl IntoIterator<Item = Pair>,
    ) -> Self {
        let known = kept.into_iter().map(|(key, value)| (key, value == b"1")).collect();
        Self { prefix, known_max, known, changed: BTreeMap::new() }
    }

    /// What is to be stored, since this was last asked.
    pub(crate) fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// Notes that it holds or doesn't; says whether that is new. Where nothing was known before it
    /// is taken for new: that may tell once too often, never too seldom.
    pub(crate) fn note(&mut self, parts: &[&str], holds: bool) -> bool {
        let key = self.key(parts);
        if self.known.get(&key) == Some(&holds) {
            return false;
        }
        if self.known.len() >= self.known_max
            && !self.known.contains_key(&key)
            && let Some((oldest, _)) = self.known.pop_first()
        {
            self.changed.insert(oldest, None);
        }
        let value = if holds { b"1" } else { b"0" };
        self.changed.insert(key.clone(), Some(value.to_vec()));
        self.known.insert(key, holds);
        true
    }

    fn key(&self, parts: &[&str]) -> Vec<u8> {
        [self.prefix, parts.join("\0").as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_new_and_that_outlives_a_restart() {
        let mut standing = Standing::restore(b"x/", 2, []);
        assert!(standing.note(&["a", "b"], true) && !standing.note(&["a", "b"], true));
        let kept = standing.drain_changes().into_iter().filter_map(|(key, v)| Some((key, v?)));
        let mut again = Standing::restore(b"x/", 2, kept);
        assert!(!again.note(&["a", "b"], true) && again.note(&["a", "b"], false));
        assert!(again.note(&["a", "c"], true) && again.note(&["a", "d"], true));
        assert!(again.note(&["a", "b"], false), "the first in order went");
        assert_eq!(again.drain_changes().len(), 3, "three keys changed");
    }
}
