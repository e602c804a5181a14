//! Which of many subscriptions want an event, without asking each.

mod class;
mod group;
mod keyed;
mod search;
mod slab;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::hash::RandomState;

use self::class::{Class, Classes};
use self::group::{Group, Posting};
use self::keyed::Keyed;
use super::filter::Filter;
use super::pattern::INBOX;
use crate::View;

/// An index over compiled filters; a subscription is a number of the caller's.
///
/// Subscriptions stand under what an event must equal to be wanted: a user, else a mailbox, else
/// the longest piece that the mailbox's name must begin or end with, else the event alone. Under
/// each of these they are parted by the events they want, and those that want the same share
/// one entry. What an event costs thus depends on how many want it, and not on how many there
/// are. Two kinds are tried one by one: different patterns without a literal beginning or end
/// (`*x*`), and different lists of mailboxes for one and the same user.
///
/// Subscriptions come and go one by one; nothing is ever laid out anew as a whole.
///
/// ```
/// use postbell_engine::{Index, Keys, Policy, Selection};
///
/// let selection = Selection { users: vec!["zoe".to_owned()], ..Selection::default() };
/// let (filter, _) = selection.compile(&Policy::default())?;
/// let mut index = Index::new();
/// index.insert(7, &filter);
///
/// let json = br#"{"event":"MessageRead","uri":"imap://zoe@h/INBOX","timestamp":"2026-08-20T13:34:14+02:00"}"#;
/// let mut told = Vec::new();
/// index.for_each_match(&Keys::find(json).unwrap_or_else(|| unreachable!()).view(json), |id| told.push(id));
/// assert_eq!(told, [7]);
/// # Ok::<(), postbell_engine::InvalidSelection>(())
/// ```
#[derive(Debug)]
pub struct Index {
    users: Keyed,
    mailboxes: Keyed,
    /// What a mailbox's name must begin with.
    prefixes: Pieces,
    /// What it must end with.
    suffixes: Pieces,
    /// Patterns of which neither is known.
    wild: Group,
    /// Those that ask for no user and no mailbox.
    unbound: Group,
    classes: Classes,
    len: usize,
}

/// Pieces of mailbox names.
#[derive(Debug)]
struct Pieces {
    keyed: Keyed,
    /// How many there are of each length, so that only lengths in use are looked for.
    lengths: Box<[usize]>,
}

/// What of an event is looked at.
#[derive(Clone, Copy, Debug)]
struct Happening<'a> {
    /// The event's place in the registry's order, or [`VENDOR`].
    slot: u8,
    /// Its name, where it isn't a registered one.
    name: &'a str,
    mailbox: Option<&'a str>,
    /// Whether it tells of a gap, which concerns everybody that it doesn't exclude.
    gap: bool,
}

/// Where a subscription stands.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key<'a> {
    User(&'a [u8]),
    Mailbox(&'a [u8]),
    Prefix(&'a [u8]),
    Suffix(&'a [u8]),
    Wild,
    Unbound,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An index of nothing.
    #[must_use]
    pub fn new() -> Self {
        let hasher = RandomState::new();
        Self {
            users: Keyed::new(hasher.clone(), USER_TABLES),
            mailboxes: Keyed::new(hasher.clone(), MAILBOX_TABLES),
            prefixes: Pieces::new(hasher.clone()),
            suffixes: Pieces::new(hasher.clone()),
            wild: Group::default(),
            unbound: Group::default(),
            classes: Classes::new(hasher),
            len: 0,
        }
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription whose number is not in use.
    pub fn insert(&mut self, id: u32, filter: &Filter) {
        let keys = keys(filter);
        let class = self.classes.hold(Class::new(filter, keys.len()), keys.len());
        let posting = Posting { class, id };
        let classes = &self.classes;
        for key in keys {
            match key {
                Key::User(user) => self.users.insert(user, posting, classes),
                Key::Mailbox(name) => self.mailboxes.insert(name, posting, classes),
                Key::Prefix(piece) => self.prefixes.insert(piece, posting, classes),
                Key::Suffix(piece) => self.suffixes.insert(piece, posting, classes),
                Key::Wild => self.wild.insert(posting, classes),
                Key::Unbound => self.unbound.insert(posting, classes),
            }
        }
        self.len += 1;
    }

    /// Takes a subscription out again; `filter` is the one it was put in with. Whether it was
    /// there.
    pub fn remove(&mut self, id: u32, filter: &Filter) -> bool {
        let keys = keys(filter);
        let class = Class::new(filter, keys.len());
        let Some(number) = self.classes.find(&class) else { return false };
        let posting = Posting { class: number, id };
        let mut removed = 0;
        for key in keys {
            removed += usize::from(match key {
                Key::User(user) => self.users.remove(user, posting, &class),
                Key::Mailbox(name) => self.mailboxes.remove(name, posting, &class),
                Key::Prefix(piece) => self.prefixes.remove(piece, posting, &class),
                Key::Suffix(piece) => self.suffixes.remove(piece, posting, &class),
                Key::Wild => self.wild.remove(posting, &class),
                Key::Unbound => self.unbound.remove(posting, &class),
            });
        }
        self.classes.release(number, removed);
        self.len -= usize::from(removed > 0);
        removed > 0
    }

    /// Gives `tell` each subscription that wants an event as far as [`Filter::matches`] says, once,
    /// in no order.
    pub fn for_each_match(&self, view: &View<'_>, mut tell: impl FnMut(u32)) {
        self.for_each_match_of(std::slice::from_ref(view), |_, id| tell(id));
    }

    /// The same of many events, which takes less than one after the other: gives `tell` an event's
    /// place among `views` and a subscription that wants it, event after event.
    pub fn for_each_match_of(&self, views: &[View<'_>], tell: impl FnMut(usize, u32)) {
        self.for_each_match_while(views, tell, || true);
    }

    /// The same, event after event as long as `go_on` says so behind each; how many were looked at.
    pub fn for_each_match_while(
        &self,
        views: &[View<'_>],
        mut tell: impl FnMut(usize, u32),
        go_on: impl Fn() -> bool,
    ) -> usize {
        let mut places = 0..views.len();
        for some in views.chunks(AT_ONCE) {
            if !search::search(self, some, &mut places, &mut tell, &go_on) {
                break;
            }
        }
        places.start
    }
}

impl Pieces {
    fn new(hasher: RandomState) -> Self {
        Self { keyed: Keyed::new(hasher, MAILBOX_TABLES), lengths: Box::default() }
    }

    /// Lengths in use, up to `longest`.
    fn in_use(&self, longest: usize) -> impl Iterator<Item = usize> {
        let lengths = self.lengths.iter().enumerate().take(longest + 1);
        lengths.filter_map(|(length, count)| (*count > 0).then_some(length))
    }

    fn insert(&mut self, piece: &[u8], posting: Posting, classes: &Classes) {
        self.keyed.insert(piece, posting, classes);
        if self.lengths.len() <= piece.len() {
            let mut lengths = std::mem::take(&mut self.lengths).into_vec();
            lengths.resize(piece.len() + 1, 0);
            self.lengths = lengths.into();
        }
        if let Some(count) = self.lengths.get_mut(piece.len()) {
            *count += 1;
        }
    }

    fn remove(&mut self, piece: &[u8], posting: Posting, class: &Class) -> bool {
        let was_there = self.keyed.remove(piece, posting, class);
        if let Some(count) = self.lengths.get_mut(piece.len()) {
            *count -= usize::from(was_there);
        }
        was_there
    }
}

/// Where a filter's subscription stands: an event that it wants leads to one of these at least.
fn keys(filter: &Filter) -> BTreeSet<Key<'_>> {
    if !filter.users.is_empty() {
        return filter.users.iter().map(|user| Key::User(user.as_bytes())).collect();
    }
    if filter.mailboxes.is_empty() {
        return BTreeSet::from([Key::Unbound]);
    }
    let mut keys = BTreeSet::new();
    for pattern in &filter.mailboxes {
        let (prefix, suffix) = (pattern.prefix(), pattern.suffix());
        // INBOX is meant in any case, and is looked for under its own.
        match pattern.literal() {
            Some(name) if name.eq_ignore_ascii_case(INBOX) => keys.extend([Key::Mailbox(INBOX)]),
            Some(name) => keys.extend([Key::Mailbox(name)]),
            None if prefix.is_empty() && suffix.is_empty() => keys.extend([Key::Wild]),
            None if prefix.len() >= suffix.len() => {
                let of_inbox = INBOX.get(..prefix.len());
                keys.extend(spellings(prefix, of_inbox).map(Key::Prefix));
            }
            None => {
                let start = INBOX.len().checked_sub(suffix.len());
                let of_inbox = start.and_then(|start| INBOX.get(start..));
                keys.extend(spellings(suffix, of_inbox).map(Key::Suffix));
            }
        }
    }
    keys
}

/// A piece as it is written, and as INBOX has it where it may be a piece of that.
fn spellings<'a>(piece: &'a [u8], of_inbox: Option<&'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    let of_inbox = of_inbox.filter(|own| own.eq_ignore_ascii_case(piece));
    [piece].into_iter().chain(of_inbox)
}

/// Events whose users are looked up together: so many looks in memory the processor has under way
/// by itself, some times over.
const AT_ONCE: usize = 32;

/// With a million users each table has twelve thousand, three quarters of what it has room for,
/// and grows in a few milliseconds.
const USER_TABLES: usize = 80;

/// Few, as long as nobody asks for half a million different mailboxes without saying whose: then
/// they are near each other in memory.
const MAILBOX_TABLES: usize = 16;
