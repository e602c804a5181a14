//! Which folders changed: inotify, made quiet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchMask};
use tracing::warn;

use super::layout::FileName;
use crate::Stop;

/// Says that something happened in a watched folder; what it was, a look will tell.
#[derive(Debug)]
pub(super) struct Bell {
    inotify: Option<Inotify>,
    targets: HashMap<i32, Target>,
    /// A folder could not be watched: only the periodic scan finds what happens there.
    pub(super) is_deaf: bool,
    has_warned: bool,
}

/// What a watched folder is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// One that holds users.
    Users,
    /// A user's topmost folder, which is INBOX's.
    Top(Arc<str>),
    /// A mailbox's folder: the user and the folder's name.
    Mailbox(Arc<str>, Arc<str>),
    /// A mailbox's `new`.
    New(Arc<str>, Arc<str>),
    /// A mailbox's `cur`.
    Cur(Arc<str>, Arc<str>),
}

impl Bell {
    pub(super) fn new() -> Self {
        let inotify = Inotify::init()
            .inspect_err(|error| warn!(%error, "no inotify: the periodic scan alone finds changes"))
            .ok();
        Self { is_deaf: inotify.is_none(), inotify, targets: HashMap::new(), has_warned: false }
    }

    /// Has a full look find out anew whether everything can be watched.
    pub(super) fn try_again(&mut self) {
        self.is_deaf = self.inotify.is_none();
    }

    /// Watches a folder from now on. Asked for before a folder is read, so that nothing falls
    /// between. A folder watched already, even under another name, becomes `target`.
    pub(super) fn watch(&mut self, path: &Path, target: Target) {
        let Some(inotify) = &self.inotify else { return };
        let mut mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
        mask |= WatchMask::ONLYDIR | WatchMask::DELETE_SELF;
        match target {
            Target::Users => {}
            // Dovecot writes to the end of its lists and keeps them open.
            Target::Top(_) | Target::Mailbox(..) => mask |= WatchMask::MODIFY,
            Target::New(..) | Target::Cur(..) => mask |= WatchMask::CLOSE_WRITE,
        }
        if !matches!(target, Target::Users | Target::Top(_)) {
            mask |= WatchMask::DONT_FOLLOW;
        }
        match inotify.watches().add(path, mask) {
            Ok(descriptor) => {
                self.targets.insert(descriptor.get_watch_descriptor_id(), target);
            }
            // Gone meanwhile: its own folder's notice says so.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Told by whoever reads it, or tries to.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.is_deaf = true;
            }
            Err(error) => {
                if !self.has_warned {
                    warn!(path = ?path, %error, "not all folders are watched: the periodic scan finds what happens in the others (see fs.inotify.max_user_watches)");
                }
                (self.is_deaf, self.has_warned) = (true, true);
            }
        }
    }

    /// Waits until a notice comes, the stop is asked for, or `limit` has passed.
    pub(super) fn wait(&self, stop: &Stop, limit: Duration) {
        let Some(inotify) = &self.inotify else {
            let _is_set = stop.wait_timeout(limit);
            return;
        };
        stop.wait_beside(&[inotify.as_fd()], limit);
    }

    /// Takes the notices that have come and notes what they concern.
    pub(super) fn listen(&mut self, due: &mut Due) {
        let Some(inotify) = &mut self.inotify else { return };
        let mut buffer = vec![0; NOTICES_OCTETS];
        // Bounded, lest a busy folder keep us here: what is left rings again at once.
        for _ in 0..NOTICES_ROUNDS {
            let Ok(events) = inotify.read_events(&mut buffer) else { return };
            let mut any = false;
            for event in events {
                any = true;
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    due.overflowed();
                    continue;
                }
                let id = event.wd.get_watch_descriptor_id();
                let Some(target) = self.targets.get(&id) else { continue };
                due.note(target, event.mask, event.name);
                if event.mask.contains(EventMask::IGNORED) {
                    self.targets.remove(&id);
                }
            }
            if !any {
                return;
            }
        }
    }
}

/// What is to be looked at, and when.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// When the first and the last notice came.
    since: Option<(Instant, Instant)>,
    /// Nothing came but deliveries.
    is_hasty: bool,
    /// Everything is to be read anew, whatever it looks like.
    pub(super) everything: bool,
    /// The list of users may have changed.
    pub(super) users: bool,
    pub(super) by_user: BTreeMap<Arc<str>, UserDue>,
}

/// What of one user's store is to be looked at.
#[derive(Debug, Default)]
pub(super) struct UserDue {
    /// Folders may have come, gone or been renamed.
    pub(super) folders: bool,
    /// By the names of mailboxes' folders.
    pub(super) mailboxes: BTreeMap<Arc<str>, Noticed>,
}

/// What was noticed in a mailbox.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Unique names of what was put into `new`.
    pub(super) delivered: BTreeSet<Box<str>>,
    /// Something else happened, too: `cur` is to be read as well.
    pub(super) is_more: bool,
}

impl Due {
    /// How long to wait until it is time to look; `None` where nothing is noted.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let (first, last) = self.since?;
        let quiet = if self.is_hasty { QUIET_AFTER_DELIVERY } else { QUIET };
        let at = (last + quiet).min(first + QUIET_WAIT_MAX);
        Some(at.saturating_duration_since(now))
    }

    /// Everything, as at the start.
    pub(super) fn all() -> Self {
        Self { everything: true, users: true, ..Self::default() }
    }

    fn overflowed(&mut self) {
        self.everything = true;
        self.users = true;
        self.touch(false);
    }

    fn note(&mut self, target: &Target, mask: EventMask, name: Option<&OsStr>) {
        let name = name.and_then(OsStr::to_str).unwrap_or_default();
        let arrived = mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        match target {
            Target::Users => {
                self.users = true;
                self.touch(false);
            }
            Target::Top(user) => self.note_in_folder(user, "", mask, name),
            Target::Mailbox(user, folder) => self.note_in_folder(user, folder, mask, name),
            Target::New(user, folder) => {
                let is_delivery = arrived || mask.contains(EventMask::CLOSE_WRITE);
                let noticed = self.mailbox(user, folder);
                noticed.is_more |= !is_delivery;
                // Also what leaves: it may have come and gone on before it was seen here.
                if let Some(parsed) = FileName::parse(name)
                    && noticed.delivered.len() < NAMES_MAX
                {
                    noticed.delivered.insert(parsed.unique.into());
                }
                self.touch(is_delivery);
            }
            Target::Cur(user, folder) => {
                self.mailbox(user, folder).is_more = true;
                self.touch(false);
            }
        }
    }

    fn note_in_folder(&mut self, user: &Arc<str>, folder: &str, mask: EventMask, name: &str) {
        let is_self = mask.intersects(EventMask::DELETE_SELF | EventMask::IGNORED);
        if is_self || (mask.contains(EventMask::ISDIR) && name != "tmp") {
            self.by_user.entry(Arc::clone(user)).or_default().folders = true;
            self.touch(false);
        }
        match name {
            "dovecot-uidlist" => {
                self.mailbox(user, folder);
                // Comes with every delivery: no reason to wait longer.
                self.touch(true);
            }
            "dovecot-keywords" => {
                self.mailbox(user, folder).is_more = true;
                self.touch(false);
            }
            "subscriptions" | "courierimapsubscribed" | "maildirsize" if folder.is_empty() => {
                self.by_user.entry(Arc::clone(user)).or_default();
                self.touch(true);
            }
            // Indexes, locks and the like.
            _ => {}
        }
    }

    fn mailbox(&mut self, user: &Arc<str>, folder: &str) -> &mut Noticed {
        let user = self.by_user.entry(Arc::clone(user)).or_default();
        user.mailboxes.entry(folder.into()).or_default()
    }

    fn touch(&mut self, is_hasty: bool) {
        let now = Instant::now();
        self.is_hasty = is_hasty && (self.is_hasty || self.since.is_none());
        self.since = Some((self.since.map_or(now, |(first, _)| first), now));
    }
}

/// How long it must have been quiet before a look. A mail program's one act is several on disk:
/// Dovecot moves a message by a link here and a removal there, renames children one by one, and
/// puts a folder aside before it deletes it. Looked at halfway, a move would be a copy and a
/// deletion. The steps follow each other within a few milliseconds.
const QUIET: Duration = Duration::from_millis(100);

/// The same where only deliveries came, which are one step: file and UID, within a millisecond.
const QUIET_AFTER_DELIVERY: Duration = Duration::from_millis(15);

/// The longest that unrest may put a look off.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(1);

/// Names noted in one mailbox's `new` between two looks. Beyond it a message that went on to
/// `cur` within that time counts as put there.
const NAMES_MAX: usize = 10_000;

/// Octets of notices read at once: some hundred of them.
const NOTICES_OCTETS: usize = 64 * 1024;

/// How often that is done before a look gets its turn.
const NOTICES_ROUNDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Arc<str> {
        "a".into()
    }

    #[test]
    fn a_delivery_is_looked_at_sooner_than_anything_else() {
        let mut due = Due::default();
        assert_eq!(due.pause(Instant::now()), None);
        let new = Target::New(user(), "".into());
        due.note(&new, EventMask::MOVED_TO, Some(OsStr::new("1.a.h")));
        // From the last notice on, however long this takes.
        let quiet = |due: &Due| due.pause(due.since.unwrap().1).unwrap();
        assert_eq!(quiet(&due), QUIET_AFTER_DELIVERY);
        assert!(due.by_user[&user()].mailboxes[""].delivered.contains("1.a.h"));
        due.note(&Target::Cur(user(), "".into()), EventMask::DELETE, Some(OsStr::new("1.b.h")));
        assert_eq!(quiet(&due), QUIET);
        due.note(&new, EventMask::MOVED_TO, Some(OsStr::new("1.c.h")));
        assert_eq!(quiet(&due), QUIET);
    }

    #[test]
    fn indexes_and_locks_are_no_reason_to_look() {
        let mut due = Due::default();
        let top = Target::Top(user());
        for name in ["dovecot.index.log", "dovecot-uidlist.lock", "tmp"] {
            due.note(&top, EventMask::MODIFY, Some(OsStr::new(name)));
        }
        due.note(&top, EventMask::CREATE | EventMask::ISDIR, Some(OsStr::new("tmp")));
        assert!(due.pause(Instant::now()).is_none() && due.by_user.is_empty());
        due.note(&top, EventMask::MODIFY, Some(OsStr::new("maildirsize")));
        assert!(due.by_user.contains_key(&user()));
    }

    #[test]
    fn unrest_puts_a_look_off_for_a_second_at_most() {
        let mut due = Due::default();
        due.touch(false);
        let begun = Instant::now();
        due.since = Some((begun.checked_sub(QUIET_WAIT_MAX).unwrap(), begun));
        assert_eq!(due.pause(begun), Some(Duration::ZERO));
    }
}
