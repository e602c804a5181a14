//! The difference of mailboxes from what is remembered: told, and remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;

use mail_event::{EventName, UidSet};
use postbell_engine::{Mailbox as Named, Message as Told, Origination, Status, What};

use super::MaildirError;
use super::folder::Facts;
use super::known::{self, Keeper, Mailbox, Message};
use super::layout::{FileName, Letters};
use super::listing::{Arrival, Places};
use super::look::{Look, Sight};
use super::message::{self, Read};

/// Where arrivals came from, by what they have in common with a message known before.
#[derive(Default)]
struct Origins {
    by_print: HashMap<(u32, u32), Origin>,
    by_name: HashMap<Box<str>, Origin>,
}

/// A message known before under another name.
#[derive(Clone, Debug)]
struct Origin {
    mailbox: Named,
    id: u32,
    uid: u32,
    /// It is no longer there: a move and not a copy.
    is_gone: bool,
}

/// Where messages went: by mailbox number and UID there.
type Moved = HashMap<(u32, u32), (Named, u32)>;

impl Look<'_> {
    /// Tells what came, what changed and what went, in this order: a message moved is told where
    /// it is before it is told to be gone.
    pub(super) fn apply(
        &mut self,
        mut sights: Vec<Sight>,
        deleted: &[(String, Mailbox)],
    ) -> Result<(), MaildirError> {
        let origins = self.origins(&sights, deleted);
        let mut moved = Moved::new();
        for sight in &mut sights {
            self.arrivals(sight, &origins, &mut moved)?;
        }
        for sight in &mut sights {
            self.flags(sight)?;
        }
        for sight in &mut sights {
            self.expunges(sight, &moved)?;
        }
        Ok(())
    }

    /// Looks for the messages that arrivals were before. A move or a hard link keeps the file,
    /// and a move keeps the name.
    fn origins(&self, sights: &[Sight], deleted: &[(String, Mailbox)]) -> Origins {
        let mut origins = Origins::default();
        if self.teller.is_baseline {
            return origins;
        }
        let (mut prints, mut names) = (HashMap::new(), HashMap::new());
        let mut is_linked = false;
        for arrival in sights.iter().flat_map(|sight| &sight.listing.arrivals) {
            let Some(facts) = arrival.facts else { continue };
            prints.insert((facts.print(), Message::capped(facts.octets)), ());
            names.insert(arrival.unique(), ());
            is_linked |= facts.links > 1;
        }
        if prints.is_empty() {
            return origins;
        }
        let mut note = |mailbox: &Named, id, unique: &str, message: &Message, is_gone| {
            let key = (message.print, message.octets());
            let origin = || Origin { mailbox: mailbox.clone(), id, uid: message.uid, is_gone };
            if prints.contains_key(&key) && (is_gone || !origins.by_print.contains_key(&key)) {
                origins.by_print.insert(key, origin());
            }
            if is_gone && names.contains_key(unique) {
                origins.by_name.insert(unique.into(), origin());
            }
        };
        for sight in sights {
            let Some(mailbox) = self.known.mailboxes.get(&sight.name) else { continue };
            let named = mailbox.named(&sight.name);
            for (unique, message) in &sight.listing.gone {
                note(&named, mailbox.id, unique, message, true);
            }
        }
        for (name, mailbox) in deleted {
            let named = mailbox.named(name);
            for (unique, message) in &mailbox.messages {
                note(&named, mailbox.id, unique, message, true);
            }
        }
        // A copy shares its file with a message that is still there.
        for (name, mailbox) in self.known.mailboxes.iter().filter(|_| is_linked) {
            let named = mailbox.named(name);
            for (unique, message) in &mailbox.messages {
                note(&named, mailbox.id, unique, message, false);
            }
        }
        origins
    }

    /// Tools such as mbsync rename a file to keep notes in its name. Where postbell gives the
    /// UIDs, that is no new message. Where Dovecot does, it is, as Dovecot gives it a new UID.
    pub(super) fn match_renamed(
        &mut self,
        mailbox: &mut Mailbox,
        sight: &mut Sight,
    ) -> Result<(), MaildirError> {
        let listing = &mut sight.listing;
        if listing.gone.is_empty() || listing.arrivals.is_empty() {
            return Ok(());
        }
        // Several messages may share a file by hard links.
        let mut by_print: HashMap<_, Vec<_>> = HashMap::new();
        for gone in std::mem::take(&mut listing.gone) {
            by_print.entry((gone.1.print, gone.1.octets())).or_default().push(gone);
        }
        let mut renamed = Vec::new();
        listing.arrivals.retain(|arrival| {
            let Some(facts) = arrival.facts else { return true };
            let key = (facts.print(), Message::capped(facts.octets));
            let Some((_, message)) = by_print.get_mut(&key).and_then(Vec::pop) else {
                return true;
            };
            renamed.push((Box::<str>::from(arrival.unique()), message, arrival.letters));
            false
        });
        listing.gone = by_print.into_values().flatten().collect();
        for (unique, message, letters) in renamed {
            let key = known::message_key(self.teller.prefix, mailbox.id, message.uid);
            let change = (key, Some(known::encode(&unique, message)));
            self.teller.remember(&mut self.known.record, [change])?;
            if message.letters != letters {
                listing.flagged.push((unique.clone(), letters));
            }
            mailbox.insert(unique, message);
        }
        Ok(())
    }

    fn arrivals(
        &mut self,
        sight: &mut Sight,
        origins: &Origins,
        moved: &mut Moved,
    ) -> Result<(), MaildirError> {
        let Some(mut mailbox) = self.known.mailboxes.remove(&sight.name) else { return Ok(()) };
        let mut arrivals = std::mem::take(&mut sight.listing.arrivals);
        sight.delivered.extend(std::mem::take(&mut mailbox.seen.waiting_in_new));
        if mailbox.keeper == Keeper::Dovecot {
            wait_for_uids(&mut mailbox, &mut arrivals, &sight.delivered);
        }
        give_uids(&mailbox, &mut arrivals);
        for arrival in arrivals {
            let (Some(uid), Some(facts)) = (arrival.uid, arrival.facts) else { continue };
            let message = Message::new(uid, arrival.letters, facts.print(), facts.octets);
            mailbox.insert(arrival.unique().into(), message);
            self.teller.note(&sight.name, &mailbox);
            let key = known::message_key(self.teller.prefix, mailbox.id, uid);
            let change = (key, Some(known::encode(arrival.unique(), message)));
            if self.teller.is_baseline {
                self.teller.remember(&mut self.known.record, [change])?;
                continue;
            }
            let what = self.arrived(sight, &mailbox, &arrival, (uid, facts), origins, moved);
            self.teller.tell(&mut self.known.record, facts.changed, what, [change])?;
        }
        self.known.mailboxes.insert(sight.name.clone(), mailbox);
        Ok(())
    }

    fn arrived(
        &mut self,
        sight: &Sight,
        mailbox: &Mailbox,
        arrival: &Arrival,
        (uid, facts): (u32, Facts),
        origins: &Origins,
        moved: &mut Moved,
    ) -> What {
        let key = (facts.print(), Message::capped(facts.octets));
        let by_name = || origins.by_name.get(arrival.unique());
        let origin = origins.by_print.get(&key).or_else(by_name);
        let origin = origin.filter(|origin| origin.is_gone || facts.links > 1);
        let named = mailbox.named(&sight.name);
        if let Some(origin) = origin.filter(|origin| origin.is_gone) {
            moved.insert((origin.id, origin.uid), (named.clone(), uid));
        }
        // Copies without flags are put into `new` like deliveries; that they are copies tells
        // them apart.
        let is_new = arrival.is_in_new || sight.delivered.contains(arrival.unique());
        let is_delivery = is_new && origin.is_none();
        let name = if is_delivery { EventName::MessageNew } else { EventName::MessageAppend };
        let read = self.read_message(sight, mailbox, arrival, facts, &name);
        let told = Told {
            mailbox: named,
            uid,
            status: status(mailbox, sight.untold),
            flags: arrival.letters.flags(&sight.keywords),
            size_octets: read.size_octets,
            body_structure: read.body_structure,
            content: read.content,
            modseq: None,
            copied_from: origin.map(|origin| Origination {
                owner: Some(self.user.to_string()),
                mailbox: origin.mailbox.clone(),
                uids: UidSet::single(origin.uid),
            }),
        };
        match is_delivery {
            true => What::Delivered { message: told, envelope: None },
            false => What::Appended(told),
        }
    }

    /// Reads what anybody wants of a message that becomes an event of this name. Where nobody wants
    /// the event, or its name tells all that is wanted, the file is not opened.
    fn read_message(
        &mut self,
        sight: &Sight,
        mailbox: &Mailbox,
        arrival: &Arrival,
        facts: Facts,
        event: &EventName,
    ) -> Read {
        let told = FileName::parse(arrival.name()).and_then(|name| name.told_size(facts.octets));
        // Asked for each: somebody may come to want more while this look goes on.
        let demand = self.teller.intake.demand();
        let wanted = self.readable.by(demand);
        let wants_more = wanted.body_structure
            || wanted.content_max_octets.is_some_and(|max| facts.octets <= max);
        if !demand.wants(event) || (told.is_some() && !wants_more) {
            return Read { size_octets: told, ..Read::default() };
        }
        let file = sight.places.of(arrival.is_in_new).file(arrival.name());
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                moved_on(&sight.places, arrival.unique())
            }
            opened => opened,
        };
        let read = file.and_then(|mut file| message::read(&mut file, facts.octets, told, wanted));
        read.unwrap_or_else(|error| {
            // Told without what can't be read; one that is gone by now needs no complaint.
            if error.kind() != io::ErrorKind::NotFound {
                let place = super::listing::place(arrival.is_in_new);
                let folder = self.path.join(&mailbox.folder).join(place);
                self.complaints.add(&folder, arrival.name(), &error.to_string());
            }
            Read { size_octets: told, ..Read::default() }
        })
    }

    /// One event for all messages whose flags changed in the same way.
    fn flags(&mut self, sight: &mut Sight) -> Result<(), MaildirError> {
        let Some(mut mailbox) = self.known.mailboxes.remove(&sight.name) else { return Ok(()) };
        let mut alike: BTreeMap<(Letters, Letters), (UidSet, Vec<_>)> = BTreeMap::new();
        for (unique, letters) in std::mem::take(&mut sight.listing.flagged) {
            let Some(message) = mailbox.messages.get_mut(&unique) else { continue };
            let change = (letters.without(message.letters), message.letters.without(letters));
            message.letters = letters;
            let (uids, changes) = alike.entry(change).or_default();
            uids.insert(message.uid);
            let key = known::message_key(self.teller.prefix, mailbox.id, message.uid);
            changes.push((message.uid, (key, Some(known::encode(&unique, *message)))));
        }
        let status = status(&mailbox, sight.untold);
        let at = sight.changed_at();
        for ((set, cleared), (uids, mut changes)) in alike {
            changes.sort_by_key(|(uid, _)| *uid);
            for (uids, part) in parts(&uids, &changes) {
                let what = What::FlagsChanged {
                    mailbox: mailbox.named(&sight.name),
                    uids,
                    set: set.flags(&sight.keywords),
                    cleared: cleared.flags(&sight.keywords),
                    modseq: None,
                    status,
                };
                let part = part.iter().map(|(_, change)| change.clone());
                self.teller.tell(&mut self.known.record, at, what, part)?;
            }
        }
        self.known.mailboxes.insert(sight.name.clone(), mailbox);
        Ok(())
    }

    fn expunges(&mut self, sight: &mut Sight, moved: &Moved) -> Result<(), MaildirError> {
        let gone = std::mem::take(&mut sight.listing.gone);
        let Some(mailbox) = self.known.mailboxes.get(&sight.name) else { return Ok(()) };
        let mut alike: BTreeMap<Option<&str>, Vec<(u32, u32)>> = BTreeMap::new();
        let mut targets: HashMap<&str, &Named> = HashMap::new();
        for (_, message) in &gone {
            let to = moved.get(&(mailbox.id, message.uid));
            if let Some((to, _)) = to {
                targets.insert(&to.name, to);
            }
            let name = to.map(|(to, _)| to.name.as_str());
            let new_uid = to.map_or(0, |(_, uid)| *uid);
            alike.entry(name).or_default().push((message.uid, new_uid));
        }
        let at = sight.changed_at();
        for (to, mut uids) in alike {
            uids.sort_unstable();
            for part in uids.chunks(PART_MESSAGES) {
                sight.untold = sight.untold.saturating_sub(part.len() as u64);
                let to = to.and_then(|name| targets.get(name)).map(|to| Origination {
                    owner: Some(self.user.to_string()),
                    mailbox: (*to).clone(),
                    uids: UidSet::from_uids(part.iter().map(|(_, new)| *new)),
                });
                let what = What::Expunged {
                    mailbox: mailbox.named(&sight.name),
                    uids: UidSet::from_uids(part.iter().map(|(uid, _)| *uid)),
                    status: status(mailbox, sight.untold),
                    moved_to: to,
                };
                let (prefix, id) = (self.teller.prefix, mailbox.id);
                let changes =
                    part.iter().map(|(uid, _)| (known::message_key(prefix, id, *uid), None));
                self.teller.tell(&mut self.known.record, at, what, changes)?;
            }
        }
        Ok(())
    }

    /// A mailbox that is gone takes its messages with it, and its children stay (R86).
    pub(super) fn deletions(
        &mut self,
        deleted: Vec<(String, Mailbox)>,
    ) -> Result<(), MaildirError> {
        let at = self.top.facts().map_or_else(|_| super::listing::now(), |facts| facts.modified);
        for (name, mailbox) in deleted {
            self.teller.forget(mailbox.id);
            self.known.discarded.push(mailbox.id);
            let what = What::MailboxDeleted(mailbox.named(&name));
            self.teller.tell(&mut self.known.record, at, what, [])?;
        }
        Ok(())
    }
}

/// Takes out what has no UID yet. Where Dovecot gives the UIDs none is invented, as Dovecot might
/// give the same one to another message.
fn wait_for_uids(
    mailbox: &mut Mailbox,
    arrivals: &mut Vec<Arrival>,
    delivered: &BTreeSet<Box<str>>,
) {
    let before = arrivals.len();
    let in_new = &mut mailbox.seen.waiting_in_new;
    arrivals.retain(|arrival| {
        let is_new = arrival.is_in_new || delivered.contains(arrival.unique());
        if arrival.uid.is_none() && is_new && in_new.len() < WAITING_MAX {
            in_new.insert(arrival.unique().into());
        }
        arrival.uid.is_some()
    });
    mailbox.seen.waiting = before - arrivals.len();
}

/// Gives each arrival its UID where that is postbell's to do, and sorts them by it.
fn give_uids(mailbox: &Mailbox, arrivals: &mut Vec<Arrival>) {
    if mailbox.keeper == Keeper::Postbell {
        // As they came, as far as can be known.
        arrivals.sort_by(|a, b| {
            let time = |arrival: &Arrival| arrival.facts.map(|facts| facts.modified);
            time(a).cmp(&time(b)).then_with(|| a.unique().cmp(b.unique()))
        });
        for (arrival, uid) in arrivals.iter_mut().zip(mailbox.uidnext..u32::MAX) {
            arrival.uid = Some(uid);
        }
        return;
    }
    arrivals.sort_by_key(|arrival| arrival.uid);
    // A list that gives a UID twice would have two messages share one place in memory.
    arrivals.dedup_by_key(|arrival| arrival.uid);
    if arrivals.first().is_some_and(|first| first.uid < Some(mailbox.uidnext)) {
        let taken: HashSet<u32> = mailbox.messages.values().map(|message| message.uid).collect();
        arrivals.retain(|arrival| arrival.uid.is_none_or(|uid| !taken.contains(&uid)));
    }
}

/// Finds a file that went on to `cur`, or changed its flags there, after it was listed.
fn moved_on(places: &Places, unique: &str) -> io::Result<std::fs::File> {
    let mut found = None;
    places.cur.each(|name, _| {
        let parsed = name.to_str().and_then(FileName::parse);
        if parsed.is_some_and(|parsed| parsed.unique == unique) {
            found = Some(name.to_owned());
        }
    })?;
    places.cur.file(found.ok_or(io::ErrorKind::NotFound)?)
}

/// The counts, with messages that are gone but not yet told to be.
fn status(mailbox: &Mailbox, untold: u64) -> Status {
    let status = mailbox.status();
    Status { messages: status.messages.map(|messages| messages + untold), ..status }
}

/// A large set in parts, each with its changes: what is told at once is remembered at once.
fn parts<'a, C>(
    uids: &'a UidSet,
    changes: &'a [(u32, C)],
) -> impl Iterator<Item = (UidSet, &'a [(u32, C)])> {
    let is_whole = changes.len() <= PART_MESSAGES;
    changes.chunks(PART_MESSAGES).map(move |part| {
        let some = || UidSet::from_uids(part.iter().map(|(uid, _)| *uid));
        (if is_whole { uids.clone() } else { some() }, part)
    })
}

/// Messages told of in one event at most, so that a batch stays small.
const PART_MESSAGES: usize = 10_000;

/// Names of messages without a UID that are remembered as delivered, for each mailbox. Beyond it,
/// one that went on to `cur` meanwhile counts as put there.
const WAITING_MAX: usize = 10_000;
