//! Subscriptions by a text: a user, a mailbox, or a piece of a mailbox's name.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use hashbrown::HashTable;

use super::class::{Class, Classes};
use super::group::{Group, Posting};
use super::slab::Slab;
use super::text::Text;

/// Postings under texts.
///
/// Nearly every text leads to one subscription, so text and posting stand in the table itself: a
/// look touches two places of memory. There are many small tables, because a large one is laid
/// out anew as a whole when it grows, and everybody would wait for that.
///
/// The hash is the standard library's, whose key nobody knows: subscribers choose the texts.
#[derive(Debug)]
pub(super) struct Keyed {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    table: HashTable<Entry>,
    groups: Slab<Group>,
}

/// A text, and its posting: where that names no class, its id is a group's number.
#[derive(Debug)]
struct Entry {
    posting: Posting,
    text: Text,
}

/// What stands under one text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// One subscription.
    One(Posting),
    /// Several.
    Many(&'a Group),
}

impl Keyed {
    /// Nothing yet; one for a million texts of their own wants more tables than one for pieces.
    pub(super) fn new(hasher: RandomState, shards: usize) -> Self {
        Self { shards: std::iter::repeat_with(Shard::default).take(shards).collect(), hasher }
    }

    /// What [`Keyed::find`] looks a text up by.
    pub(super) fn hash(&self, text: &[u8]) -> u64 {
        hash_of(&self.hasher, text)
    }

    /// What stands under a text.
    pub(super) fn find(&self, text: &[u8]) -> Option<Found<'_>> {
        self.find_hashed(self.hash(text), text)
    }

    /// The same, of a text and its hash.
    pub(super) fn find_hashed(&self, hash: u64, text: &[u8]) -> Option<Found<'_>> {
        let shard = self.shards.get(shard(hash, self.shards.len()))?;
        let entry = shard.table.find(hash, |entry| entry.text.octets() == text)?;
        shard.found(entry.posting)
    }

    /// Everything, under whatever text.
    pub(super) fn all(&self) -> impl Iterator<Item = Found<'_>> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| shard.table.iter().filter_map(|entry| shard.found(entry.posting)))
    }

    /// Puts a posting under a text; `classes` knows its class.
    pub(super) fn insert(&mut self, text: &[u8], posting: Posting, classes: &Classes) {
        let hash = self.hash(text);
        let at = shard(hash, self.shards.len());
        let Self { shards, hasher } = self;
        let Some(Shard { table, groups }) = shards.get_mut(at) else { return };
        let entry = table.find_mut(hash, |entry| entry.text.octets() == text);
        match entry.map(|entry| &mut entry.posting) {
            None => {
                let entry = Entry { posting, text: Text::new(text) };
                let rehash = |entry: &Entry| hash_of(hasher, entry.text.octets());
                table.insert_unique(hash, entry, rehash);
            }
            Some(Posting { class: GROUP, id }) => {
                if let Some(group) = groups.get_mut(*id) {
                    group.insert(posting, classes);
                }
            }
            Some(before) => {
                let mut group = Group::default();
                group.insert(*before, classes);
                group.insert(posting, classes);
                *before = Posting { class: GROUP, id: groups.add(group) };
            }
        }
    }

    /// Takes a posting away; whether it was there.
    pub(super) fn remove(&mut self, text: &[u8], posting: Posting, class: &Class) -> bool {
        let hash = self.hash(text);
        let at = shard(hash, self.shards.len());
        let Some(Shard { table, groups }) = self.shards.get_mut(at) else { return false };
        let entry = table.find_entry(hash, |entry| entry.text.octets() == text);
        let Ok(entry) = entry else { return false };
        let kept = entry.get().posting;
        let (was_there, is_last) = match kept.class {
            GROUP => match groups.get_mut(kept.id) {
                Some(group) => (group.remove(posting, class), group.is_empty()),
                None => (false, false),
            },
            _ => (kept == posting, kept == posting),
        };
        if is_last {
            entry.remove();
            if kept.class == GROUP {
                groups.remove(kept.id);
            }
        }
        was_there
    }
}

impl Shard {
    fn found(&self, posting: Posting) -> Option<Found<'_>> {
        Some(match posting {
            Posting { class: GROUP, id } => Found::Many(self.groups.get(id)?),
            one => Found::One(one),
        })
    }
}

fn hash_of(hasher: &RandomState, text: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(text);
    hasher.finish()
}

/// One of `shards`, by octets of the hash that the tables look at last.
fn shard(hash: u64, shards: usize) -> usize {
    let [_, _, high, low, ..] = hash.to_be_bytes();
    (usize::from(u16::from_be_bytes([high, low])) * shards) >> 16
}

/// Stands in an entry for "the id is a group's number"; no class has it, as nobody has four
/// milliards of them.
const GROUP: u32 = u32::MAX;
