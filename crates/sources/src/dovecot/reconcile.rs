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
//! Mailbox names here are the owner's own, as Dovecot writes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mail_event::{Timestamp, UidSet};
use postbell_engine::{
    Actor, Certainty, Identity, Mailbox, Message, Observation, Origin, Status, What,
};

use super::ask::{Asked, Asker, BoxLook, Changes, union};
use super::record::BoxStatus;

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
    done: u64,
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

/// What is remembered of a mailbox.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Kept {
    base: Option<BoxLook>,
    /// What the spool told since.
    told: Sets,
    /// What the spool told since the look that isn't settled yet; none where there is none such.
    since: Option<Sets>,
    /// What the last look inferred: should the spool tell it after all, it was told.
    inferred: Sets,
}

/// Messages, by what happened to them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Sets {
    added: UidSet,
    gone: UidSet,
    flagged: UidSet,
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
                restored.boxes.insert(place, kept);
            }
        }
        restored
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let lists = std::mem::take(&mut self.changed_lists).into_iter();
        let lists = lists.map(|owner| (key(&(owner, String::new())), Some(Vec::new())));
        let boxes = std::mem::take(&mut self.changed).into_iter().map(|place| {
            let kept = self.boxes.get(&place).map(|kept| kept.encode().into_bytes());
            (key(&place), kept)
        });
        lists.chain(boxes).collect()
    }

    /// Notes that messages came, and gives those of them that a look has told already.
    ///
    /// `status` is how the mailbox stood afterwards: where nothing is known of it yet, looks
    /// begin there.
    pub(super) fn added(
        &mut self,
        owner: &str,
        mailbox: &str,
        uids: &UidSet,
        status: BoxStatus,
    ) -> UidSet {
        let Some(kept) = self.kept(owner, mailbox, status) else { return UidSet::new() };
        for sets in kept.sets() {
            sets.added = union(&sets.added, uids);
        }
        common(&kept.inferred.added, uids)
    }

    /// Notes that messages went, and gives those of them that a look has told already.
    pub(super) fn gone(
        &mut self,
        owner: &str,
        mailbox: &str,
        uids: &UidSet,
        status: BoxStatus,
    ) -> UidSet {
        let Some(kept) = self.kept(owner, mailbox, status) else { return UidSet::new() };
        for sets in kept.sets() {
            sets.gone = union(&sets.gone, uids);
        }
        common(&kept.inferred.gone, uids)
    }

    /// Notes that flags of messages changed.
    pub(super) fn flagged(&mut self, owner: &str, mailbox: &str, uids: &UidSet) {
        let Some(kept) = self.kept(owner, mailbox, BoxStatus::default()) else { return };
        for sets in kept.sets() {
            sets.flagged = union(&sets.flagged, uids);
        }
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

    /// Whether this user's mailboxes are known, so that a hole among them can be found.
    pub(super) fn knows(&self, owner: &str) -> bool {
        self.listed.contains(owner)
    }

    /// How many looks wait, and how many were taken.
    pub(super) fn progress(&self) -> (usize, u64) {
        (self.waiting.len(), self.done)
    }

    /// How many mailboxes are remembered.
    pub(super) fn mailboxes(&self) -> usize {
        self.boxes.len()
    }

    /// Takes the next look; nothing where nothing waits, or where there is no answer: then it
    /// waits on, and is to be tried again later.
    pub(super) fn look(&mut self, asker: &mut Asker, shared: &[String]) -> Option<Looked> {
        let task = self.waiting.front()?.clone();
        let looked = match &task {
            Task::User(owner) => {
                asker.mailboxes(owner, shared).map(|found| Looked::User(owner.clone(), found))
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
        if is_put_off {
            // First again, when the server is back.
            self.wanted.insert(task.clone());
            self.waiting.push_front(task);
        } else {
            self.done += 1;
        }
        looked
    }

    /// What a look found that the spool didn't tell by now. `at` is when.
    pub(super) fn settle(
        &mut self,
        looked: Looked,
        at: Timestamp,
        naming: &Naming<'_>,
    ) -> Vec<Observation> {
        let place = match looked {
            // The list is older than what was told since.
            Looked::User(owner, _) if self.moved.contains(&owner) => {
                self.want_user(&owner);
                return Vec::new();
            }
            Looked::User(owner, found) => return self.settle_user(&owner, found, at, naming),
            Looked::Mailbox(ref place, _) | Looked::Unknown(ref place, _) => place.clone(),
        };
        // Made anew since it was looked at, or gone, or called something else.
        let Some(since) = self.boxes.get_mut(&place).and_then(|kept| kept.since.take()) else {
            return Vec::new();
        };
        let kept = self.boxes.get(&place).cloned().unwrap_or_default();
        let telling = Telling { owner: &place.0, name: &place.1, at, naming };
        match looked {
            Looked::User(..) => Vec::new(),
            Looked::Unknown(_, None) => {
                self.forget(&place);
                Vec::new()
            }
            Looked::Unknown(_, Some(look)) => {
                self.rebase(&place, look, since, Sets::default());
                Vec::new()
            }
            Looked::Mailbox(_, None) => {
                self.forget(&place);
                let base = kept.base.unwrap_or_default();
                let what = What::MailboxDeleted(telling.mailbox(base.uid_validity));
                vec![telling.observation(&format!("deleted {}", base.uid_validity), what)]
            }
            Looked::Mailbox(_, Some(changes)) => {
                let look = changes.look;
                let (seen, inferred) = telling.differences(&kept, changes);
                self.rebase(&place, look, since, inferred);
                seen
            }
        }
    }

    fn settle_user(
        &mut self,
        owner: &str,
        found: BTreeMap<String, Option<BoxLook>>,
        at: Timestamp,
        naming: &Naming<'_>,
    ) -> Vec<Observation> {
        let is_first = self.listed.insert(owner.to_owned());
        if is_first {
            self.changed_lists.insert(owner.to_owned());
        }
        let mut gone: BTreeMap<String, u32> = BTreeMap::new();
        let mut of_owner = Vec::new();
        for (place, kept) in self.boxes.range((owner.to_owned(), String::new())..) {
            if place.0 != owner {
                break;
            }
            if found.contains_key(&place.1) {
                of_owner.push((place.1.clone(), kept.base));
            } else {
                let uid_validity = kept.base.map_or(0, |base| base.uid_validity);
                gone.insert(place.1.clone(), uid_validity);
            }
        }
        let known: BTreeMap<_, _> = of_owner.into_iter().collect();
        let mut seen = Vec::new();
        for (name, look) in found {
            let place = (owner.to_owned(), name.clone());
            let telling = Telling { owner, name: &name, at, naming };
            let Some(look) = look else {
                // How it stands may be said when it is opened.
                if known.contains_key(&name) {
                    self.enqueue(Task::Mailbox(place));
                }
                continue;
            };
            match known.get(&name) {
                // Nothing can have changed where no MODSEQ did.
                Some(Some(base)) if *base == look => {}
                Some(Some(_)) => self.enqueue(Task::Mailbox(place)),
                // What was told before and what after the look, nobody knows.
                Some(None) => {
                    let told = self.boxes.get(&place).map(|kept| kept.told.clone());
                    self.rebase(&place, look, told.unwrap_or_default(), Sets::default());
                }
                // A new INBOX is made by itself when the old one is renamed (R94).
                None if is_first || name == "INBOX" => {
                    self.rebase(&place, look, Sets::default(), Sets::default());
                }
                None => {
                    // The same UIDVALIDITY under a name that is gone: it was renamed.
                    let old = gone.iter().find(|(_, validity)| **validity == look.uid_validity);
                    let to = telling.mailbox(look.uid_validity);
                    if let Some(old) = old.map(|(old, _)| old.clone()) {
                        gone.remove(&old);
                        let from = Mailbox { name: naming.told(&old), ..to.clone() };
                        let kind = format!("renamed {old}\0{}", look.uid_validity);
                        seen.push(telling.observation(&kind, What::MailboxRenamed { from, to }));
                        let kept = self.boxes.get(&(owner.to_owned(), old.clone())).cloned();
                        self.forget(&(owner.to_owned(), old));
                        self.remember(place.clone(), kept.unwrap_or_default());
                    } else {
                        let kind = format!("created {}", look.uid_validity);
                        seen.push(telling.observation(&kind, What::MailboxCreated(to)));
                        self.created(owner, &name, Some(look.uid_validity));
                    }
                    self.enqueue(Task::Mailbox(place));
                }
            }
        }
        for (name, uid_validity) in gone {
            self.forget(&(owner.to_owned(), name.clone()));
            let telling = Telling { owner, name: &name, at, naming };
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

    /// What is kept of a mailbox, begun where nothing is, if there is room.
    fn kept(&mut self, owner: &str, mailbox: &str, status: BoxStatus) -> Option<&mut Kept> {
        let place = (owner.to_owned(), mailbox.to_owned());
        if !self.boxes.contains_key(&place) && self.boxes.len() >= MAILBOXES_MAX {
            return None;
        }
        self.changed.insert(place.clone());
        let kept = self.boxes.entry(place.clone()).or_default();
        let known = kept.base.map(|base| base.uid_validity);
        if let Some(look) = BoxLook::of(status).filter(|look| known != Some(look.uid_validity)) {
            *kept = Kept { base: Some(look), ..Kept::default() };
        }
        let is_crowded = kept.told.ranges() > RANGES_MAX;
        if is_crowded {
            // A look makes room.
            self.enqueue(Task::Mailbox(place.clone()));
        }
        self.boxes.get_mut(&place)
    }

    fn rebase(&mut self, place: &Place, look: BoxLook, told: Sets, inferred: Sets) {
        self.remember(place.clone(), Kept { base: Some(look), told, since: None, inferred });
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

/// How mailboxes are named in what is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    /// What stands between the levels of a name in Dovecot.
    pub(super) separator: char,
    /// The name of this server.
    pub(super) server_fqdn: Option<&'a str>,
}

impl Naming<'_> {
    fn told(&self, name: &str) -> String {
        name.replace(self.separator, "/")
    }
}

/// What is told of one mailbox.
struct Telling<'a> {
    owner: &'a str,
    name: &'a str,
    at: Timestamp,
    naming: &'a Naming<'a>,
}

impl Telling<'_> {
    /// What changed since `kept.base` and wasn't told; and what of it is inferred.
    fn differences(&self, kept: &Kept, changes: Changes) -> (Vec<Observation>, Sets) {
        let Changes { look, vanished, changed } = changes;
        let mut inferred = Sets::default();
        let Some(base) = kept.base else { return (Vec::new(), inferred) };
        let (old, new) = (base.uid_validity, look.uid_validity);
        if old != new {
            let reason = format!(
                "UIDVALIDITY changed from {old} to {new}: nothing known of the messages holds"
            );
            return (vec![self.missed(look, format!("validity {old}"), reason)], inferred);
        }
        let mut seen = Vec::new();
        let is_old = |uid: u32| uid < base.uidnext;
        let was_gone = self.vanished(kept, base, look, &vanished, &changed, &mut seen);
        let status = Status { messages: Some(look.messages), uidnext: Some(look.uidnext) };
        for (uid, asked) in &changed {
            if !is_old(*uid) && !kept.told.added.contains(*uid) {
                inferred.added.insert(*uid);
                seen.push(self.appended(look, status, *uid, asked));
            }
        }
        if !was_gone.is_empty() {
            let what = What::Expunged {
                mailbox: self.mailbox(new),
                uids: was_gone.clone(),
                status,
                moved_to: None,
            };
            seen.push(self.observation(&format!("gone {new} {was_gone}"), what));
            inferred.gone = was_gone;
        }
        let odd = changed.keys().filter(|uid| is_old(**uid) && !kept.told.flagged.contains(**uid));
        let odd = UidSet::from_uids(odd.copied());
        if !odd.is_empty() {
            let reason = format!("flags changed, which ones nobody knows: UID {}", shown(&odd));
            seen.push(self.missed(look, format!("flags {new} {}", look.modseq), reason));
        }
        (seen, inferred)
    }

    /// Those that went and weren't told; what can't be told apart is told as missed.
    fn vanished(
        &self,
        kept: &Kept,
        base: BoxLook,
        look: BoxLook,
        vanished: &UidSet,
        changed: &BTreeMap<u32, Asked>,
        seen: &mut Vec<Observation>,
    ) -> UidSet {
        let below = |uid: &u32| *uid < base.uidnext;
        // Only what can have gone since: a server may name all that ever went.
        let old = UidSet::from_uids(vanished.iter().take_while(below).take(UIDS_MAX));
        let untold = UidSet::from_uids(old.iter().filter(|uid| !kept.told.gone.contains(*uid)));
        let came = u64::try_from(changed.range(base.uidnext..).count()).unwrap_or(u64::MAX);
        let stayed = look.messages.saturating_sub(came);
        let went = base.messages.saturating_sub(stayed);
        // Messages that came and went in between, both unseen.
        let passing = vanished.iter().skip_while(below).take(UIDS_MAX);
        let passing = UidSet::from_uids(passing.filter(|uid| {
            *uid < look.uidnext
                && !(kept.told.added.contains(*uid) && kept.told.gone.contains(*uid))
        }));
        let unknown =
            UidSet::from_uids(passing.iter().filter(|uid| !kept.told.added.contains(*uid)));
        if !unknown.is_empty() {
            let reason = format!("messages came and went: UID {}", shown(&unknown));
            seen.push(self.missed(look, format!("passing {}", look.modseq), reason));
        }
        let known = UidSet::from_uids(passing.iter().filter(|uid| kept.told.added.contains(*uid)));
        if old.len() <= went {
            return union(&untold, &known);
        }
        let told = kept.told.gone.iter().take_while(below).count();
        let left = went.saturating_sub(u64::try_from(told).unwrap_or(u64::MAX));
        if left > 0 && !untold.is_empty() {
            let reason = format!("{left} of these messages are gone: UID {}", shown(&untold));
            seen.push(self.missed(look, format!("gone {}", look.modseq), reason));
        }
        known
    }

    fn appended(&self, look: BoxLook, status: Status, uid: u32, asked: &Asked) -> Observation {
        let message = Message {
            mailbox: self.mailbox(look.uid_validity),
            uid,
            status,
            flags: asked.flags.clone(),
            size_octets: asked.size_octets,
            body_structure: asked.body_structure.clone(),
            content: asked.content.clone(),
            modseq: asked.modseq,
            copied_from: None,
        };
        let kind = format!("added {} {uid}", look.uid_validity);
        self.observation(&kind, What::Appended(message))
    }

    fn missed(&self, look: BoxLook, kind: String, reason: String) -> Observation {
        let mailbox = Some(self.mailbox(look.uid_validity));
        self.observation(&kind, What::Missed { mailbox, reason })
    }

    fn mailbox(&self, uid_validity: u32) -> Mailbox {
        let uid_validity = Some(uid_validity).filter(|validity| *validity != 0);
        Mailbox { name: self.naming.told(self.name), uid_validity }
    }

    fn observation(&self, kind: &str, what: What) -> Observation {
        let identity = ["look", self.owner, self.name, kind].join("\0");
        Observation {
            identity: Identity(identity.into_bytes()),
            at: self.at,
            certainty: Certainty::Inferred,
            owner: Some(self.owner.to_owned()),
            // Who did it, nobody knows.
            actor: Actor::default(),
            origin: Origin {
                process: Some("postbell".to_owned()),
                pid: Some(std::process::id()),
                server_fqdn: self.naming.server_fqdn.map(str::to_owned),
                ..Origin::default()
            },
            what,
            extras: Vec::new(),
        }
    }
}

impl BoxLook {
    /// How a mailbox stands when it has just been made.
    fn empty(uid_validity: u32) -> Self {
        Self { uid_validity, uidnext: 1, messages: 0, modseq: 1 }
    }

    /// Nothing where a look could not begin from it.
    fn of(status: BoxStatus) -> Option<Self> {
        let BoxStatus { val, messages, uidnext, modseq } = status;
        let (uid_validity, uidnext) = (val?, uidnext?);
        Some(Self { uid_validity, uidnext, messages: messages?, modseq: modseq? })
    }
}

impl Sets {
    fn ranges(&self) -> usize {
        [&self.added, &self.gone, &self.flagged].iter().map(|set| set.ranges().len()).sum()
    }
}

impl Kept {
    /// Where what the spool tells is noted.
    fn sets(&mut self) -> impl Iterator<Item = &mut Sets> {
        std::iter::once(&mut self.told).chain(self.since.as_mut())
    }

    fn encode(&self) -> String {
        let base = self.base.map_or_else(
            || "-".to_owned(),
            |base| {
                let BoxLook { uid_validity, uidnext, messages, modseq } = base;
                format!("{uid_validity} {uidnext} {messages} {modseq}")
            },
        );
        let Sets { added, gone, flagged } = &self.told;
        let Sets { added: came, gone: went, .. } = &self.inferred;
        format!("{base}|{added}|{gone}|{flagged}|{came}|{went}")
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let base = match parts.next()? {
            "-" => None,
            base => {
                let mut numbers = base.split(' ');
                Some(BoxLook {
                    uid_validity: numbers.next()?.parse().ok()?,
                    uidnext: numbers.next()?.parse().ok()?,
                    messages: numbers.next()?.parse().ok()?,
                    modseq: numbers.next()?.parse().ok()?,
                })
            }
        };
        let mut set = || match parts.next()? {
            "" => Some(UidSet::new()),
            text => text.parse().ok(),
        };
        let told = Sets { added: set()?, gone: set()?, flagged: set()? };
        let inferred = Sets { added: set()?, gone: set()?, flagged: UidSet::new() };
        Some(Self { base, told, since: None, inferred })
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

/// A set, for a person: its beginning, where it is long.
fn shown(set: &UidSet) -> String {
    let text = set.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Mailboxes remembered, at some hundred octets each.
const MAILBOXES_MAX: usize = 200_000;

/// Ranges of what the spool told since the last look: the more there are, the more is written to
/// the checkpoint with each line.
const RANGES_MAX: usize = 256;

/// Messages of one look that are gone; more than that no mailbox loses between two looks.
const UIDS_MAX: usize = 1_000_000;

/// Letters of a set that a person is shown.
const SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMING: Naming<'_> = Naming { separator: '.', server_fqdn: None };

    fn noon() -> Timestamp {
        "2026-11-25T12:00:00+01:00".parse().unwrap()
    }

    fn set(text: &str) -> UidSet {
        if text.is_empty() { UidSet::new() } else { text.parse().unwrap() }
    }

    fn look(uidnext: u32, messages: u64, modseq: u64) -> BoxLook {
        BoxLook { uid_validity: 7, uidnext, messages, modseq }
    }

    fn status(look: BoxLook) -> BoxStatus {
        let BoxLook { uid_validity, uidnext, messages, modseq } = look;
        BoxStatus {
            val: Some(uid_validity),
            messages: Some(messages),
            uidnext: Some(uidnext),
            modseq: Some(modseq),
        }
    }

    /// A memory that looked at INBOX when it had messages 1 to 10.
    fn ten() -> Reconcile {
        let mut memory = Reconcile::default();
        let place = ("alice".to_owned(), "INBOX".to_owned());
        memory.rebase(&place, look(11, 10, 50), Sets::default(), Sets::default());
        memory
    }

    fn settle(
        memory: &mut Reconcile,
        look: BoxLook,
        vanished: &str,
        changed: &[u32],
    ) -> Vec<String> {
        let changed = changed.iter().map(|uid| (*uid, Asked::default())).collect();
        let changes = Changes { look, vanished: set(vanished), changed };
        let place = ("alice".to_owned(), "INBOX".to_owned());
        begin(memory, &place);
        told(memory.settle(Looked::Mailbox(place, Some(changes)), noon(), &NAMING))
    }

    /// As if the server had been asked.
    fn begin(memory: &mut Reconcile, place: &Place) {
        memory.boxes.get_mut(place).unwrap().since = Some(Sets::default());
    }

    fn told(seen: Vec<Observation>) -> Vec<String> {
        let told = |one: Observation| {
            assert_eq!(one.certainty, Certainty::Inferred);
            match one.what {
                What::Appended(message) => format!("append {}", message.uid),
                What::Expunged { uids, .. } => format!("expunge {uids}"),
                What::MailboxCreated(mailbox) => format!("create {}", mailbox.name),
                What::MailboxDeleted(mailbox) => format!("delete {}", mailbox.name),
                What::MailboxRenamed { from, to } => format!("rename {} {}", from.name, to.name),
                What::Missed { reason, .. } => reason,
                other => panic!("{other:?}"),
            }
        };
        seen.into_iter().map(told).collect()
    }

    #[test]
    fn what_the_spool_did_not_tell_is_told_as_inferred() {
        let mut memory = ten();
        memory.added("alice", "INBOX", &set("11"), BoxStatus::default());
        memory.gone("alice", "INBOX", &set("2"), BoxStatus::default());
        memory.flagged("alice", "INBOX", &set("4"));
        let seen = settle(&mut memory, look(13, 9, 60), "2,5:6", &[4, 8, 11, 12]);
        assert_eq!(
            seen,
            ["append 12", "expunge 5:6", "flags changed, which ones nobody knows: UID 8"]
        );
        assert!(settle(&mut memory, look(13, 9, 60), "", &[]).is_empty());
    }

    #[test]
    fn what_was_inferred_is_not_told_again_when_its_line_comes_after_all() {
        let mut memory = ten();
        settle(&mut memory, look(13, 11, 60), "5", &[11, 12]);
        assert_eq!(
            memory.added("alice", "INBOX", &set("11:13"), BoxStatus::default()),
            set("11:12")
        );
        assert_eq!(memory.gone("alice", "INBOX", &set("5:6"), BoxStatus::default()), set("5"));
        assert!(memory.added("bob", "INBOX", &set("11"), BoxStatus::default()).is_empty());
    }

    #[test]
    fn a_server_that_names_more_than_can_have_gone_is_not_believed() {
        let mut memory = ten();
        // One is gone, and of three it is said.
        let seen = settle(&mut memory, look(11, 9, 60), "1:3", &[]);
        assert_eq!(seen, ["1 of these messages are gone: UID 1:3"]);
    }

    #[test]
    fn messages_that_came_and_went_unseen_are_missed() {
        let mut memory = ten();
        memory.added("alice", "INBOX", &set("12"), BoxStatus::default());
        let seen = settle(&mut memory, look(14, 11, 60), "11:12", &[13]);
        assert_eq!(seen, ["messages came and went: UID 11", "append 13", "expunge 12"]);
    }

    #[test]
    fn a_new_uidvalidity_ends_all_that_was_known() {
        let mut memory = ten();
        let now = BoxLook { uid_validity: 8, ..look(3, 2, 9) };
        let seen = settle(&mut memory, now, "", &[1, 2]);
        assert_eq!(seen, ["UIDVALIDITY changed from 7 to 8: nothing known of the messages holds"]);
        assert!(settle(&mut memory, now, "", &[]).is_empty());
    }

    #[test]
    fn mailboxes_that_came_went_or_were_renamed_unseen_are_told() {
        let mut memory = ten();
        let list = |names: &[(&str, u32)]| -> BTreeMap<String, Option<BoxLook>> {
            let one = |(name, validity): &(&str, u32)| {
                ((*name).to_owned(), Some(BoxLook { uid_validity: *validity, ..look(1, 0, 1) }))
            };
            names.iter().map(one).collect()
        };
        let mut user = |names: &[(&str, u32)]| {
            let looked = Looked::User("alice".to_owned(), list(names));
            let seen = told(memory.settle(looked, noon(), &NAMING));
            (seen, memory.waiting.len())
        };
        // The first look is remembered, not told; INBOX changed since.
        assert_eq!(user(&[("INBOX", 7), ("a.b", 8), ("c", 9)]), (vec![], 1));
        assert_eq!(user(&[("INBOX", 7), ("a.b", 8), ("c", 9)]), (vec![], 1));
        let (seen, waiting) = user(&[("INBOX", 7), ("a.z", 8), ("d", 10)]);
        assert_eq!(
            (seen, waiting),
            (vec!["rename a/b a/z".to_owned(), "create d".to_owned(), "delete c".to_owned()], 3)
        );
        let place = ("alice".to_owned(), "d".to_owned());
        begin(&mut memory, &place);
        let gone = Looked::Mailbox(place, None);
        assert_eq!(told(memory.settle(gone, noon(), &NAMING)), ["delete d"]);
    }

    #[test]
    fn what_is_written_down_between_a_look_and_its_settling_is_not_told_twice() {
        let mut memory = ten();
        let place = ("alice".to_owned(), "INBOX".to_owned());
        let changes = Changes { look: look(11, 10, 50), ..Changes::default() };
        begin(&mut memory, &place);
        // The look is older than this message.
        memory.added("alice", "INBOX", &set("11"), BoxStatus::default());
        let looked = Looked::Mailbox(place.clone(), Some(changes.clone()));
        assert!(memory.settle(looked, noon(), &NAMING).is_empty());
        assert!(settle(&mut memory, look(12, 11, 51), "", &[11]).is_empty());

        // Or than the whole mailbox.
        begin(&mut memory, &place);
        memory.deleted("alice", "INBOX");
        memory.created("alice", "INBOX", Some(8));
        let looked = Looked::Mailbox(place, Some(changes));
        assert!(memory.settle(looked, noon(), &NAMING).is_empty());
        let looked = Looked::User("alice".to_owned(), BTreeMap::new());
        assert!(memory.settle(looked, noon(), &NAMING).is_empty());
        assert_eq!(memory.waiting.len(), 1, "the list is asked for again");
    }

    #[test]
    fn r89_r90_a_rename_takes_the_children_along_but_not_those_of_inbox() {
        let mut memory = ten();
        for name in ["a", "a.b", "ab", "INBOX.x"] {
            memory.created("alice", name, Some(9));
        }
        memory.renamed("alice", "a", "z.a", '.');
        memory.renamed("alice", "INBOX", "old", '.');
        memory.deleted("alice", "ab");
        let names: Vec<_> = memory.boxes.keys().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["INBOX.x", "old", "z.a", "z.a.b"]);
    }

    #[test]
    fn what_waits_waits_once() {
        let mut memory = ten();
        memory.want("alice", "INBOX");
        memory.want("alice", "INBOX");
        memory.want_everything();
        assert_eq!(memory.progress(), (2, 0));
    }

    #[test]
    fn looks_begin_where_a_line_first_told_how_the_mailbox_stood() {
        let mut memory = Reconcile::default();
        memory.flagged("alice", "INBOX", &set("3"));
        memory.added("alice", "INBOX", &set("10"), status(look(11, 10, 50)));
        memory.added("alice", "INBOX", &set("11"), status(look(12, 11, 51)));
        assert_eq!(settle(&mut memory, look(13, 12, 52), "", &[11, 12]), ["append 12"]);
    }

    fn some_set() -> impl Strategy<Value = UidSet> {
        prop::collection::btree_set(1_u32..100, 0..8).prop_map(UidSet::from_uids)
    }

    proptest! {
        #[test]
        fn memory_outlives_a_restart(
            (added, gone, flagged) in (some_set(), some_set(), some_set()),
            (came, went) in (some_set(), some_set()),
            base: bool,
        ) {
            let mut memory = ten();
            let kept = Kept {
                base: base.then(|| look(11, 10, u64::MAX)),
                told: Sets { added, gone, flagged },
                since: None,
                inferred: Sets { added: came, gone: went, ..Sets::default() },
            };
            memory.remember(("al ice".to_owned(), "a|b\u{e4}".to_owned()), kept);
            memory.settle(Looked::User("bob".to_owned(), BTreeMap::new()), noon(), &NAMING);
            let saved: Vec<_> =
                memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let again = Reconcile::restore(saved);
            prop_assert_eq!(&again.boxes, &memory.boxes);
            prop_assert!(again.knows("bob"));
            prop_assert!(memory.drain_changes().is_empty());
        }

        #[test]
        fn memory_that_is_damaged_is_passed_over(value in "[-0-9 |:,]{0,30}") {
            Reconcile::restore([(b"box/a\0b".to_vec(), value.into_bytes())]);
        }
    }
}
