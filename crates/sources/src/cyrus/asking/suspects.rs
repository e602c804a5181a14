//! Owners of whose mail something was missed.

use std::collections::BTreeSet;

use crate::Pair;
use crate::spool::Change;

/// Owners of whose mail something was missed that may still be found.
///
/// Restored from, and stored with, the source's checkpoint: a hub that ends before it looked looks
/// when it is back, and says so where it can't.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    owners: BTreeSet<String>,
    /// Those in the checkpoint.
    stored: BTreeSet<String>,
}

impl Suspects {
    pub(super) fn restore(saved: Vec<Pair>) -> Self {
        let owner = |(key, _): Pair| String::from_utf8(key.strip_prefix(KEY)?.to_vec()).ok();
        let owners: BTreeSet<_> = saved.into_iter().filter_map(owner).collect();
        Self { stored: owners.clone(), owners }
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let key = |owner: &String| [KEY, owner.as_bytes()].concat();
        let gone = self.stored.difference(&self.owners).map(|owner| (key(owner), None));
        let new = self.owners.difference(&self.stored).map(|owner| (key(owner), Some(Vec::new())));
        let changes = gone.chain(new).collect();
        self.stored.clone_from(&self.owners);
        changes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.owners.iter().map(String::as_str)
    }

    pub(super) fn contains(&self, owner: &str) -> bool {
        self.owners.contains(owner)
    }

    /// Whether there is room for one, or it is there.
    pub(super) fn has_room_for(&self, owner: &str) -> bool {
        self.owners.len() < OWNERS_MAX || self.owners.contains(owner)
    }

    /// Adds one; says whether there was room.
    pub(super) fn add(&mut self, owner: String) -> bool {
        let has_room = self.has_room_for(&owner);
        if has_room {
            self.owners.insert(owner);
        }
        has_room
    }

    /// Takes one out; says whether it was there.
    pub(super) fn remove(&mut self, owner: &str) -> bool {
        self.owners.remove(owner)
    }

    /// Takes out those of whom this is so.
    pub(super) fn take(&mut self, is_so: impl Fn(&str) -> bool) -> BTreeSet<String> {
        self.owners.extract_if(.., |owner| is_so(owner)).collect()
    }
}

/// Such owners, in the checkpoint.
pub(super) const KEY: &[u8] = b"suspect/";

/// Such owners remembered, while their mail is looked at.
const OWNERS_MAX: usize = 10_000;
