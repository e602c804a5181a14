//! Several subscriptions under one key, parted by the events they want where they are many.

use std::collections::BTreeMap;

use super::Happening;
use super::class::{Class, Classes, VENDOR};
use super::slab::Slab;

/// One subscription under one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Posting {
    pub(super) class: u32,
    pub(super) id: u32,
}

/// Subscriptions under one key.
#[derive(Debug)]
pub(super) enum Group {
    /// So few that each is looked at.
    Few(Vec<Posting>),
    /// More.
    Many(Box<Many>),
}

/// Many subscriptions: an event is led to those alone that want its like.
///
/// Trees, and not tables, where there may be many: a tree grows without being laid out anew.
#[derive(Debug, Default)]
pub(super) struct Many {
    members: Slab<Members>,
    /// The members of each class.
    by_class: BTreeMap<u32, u32>,
    /// The members that want each registered event, and last all others.
    by_slot: [Vec<u32>; REGISTERED + 1],
    /// The members that want a name outside the registry.
    by_name: BTreeMap<Box<str>, Vec<u32>>,
}

/// The subscriptions of one class.
#[derive(Debug)]
pub(super) struct Members {
    class: u32,
    /// Whether the class asks for nothing but events, so that those it was found by are wanted.
    events_only: bool,
    ids: Vec<u32>,
}

/// What a group gives for an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Candidates<'a> {
    /// They want the event.
    Sure(&'a [u32]),
    /// Their class knows whether they do.
    OfClass(u32, &'a [u32]),
}

impl Default for Group {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Group {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(postings) => postings.is_empty(),
            Self::Many(many) => many.by_class.is_empty(),
        }
    }

    /// Adds a subscription; `classes` knows its class.
    pub(super) fn insert(&mut self, posting: Posting, classes: &Classes) {
        match self {
            Self::Few(postings) if postings.len() < FEW => {
                postings.reserve_exact(1);
                postings.push(posting);
            }
            Self::Few(postings) => {
                let mut many = Box::<Many>::default();
                postings.iter().for_each(|before| many.insert(*before, classes));
                many.insert(posting, classes);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.insert(posting, classes),
        }
    }

    /// Takes a subscription out again; whether it was there.
    pub(super) fn remove(&mut self, posting: Posting, class: &Class) -> bool {
        match self {
            Self::Few(postings) => {
                let at = postings.iter().position(|one| *one == posting);
                at.map(|at| postings.swap_remove(at)).is_some()
            }
            Self::Many(many) => many.remove(posting, class),
        }
    }

    /// Gives `tell` whoever may want an event.
    pub(super) fn visit(&self, happening: &Happening<'_>, tell: &mut impl FnMut(Candidates<'_>)) {
        match self {
            Self::Few(postings) => {
                for posting in postings {
                    tell(Candidates::OfClass(posting.class, &[posting.id]));
                }
            }
            Self::Many(many) => many.visit(happening, tell),
        }
    }
}

impl Many {
    fn insert(&mut self, posting: Posting, classes: &Classes) {
        if let Some(members) = self.by_class.get(&posting.class)
            && let Some(members) = self.members.get_mut(*members)
        {
            members.ids.push(posting.id);
            return;
        }
        let Some(class) = classes.get(posting.class) else { return };
        let (events_only, ids) = (class.asks_for_events_only(), vec![posting.id]);
        let number = self.members.add(Members { class: posting.class, events_only, ids });
        self.by_class.insert(posting.class, number);
        for (slot, members) in self.by_slot.iter_mut().enumerate() {
            if class.wants_slot(slot) {
                members.push(number);
            }
        }
        for name in &class.names {
            match self.by_name.get_mut(name) {
                Some(members) => members.push(number),
                None => drop(self.by_name.insert(name.clone(), vec![number])),
            }
        }
    }

    fn remove(&mut self, posting: Posting, class: &Class) -> bool {
        let Some(number) = self.by_class.get(&posting.class).copied() else { return false };
        let Some(members) = self.members.get_mut(number) else { return false };
        let Some(at) = members.ids.iter().position(|id| *id == posting.id) else { return false };
        members.ids.swap_remove(at);
        if !members.ids.is_empty() {
            return true;
        }
        self.by_class.remove(&posting.class);
        self.members.remove(number);
        for (slot, members) in self.by_slot.iter_mut().enumerate() {
            if class.wants_slot(slot) {
                members.retain(|one| *one != number);
            }
        }
        for name in &class.names {
            let Some(members) = self.by_name.get_mut(name) else { continue };
            members.retain(|one| *one != number);
            if members.is_empty() {
                self.by_name.remove(name);
            }
        }
        true
    }

    fn visit(&self, happening: &Happening<'_>, tell: &mut impl FnMut(Candidates<'_>)) {
        if happening.gap {
            let all = self.by_class.values().filter_map(|number| self.members.get(*number));
            all.for_each(|members| tell(Candidates::OfClass(members.class, &members.ids)));
            return;
        }
        let by_name = match happening.slot {
            VENDOR => self.by_name.get(happening.name),
            _ => None,
        };
        let by_slot = self.by_slot.get(usize::from(happening.slot));
        for number in [by_slot, by_name].into_iter().flatten().flatten() {
            match self.members.get(*number) {
                Some(Members { events_only: true, ids, .. }) => tell(Candidates::Sure(ids)),
                Some(Members { class, ids, .. }) => tell(Candidates::OfClass(*class, ids)),
                None => {}
            }
        }
    }
}

/// Registered events.
const REGISTERED: usize = 18;

/// So many are looked at one by one sooner than they are parted.
const FEW: usize = 8;
