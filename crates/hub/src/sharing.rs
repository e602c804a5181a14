//! Which mailboxes of others each user may read, as the store says, for as long as that holds.
//!
//! The engine decides by what is known here. What isn't known isn't seen: before the store has
//! answered, where it can't be asked, and from the moment on at which something says that rights
//! have changed until the store has answered anew.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use postbell_engine::{Filter, Keys, Principal, Role, Shared, View};
use postbell_journal::{Record, Seq};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::contents::Contents;
use crate::feed::{Feed, Seat, Step};
use crate::hub::stopped;

/// Who reads what of others; cheap to clone. Switched off, nobody reads anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    contents: Contents,
    feed: Feed,
    users: Mutex<HashMap<Box<str>, Weak<User>>>,
    /// The store is asked about so many at once.
    asking: Semaphore,
    /// It isn't asked before, since it couldn't be.
    rests_until: Mutex<Option<Instant>>,
    /// Up to which record what changes rights was looked for.
    looked: watch::Sender<u64>,
    runtime: Handle,
}

/// A user about whom the store is asked, as long as somebody wants to know.
#[derive(Debug)]
struct User {
    name: Box<str>,
    known: watch::Sender<Known>,
    again: Arc<Notify>,
    /// Who is to be woken for what others share, and of what wants only that.
    seats: Mutex<Vec<(Weak<Seat>, Filter)>>,
}

/// What is known about a user.
#[derive(Clone, Debug)]
struct Known {
    shared: Arc<Shared>,
    /// Whether it may be otherwise by now: nothing of it counts.
    is_pending: bool,
    /// How often that was so.
    changes: u64,
    /// When the store said it; what is older than [`LIFE_MAX`] counts no more.
    told: Option<Instant>,
}

impl Known {
    /// Whether the store said it a short while ago.
    fn is_fresh(&self) -> bool {
        self.told.is_some_and(|told| told.elapsed() <= LIFE_MAX)
    }
}

/// What one principal reads of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads(Option<(Arc<Inner>, Arc<User>)>);

impl Sharing {
    /// Asks the stores that the sources follow. Within the runtime.
    pub(crate) fn new(contents: Contents, feed: Feed) -> Self {
        let (looked, _) = watch::channel(feed.last());
        Self(Some(Arc::new(Inner {
            contents,
            feed,
            users: Mutex::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
            rests_until: Mutex::default(),
            looked,
            runtime: Handle::current(),
        })))
    }

    /// What this principal reads of others: a user of the hub's own store, whatever is shared with
    /// them; anybody else, nothing.
    pub(crate) fn of(&self, principal: &Principal) -> Reads {
        let Some(inner) = &self.0 else { return Reads(None) };
        let is_own = principal.role() == Role::User && principal.stores().elsewhere().is_none();
        let Some([name]) = principal.users().filter(|_| is_own) else { return Reads(None) };
        let mut users = inner.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.get(name).and_then(Weak::upgrade) {
            return Reads(Some((Arc::clone(inner), user)));
        }
        if users.len() >= USERS_TIDIED_FROM {
            users.retain(|_, user| user.strong_count() > 0);
        }
        let user = Arc::new(User::new(name));
        users.insert(name.clone(), Arc::downgrade(&user));
        drop(users);
        inner.runtime.spawn(keep(Arc::downgrade(inner), Arc::downgrade(&user)));
        Reads(Some((Arc::clone(inner), user)))
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
                Ok(Some(Step::Gap(_))) => inner.each(|user| user.doubt()),
                Ok(None) => {}
                Err(error) => {
                    // Meanwhile nothing of others is seen: nobody knows what it said.
                    debug!(%error, "what changes rights can't be looked for");
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
            }
            inner.looked.send_replace(reader.next_seq().saturating_sub(1));
        }
    }
}

impl Inner {
    fn each(&self, act: impl Fn(&User)) {
        let users: Vec<_> = {
            let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.values().filter_map(Weak::upgrade).collect()
        };
        users.iter().for_each(|user| act(user));
    }

    /// Doubts what is known of those whose rights a record may have changed.
    fn look(&self, record: &Record<'_>) {
        let view = Keys::from_head(record.head).view(record.body);
        if !CHANGING.contains(&&*view.name()) {
            return;
        }
        self.each(|user| {
            if user.is_concerned(&view, record.body) {
                user.doubt();
            }
        });
    }

    async fn ask(&self, user: &User) -> Result<Shared, String> {
        let Ok(_place) = self.asking.acquire().await else { return Err(String::new()) };
        let rests_until = || self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rests_until().is_some_and(|until| Instant::now() < until) {
            return Err("it could not be asked a moment ago".to_owned());
        }
        let mut tries = 1;
        loop {
            let (contents, name) = (self.contents.clone(), user.name.clone());
            let asked = spawn_blocking(move || contents.shared(&name)).await;
            let asked = asked.map_err(|error| error.to_string()).flatten();
            // A store that is busy for a moment is no reason to keep back what is theirs.
            let why = match asked {
                Ok(shared) => return Ok(shared),
                Err(why) => why,
            };
            if tries >= TRIES {
                warn!(why, "the store can't be asked what users share");
                *rests_until() = Some(Instant::now() + REST);
                return Err(why);
            }
            tries += 1;
        }
    }
}

/// Keeps what is known of a user up to date, as long as anybody wants to know.
async fn keep(inner: Weak<Inner>, user: Weak<User>) {
    loop {
        let (Some(inner), Some(user)) = (inner.upgrade(), user.upgrade()) else { return };
        let changes = user.known.borrow().changes;
        let answer = inner.ask(&user).await;
        let again = Arc::clone(&user.again);
        let pause = user.conclude(changes, answer);
        drop((inner, user));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = again.notified() => {}
        }
    }
}

impl User {
    fn new(name: &str) -> Self {
        let known = Known { shared: Arc::default(), is_pending: true, changes: 0, told: None };
        let (known, _) = watch::channel(known);
        Self { name: name.into(), known, again: Arc::default(), seats: Mutex::default() }
    }

    /// Whether an event may have changed what this user may read: it gives or takes rights on what
    /// they read, puts another mailbox in its place, or says that they got or lost some.
    fn is_concerned(&self, view: &View<'_>, json: &[u8]) -> bool {
        let (Some(owner), Some(mailbox)) = (view.owner(), view.mailbox()) else { return false };
        if *owner == *self.name {
            return json.windows(AFFECTED.len()).any(|octets| octets == AFFECTED);
        }
        view.name() != "MailboxDelete" && self.known.borrow().shared.has(&owner, &mailbox)
    }

    /// Lets nothing that is known count until the store has answered anew.
    fn doubt(&self) {
        self.known.send_modify(|known| {
            known.is_pending = true;
            known.changes += 1;
        });
        self.again.notify_one();
    }

    /// Takes an answer of the store's, unless there were changes since it was asked; how long until
    /// it is asked again.
    fn conclude(&self, changes: u64, answer: Result<Shared, String>) -> Duration {
        let pause = if answer.is_ok() { LIFE } else { RETRY };
        self.known.send_modify(|known| {
            if known.changes != changes {
                return;
            }
            match answer {
                Ok(shared) => {
                    known.told = Some(Instant::now());
                    known.shared = Arc::new(shared);
                }
                Err(why) => {
                    debug!(why, "what is shared with a user isn't known");
                    if known.is_pending || !known.is_fresh() {
                        known.shared = Arc::default();
                    }
                }
            }
            known.is_pending = false;
        });
        self.lead();
        pause
    }

    /// Has whoever wants it woken for what others share now.
    fn lead(&self) {
        let shared = Arc::clone(&self.known.borrow().shared);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|(seat, filter)| {
            let Some(seat) = seat.upgrade() else { return false };
            seat.refilter(self.narrowed(filter, &shared));
            true
        });
    }

    fn narrowed(&self, filter: &Filter, shared: &Shared) -> Filter {
        let mut users = vec![self.name.clone()];
        users.extend(shared.owners().map(Box::from));
        filter.of_users(Some(&users))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // So that the task sees that nobody wants to know any more.
        self.again.notify_one();
    }
}

impl Reads {
    /// What may be read of others, once everything up to this record is taken into account. It waits
    /// for the store, but not for long: where there is no answer, nothing. Who reads nothing of
    /// others waits for nothing.
    pub(crate) async fn up_to(&self, seq: u64) -> Arc<Shared> {
        let Some((inner, user)) = &self.0 else { return Arc::clone(&NOTHING) };
        {
            let known = user.known.borrow();
            if !known.is_pending && known.shared.is_empty() {
                return Arc::clone(&NOTHING);
            }
        }
        let settled = async {
            let mut looked = inner.looked.subscribe();
            looked.wait_for(|looked| *looked >= seq).await.ok()?;
            let mut known = user.known.subscribe();
            let known = known.wait_for(|known| !known.is_pending).await.ok()?;
            known.is_fresh().then(|| Arc::clone(&known.shared))
        };
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        settled.ok().flatten().unwrap_or_else(|| Arc::clone(&NOTHING))
    }

    /// The same for whoever begins to read now.
    pub(crate) async fn begin(&self) -> Arc<Shared> {
        self.up_to(0).await
    }

    /// A place with the guide for a reader, who is woken for what others share as well, also where
    /// they begin or cease to. Nothing up to `done` is wanted.
    pub(crate) fn join(
        &self,
        feed: &Feed,
        filter: &Filter,
        principal: &Principal,
        done: u64,
    ) -> Arc<Seat> {
        let seat = feed.join(filter.of_users(principal.users()), done);
        if let Some((_, user)) = &self.0 {
            let mut seats = user.seats.lock().unwrap_or_else(PoisonError::into_inner);
            seats.push((Arc::downgrade(&seat), filter.clone()));
            drop(seats);
            user.lead();
        }
        seat
    }
}

/// The last of some records.
pub(crate) fn last(seq: Option<Seq>) -> u64 {
    seq.map_or(0, |seq| seq.0)
}

static NOTHING: LazyLock<Arc<Shared>> = LazyLock::new(Arc::default);

/// Events after which rights may be others. What was deleted is read until something else is put in
/// its place: that it was deleted is told to those who read it.
const CHANGING: [&str; 4] =
    ["MailboxCreate", "MailboxDelete", "MailboxRename", "vnd.cmu.AclChange"];

/// What is on an event that tells a user of rights they got or lost on somebody else's mailbox.
const AFFECTED: &[u8] = b"\"vnd.postbell.affectedUser\"";

/// How long an answer of the store's counts, where nothing says that rights have changed.
const LIFE: Duration = Duration::from_secs(30);

/// How long it goes on counting where the store can't be asked.
const LIFE_MAX: Duration = Duration::from_secs(60);

/// When it is asked again where it couldn't be.
const RETRY: Duration = Duration::from_secs(10);

/// How long nobody is asked about after the store couldn't be asked: else each user would try.
const REST: Duration = Duration::from_secs(5);

/// How long a reader waits for the store's answer, of whom something of others is to be decided.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the store is asked until it counts as one that can't be.
const TRIES: u32 = 2;

/// Users the store is asked about at once.
const ASKED_AT_ONCE: usize = 4;

/// From how many users on those are forgotten whom nobody asks about.
const USERS_TIDIED_FROM: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(mailbox: &str) -> Shared {
        let mut shared = Shared::default();
        shared.add("ann", mailbox, "lr");
        shared
    }

    fn concerned(user: &User, name: &str, uri: &str, rest: &str) -> bool {
        let json = format!(
            r#"{{"event":"{name}","uri":"{uri}","timestamp":"2026-08-20T13:34:14+02:00"{rest}}}"#
        );
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        user.is_concerned(&view, json.as_bytes())
    }

    #[test]
    fn r162_what_changes_rights_is_doubted_at_once_and_nothing_else_is() {
        let user = User::new("bob");
        user.conclude(0, Ok(shared("Plans")));
        let affected = r#","vnd.postbell.affectedUser":"bob""#;
        for (name, uri, rest, wanted) in [
            ("vnd.cmu.AclChange", "imap://ann@h/Plans", "", true),
            ("MailboxCreate", "imap://ann@h/Plans", "", true),
            ("MailboxRename", "imap://ann@h/Plans", "", true),
            ("MailboxDelete", "imap://ann@h/Plans", "", false),
            ("vnd.cmu.AclChange", "imap://ann@h/Other", "", false),
            ("MailboxCreate", "imap://ann@h/Other", "", false),
            ("MailboxDelete", "imap://bob@h/shared/ann/Plans", affected, true),
            ("MailboxCreate", "imap://bob@h/shared/ann/New", affected, true),
            ("MailboxCreate", "imap://bob@h/New", "", false),
        ] {
            assert_eq!(concerned(&user, name, uri, rest), wanted, "{name} {uri}");
        }
    }

    #[test]
    fn r162_an_answer_from_before_a_change_counts_for_nothing() {
        let user = User::new("bob");
        let changes = user.known.borrow().changes;
        user.doubt();
        user.conclude(changes, Ok(shared("Plans")));
        assert!(user.known.borrow().is_pending && user.known.borrow().told.is_none());
        user.conclude(changes + 1, Ok(shared("Plans")));
        assert!(!user.known.borrow().is_pending && user.known.borrow().shared.has("ann", "Plans"));
    }

    #[test]
    fn r162_where_the_store_can_not_be_asked_what_was_known_counts_a_while_and_after_a_change_not_at_all()
     {
        let user = User::new("bob");
        let count = || user.known.borrow().shared.owners().count();
        user.conclude(0, Ok(shared("Plans")));
        assert_eq!(user.conclude(0, Err("away".to_owned())), RETRY);
        assert_eq!(count(), 1);
        let long_ago = Instant::now().checked_sub(LIFE_MAX + Duration::from_secs(1));
        user.known.send_modify(|known| known.told = long_ago);
        user.conclude(0, Err("away".to_owned()));
        assert_eq!(count(), 0);
        user.conclude(0, Ok(shared("Plans")));
        user.doubt();
        user.conclude(1, Err("away".to_owned()));
        assert_eq!((count(), user.known.borrow().is_pending), (0, false));
    }
}
