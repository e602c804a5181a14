//! Which mailboxes of others each user may read, as the store says, for as long as that holds.
//!
//! The engine decides by what is known here. What isn't known isn't seen: before the store has
//! answered, where it can't be asked, and from the moment on at which something says that rights
//! have changed until the store has answered anew.

mod lost;
mod reads;
mod remembered;
#[cfg(test)]
mod tests;
mod times;
mod user;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use postbell_engine::{Keys, Principal, Role, Shared};
use postbell_journal::{Record, Seq};
use postbell_sources::SharedError;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

pub(crate) use self::lost::{Candidates, Lost};
pub(crate) use self::reads::{Reads, Unknown};
pub(crate) use self::remembered::Remembered;
pub(crate) use self::times::Times;
use self::user::{Again, User};
use crate::feed::{Feed, Step};
use crate::hub::stopped;
use crate::lock::locked;

/// Who reads what of others; cheap to clone. Switched off, nobody reads anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing(Option<Arc<Inner>>);

struct Inner {
    ask: Box<Ask>,
    feed: Feed,
    users: Mutex<Users>,
    /// The store is asked about so many at once.
    asking: Semaphore,
    /// What it said before.
    remembered: Remembered,
    /// It isn't asked before, since it couldn't be.
    rests_until: Mutex<Option<Instant>>,
    /// Up to which record what changes rights was looked for.
    looked: watch::Sender<u64>,
    times: Times,
    runtime: Handle,
}

/// Asks the stores what is shared with a user, or says why they don't say it. Blocks.
type Ask = dyn Fn(&str) -> Result<Shared, SharedError> + Send + Sync;

/// About whom the store is asked, so that a change is told to whom it concerns without looking at
/// everybody.
#[derive(Debug, Default)]
struct Users {
    by_name: HashMap<Box<str>, Weak<User>>,
    /// The names of those who read something of an owner's, or of nobody's.
    readers: HashMap<Option<Box<str>>, BTreeSet<Box<str>>>,
    /// About whom the store is being asked at the moment.
    asked: Vec<Weak<User>>,
}

impl Sharing {
    /// Asks by `ask` what is shared with a user, and keeps the answers with those that are `remembered`;
    /// within the runtime.
    pub(crate) fn new(
        ask: impl Fn(&str) -> Result<Shared, SharedError> + Send + Sync + 'static,
        feed: Feed,
        remembered: Remembered,
        times: Times,
    ) -> Self {
        remembered.used_up_to(|user| used_by_the_one_before(&feed, user));
        let (looked, _) = watch::channel(feed.last());
        Self(Some(Arc::new(Inner {
            ask: Box::new(ask),
            feed,
            users: Mutex::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
            remembered,
            rests_until: Mutex::default(),
            looked,
            times,
            runtime: Handle::current(),
        })))
    }

    /// What this principal reads of others: a user of the hub's own store, whatever is shared with
    /// them; anybody else, nothing.
    pub(crate) fn of(&self, principal: &Principal) -> Reads {
        let Some(inner) = &self.0 else { return Reads::default() };
        let is_own = principal.role() == Role::User && principal.stores().elsewhere().is_none();
        let Some([name]) = principal.users().filter(|_| is_own) else { return Reads::default() };
        let mut users = inner.users();
        if let Some(user) = users.named(name) {
            return Reads::of(inner, user);
        }
        users.tidy();
        let said = inner.remembered.of(name);
        if let Some(said) = &said {
            users.reads(name, Shared::NONE, &said.shared);
        }
        let user = Arc::new(User::new(name, said, inner.times));
        users.by_name.insert(name.clone(), Arc::downgrade(&user));
        drop(users);
        inner.runtime.spawn(keep(Arc::downgrade(inner), Arc::downgrade(&user)));
        Reads::of(inner, user)
    }

    /// Looks for what changes rights in whatever is journalled, until the hub stops.
    pub(crate) async fn watch(self, mut stopping: watch::Receiver<bool>) {
        let Some(inner) = self.0 else { return };
        let mut reader = inner.feed.reader(*inner.looked.borrow() + 1);
        loop {
            let step = async {
                reader.more().await;
                reader.try_next().await
            };
            let step = tokio::select! {
                step = step => step,
                () = stopped(&mut stopping) => return,
            };
            match step {
                Ok(Some(Step::Records(records))) => {
                    records.iter().for_each(|record| inner.look(&record));
                }
                Ok(Some(Step::Gap(_))) => inner.all().iter().for_each(|user| user.doubt()),
                Ok(None) => {}
                Err(error) => {
                    // Meanwhile nothing of others is seen: nobody knows what it said.
                    debug!(%error, "what changes rights can't be looked for");
                    tokio::time::sleep(inner.times.patience).await;
                    continue;
                }
            }
            inner.looked.send_replace(reader.next_seq().saturating_sub(1));
        }
    }
}

impl Inner {
    /// Keeps up to which record it was judged by what a user may read what is to be delivered.
    fn note_used(&self, user: &str, seq: u64) {
        if let Err(error) = self.feed.journal().set_cursor(&used_name(user), Some(Seq(seq))) {
            // The journal says so itself, and nothing is judged without one.
            debug!(%error, "how far a user's deliveries were judged isn't kept");
        }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        locked(&self.users)
    }

    fn all(&self) -> Vec<Arc<User>> {
        self.users().by_name.values().filter_map(Weak::upgrade).collect()
    }

    /// Doubts what is known of those whose rights a record may have changed: it gives or takes
    /// rights on what they read, puts another mailbox in its place, or says that they got or lost
    /// some. What the store is being asked about meanwhile may have been answered before that.
    fn look(&self, record: &Record<'_>) {
        let view = Keys::from_head(record.head).view(record.body);
        let name = view.name();
        if !CHANGING.contains(&&*name) {
            return;
        }
        let (owner, Some(mailbox)) = (view.owner(), view.mailbox()) else { return };
        let owner = owner.as_deref();
        let is_told = record.body.windows(AFFECTED.len()).any(|octets| octets == AFFECTED);
        let [affected, readers, asked] = self.users().concerned(owner, is_told);
        affected.iter().for_each(|user| user.doubt());
        // What was deleted is read until something else is put in its place: that it was deleted is
        // told to those who read it.
        if name == "MailboxDelete" {
            return;
        }
        // It may be shared as it begins, as what is below a shared mailbox is. To one that is nobody's
        // a reader isn't led before it is known.
        let adds = ADDING.contains(&&*name);
        for user in readers {
            if user.has(owner, &mailbox) || (adds && owner.is_none()) {
                user.doubt();
            } else if adds {
                user.extend();
            }
        }
        asked.iter().for_each(|user| user.suspect(owner, &mailbox));
    }

    /// Asks about a user, and takes the answer; when they are asked about again.
    async fn renew(self: &Arc<Self>, user: &Arc<User>) -> Again {
        let Ok(_place) = self.asking.acquire().await else { return Again::After(self.times.retry) };
        let begun = user.begin();
        self.users().asked.push(Arc::downgrade(user));
        let answer = self.answer(user).await;
        let (is_said, before) = (answer.is_ok(), Arc::clone(&user.known.borrow().shared));
        let again = user.conclude(begun, answer, self.feed.journal().bounds());
        let now = Arc::clone(&user.known.borrow().shared);
        self.users().reads(&user.name, &before, &now);
        let said = user.known.borrow().said().filter(|_| is_said);
        if let Some(said) = said {
            self.remembered.keep(&user.name, said);
        }
        // Only now: until then what changes may be in the answer already, and not known yet.
        self.users().asked.retain(|one| !std::ptr::eq(one.as_ptr(), Arc::as_ptr(user)));
        again
    }

    async fn answer(self: &Arc<Self>, user: &User) -> Result<Shared, SharedError> {
        let rests_until = || locked(&self.rests_until);
        if rests_until().is_some_and(|until| Instant::now() < until) {
            return Err(SharedError::Away("it could not be asked a moment ago".to_owned()));
        }
        let mut tries = 1;
        loop {
            let (inner, name) = (Arc::clone(self), user.name.clone());
            let asked = spawn_blocking(move || (inner.ask)(&name)).await;
            let asked = asked.map_err(|error| SharedError::Away(error.to_string())).flatten();
            // A store that is busy for a moment is no reason to keep back what is theirs.
            let why = match asked {
                Err(why @ SharedError::Away(_)) => why,
                // Nobody else's answer would be another.
                said => return said,
            };
            if tries >= TRIES {
                warn!(%why, "the store can't be asked what users share");
                *rests_until() = Some(Instant::now() + self.times.rest);
                return Err(why);
            }
            tries += 1;
        }
    }
}

impl Users {
    fn named(&self, name: &str) -> Option<Arc<User>> {
        self.by_name.get(name).and_then(Weak::upgrade)
    }

    /// The user themselves where they are told of rights, those who read something of theirs, and
    /// those who are being asked about.
    fn concerned(&self, owner: Option<&str>, is_told: bool) -> [Vec<Arc<User>>; 3] {
        let affected = owner.filter(|_| is_told).and_then(|owner| self.named(owner));
        let affected = affected.into_iter().collect();
        let readers = self.readers.get(&owner.map(Box::from)).into_iter().flatten();
        let readers = readers.filter_map(|name| self.named(name)).collect();
        let asked = self.asked.iter().filter_map(Weak::upgrade);
        [affected, readers, asked.filter(|user| Some(&*user.name) != owner).collect()]
    }

    /// Notes whose mailboxes a user reads by now.
    fn reads(&mut self, user: &str, before: &Shared, shared: &Shared) {
        let owners = |of: &Shared| {
            let nobody = of.is_of(None).then_some(None);
            of.owners().map(Box::from).map(Some).chain(nobody).collect::<BTreeSet<_>>()
        };
        let (before, now) = (owners(before), owners(shared));
        for owner in before.difference(&now) {
            if let Some(readers) = self.readers.get_mut(owner) {
                readers.remove(user);
            }
        }
        for owner in now {
            self.readers.entry(owner).or_default().insert(user.into());
        }
    }

    /// Forgets those whom nobody asks about, where there are many.
    fn tidy(&mut self) {
        if self.by_name.len() < USERS_TIDIED_FROM {
            return;
        }
        self.by_name.retain(|_, user| user.strong_count() > 0);
        let by_name = &self.by_name;
        self.readers.retain(|_, readers| {
            readers.retain(|name| by_name.contains_key(name));
            !readers.is_empty()
        });
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("users", &self.users).finish_non_exhaustive()
    }
}

/// Keeps what is known of a user up to date, as long as anybody wants to know.
async fn keep(inner: Weak<Inner>, user: Weak<User>) {
    loop {
        let (Some(asking), Some(asked)) = (inner.upgrade(), user.upgrade()) else { return };
        let again = Arc::clone(&asked.again);
        let renewed = asking.renew(&asked).await;
        drop((asking, asked));
        let mut until = match renewed {
            Again::After(pause) => {
                tokio::time::sleep(pause).await;
                continue;
            }
            Again::Within(pause) => tokio::time::Instant::now() + pause,
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = again.notified() => {}
            }
            let Some(user) = user.upgrade() else { return };
            if user.is_to_be_asked() {
                break;
            }
            if user.is_present() {
                until = until.min(tokio::time::Instant::now() + user.life());
            }
        }
    }
}

/// The journal's cursor for it; subscriptions' have other names.
pub(crate) fn used_name(user: &str) -> String {
    format!("shared/{user}")
}

/// Up to where the hub before this one judged by what a user may read what is to be delivered. One
/// that was killed may have got a little further: what it named then may not come, which is
/// better than to tell how much happened after a right was lost.
fn used_by_the_one_before(feed: &Feed, user: &str) -> u64 {
    last(feed.journal().cursor(&used_name(user)).ok().flatten())
}

/// The last of some records.
pub(crate) fn last(seq: Option<Seq>) -> u64 {
    seq.map_or(0, |seq| seq.0)
}

/// Events after which rights may be others.
const CHANGING: [&str; 4] =
    ["MailboxCreate", "MailboxDelete", "MailboxRename", "vnd.cmu.AclChange"];

/// Those of them after which an owner may have one more that is shared.
const ADDING: [&str; 2] = ["MailboxCreate", "MailboxRename"];

/// What is on an event that tells a user of rights they got or lost on somebody else's mailbox.
const AFFECTED: &[u8] = b"\"vnd.postbell.affectedUser\"";

/// When it is asked again where rights changed while it answered; each time twice as long.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How often the store is asked until it counts as one that can't be.
const TRIES: u32 = 2;

/// Users the store is asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// Mailboxes in which rights may have changed while the store is asked, at most; with more, its
/// answer counts for nothing, whatever is in it.
const SUSPECTS_MAX: usize = 1_000;

/// From how many users on those are forgotten whom nobody asks about.
const USERS_TIDIED_FROM: usize = 1_000;
