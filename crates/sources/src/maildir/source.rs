//! The thread of a Maildir source: which users there are, and when to look at whom.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use postbell_engine::in_words;
use tracing::{debug, info, warn};

use super::bell::{Bell, Due, Target};
use super::folder::{Folder, Kind};
use super::known::{self, Known};
use super::look::{Complaints, Look, Scope};
use super::message::Wanted;
use super::tell::Teller;
use super::{MaildirError, Options};
use crate::{Batch, Count, Health, Intake, State, Stop};

/// What a source holds while it runs.
pub(super) struct Source<'a> {
    options: &'a Options,
    intake: &'a dyn Intake,
    health: &'a Health,
    bell: Bell,
    /// Noticed and not looked at yet.
    due: Due,
    complaints: Complaints,
    users: BTreeMap<Arc<str>, User>,
    /// Users whose Maildir was there in this run and isn't any more.
    gone: BTreeSet<Arc<str>>,
    /// Why the folder that holds the users' folders can't be read.
    unread: Option<String>,
}

struct User {
    path: PathBuf,
    known: Known,
    /// The Maildir was there at the last look.
    is_there: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(options: &'a Options, intake: &'a dyn Intake, health: &'a Health) -> Self {
        let (bell, complaints) = (Bell::new(), Complaints::new(health));
        let (users, gone, unread) = (BTreeMap::new(), BTreeSet::new(), None);
        let due = Due::default();
        Self { options, intake, health, bell, due, complaints, users, gone, unread }
    }

    pub(super) fn run(&mut self, stop: &Stop) -> Result<(), MaildirError> {
        self.health.set_state(State::Scanning, "the first look");
        let mut scanned = Instant::now();
        self.look(Due::all(), stop)?;
        while !stop.is_set() {
            let (now, interval) = (Instant::now(), self.options.scan_interval);
            let until_scan = (scanned + interval).saturating_duration_since(now);
            let pause = self.due.pause(now);
            if until_scan.is_zero() {
                scanned = now;
                self.scan(stop)?;
            } else if pause.is_some_and(|pause| pause.is_zero()) {
                let noted = std::mem::take(&mut self.due);
                self.look(noted, stop)?;
            } else {
                self.bell.wait(stop, pause.unwrap_or(until_scan).min(until_scan));
            }
            self.bell.listen(&mut self.due);
        }
        self.keep_times();
        self.health.set_state(State::Stopped, "");
        Ok(())
    }

    /// Has it remembered when each user was last looked at, so that what is found at the next start
    /// can be told with how long before it may have happened. Where that can't be, it is told as
    /// being less accurate.
    fn keep_times(&self) {
        let records = self.users.iter().filter(|(_, one)| one.known.record.is_followed);
        let changes = records
            .map(|(user, one)| (known::key(&prefix(user), "u"), Some(one.known.record.encode())));
        let changes: Vec<_> = changes.collect();
        for part in changes.chunks(RECORDS_AT_ONCE) {
            let batch = Batch { observations: Vec::new(), changes: part.to_vec() };
            if let Err(why) = self.intake.take(batch) {
                debug!(%why, "when users were last looked at is not remembered");
                return;
            }
        }
    }

    /// The periodic look at everything that looks changed.
    fn scan(&mut self, stop: &Stop) -> Result<(), MaildirError> {
        if self.bell.is_deaf {
            self.health.add(Count::Rescans, 1);
            self.bell.try_again();
        }
        self.find_users()?;
        let users: Vec<_> = self.users.keys().cloned().collect();
        for user in users {
            if stop.is_set() {
                return Ok(());
            }
            self.look_at(&user, Scope::Changed, stop)?;
        }
        self.report();
        Ok(())
    }

    /// Looks at what was noted.
    fn look(&mut self, mut noted: Due, stop: &Stop) -> Result<(), MaildirError> {
        let mut scopes: BTreeMap<Arc<str>, Scope> = BTreeMap::new();
        if noted.users {
            scopes.extend(self.find_users()?.into_iter().map(|user| (user, Scope::Everything)));
            let away = self.users.iter().filter(|(_, one)| !one.is_there);
            scopes.extend(away.map(|(user, _)| (Arc::clone(user), Scope::Everything)));
        }
        if noted.everything {
            self.health
                .add(Count::Rescans, u64::from(self.health.snapshot().state != State::Scanning));
            scopes = self.users.keys().map(|user| (Arc::clone(user), Scope::Everything)).collect();
        } else {
            let by_user = std::mem::take(&mut noted.by_user);
            for (user, noticed) in by_user {
                scopes.entry(user).or_insert(Scope::Noticed(noticed));
            }
        }
        for (user, scope) in scopes {
            if stop.is_set() {
                return Ok(());
            }
            self.look_at(&user, scope, stop)?;
        }
        self.report();
        Ok(())
    }

    fn look_at(&mut self, user: &Arc<str>, scope: Scope, stop: &Stop) -> Result<(), MaildirError> {
        let Some(one) = self.users.get_mut(user) else { return Ok(()) };
        let was_there = std::mem::replace(&mut one.is_there, false);
        // Below a pattern the user's own folder may be anything, even a link to somebody else's.
        let opened = match self.options.root.contains("%u") {
            true => open_below(&self.options.root, user),
            false => Folder::open(&one.path),
        };
        let top = match opened {
            Ok(top) => top,
            Err(error) => {
                // Remembered, and told of when it is back: a disk that isn't mounted is no reason
                // to tell of a thousand deletions.
                if error.kind() != io::ErrorKind::NotFound {
                    self.health.set_error(&format!("{}: {error}", one.path.display()));
                    self.complaints.add(&one.path, "", &error.to_string());
                }
                if was_there {
                    miss(&mut self.gone, user, &one.path);
                }
                return Ok(());
            }
        };
        if top.sub("cur").is_err() {
            if was_there {
                miss(&mut self.gone, user, &one.path);
            }
            return Ok(());
        }
        one.is_there = true;
        if self.gone.remove(user) {
            info!(%user, path = ?one.path, "its Maildir is back");
        }
        let prefix = prefix(user);
        let is_baseline = !one.known.record.is_followed;
        let fqdn = self.options.server_fqdn.as_deref();
        let look = Look {
            user,
            path: &one.path,
            top,
            known: &mut one.known,
            teller: Teller::new(self.intake, self.health, fqdn, (user, &prefix), is_baseline),
            bell: &mut self.bell,
            due: &mut self.due,
            complaints: &mut self.complaints,
            readable: Wanted {
                body_structure: self.options.body_structure,
                content_max_octets: self.options.content_max_octets,
            },
            limit: self.options.quota.as_ref(),
            stop,
            is_partial: false,
        };
        look.run(scope)
    }

    /// Finds out which users there are; gives those that weren't there before.
    fn find_users(&mut self) -> Result<Vec<Arc<str>>, MaildirError> {
        let found = self.present_users();
        let mut new = Vec::new();
        // What is known of a user that is away stays in the checkpoint.
        let (gone, is_unread) = (&mut self.gone, self.unread.is_some());
        self.users.retain(|user, one| {
            let is_found = found.contains_key(user);
            // Where the folder above can't be read, that is told once for all of them.
            if !is_found && one.is_there && !is_unread {
                miss(gone, user, &one.path);
            }
            is_found
        });
        for (user, path) in found {
            if self.users.contains_key(&user) {
                continue;
            }
            let known = Known::restore(&prefix(&user), |start| self.intake.checkpoint(start))?;
            debug!(%user, path = ?path, "followed from now on");
            self.users.insert(Arc::clone(&user), User { path, known, is_there: false });
            new.push(user);
        }
        Ok(new)
    }

    fn present_users(&mut self) -> BTreeMap<Arc<str>, PathBuf> {
        let Some(pattern) = Pattern::parse(&self.options.root) else {
            let path = PathBuf::from(&self.options.root);
            if let Some(parent) = path.parent().filter(|_| !path.join("cur").exists()) {
                // Perhaps it is being made right now.
                self.bell.watch(&path, Target::Users);
                self.bell.watch(parent, Target::Users);
            }
            let user = self.options.user.as_deref().unwrap_or_default();
            return BTreeMap::from([(user.into(), path)]);
        };
        self.bell.watch(&pattern.folder, Target::Users);
        let mut names = Vec::new();
        let listed = Folder::open(&pattern.folder).and_then(|folder| {
            folder.each(|name, kind| {
                let shown = name.to_string_lossy();
                let Some(user) = name.to_str().and_then(|name| pattern.user(name)) else {
                    // Folders that are no user's may well be there; a user nobody hears of may not.
                    if kind == Kind::Folder && pattern.is_odd(&shown) {
                        self.complaints.add(&pattern.folder, &shown, "its name is no user's");
                    }
                    return;
                };
                match kind {
                    Kind::Folder => names.push(user.to_owned()),
                    Kind::Other => {
                        let why = "not a folder (links are not followed)";
                        self.complaints.add(&pattern.folder, &shown, why);
                    }
                    Kind::File => {}
                }
            })
        });
        self.tell_of_root(&pattern.folder, listed.err());
        let mut users = BTreeMap::new();
        for user in names {
            let path = PathBuf::from(self.options.root.replace("%u", &user));
            match open_below(&self.options.root, &user).and_then(|top| top.sub("cur")) {
                Ok(_) => drop(users.insert(user.as_str().into(), path)),
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        self.health.set_error(&format!("{}: {error}", path.display()));
                        self.complaints.add(&path, "", &error.to_string());
                    }
                    // Perhaps it is being made right now.
                    self.bell.watch(&pattern.home(&user), Target::Users);
                }
            }
        }
        users
    }

    /// Whose Maildirs were there and are gone, in a few words.
    fn missed(&self) -> String {
        let names = self.gone.iter().take(GONE_NAMED_MAX).map(|user| &**user);
        let named = names.collect::<Vec<_>>().join(", ");
        match self.gone.len() {
            0 => String::new(),
            1 => format!("a Maildir that was there is gone: {named}"),
            many if many > GONE_NAMED_MAX => {
                format!("{many} Maildirs that were there are gone: {named}, …")
            }
            many => format!("{many} Maildirs that were there are gone: {named}"),
        }
    }

    /// Says once that the folder of the users' folders can't be read, and once that it can again.
    fn tell_of_root(&mut self, folder: &Path, error: Option<io::Error>) {
        let unread = error.map(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no folder {}", folder.display()),
            _ => format!("{}: {}", folder.display(), in_words(&error)),
        });
        match &unread {
            Some(why) if self.unread != unread => {
                self.health.set_error(why);
                warn!(root = %self.options.root, why, "no user is followed until it can be read");
            }
            None if self.unread.is_some() => {
                info!(root = %self.options.root, "its folder can be read again");
            }
            Some(_) | None => {}
        }
        self.unread = unread;
    }

    fn report(&self) {
        let there = self.users.values().filter(|user| user.is_there).map(|user| &user.known);
        let (mut users, mut mailboxes, mut messages) = (0_u64, 0_u64, 0_u64);
        let (mut waiting_mailboxes, mut waiting_messages) = (0, 0);
        for known in there {
            users += 1;
            waiting_mailboxes += known.waiting;
            for mailbox in known.mailboxes.values() {
                mailboxes += 1;
                messages += mailbox.messages.len() as u64;
                waiting_messages += mailbox.seen.waiting;
            }
        }
        self.health.set(Count::Users, users);
        self.health.set(Count::Mailboxes, mailboxes);
        self.health.set(Count::Messages, messages);
        if users == 0 {
            let none = || format!("there is no Maildir at {}", self.options.root);
            let detail = self.unread.clone().unwrap_or_else(none);
            return self.health.set_state(State::Waiting, detail);
        }
        let detail = match (waiting_mailboxes, waiting_messages) {
            (0, 0) => self.missed(),
            (0, many) => format!("messages that wait for Dovecot to give them UIDs: {many}"),
            (some, many) => format!(
                "mailboxes and messages that wait for Dovecot to give them UIDVALIDITY or UIDs: {some} and {many}"
            ),
        };
        self.health.set_state(State::Running, detail);
    }
}

/// Says once that a user's Maildir was there and isn't any more.
fn miss(gone: &mut BTreeSet<Arc<str>>, user: &Arc<str>, path: &Path) {
    if gone.insert(Arc::clone(user)) {
        warn!(%user, path = ?path, "its Maildir is gone; what it held counts as kept until it is back");
    }
}

/// Where a user's memory is in the checkpoint.
pub(super) fn prefix(user: &str) -> Vec<u8> {
    format!("user\0{user}\0").into_bytes()
}

/// A path with `%u` in it, taken apart around the first.
struct Pattern {
    /// The folder that holds the users' folders.
    folder: PathBuf,
    before: String,
    after: String,
}

impl Pattern {
    fn parse(root: &str) -> Option<Self> {
        let (before, after) = root.split_once("%u")?;
        let (folder, before) = before.rsplit_once('/').unwrap_or((".", before));
        let folder = if folder.is_empty() { "/" } else { folder };
        let after = after.split('/').next().unwrap_or_default();
        let after = after.replace("%u", "");
        Some(Self { folder: folder.into(), before: before.to_owned(), after })
    }

    fn user<'n>(&self, name: &'n str) -> Option<&'n str> {
        let user = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let is_plain =
            !user.is_empty() && !user.starts_with('.') && !user.contains(char::is_control);
        is_plain.then_some(user)
    }

    /// Whether a folder looks like a user's but for characters no user's name has.
    fn is_odd(&self, name: &str) -> bool {
        let user = name.strip_prefix(&self.before).and_then(|rest| rest.strip_suffix(&self.after));
        user.is_some_and(|user| user.contains(|c: char| c.is_control() || c == '\u{fffd}'))
    }

    fn home(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{}{user}{}", self.before, self.after))
    }
}

/// Opens a user's Maildir, step by step from the operator's folder on, following no link.
pub(super) fn open_below(root: &str, user: &str) -> io::Result<Folder> {
    let pattern = Pattern::parse(root).ok_or(io::ErrorKind::InvalidInput)?;
    let mut folder = Folder::open(&pattern.folder)?;
    let path = root.replace("%u", user);
    let rest = Path::new(&path).strip_prefix(&pattern.folder).unwrap_or_else(|_| Path::new(&path));
    for step in rest.iter().filter(|step| *step != OsStr::new(".")) {
        folder = folder.sub(step)?;
    }
    Ok(folder)
}

/// Users' records in one batch, of some fifty octets each.
const RECORDS_AT_ONCE: usize = 10_000;

/// The log names them all.
const GONE_NAMED_MAX: usize = 3;
