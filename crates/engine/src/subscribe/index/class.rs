//! What is left to be looked at once a key has led to a subscription.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::Happening;
use super::slab::Slab;
use crate::subscribe::filter::{Events, Filter};
use crate::subscribe::pattern::Pattern;

/// A filter without its users. A million subscriptions share few of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Class {
    /// The registered events wanted, a bit each in the registry's order, and [`VENDOR`].
    pub(super) events: u32,
    /// Names outside the registry, sorted; none where all of them are wanted.
    pub(super) names: Box<[Box<str>]>,
    patterns: Box<[Pattern]>,
    /// Whether its subscriptions stand under more keys than one, so that an event may lead to
    /// the same one twice.
    pub(super) repeated: bool,
}

impl Class {
    /// What is left of a filter whose subscription stands under so many keys.
    pub(super) fn new(filter: &Filter, keys: usize) -> Self {
        let (events, names) = match &filter.events {
            Events::All => (u32::MAX, Box::default()),
            Events::Some { registered, vendor: true, .. } => {
                (*registered | 1 << VENDOR, Box::default())
            }
            Events::Some { registered, vendor: false, names } => (*registered, names.clone()),
        };
        Self { events, names, patterns: filter.mailboxes.clone(), repeated: keys > 1 }
    }

    /// Whether an event is wanted, as far as its users don't matter.
    pub(super) fn fits(&self, happening: &Happening<'_>) -> bool {
        self.wants_event(happening) && self.wants_mailbox(happening)
    }

    /// Whether it wants all events of a slot.
    pub(super) fn wants_slot(&self, slot: usize) -> bool {
        self.events & 1 << slot != 0
    }

    /// Whether an event that is wanted is told, whatever else it says and wherever it is.
    pub(super) fn asks_for_events_only(&self) -> bool {
        self.patterns.is_empty() && !self.repeated
    }

    fn wants_event(&self, happening: &Happening<'_>) -> bool {
        let slot = happening.slot;
        happening.gap
            || self.events & 1 << slot != 0
            || (slot == VENDOR
                && self.names.binary_search_by(|one| (**one).cmp(happening.name)).is_ok())
    }

    fn wants_mailbox(&self, happening: &Happening<'_>) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        match happening.mailbox {
            Some(name) => self.patterns.iter().any(|pattern| pattern.matches(name)),
            None => happening.gap,
        }
    }
}

/// All classes in use, each once.
#[derive(Debug)]
pub(super) struct Classes {
    known: Slab<Counted>,
    /// Numbers of classes, found by what is in them; in several tables, because one would be
    /// laid out anew as a whole when it grows.
    tables: Box<[HashTable<u32>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Counted {
    class: Class,
    postings: usize,
}

impl Classes {
    /// None yet.
    pub(super) fn new(hasher: RandomState) -> Self {
        let tables = std::iter::repeat_with(HashTable::new).take(TABLES).collect();
        Self { known: Slab::default(), tables, hasher }
    }

    /// The class with a number.
    pub(super) fn get(&self, number: u32) -> Option<&Class> {
        self.known.get(number).map(|counted| &counted.class)
    }

    /// The number of a class.
    pub(super) fn find(&self, class: &Class) -> Option<u32> {
        let hash = self.hasher.hash_one(class);
        let same = |number: &u32| self.get(*number) == Some(class);
        self.tables.get(table(hash))?.find(hash, same).copied()
    }

    /// The number of a class that so many more postings name.
    pub(super) fn hold(&mut self, class: Class, postings: usize) -> u32 {
        if let Some(number) = self.find(&class) {
            if let Some(counted) = self.known.get_mut(number) {
                counted.postings += postings;
            }
            return number;
        }
        let Self { known, tables, hasher } = self;
        let hash = hasher.hash_one(&class);
        let number = known.add(Counted { class, postings });
        if let Some(table) = tables.get_mut(table(hash)) {
            let rehash = |number: &u32| {
                known.get(*number).map_or(0, |counted| hasher.hash_one(&counted.class))
            };
            table.insert_unique(hash, number, rehash);
        }
        number
    }

    /// So many postings no longer name a class.
    pub(super) fn release(&mut self, number: u32, postings: usize) {
        let Some(counted) = self.known.get_mut(number) else { return };
        counted.postings = counted.postings.saturating_sub(postings);
        if counted.postings > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&counted.class);
        if let Some(table) = self.tables.get_mut(table(hash))
            && let Ok(entry) = table.find_entry(hash, |one| *one == number)
        {
            entry.remove();
        }
        self.known.remove(number);
    }
}

fn table(hash: u64) -> usize {
    // Not the octet that the tables look at first, nor those they find a place with.
    let [_, _, octet, ..] = hash.to_be_bytes();
    usize::from(octet) % TABLES
}

/// The slot, and the bit, of events outside the registry: behind the registered ones.
pub(super) const VENDOR: u8 = 18;

/// Tables of classes: with a million classes each still has few.
const TABLES: usize = 256;
