//! Facts that hold or don't, as they were told last, so that only a change is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::Pair;
use crate::spool::Change;

/// For each key whether it holds, as far as known.
///
/// Restored from, and stored with, the source's checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    prefix: &'static [u8],
    known_max: usize,
    known: BTreeMap<Vec<u8>, Fact>,
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What is known under a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fact {
    holds: bool,
    /// Where somebody asked for it: what happened up to then, in milliseconds since 1970, may have
    /// made it so, and was not told yet.
    asked: Option<i64>,
}

impl Fact {
    fn read(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let (holds, asked) = text.split_once(' ').unwrap_or((text, ""));
        Self { holds: holds == "1", asked: asked.parse().ok() }
    }

    fn written(self) -> Vec<u8> {
        let holds = u8::from(self.holds);
        match self.asked {
            Some(asked) => format!("{holds} {asked}").into_bytes(),
            None => holds.to_string().into_bytes(),
        }
    }
}

impl Standing {
    /// Kept under keys that begin with `prefix`, from what the checkpoint has there. Beyond
    /// `known_max` the first in order go, and are told once more at their next change.
    pub(crate) fn restore(
        prefix: &'static [u8],
        known_max: usize,
        kept: impl IntoIterator<Item = Pair>,
    ) -> Self {
        let known = kept.into_iter().map(|(key, value)| (key, Fact::read(&value))).collect();
        Self { prefix, known_max, known, changed: BTreeMap::new() }
    }

    /// What is to be stored, since this was last asked.
    pub(crate) fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// Notes that it holds or doesn't; says whether that is new. Where nothing was known before it
    /// is taken for new: that may tell once too often, never too seldom.
    pub(crate) fn note(&mut self, parts: &[&str], holds: bool) -> bool {
        self.note_at(parts, holds, i64::MAX)
    }

    /// The same of what happened at a moment, in milliseconds since 1970, where some of what is known
    /// was asked for.
    pub(crate) fn note_at(&mut self, parts: &[&str], holds: bool, at: i64) -> bool {
        let key = self.key(parts);
        let is_so =
            |known: &Fact| known.holds == holds && known.asked.is_none_or(|asked| asked < at);
        if self.known.get(&key).is_some_and(is_so) {
            return false;
        }
        self.set(key, Fact { holds, asked: None });
        true
    }

    /// Notes what was asked for: of all keys that begin with these parts those hold that have one of
    /// `ends` for their last part. Of the others nothing is known any more, where they held.
    pub(crate) fn learn(&mut self, parts: &[&str], ends: &BTreeSet<String>, asked: i64) {
        self.forget(parts, |end, holds| holds && !ends.contains(end));
        for end in ends {
            let key = self.key(&[parts, &[end.as_str()]].concat());
            // What is known by what was told stays so.
            if !self.known.get(&key).is_some_and(|fact| fact.holds) {
                self.set(key, Fact { holds: true, asked: Some(asked) });
            }
        }
    }

    /// Lets go of what is known under keys that begin with these parts, where `is_over` says so of the
    /// last part, and of whether it holds.
    pub(crate) fn forget(&mut self, parts: &[&str], is_over: impl Fn(&str, bool) -> bool) {
        let mut above = self.key(parts);
        above.push(0);
        let below =
            self.known.range(above.clone()..).take_while(|(key, _)| key.starts_with(&above));
        let is_over = |key: &[u8], fact: &Fact| {
            let end = key.get(above.len()..).and_then(|end| std::str::from_utf8(end).ok());
            end.is_some_and(|end| is_over(end, fact.holds))
        };
        let over: Vec<_> =
            below.filter(|(key, fact)| is_over(key, fact)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.known.remove(&key);
            self.changed.insert(key, None);
        }
    }

    /// Lets go of all that is known: something may have changed that nobody heard.
    pub(crate) fn forget_all(&mut self) {
        for key in std::mem::take(&mut self.known).into_keys() {
            self.changed.insert(key, None);
        }
    }

    fn set(&mut self, key: Vec<u8>, fact: Fact) {
        if self.known.len() >= self.known_max
            && !self.known.contains_key(&key)
            && let Some((oldest, _)) = self.known.pop_first()
        {
            self.changed.insert(oldest, None);
        }
        self.changed.insert(key.clone(), Some(fact.written()));
        self.known.insert(key, fact);
    }

    fn key(&self, parts: &[&str]) -> Vec<u8> {
        [self.prefix, parts.join("\0").as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(standing: &mut Standing) -> Vec<Pair> {
        let changes = standing.drain_changes().into_iter();
        changes.filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_a_change_is_new_and_that_outlives_a_restart() {
        let mut standing = Standing::restore(b"x/", 2, []);
        assert!(standing.note(&["a", "b"], true) && !standing.note(&["a", "b"], true));
        let mut again = Standing::restore(b"x/", 2, kept(&mut standing));
        assert!(!again.note(&["a", "b"], true) && again.note(&["a", "b"], false));
        assert!(again.note(&["a", "c"], true) && again.note(&["a", "d"], true));
        assert!(again.note(&["a", "b"], false), "the first in order went");
        assert_eq!(again.drain_changes().len(), 3, "three keys changed");
    }

    #[test]
    fn what_was_asked_for_is_no_news_of_what_happened_afterwards_alone() {
        let mut standing = Standing::restore(b"x/", 9, []);
        standing.learn(&["a"], &names(&["b", "c", "d"]), 5);
        let mut again = Standing::restore(b"x/", 9, kept(&mut standing));
        assert!(!again.note_at(&["a", "b"], true, 6));
        assert!(again.note_at(&["a", "c"], true, 5), "this may be what made it so");
        assert!(!again.note_at(&["a", "c"], true, 5), "and is told");
        assert!(again.note_at(&["a", "d"], false, 4) && again.note_at(&["a", "d"], true, 4));
        assert!(again.note_at(&["a", "e"], true, 6) && again.note_at(&["ab", "b"], true, 6));
    }

    #[test]
    fn what_does_not_hold_any_more_when_it_is_asked_for_is_new_again() {
        let mut standing = Standing::restore(b"x/", 9, []);
        for (whose, what) in [("a", "b"), ("a", "c"), ("ab", "c")] {
            assert!(standing.note_at(&[whose, what], true, 1));
        }
        assert!(standing.note_at(&["a", "d"], false, 1));
        standing.learn(&["a"], &names(&["b", "d"]), 5);
        assert!(!standing.note_at(&["a", "b"], true, 2), "known by what was told");
        assert!(standing.note_at(&["a", "c"], true, 9), "it ended unheard");
        assert!(!standing.note_at(&["ab", "c"], true, 9), "another's");
        assert!(!standing.note_at(&["a", "d"], true, 9), "it began unheard");
        let mut again = Standing::restore(b"x/", 9, kept(&mut standing));
        again.forget_all();
        assert!(again.note_at(&["a", "b"], true, 9));
    }
}
