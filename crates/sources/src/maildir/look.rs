//! One look at a user's Maildir, from what is on disk to what is told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use postbell_engine::{Quota, What, in_words};
use tracing::warn;

use super::bell::{Bell, Due, Noticed, Target, UserDue};
use super::folder::{Folder, Kind};
use super::known::{self, Keeper, Known, Mailbox};
use super::layout::{self, INBOX, Keywords};
use super::listing::{self, Listing, Places};
use super::message::Wanted;
use super::tell::Teller;
use super::tree::{self, Past, Present};
use super::{MaildirError, side, uid_list};
use crate::{Count, Health, Stop};

/// Everything a look at one user works with.
pub(super) struct Look<'a> {
    pub(super) user: &'a Arc<str>,
    pub(super) path: &'a Path,
    pub(super) top: Folder,
    pub(super) known: &'a mut Known,
    pub(super) teller: Teller<'a>,
    pub(super) bell: &'a mut Bell,
    /// What is noticed while this looks is looked at next.
    pub(super) due: &'a mut Due,
    pub(super) complaints: &'a mut Complaints,
    /// What the operator lets be read; of it, what anybody wants when a message is read.
    pub(super) readable: Wanted,
    pub(super) limit: Option<&'a Quota>,
    pub(super) stop: &'a Stop,
    /// Something couldn't be read.
    pub(super) is_partial: bool,
}

/// How much is looked at.
#[derive(Debug)]
pub(super) enum Scope {
    /// Whatever was noticed.
    Noticed(UserDue),
    /// Everything that looks changed.
    Changed,
    /// Everything, as a notice may have been missed.
    Everything,
}

/// How much of one mailbox is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extent {
    /// All, if it looks changed.
    Changed,
    /// All.
    All,
    /// Only `new`: nothing but deliveries were noticed, and `cur` may hold a million messages.
    New,
}

/// One mailbox as it was found.
pub(super) struct Sight {
    pub(super) name: String,
    pub(super) listing: Listing,
    pub(super) keywords: Keywords,
    pub(super) places: Places,
    /// Unique names that were noticed in `new`, wherever they are now.
    pub(super) delivered: BTreeSet<Box<str>>,
    /// Messages that are gone and not told yet: they still count.
    pub(super) untold: u64,
}

impl Sight {
    /// When the mailbox's folders changed last.
    pub(super) fn changed_at(&self) -> i128 {
        self.listing.modified.0.max(self.listing.modified.1)
    }
}

impl Look<'_> {
    /// Looks, tells and remembers.
    pub(super) fn run(mut self, scope: Scope) -> Result<(), MaildirError> {
        self.purge()?;
        let begun = jiff::Timestamp::now().as_millisecond();
        let (mut noticed, is_scan, is_forced) = match scope {
            Scope::Noticed(due) => (due, false, false),
            Scope::Changed => (UserDue::default(), true, false),
            Scope::Everything => (UserDue::default(), true, true),
        };
        let before = self.known.record.looked_at;
        self.teller.since = Some(before).filter(|before| is_scan && *before != 0);
        let known = &self.known.mailboxes;
        let is_known = |folder: &str| known.values().any(|mailbox| mailbox.folder == folder);
        let finds_new = noticed.mailboxes.keys().any(|folder| !is_known(folder));
        let mut deleted = Vec::new();
        if is_scan || noticed.folders || finds_new {
            deleted = self.folders()?;
        }
        let mut sights = Vec::new();
        let names: Vec<String> = self.known.mailboxes.keys().cloned().collect();
        for name in names {
            // What isn't remembered yet is found again at the next start.
            if self.stop.is_set() {
                return Ok(());
            }
            let Some(mailbox) = self.known.mailboxes.get(&name) else { continue };
            let seen = &mailbox.seen;
            let (extent, delivered) = match noticed.mailboxes.remove(mailbox.folder.as_str()) {
                // What waits may have gone on to `cur`, and what was never read is all new.
                Some(Noticed { delivered, is_more: false })
                    if seen.was_read && seen.waiting == 0 && !is_forced =>
                {
                    (Extent::New, delivered)
                }
                Some(noticed) => (Extent::All, noticed.delivered),
                None if is_forced || !seen.was_read => (Extent::All, BTreeSet::new()),
                None if is_scan => (Extent::Changed, BTreeSet::new()),
                None => continue,
            };
            let sight = self.sight(&name, delivered, extent)?;
            match sight {
                // A first look may be a long one: what is found is remembered bit by bit.
                Some(sight) if self.teller.is_baseline => self.apply(vec![sight], &deleted)?,
                sight => sights.extend(sight),
            }
        }
        self.delivered_meanwhile(&mut sights);
        self.apply(sights, &deleted)?;
        self.deletions(deleted)?;
        self.subscriptions()?;
        self.quota()?;
        if self.teller.is_baseline {
            self.known.record.is_followed = true;
            self.teller.touch();
        }
        if is_scan && !self.is_partial {
            self.known.record.looked_at = begun;
        }
        self.teller.settle(&mut self.known.record)?;
        self.purge()
    }

    /// Finds the folders, and tells which came, went or were renamed. Gives back the mailboxes
    /// that are gone, for what may have been moved out of them.
    fn folders(&mut self) -> Result<Vec<(String, Mailbox)>, MaildirError> {
        let Some(present) = self.present()? else { return Ok(Vec::new()) };
        let replaced = self.twins(&present);
        self.deletions(replaced)?;
        let past = self.known.mailboxes.iter().map(|(name, mailbox)| {
            let Mailbox { print, uid_validity, keeper, .. } = *mailbox;
            (name.as_str(), Past { print, uid_validity, is_dovecots: keeper == Keeper::Dovecot })
        });
        let changes = tree::compare(&past.collect(), &present);
        let at = self.top.facts().map_or_else(|_| listing::now(), |facts| facts.modified);
        self.renames(&changes, &present, at)?;
        let (early, late): (Vec<_>, Vec<_>) =
            changes.deleted.into_iter().partition(|(old, called)| old != called);
        // Called by a new name now, which may be another mailbox's in a moment.
        let early = early.into_iter();
        let early =
            early.filter_map(|(old, called)| Some((called, self.known.mailboxes.remove(&old)?)));
        let early: Vec<_> = early.collect();
        self.deletions(early)?;
        for (name, is_told) in changes.created {
            if let Some(now) = present.get(&name) {
                // INBOX is always there; it only comes into view.
                self.create(&name, now, is_told && name != INBOX, at)?;
            }
        }
        let gone = late.into_iter();
        Ok(gone.filter_map(|(name, _)| self.known.mailboxes.remove_entry(&name)).collect())
    }

    fn renames(
        &mut self,
        changes: &tree::Changes,
        present: &BTreeMap<String, Present>,
        at: i128,
    ) -> Result<(), MaildirError> {
        let moved: Vec<_> = changes
            .moved
            .iter()
            .filter_map(|(old, new)| Some((old, new, self.known.mailboxes.remove(old)?)))
            .collect();
        for (_, new, mut mailbox) in moved {
            if let Some(now) = present.get(new) {
                mailbox.folder.clone_from(&now.folder);
            }
            // What was noticed meanwhile was noted under the old name.
            mailbox.seen.was_read = false;
            self.teller.note(new, &mailbox);
            self.known.mailboxes.insert(new.clone(), mailbox);
        }
        for (old, new) in &changes.renames {
            let uid_validity = self.known.mailboxes.get(new).map(|mailbox| mailbox.uid_validity);
            let named =
                |name: &String| postbell_engine::Mailbox { name: name.clone(), uid_validity };
            let what = What::MailboxRenamed {
                from_owner: Some(self.user.to_string()),
                from: named(old),
                to: named(new),
            };
            self.teller.tell(&mut self.known.record, at, what, [])?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        name: &str,
        now: &Present,
        is_told: bool,
        at: i128,
    ) -> Result<(), MaildirError> {
        let keeper = match now.uid_validity {
            Some(_) => Keeper::Dovecot,
            None => Keeper::Postbell,
        };
        let unix_seconds = jiff::Timestamp::now().as_second();
        let given = now.uid_validity;
        let uid_validity = given.unwrap_or_else(|| self.known.fresh_uid_validity(unix_seconds));
        let mailbox = Mailbox {
            id: self.known.fresh_id(),
            folder: now.folder.clone(),
            print: now.print,
            keeper,
            uid_validity,
            uidnext: 1,
            ..Mailbox::default()
        };
        self.teller.note(name, &mailbox);
        if is_told {
            let what = What::MailboxCreated(mailbox.named(name));
            self.teller.tell(&mut self.known.record, at, what, [])?;
        }
        self.known.mailboxes.insert(name.to_owned(), mailbox);
        Ok(())
    }

    /// The folders that are mailboxes, watched from now on. Nothing where they can't be read.
    fn present(&mut self) -> Result<Option<BTreeMap<String, Present>>, MaildirError> {
        self.bell.watch(self.path, Target::Top(Arc::clone(self.user)));
        let mut folders = vec![(INBOX.to_owned(), String::new())];
        let (complaints, path) = (&mut *self.complaints, self.path);
        let listed = self.top.each(|name, kind| {
            let Some(text) = name.to_str() else {
                if name.as_encoded_bytes().starts_with(b".") {
                    complaints.add(path, &name.to_string_lossy(), "its name is not UTF-8");
                }
                return;
            };
            match (layout::mailbox(text), kind) {
                (Some(mailbox), Kind::Folder) => folders.push((mailbox, text.to_owned())),
                (Some(_), Kind::Other) => {
                    complaints.add(path, text, "not a folder (links are not followed)");
                }
                (Some(_), Kind::File) => {}
                (None, _) if text.starts_with('.') && !text.starts_with("..") => {
                    complaints.add(path, text, "its name is no mailbox's");
                }
                (None, _) => {}
            }
        });
        if let Err(error) = listed {
            self.fail("", &error);
            return Ok(None);
        }
        self.by_preference(&mut folders);
        let is_there = |name: &str| self.top.facts_of(name).is_ok();
        let is_dovecots = is_there("dovecot-uidvalidity") || is_there("dovecot-uidlist");
        let mut present: BTreeMap<String, Present> = BTreeMap::new();
        for (name, folder) in folders {
            if let Some(twin) = present.get(&name) {
                let why = format!(
                    "its mailbox is called {name:?} as that of {:?} is, which is followed in its place",
                    twin.folder
                );
                self.complaints.add(self.path, &folder, &why);
                continue;
            }
            match self.present_one(&folder, is_dovecots) {
                Ok(Some(now)) => drop(present.insert(name, now)),
                Ok(None) => {}
                Err(error) => {
                    self.fail(&folder, &error);
                    // Not to be read isn't gone.
                    if let Some(mailbox) = self.known.mailboxes.get(&name) {
                        let (folder, print) = (mailbox.folder.clone(), mailbox.print);
                        let uid_validity = Some(mailbox.uid_validity);
                        let now = Present { folder, print, uid_validity, is_waiting: false };
                        present.insert(name, now);
                    }
                }
            }
        }
        let is_waiting = |(name, now): &(&String, &Present)| {
            now.is_waiting && !self.known.mailboxes.contains_key(*name)
        };
        self.known.waiting = present.iter().filter(is_waiting).count();
        Ok(Some(present))
    }

    /// Folders by the mailbox they stand for. Two may stand for one, as in UTF-8 and in modified
    /// UTF-7, and no two mailboxes have one name: the one followed before comes first, else the one
    /// whose name is as IMAP servers write it.
    fn by_preference(&self, folders: &mut [(String, String)]) {
        let is_followed = |name: &str, folder: &str| {
            self.known.mailboxes.get(name).is_some_and(|mailbox| mailbox.folder == folder)
        };
        folders.sort_by_cached_key(|(name, folder)| {
            (name.clone(), !is_followed(name, folder), !folder.is_ascii(), folder.clone())
        });
    }

    /// Mailboxes whose folder is another one now: the same under another name for the same mailbox,
    /// or a twin that was passed over while the first was there.
    fn twins(&mut self, present: &BTreeMap<String, Present>) -> Vec<(String, Mailbox)> {
        let mut replaced = Vec::new();
        for (name, now) in present {
            let Some(mailbox) = self.known.mailboxes.get_mut(name) else { continue };
            if mailbox.folder == now.folder {
                continue;
            }
            if mailbox.print == now.print {
                mailbox.folder.clone_from(&now.folder);
                // What was noticed meanwhile was noted under the other name.
                mailbox.seen.was_read = false;
                self.teller.note(name, mailbox);
                self.teller.touch();
            } else {
                replaced.extend(self.known.mailboxes.remove_entry(name));
            }
        }
        replaced
    }

    fn present_one(&mut self, name: &str, is_dovecots: bool) -> io::Result<Option<Present>> {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let path = if name.is_empty() { self.path.to_owned() } else { self.path.join(name) };
        let opened = if name.is_empty() { self.top.sub(".") } else { self.top.sub(name) };
        let folder = match opened {
            Ok(folder) => folder,
            Err(error) if missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (user, place): (_, Arc<str>) = (Arc::clone(self.user), name.into());
        if !name.is_empty() {
            self.bell.watch(&path, Target::Mailbox(Arc::clone(&user), Arc::clone(&place)));
        }
        // Without it, it is no mailbox (yet).
        match folder.sub("cur") {
            Ok(_) => {}
            Err(error) if missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        self.bell.watch(&path.join("new"), Target::New(Arc::clone(&user), Arc::clone(&place)));
        self.bell.watch(&path.join("cur"), Target::Cur(user, place));
        let header =
            uid_list::read(&folder, &mut uid_list::Mark::default(), &HashMap::new(), |_, _| {})
                .unwrap_or_default();
        let uid_validity = header.map(|header| header.uid_validity);
        let print = folder.print()?;
        let is_waiting = is_dovecots && uid_validity.is_none();
        Ok(Some(Present { folder: name.to_owned(), print, uid_validity, is_waiting }))
    }

    /// Notes what came through `new` and went on to `cur` between the reading of the two: its
    /// notice is there by now.
    fn delivered_meanwhile(&mut self, sights: &mut [Sight]) {
        self.bell.listen(self.due);
        let Some(due) = self.due.by_user.get(self.user) else { return };
        for sight in sights {
            let Some(mailbox) = self.known.mailboxes.get(&sight.name) else { continue };
            if let Some(noticed) = due.mailboxes.get(mailbox.folder.as_str()) {
                sight.delivered.extend(noticed.delivered.iter().cloned());
            }
        }
    }

    /// Reads a mailbox; nothing where it looks as it did, or can't be read.
    fn sight(
        &mut self,
        name: &str,
        delivered: BTreeSet<Box<str>>,
        extent: Extent,
    ) -> Result<Option<Sight>, MaildirError> {
        let Some(mut mailbox) = self.known.mailboxes.remove(name) else { return Ok(None) };
        let sight = self.read(name, &mut mailbox, extent);
        let sight = match sight {
            Ok(sight) => sight,
            Err(error) => {
                let folder = mailbox.folder.clone();
                if error.kind() != io::ErrorKind::NotFound {
                    self.fail(&folder, &error);
                }
                None
            }
        };
        let Some((mut sight, header)) = sight else {
            self.known.mailboxes.insert(name.to_owned(), mailbox);
            return Ok(None);
        };
        sight.delivered = delivered;
        if let Some(header) = header {
            let is_dovecots = mailbox.keeper == Keeper::Dovecot;
            if !is_dovecots || mailbox.uid_validity != header.uid_validity {
                return self.new_epoch(name, mailbox, header);
            }
            mailbox.uidnext = mailbox.uidnext.max(header.uidnext);
        }
        if mailbox.keeper == Keeper::Postbell {
            self.match_renamed(&mut mailbox, &mut sight)?;
        }
        sight.untold = sight.listing.gone.len() as u64;
        self.known.mailboxes.insert(name.to_owned(), mailbox);
        Ok(Some(sight))
    }

    fn read(
        &mut self,
        name: &str,
        mailbox: &mut Mailbox,
        extent: Extent,
    ) -> io::Result<Option<(Sight, Option<uid_list::Header>)>> {
        let folder = match mailbox.folder.as_str() {
            "" => self.top.sub(".")?,
            folder => self.top.sub(folder)?,
        };
        let places = Places::open(&folder)?;
        let keywords_at = folder.facts_of("dovecot-keywords").map_or(0, |facts| facts.modified);
        let list_is_current = match folder.facts_of("dovecot-uidlist") {
            Ok(facts) => mailbox.seen.list.is_current(&facts),
            Err(_) => mailbox.keeper == Keeper::Postbell,
        };
        let is_unchanged = mailbox.seen.folders == Some(places.modified()?)
            && mailbox.seen.keywords == keywords_at
            && list_is_current;
        if is_unchanged && extent == Extent::Changed {
            return Ok(None);
        }
        let text = folder.text("dovecot-keywords")?;
        let keywords = text.map(|(text, _)| Keywords::parse(&text)).unwrap_or_default();
        let (complaints, path) = (&mut *self.complaints, self.path.join(&mailbox.folder));
        let mut complain = |name: &str, why: &str| complaints.add(&path, name, why);
        let mut listing = match extent {
            Extent::New => listing::list_new(&places, mailbox, &keywords, &mut complain)?,
            Extent::All | Extent::Changed => {
                listing::list(&places, mailbox, &keywords, &mut complain)?
            }
        };
        for arrival in &mut listing.arrivals {
            let facts = places.of(arrival.is_in_new).facts_of(arrival.name());
            arrival.facts = facts.ok().filter(|facts| facts.kind == Kind::File);
        }
        // What moved on or vanished meanwhile is seen the next time, if it still is anywhere.
        let before = listing.arrivals.len();
        listing.arrivals.retain(|arrival| arrival.facts.is_some());
        listing.is_steady &= before == listing.arrivals.len();
        let arrivals = &mut listing.arrivals;
        let mut uids = vec![None; arrivals.len()];
        let names = arrivals.iter().enumerate().map(|(index, arrival)| (arrival.unique(), index));
        let header =
            uid_list::read(&folder, &mut mailbox.seen.list, &names.collect(), |index, uid| {
                if let Some(place) = uids.get_mut(index) {
                    *place = Some(uid);
                }
            });
        // Without the list, what is gone is told all the same, and what came waits.
        let header = header.unwrap_or_else(|error| {
            self.fail(&mailbox.folder, &error);
            None
        });
        for (arrival, uid) in arrivals.iter_mut().zip(uids) {
            arrival.uid = uid;
        }
        mailbox.seen.folders = listing.is_steady.then_some(listing.modified);
        mailbox.seen.keywords = keywords_at;
        mailbox.seen.was_read = true;
        let delivered = BTreeSet::new();
        let sight =
            Sight { name: name.to_owned(), listing, keywords, places, delivered, untold: 0 };
        Ok(Some((sight, header)))
    }

    /// Another UIDVALIDITY: what was known of the mailbox is void (R8). That is told as one gap
    /// instead of many expunges; where the folder is another one too, the mailbox was deleted and
    /// made anew, and is told so.
    fn new_epoch(
        &mut self,
        name: &str,
        old: Mailbox,
        header: uid_list::Header,
    ) -> Result<Option<Sight>, MaildirError> {
        let opened =
            if old.folder.is_empty() { self.top.sub(".") } else { self.top.sub(&old.folder) };
        let print = opened.and_then(|folder| folder.print()).unwrap_or(old.print);
        let is_replaced = print != old.print;
        let mut mailbox = Mailbox {
            id: self.known.fresh_id(),
            folder: old.folder.clone(),
            print,
            keeper: Keeper::Dovecot,
            uid_validity: header.uid_validity,
            uidnext: header.uidnext,
            ..Mailbox::default()
        };
        let had_messages = !old.messages.is_empty() || old.uidnext > 1;
        let at = listing::now();
        self.teller.forget(old.id);
        self.known.discarded.push(old.id);
        self.teller.note(name, &mailbox);
        let record = &mut self.known.record;
        if is_replaced && name != INBOX {
            self.teller.tell(record, at, What::MailboxDeleted(old.named(name)), [])?;
            self.teller.tell(record, at, What::MailboxCreated(mailbox.named(name)), [])?;
        } else if had_messages {
            let reason = "the mailbox has another UIDVALIDITY".to_owned();
            let place = Some(mailbox.named(name));
            self.teller.tell(record, at, What::Missed { mailbox: place, reason }, [])?;
            self.complaints.health.add(Count::Gaps, u64::from(!self.teller.is_baseline));
        }
        let read = match self.read(name, &mut mailbox, Extent::All) {
            Ok(read) => read,
            Err(error) => {
                let folder = mailbox.folder.clone();
                self.fail(&folder, &error);
                None
            }
        };
        self.known.mailboxes.insert(name.to_owned(), mailbox);
        let Some((sight, _)) = read else { return Ok(None) };
        if is_replaced || !had_messages {
            return Ok(Some(sight));
        }
        // Covered by the gap: remembered in silence.
        let was_baseline = std::mem::replace(&mut self.teller.is_baseline, true);
        let applied = self.apply(vec![sight], &[]);
        self.teller.is_baseline = was_baseline;
        applied.map(|()| None)
    }

    fn subscriptions(&mut self) -> Result<(), MaildirError> {
        let (now, at) = match side::subscriptions(&self.top) {
            Ok(list) => list.unwrap_or_else(|| (BTreeSet::new(), listing::now())),
            Err(error) => {
                self.fail("subscriptions", &error);
                return Ok(());
            }
        };
        if now == self.known.subscriptions {
            return Ok(());
        }
        let before = std::mem::take(&mut self.known.subscriptions);
        let key = |name: &str| known::key(self.teller.prefix, &format!("s{name}"));
        let gained = now.difference(&before).map(|name| (name, Some(Vec::new())));
        let lost = before.difference(&now).map(|name| (name, None));
        let changes: Vec<_> =
            gained.chain(lost).map(|(name, value)| (name, key(name), value)).collect();
        for (name, key, value) in changes {
            let mailbox = self.known.mailboxes.get(name);
            let uid_validity = mailbox.map(|mailbox| mailbox.uid_validity);
            let place = postbell_engine::Mailbox { name: name.clone(), uid_validity };
            let what = match value {
                Some(_) => What::Subscribed(place),
                None => What::Unsubscribed(place),
            };
            self.teller.tell(&mut self.known.record, at, what, [(key, value)])?;
        }
        self.known.subscriptions = now;
        Ok(())
    }

    fn quota(&mut self) -> Result<(), MaildirError> {
        let (now, at) = match self.top.text("maildirsize") {
            Ok(Some((text, facts))) => (side::maildir_size(&text), facts.modified),
            Ok(None) => (self.limit.map(|limit| self.counted(limit)), listing::now()),
            Err(error) => {
                self.fail("maildirsize", &error);
                return Ok(());
            }
        };
        if now.is_none() || now == self.known.quota {
            return Ok(());
        }
        self.known.quota.clone_from(&now);
        if let Some(quota) = now {
            self.teller.tell(&mut self.known.record, at, What::QuotaSeen(quota), [])?;
        }
        Ok(())
    }

    /// A configured limit, with what is used now.
    fn counted(&self, limit: &Quota) -> Quota {
        let mailboxes = self.known.mailboxes.values();
        let octets: u64 = mailboxes.clone().map(|mailbox| mailbox.octets).sum();
        let messages: u64 = mailboxes.map(|mailbox| mailbox.messages.len() as u64).sum();
        Quota {
            disk_used_kib: Some(octets.div_ceil(1024)),
            messages_used: Some(messages),
            ..limit.clone()
        }
    }

    /// Forgets the messages of mailboxes that are gone, in batches of their own.
    fn purge(&mut self) -> Result<(), MaildirError> {
        while let Some(id) = self.known.discarded.last().copied() {
            let prefix = self.teller.prefix;
            for start in known::shards(prefix, id, u32::MAX) {
                for (key, _) in self.teller.intake.checkpoint(&start)? {
                    self.teller.remember(&mut self.known.record, [(key, None)])?;
                }
            }
            let done = (known::discarded_key(prefix, id), None);
            self.teller.remember(&mut self.known.record, [done])?;
            self.teller.settle(&mut self.known.record)?;
            self.known.discarded.pop();
        }
        Ok(())
    }

    /// Notes what can't be read, and goes on with the rest.
    pub(super) fn fail(&mut self, name: &str, error: &io::Error) {
        self.is_partial = true;
        let path = self.path.join(name);
        self.complaints.health.set_error(&format!("{}: {error}", path.display()));
        self.complaints.add(self.path, name, &error.to_string());
    }
}

/// Says of each thing passed over that it is, once.
#[derive(Debug)]
pub(super) struct Complaints {
    said: HashSet<u64>,
    pub(super) health: Health,
}

impl Complaints {
    pub(super) fn new(health: &Health) -> Self {
        Self { said: HashSet::new(), health: health.clone() }
    }

    pub(super) fn add(&mut self, folder: &Path, name: &str, why: &str) {
        let mut hasher = DefaultHasher::new();
        (folder, name, why).hash(&mut hasher);
        if self.said.len() >= COMPLAINTS_MAX || !self.said.insert(hasher.finish()) {
            return;
        }
        self.health.add(Count::Skipped, 1);
        let path = folder.join(name);
        let why = in_words(&why);
        warn!(path = ?path, why, "passed over");
        if self.said.len() == COMPLAINTS_MAX {
            warn!("too much is passed over: what follows is no longer named");
        }
    }
}

/// Things complained of and remembered, so that each is logged once.
const COMPLAINTS_MAX: usize = 10_000;
