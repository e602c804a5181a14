//! Events' way through the index.

use std::borrow::Cow;
use std::ops::Range;

use super::class::VENDOR;
use super::group::{Candidates, Group, Posting};
use super::keyed::{Found, Keyed};
use super::{Happening, Index};
use crate::View;
use crate::keys::Spelled;
use crate::names::GAP;
use crate::subscribe::pattern::INBOX;

/// Gives `tell` who wants each of `views`, which stand at `places`; whether `go_on` said so to the end.
///
/// Step by step for all of them: a user stands somewhere in memory that isn't near, and while the
/// processor waits for the one it already asks for the next.
pub(super) fn search(
    index: &Index,
    views: &[View<'_>],
    places: &mut Range<usize>,
    tell: &mut impl FnMut(usize, u32),
    go_on: &impl Fn() -> bool,
) -> bool {
    let mut decoded = Vec::with_capacity(views.len() * DECODED_OCTETS);
    let events: Vec<_> = views.iter().map(|view| Sought::new(view, index, &mut decoded)).collect();
    let found: Vec<_> = events.iter().map(|event| event.users(&index.users, &decoded)).collect();
    for (event, users) in events.iter().zip(found) {
        let Some(place) = places.next() else { break };
        // Where neither is there it is one this version can't read.
        if event.slot == VENDOR && event.name.is_empty() {
            continue;
        }
        let mailbox = event.mailbox.as_ref().map(|name| name.octets(&decoded));
        let happening = Happening {
            slot: event.slot,
            name: &event.name,
            mailbox: mailbox.and_then(|name| std::str::from_utf8(name).ok()),
            gap: event.name == GAP,
        };
        let mut search =
            Search { index, happening, tell: &mut |id| tell(place, id), repeated: Vec::new() };
        users.into_iter().for_each(|found| search.found(found));
        search.rest(event.owner.is_none() && event.user.is_none());
        if !go_on() {
            return false;
        }
    }
    true
}

/// What is looked for of one event.
struct Sought<'a> {
    slot: u8,
    /// Its name, where it isn't a registered one.
    name: Cow<'a, str>,
    mailbox: Option<Spelled<'a>>,
    owner: Option<(u64, Spelled<'a>)>,
    /// Who acted, where that isn't the owner.
    user: Option<(u64, Spelled<'a>)>,
}

impl<'a> Sought<'a> {
    fn new(view: &View<'a>, index: &Index, decoded: &mut Vec<u8>) -> Self {
        let registered = view.place();
        let name = if registered.is_some() { Cow::default() } else { view.name() };
        let (owner, mailbox) = view.places_onto(decoded);
        let user = view.user_onto(decoded);
        // A user is meant both as the one who acted and as the mailbox's owner (R149, R150).
        let user = user.filter(|user| {
            owner.as_ref().is_none_or(|owner| owner.octets(decoded) != user.octets(decoded))
        });
        let hashed = |text: Spelled<'a>| (index.users.hash(text.octets(decoded)), text);
        Self {
            slot: registered.unwrap_or(VENDOR),
            name,
            mailbox,
            owner: owner.map(hashed),
            user: user.map(hashed),
        }
    }

    /// What stands under its users.
    fn users<'i>(&self, users: &'i Keyed, decoded: &[u8]) -> [Option<Found<'i>>; 2] {
        [&self.owner, &self.user].map(|one| {
            let (hash, text) = one.as_ref()?;
            users.find_hashed(*hash, text.octets(decoded))
        })
    }
}

/// One event's way through the index.
struct Search<'a, F> {
    index: &'a Index,
    happening: Happening<'a>,
    tell: &'a mut F,
    /// Subscriptions that the event may lead to once more.
    repeated: Vec<u32>,
}

impl<F: FnMut(u32)> Search<'_, F> {
    /// All that stands under anything but the event's users.
    fn rest(mut self, is_of_nobody: bool) {
        let index = self.index;
        let gap = self.happening.gap;
        if gap && is_of_nobody {
            index.users.all().for_each(|found| self.found(Some(found)));
        }
        match self.happening.mailbox {
            Some(name) => self.mailboxes(name),
            None if gap => self.all_mailboxes(),
            None => {}
        }
        self.group(&index.unbound);
        self.repeated.sort_unstable();
        self.repeated.dedup();
        self.repeated.into_iter().for_each(self.tell);
    }

    fn mailboxes(&mut self, name: &str) {
        let index = self.index;
        let inbox = name.as_bytes().eq_ignore_ascii_case(INBOX);
        let name = if inbox { INBOX } else { name.as_bytes() };
        self.found(index.mailboxes.find(name));
        for length in index.prefixes.in_use(name.len()) {
            self.found(name.get(..length).and_then(|piece| index.prefixes.keyed.find(piece)));
        }
        for length in index.suffixes.in_use(name.len()) {
            let piece = name.get(name.len() - length..);
            self.found(piece.and_then(|piece| index.suffixes.keyed.find(piece)));
        }
        self.group(&index.wild);
    }

    fn all_mailboxes(&mut self) {
        let index = self.index;
        let pieces = index.prefixes.keyed.all().chain(index.suffixes.keyed.all());
        index.mailboxes.all().chain(pieces).for_each(|found| self.found(Some(found)));
        self.group(&index.wild);
    }

    fn found(&mut self, found: Option<Found<'_>>) {
        match found {
            None => {}
            Some(Found::One(Posting { class, id })) => {
                self.candidates(Candidates::OfClass(class, &[id]));
            }
            Some(Found::Many(group)) => self.group(group),
        }
    }

    fn group(&mut self, group: &Group) {
        let happening = self.happening;
        group.visit(&happening, &mut |candidates| self.candidates(candidates));
    }

    fn candidates(&mut self, candidates: Candidates<'_>) {
        let ids = match candidates {
            Candidates::Sure(ids) => ids,
            Candidates::OfClass(number, ids) => match self.index.classes.get(number) {
                Some(class) if !class.fits(&self.happening) => return,
                Some(class) if class.repeated => return self.repeated.extend_from_slice(ids),
                Some(_) => ids,
                None => return,
            },
        };
        ids.iter().for_each(|id| (self.tell)(*id));
    }
}

/// Room for what is decoded of an event: most have an address and a name of a few letters.
const DECODED_OCTETS: usize = 64;
