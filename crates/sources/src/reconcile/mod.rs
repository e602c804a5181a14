//! What happened in mailboxes that nobody wrote down (RFC 7162).
//!
//! For each mailbox the last look is remembered, and what the spool told since. After a hole, a
//! process that died, or a start, the server is asked what changed since that look; what of it
//! the spool didn't tell is the hole's, and told as inferred.
//!
//! A pass goes in small steps, each in two halves, so that what is written down meanwhile isn't
//! mistaken for missing:
//!
//! 1. [`Reconcile::look`] asks about the next mailbox, or the next user's list of mailboxes;
//! 2. the caller reads the spool to its end, and notes what it says;
//! 3. [`Reconcile::settle`] tells what is still unaccounted for, and takes the look for the new
//!    base.
//!
//! What is remembered is bounded. Where the server can't be asked for long, a mailbox of which more
//! was told than [`RANGES_MAX`] ranges, and beyond [`ALL_RANGES_MAX`] of all together the largest,
//! is remembered as *blind*: everything of it may be missing. Where a hole is open that concerns
//! it, that is told as missed.
//!
//! Mailbox names here are the owner's own, as the server writes them over IMAP.

mod differences;
mod hearing;
mod kept;
mod round;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mail_event::{Flags, Timestamp, UidSet};
use postbell_engine::{Mailbox, Observation, What};

use crate::ask::{Asker, BoxLook, Changes, NamingScope};
pub(super) use differences::Naming;
use differences::Telling;
use hearing::Hearing;
pub(super) use hearing::Turn as HearingTurn;
use kept::{Kept, News, Sets};
pub(super) use round::{Next, Round};
pub(super) use status::BoxStatus;

/// What is remembered of mailboxes, and what is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Reconcile {
    boxes: BTreeMap<Place, Kept>,
    /// Users whose list of mailboxes was looked at: what is new on it since is news.
    listed: BTreeSet<String>,
    waiting: VecDeque<Task>,
    /// The same, to find what waits already.
    wanted: BTreeSet<Task>,
    /// Users whose mailboxes came, went or were renamed since they were last asked for.
    moved: BTreeSet<String>,
    changed: BTreeSet<Place>,
    changed_lists: BTreeSet<String>,
    /// Owners whose mail is looked at, by how many looks are not settled.
    looking: BTreeMap<String, usize>,
    /// Owners whose mail the server doesn't let us look at.
    refused: BTreeSet<String>,
    /// Mailboxes that have become blind, and how they stood when they were looked at last.
    blinded: Vec<(Place, BoxLook)>,
    /// At least as many ranges as all mailboxes' sets have.
    ranges: usize,
    done: u64,
    /// Whether the store tells of each mailbox that is made, whoever makes it.
    hears_creations: bool,
    /// When the looks that are to be settled next began, in milliseconds since 1970.
    began: Option<i64>,
    hearing: Hearing,
}

/// A mailbox: its owner and its name.
type Place = (String, String);

/// Something to look at.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Task {
    /// Which mailboxes a user has.
    User(String),
    /// What changed in a mailbox.
    Mailbox(Place),
}

/// What the server said, until it is settled.
#[derive(Debug)]
pub(super) enum Looked {
    /// A user's mailboxes.
    User(String, BTreeMap<String, Option<BoxLook>>),
    /// The changes of a mailbox; none where it is gone.
    Mailbox(Place, Option<Changes>),
    /// A mailbox that nothing was known of; none where it is gone.
    Unknown(Place, Option<BoxLook>),
}

impl Looked {
    /// Whose mail it is about.
    pub(super) fn owner(&self) -> &str {
        match self {
            Self::User(owner, _) | Self::Mailbox((owner, _), _) | Self::Unknown((owner, _), _) => {
                owner
            }
        }
    }

    /// How much it holds: itself, and each mailbox or message it names.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::User(_, found) => 1 + found.len(),
            Self::Mailbox(_, Some(changes)) => 1 + changes.changed.len(),
            Self::Mailbox(_, None) | Self::Unknown(..) => 1,
        }
    }
}

impl Reconcile {
    /// Where the keys of its checkpoint begin.
    pub(super) const PREFIX: &'static [u8] = b"box/";

    /// From what [`Reconcile::drain_changes`] once gave; what can't be read is passed over.
    pub(super) fn restore(saved: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut restored = Self::default();
        for (key, value) in saved {
            let Some(place) = place(&key) else { continue };
            if place.1.is_empty() {
                restored.listed.insert(place.0);
            } else if let Some(kept) = std::str::from_utf8(&value).ok().and_then(Kept::decode) {
                restored.ranges += kept.ranges();
                restored.boxes.insert(place, kept);
            }
        }
        restored
    }

    /// One for a store that tells of each mailbox that is made: one that is spoken of, and wasn't
    /// there when its owner's were listed, was made unheard.
    pub(super) fn hearing_creations(mut self) -> Self {
        self.hears_creations = true;
        self
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let lists = std::mem::take(&mut self.changed_lists).into_iter();
        let lists = lists.map(|owner| (key(&(owner, String::new())), Some(Vec::new())));
        let boxes = std::mem::take(&mut self.changed).into_iter().map(|place| {
            let kept = self.boxes.get(&place).map(|kept| kept.encode().into_bytes());
            (key(&place), kept)
        });
        lists.chain(boxes).chain(self.hearing.take_change()).collect()
    }

    /// Notes that messages came with these flags, and gives those of them that a look has told
    /// already.
    ///
    /// `status` is how the mailbox stood afterwards: where nothing is known of it yet, looks
    /// begin there.
    pub(super) fn added(
        &mut self,
        owner: &str,
        mailbox: &str,
        (uids, flags): (&UidSet, &Flags),
        status: BoxStatus,
    ) -> UidSet {
        self.note(owner, mailbox, (News::Added(flags), uids), status)
    }

    /// Notes that messages went, and gives those of them that a look has told already.
    pub(super) fn gone(
        &mut self,
        owner: &str,
        mailbox: &str,
        uids: &UidSet,
        status: BoxStatus,
    ) -> UidSet {
        self.note(owner, mailbox, (News::Gone, uids), status)
    }

    /// Notes that flags of messages changed.
    pub(super) fn flagged(&mut self, owner: &str, mailbox: &str, uids: &UidSet) {
        self.note(owner, mailbox, (News::Flagged, uids), BoxStatus::default());
    }

    /// Notes that a mailbox came to be.
    pub(super) fn created(&mut self, owner: &str, mailbox: &str, uid_validity: Option<u32>) {
        let place = (owner.to_owned(), mailbox.to_owned());
        let base = uid_validity.map(BoxLook::empty);
        self.moved.insert(owner.to_owned());
        self.remember(place, Kept { base, ..Kept::default() });
    }

    /// Notes that a mailbox went; its children stay.
    pub(super) fn deleted(&mut self, owner: &str, mailbox: &str) {
        self.moved.insert(owner.to_owned());
        self.forget(&(owner.to_owned(), mailbox.to_owned()));
    }

    /// Notes that a mailbox got another name, its children with it, unless it is INBOX.
    pub(super) fn renamed(&mut self, owner: &str, from: &str, to: &str, separator: char) {
        self.moved.insert(owner.to_owned());
        let below = format!("{from}{separator}");
        let is_meant = |place: &Place| {
            place.0 == owner
                && (place.1 == from || (from != "INBOX" && place.1.starts_with(&below)))
        };
        let first = (owner.to_owned(), from.to_owned());
        let in_order = self.boxes.range(first..).take_while(|(place, _)| place.0 == owner);
        let moving: Vec<_> =
            in_order.filter(|(place, _)| is_meant(place)).map(|(place, _)| place.clone()).collect();
        for place in moving {
            let Some(kept) = self.boxes.get(&place).cloned() else { continue };
            let rest = place.1.strip_prefix(from).unwrap_or_default().to_owned();
            self.forget(&place);
            self.remember((place.0, format!("{to}{rest}")), kept);
        }
    }

    /// Has a mailbox looked at.
    #[cfg(test)]
    pub(super) fn want(&mut self, owner: &str, mailbox: &str) {
        self.enqueue(Task::Mailbox((owner.to_owned(), mailbox.to_owned())));
    }

    /// Has all of a user's mailboxes looked at.
    pub(super) fn want_user(&mut self, owner: &str) {
        self.enqueue(Task::User(owner.to_owned()));
    }

    /// Has everything that is known looked at.
    pub(super) fn want_everything(&mut self) {
        let mut owners: BTreeSet<_> = self.listed.clone();
        owners.extend(self.boxes.keys().map(|(owner, _)| owner.clone()));
        for owner in owners {
            self.enqueue(Task::User(owner));
        }
    }

    /// The same, where that isn't too much; says whether.
    pub(super) fn want_everything_if_few(&mut self) -> bool {
        let is_little = self.boxes.len() <= MAILBOXES_LOOKED_AT_MAX;
        if is_little {
            self.want_everything();
        }
        is_little
    }

    /// Whether this user's mailboxes are known, so that a hole among them can be found.
    pub(super) fn knows(&self, owner: &str) -> bool {
        self.listed.contains(owner)
    }

    /// Whether nothing of these users' is still to be looked at or settled; of anybody's, where
    /// there are none.
    pub(super) fn has_looked_at(&self, users: &[String]) -> bool {
        if users.is_empty() {
            return self.wanted.is_empty() && self.looking.is_empty();
        }
        users.iter().all(|owner| {
            let first = Task::Mailbox((owner.clone(), String::new()));
            let of_owner = |task: &Task| matches!(task, Task::Mailbox((of, _)) if of == owner);
            !self.looking.contains_key(owner)
                && !self.wanted.contains(&Task::User(owner.clone()))
                && !self.wanted.range(first..).next().is_some_and(of_owner)
        })
    }

    /// Owners whose mail the server didn't let us look at, since this was last asked.
    pub(super) fn take_refused(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.refused)
    }

    /// What is missed of mailboxes that have become blind since this was last asked, where a hole
    /// may be among it: `is_holed` says so of their owners.
    pub(super) fn take_blinded(
        &mut self,
        is_holed: impl Fn(&str) -> bool,
        at: Timestamp,
        naming: &Naming<'_>,
    ) -> Vec<Observation> {
        let blinded = std::mem::take(&mut self.blinded).into_iter();
        let holed = blinded.filter(|((owner, _), _)| is_holed(owner));
        let told = holed.map(|((owner, name), base)| {
            Telling { owner: &owner, name: &name, at, since: None, hears_flags: true, naming }
                .blind(base)
        });
        told.collect()
    }

    /// Whose mail is looked at next.
    pub(super) fn next_owner(&self) -> Option<&str> {
        let (Task::User(owner) | Task::Mailbox((owner, _))) = self.waiting.front()?;
        Some(owner)
    }

    /// Whose list of mailboxes is looked at next, if that is what comes next.
    pub(super) fn next_listed(&self) -> Option<&str> {
        match self.waiting.front()? {
            Task::User(owner) => Some(owner),
            Task::Mailbox(_) => None,
        }
    }

    /// How many looks wait, and how many were taken.
    pub(super) fn progress(&self) -> (usize, u64) {
        (self.waiting.len(), self.done)
    }

    /// How many looks were taken and aren't settled yet.
    pub(super) fn unsettled(&self) -> usize {
        self.looking.values().sum()
    }

    /// Whether a mailbox is remembered.
    pub(super) fn has(&self, owner: &str, mailbox: &str) -> bool {
        self.boxes.contains_key(&(owner.to_owned(), mailbox.to_owned()))
    }

    /// Whether a look has found a mailbox with this UIDVALIDITY.
    pub(super) fn stood(&self, owner: &str, mailbox: &str, uid_validity: Option<u32>) -> bool {
        let kept = self.boxes.get(&(owner.to_owned(), mailbox.to_owned()));
        let base = kept.and_then(|kept| kept.base);
        base.zip(uid_validity).is_some_and(|(base, validity)| base.uid_validity == validity)
    }

    /// How many mailboxes are remembered.
    pub(super) fn mailboxes(&self) -> usize {
        self.boxes.len()
    }

    /// Notes when the looks begin that are to be settled next.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.began = Some(now.unix_millis());
    }

    /// Takes the next look; nothing where nothing waits, or where there is no answer: then it
    /// waits on, and is to be tried again later.
    pub(super) fn look(&mut self, asker: &mut Asker, scope: &dyn NamingScope) -> Option<Looked> {
        let task = self.waiting.front()?.clone();
        let looked = match &task {
            Task::User(owner) => {
                asker.mailboxes(owner, scope).map(|found| Looked::User(owner.clone(), found))
            }
            Task::Mailbox(place) => {
                let (owner, mailbox) = place;
                match self.boxes.get(place).and_then(|kept| kept.base) {
                    Some(base) => asker
                        .changes(owner, mailbox, base)
                        .map(|changes| Looked::Mailbox(place.clone(), changes)),
                    None => asker
                        .stands(owner, mailbox)
                        .map(|look| Looked::Unknown(place.clone(), look)),
                }
            }
        };
        match &looked {
            Some(Looked::User(owner, _)) => drop(self.moved.remove(owner)),
            Some(Looked::Mailbox(place, _) | Looked::Unknown(place, _)) => {
                if let Some(kept) = self.boxes.get_mut(place) {
                    kept.since = Some(Sets::default());
                }
            }
            None => {}
        }
        let is_put_off = looked.is_none() && asker.is_resting();
        self.waiting.pop_front();
        self.wanted.remove(&task);
        match (&looked, &task) {
            (Some(looked), _) => {
                *self.looking.entry(looked.owner().to_owned()).or_default() += 1;
            }
            (None, Task::User(owner) | Task::Mailbox((owner, _))) if !is_put_off => {
                self.refused.insert(owner.clone());
            }
            (None, _) => {}
        }
        if is_put_off {
            // When the server is back, the others first: it may be this one that it can't answer.
            self.enqueue(task);
        } else {
            self.done += 1;
        }
        looked
    }

    /// What a look found that the spool didn't tell by now. `at` is when, and `is_holed` whether
    /// anything may be missing of the owner's: where it can't be found, that is told, too.
    pub(super) fn settle(
        &mut self,
        looked: Looked,
        is_holed: bool,
        at: Timestamp,
        naming: &Naming<'_>,
    ) -> Vec<Observation> {
        if let Some(looks) = self.looking.get_mut(looked.owner()) {
            *looks -= 1;
            if *looks == 0 {
                self.looking.remove(looked.owner());
            }
        }
        let place = match looked {
            // The list is older than what was told since.
            Looked::User(owner, _) if self.moved.contains(&owner) => {
                self.want_user(&owner);
                return Vec::new();
            }
            Looked::User(owner, found) => {
                return self.settle_user(&owner, found, is_holed, at, naming);
            }
            Looked::Mailbox(ref place, _) | Looked::Unknown(ref place, _) => place.clone(),
        };
        // Made anew since it was looked at, or gone, or called something else.
        let Some(since) = self.boxes.get_mut(&place).and_then(|kept| kept.since.take()) else {
            return Vec::new();
        };
        let kept = self.boxes.get(&place).cloned().unwrap_or_default();
        let (owner, name) = (&place.0, &place.1);
        let since_last = kept.looked_at;
        let hears_flags = self.hearing.has_heard_since(since_last);
        let telling = Telling { owner, name, at, since: since_last, hears_flags, naming };
        match looked {
            Looked::User(..) => Vec::new(),
            Looked::Unknown(_, None) => {
                self.forget(&place);
                Vec::new()
            }
            Looked::Unknown(_, Some(look)) => {
                self.rebase(&place, look, since, Sets::default());
                is_holed.then(|| telling.blind(look)).into_iter().collect()
            }
            Looked::Mailbox(_, None) => {
                self.forget(&place);
                let base = kept.base.unwrap_or_default();
                let what = What::MailboxDeleted(telling.mailbox(base.uid_validity));
                vec![telling.observation(&format!("deleted {}", base.uid_validity), what)]
            }
            Looked::Mailbox(_, Some(changes)) => {
                let look = changes.look;
                let passes_over = !hears_flags && !changes.changed.is_empty();
                let (seen, inferred) = telling.differences(&kept, changes);
                if passes_over {
                    self.hearing.pass_over(at);
                }
                self.rebase(&place, look, since, inferred);
                seen
            }
        }
    }

    fn settle_user(
        &mut self,
        owner: &str,
        found: BTreeMap<String, Option<BoxLook>>,
        is_holed: bool,
        at: Timestamp,
        naming: &Naming<'_>,
    ) -> Vec<Observation> {
        let is_first = self.listed.insert(owner.to_owned());
        if is_first {
            self.changed_lists.insert(owner.to_owned());
        }
        let mut gone: BTreeMap<String, u32> = BTreeMap::new();
        let (mut of_owner, mut strays) = (Vec::new(), Vec::new());
        for (place, kept) in self.boxes.range((owner.to_owned(), String::new())..) {
            if place.0 != owner {
                break;
            }
            if found.contains_key(&place.1) {
                of_owner.push((place.1.clone(), kept.base));
            } else if kept.is_new {
                // It came and went; or what is gone was spoken of once more.
                strays.push(place.clone());
            } else {
                let uid_validity = kept.base.map_or(0, |base| base.uid_validity);
                gone.insert(place.1.clone(), uid_validity);
            }
        }
        strays.iter().for_each(|place| self.forget(place));
        let known: BTreeMap<_, _> = of_owner.into_iter().collect();
        let mut seen = Vec::new();
        for (name, look) in found {
            let place = (owner.to_owned(), name.clone());
            let telling =
                Telling { owner, name: &name, at, since: None, hears_flags: true, naming };
            let Some(look) = look else {
                // How it stands may be said when it is opened.
                if known.contains_key(&name) {
                    self.enqueue(Task::Mailbox(place));
                }
                continue;
            };
            let unheard = self.boxes.get(&place).filter(|kept| kept.is_new);
            let unheard = unheard.map(|kept| kept.told.clone());
            match known.get(&name) {
                // Nothing can have changed where no MODSEQ did.
                Some(Some(base)) if *base == look => self.stands_still(&place),
                Some(Some(_)) => self.enqueue(Task::Mailbox(place)),
                // What is told after this look is remembered from its own look on.
                Some(None) if self.boxes.get(&place).is_some_and(|kept| kept.is_blind) => {
                    self.enqueue(Task::Mailbox(place));
                }
                // What was told before and what after the look, nobody knows.
                Some(None) if unheard.is_none() => {
                    let told = self.boxes.get(&place).map(|kept| kept.told.clone());
                    self.rebase(&place, look, told.unwrap_or_default(), Sets::default());
                    seen.extend(is_holed.then(|| telling.blind(look)));
                }
                // A new INBOX is made by itself when the old one is renamed (R94).
                None if is_first || name == "INBOX" => {
                    self.rebase(&place, look, Sets::default(), Sets::default());
                }
                // There is no room to remember it, and it may have been there for long.
                None if self.boxes.len() >= MAILBOXES_MAX => {
                    seen.extend(is_holed.then(|| telling.blind(look)));
                }
                None | Some(None) => {
                    // The same UIDVALIDITY under a name that is gone: it was renamed.
                    let old = gone.iter().find(|(_, validity)| **validity == look.uid_validity);
                    let to = telling.mailbox(look.uid_validity);
                    if let Some(old) = old.map(|(old, _)| old.clone()) {
                        gone.remove(&old);
                        let from = Mailbox { name: naming.scope.told(&old), ..to.clone() };
                        let kind = format!("renamed {old}\0{}", look.uid_validity);
                        let kept = self.boxes.get(&(owner.to_owned(), old.clone())).cloned();
                        let since = kept.as_ref().and_then(|kept| kept.looked_at);
                        let what =
                            What::MailboxRenamed { from_owner: Some(owner.to_owned()), from, to };
                        seen.push(Telling { since, ..telling }.observation(&kind, what));
                        self.forget(&(owner.to_owned(), old));
                        self.remember(place.clone(), kept.unwrap_or_default());
                    } else {
                        let kind = format!("created {}", look.uid_validity);
                        seen.push(telling.observation(&kind, What::MailboxCreated(to)));
                        self.created(owner, &name, Some(look.uid_validity));
                    }
                    if let (Some(told), Some(kept)) = (unheard, self.boxes.get_mut(&place)) {
                        kept.told.join(told);
                    }
                    self.enqueue(Task::Mailbox(place));
                }
            }
        }
        for (name, uid_validity) in gone {
            let place = (owner.to_owned(), name.clone());
            let since = self.boxes.get(&place).and_then(|kept| kept.looked_at);
            self.forget(&place);
            let telling = Telling { owner, name: &name, at, since, hears_flags: true, naming };
            let what = What::MailboxDeleted(telling.mailbox(uid_validity));
            seen.push(telling.observation(&format!("deleted {uid_validity}"), what));
        }
        seen
    }

    fn enqueue(&mut self, task: Task) {
        if self.wanted.insert(task.clone()) {
            self.waiting.push_back(task);
        }
    }

    /// Notes what happened to messages, and gives those of them that a look has told already.
    fn note(
        &mut self,
        owner: &str,
        mailbox: &str,
        (news, uids): (News<'_>, &UidSet),
        status: BoxStatus,
    ) -> UidSet {
        let Some(kept) = self.kept(owner, mailbox, status) else { return UidSet::new() };
        let before = kept.ranges();
        for sets in kept.sets() {
            sets.note(news, uids);
        }
        let told_by_look = common(kept.inferred.of(news), uids);
        let after = kept.ranges();
        self.ranges += after.saturating_sub(before);
        if after > RANGES_MAX {
            self.blind(&(owner.to_owned(), mailbox.to_owned()));
        }
        if self.ranges > ALL_RANGES_MAX {
            self.blind_largest();
        }
        told_by_look
    }

    /// Lets go of what is remembered of a mailbox, but for that it is there.
    fn blind(&mut self, place: &Place) {
        let Some(kept) = self.boxes.get_mut(place) else { return };
        let was = std::mem::replace(kept, Kept::blind());
        self.changed.insert(place.clone());
        // Already blind, it was told then; nothing was ever known of one that never had a base.
        if !was.is_blind {
            self.blinded.push((place.clone(), was.base.unwrap_or_default()));
        }
        self.enqueue(Task::Mailbox(place.clone()));
    }

    /// Lets go of the mailboxes that take the most, until half of the room is free again.
    fn blind_largest(&mut self) {
        let mut sizes: Vec<_> =
            self.boxes.iter().map(|(place, kept)| (kept.ranges(), place.clone())).collect();
        self.ranges = sizes.iter().map(|(ranges, _)| ranges).sum();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        for (ranges, place) in sizes {
            if self.ranges <= ALL_RANGES_MAX / 2 {
                break;
            }
            self.blind(&place);
            self.ranges -= ranges;
        }
    }

    /// What is kept of a mailbox, begun where nothing is, if there is room.
    fn kept(&mut self, owner: &str, mailbox: &str, status: BoxStatus) -> Option<&mut Kept> {
        let place = (owner.to_owned(), mailbox.to_owned());
        let is_unknown = !self.boxes.contains_key(&place);
        if is_unknown && self.boxes.len() >= MAILBOXES_MAX {
            return None;
        }
        let is_unheard = is_unknown && self.hears_creations;
        let is_new = is_unheard && self.knows(owner);
        if is_unheard {
            // A list that is older doesn't have it.
            self.moved.insert(owner.to_owned());
        }
        if is_new {
            self.want_user(owner);
        }
        self.changed.insert(place.clone());
        let kept = self.boxes.entry(place.clone()).or_default();
        kept.is_new |= is_new;
        let known = kept.base.map(|base| base.uid_validity);
        let is_news = |look: &BoxLook| known != Some(look.uid_validity);
        // How a blind one stands says a look, and not a line: it would hide what came before.
        let look = BoxLook::of(status).filter(|look| is_news(look) && !kept.is_blind);
        if let Some(look) = look {
            *kept = Kept { base: Some(look), ..Kept::default() };
        }
        let is_crowded = kept.told.ranges() > CROWDED;
        if is_crowded {
            // A look makes room.
            self.enqueue(Task::Mailbox(place.clone()));
        }
        self.boxes.get_mut(&place)
    }

    fn rebase(&mut self, place: &Place, look: BoxLook, told: Sets, inferred: Sets) {
        // A late line of one of so many is told twice, rather than all of them remembered.
        let is_too_much = inferred.ranges() > RANGES_MAX;
        let inferred = if is_too_much { Sets::default() } else { inferred };
        let looked_at = self.began;
        let kept = Kept { base: Some(look), looked_at, told, inferred, ..Kept::default() };
        self.ranges += kept.ranges();
        self.remember(place.clone(), kept);
    }

    fn remember(&mut self, place: Place, kept: Kept) {
        if self.boxes.len() < MAILBOXES_MAX || self.boxes.contains_key(&place) {
            self.changed.insert(place.clone());
            self.boxes.insert(place, kept);
        }
    }

    fn forget(&mut self, place: &Place) {
        if self.boxes.remove(place).is_some() {
            self.changed.insert(place.clone());
        }
    }
}
fn key(place: &Place) -> Vec<u8> {
    [Reconcile::PREFIX, place.0.as_bytes(), b"\0", place.1.as_bytes()].concat()
}

fn place(key: &[u8]) -> Option<Place> {
    let text = std::str::from_utf8(key.strip_prefix(Reconcile::PREFIX)?).ok()?;
    text.split_once('\0').map(|(owner, mailbox)| (owner.to_owned(), mailbox.to_owned()))
}
fn common(one: &UidSet, other: &UidSet) -> UidSet {
    if one.is_empty() {
        return UidSet::new();
    }
    UidSet::from_uids(other.iter().filter(|uid| one.contains(*uid)))
}
/// How often everything is to be looked at, as what is lost may leave no sign.
pub(super) const EVERYTHING_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// Mailboxes that may be looked at all at once.
const MAILBOXES_LOOKED_AT_MAX: usize = 10_000;

/// Mailboxes remembered, at some hundred octets each.
const MAILBOXES_MAX: usize = 200_000;

/// Ranges of what the spool told since the last look, beyond which it is time for another: the
/// more there are, the more is written to the checkpoint with each line.
const CROWDED: usize = 256;

/// Ranges remembered of one mailbox while the server can't be asked, some 20 KB of its checkpoint.
const RANGES_MAX: usize = 2_000;

/// Ranges remembered of all mailboxes, some 10 MB.
const ALL_RANGES_MAX: usize = 1_000_000;
