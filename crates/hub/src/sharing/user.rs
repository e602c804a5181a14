//! What is known about one user.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use postbell_engine::{Filter, Shared};
use tokio::sync::{Notify, watch};
use tracing::debug;

use super::{LIFE, LIFE_AT_REST, LIFE_MAX, RETRY, SUSPECTS_MAX, WAITED_FOR};
use crate::feed::Seat;

/// A user about whom the store is asked, as long as somebody wants to know.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Box<str>,
    pub(super) known: watch::Sender<Known>,
    pub(super) again: Arc<Notify>,
    /// Held once more by each stream that is open.
    pub(super) present: Arc<()>,
    /// Who is to be woken for what others share.
    seats: Mutex<Vec<Led>>,
    /// Where rights may have changed since the store was asked.
    suspects: Mutex<BTreeSet<Suspect>>,
}

/// The owner, if there is one, and the mailbox.
type Suspect = (Option<Box<str>>, Box<str>);

/// A reader who is led to what others share.
#[derive(Debug)]
struct Led {
    seat: Weak<Seat>,
    /// What it wants, whoever's it is.
    filter: Filter,
    /// What is led to.
    shared: Arc<Shared>,
}

/// What is known about a user.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// As the store said it last.
    pub(super) shared: Arc<Shared>,
    /// Whether it may be otherwise by now: nothing of it counts before the next answer.
    pub(super) is_pending: bool,
    /// How often that was so.
    pub(super) changes: u64,
    /// When the store said it; nothing since it may be otherwise.
    told: Option<Instant>,
    /// When it was asked last, whatever came of it.
    asked: Option<Instant>,
    /// When it answered last, or was to be asked first.
    answered: Instant,
}

impl Known {
    /// Whether it counts: the store said it a short while ago, and nothing since that it is otherwise.
    pub(super) fn counts(&self) -> bool {
        !self.is_pending && self.told.is_some_and(|told| told.elapsed() <= LIFE_MAX)
    }

    /// Whether it is time to ask.
    pub(super) fn is_stale(&self) -> bool {
        self.is_pending || self.asked.is_none_or(|asked| asked.elapsed() > LIFE)
    }

    /// Whether the store hasn't answered for so long that nobody waits for it any more.
    pub(super) fn is_lost(&self) -> bool {
        !self.counts() && self.answered.elapsed() > WAITED_FOR
    }

    /// Whether the store has ever been asked.
    pub(super) fn is_new(&self) -> bool {
        self.asked.is_none()
    }
}

impl User {
    pub(super) fn new(name: &str) -> Self {
        let shared = Arc::default();
        let (known, _) = watch::channel(Known {
            shared,
            is_pending: true,
            changes: 0,
            told: None,
            asked: None,
            answered: Instant::now(),
        });
        Self {
            name: name.into(),
            known,
            again: Arc::default(),
            present: Arc::default(),
            seats: Mutex::default(),
            suspects: Mutex::default(),
        }
    }

    /// Whether they read this mailbox, as far as the store has said.
    pub(super) fn has(&self, owner: Option<&str>, mailbox: &str) -> bool {
        self.known.borrow().shared.has(owner, mailbox)
    }

    /// Whether the store is to be asked before its answer is as old as it may be.
    pub(super) fn is_to_be_asked(&self) -> bool {
        self.known.borrow().is_stale()
    }

    /// Lets nothing that is known count until the store has answered anew.
    pub(super) fn doubt(&self) {
        self.known.send_modify(|known| {
            known.is_pending = true;
            known.told = None;
            known.changes += 1;
        });
        self.again.notify_one();
    }

    /// Notes, while the store is asked, that rights on a mailbox may have changed meanwhile.
    pub(super) fn suspect(&self, owner: Option<&str>, mailbox: &str) {
        let mut suspects = locked(&self.suspects);
        if suspects.len() <= SUSPECTS_MAX {
            suspects.insert((owner.map(Box::from), mailbox.into()));
        }
        drop(suspects);
        // The answer may have been taken just before.
        if self.has(owner, mailbox) {
            self.doubt();
        }
    }

    /// Begins to ask; the answer is of no use where there were more changes since than this.
    pub(super) fn begin(&self) -> u64 {
        locked(&self.suspects).clear();
        self.known.borrow().changes
    }

    /// Takes an answer of the store's, unless rights on something in it changed since it was asked; how
    /// long until it is asked again.
    pub(super) fn conclude(&self, changes: u64, answer: Result<Shared, String>) -> Duration {
        // Held until the answer is known: who comes later looks there.
        let suspects = locked(&self.suspects);
        let is_suspect = |shared: &Shared| {
            let in_it = |(owner, mailbox): &Suspect| shared.has(owner.as_deref(), mailbox);
            suspects.len() > SUSPECTS_MAX || suspects.iter().any(in_it)
        };
        if let Ok(shared) = &answer {
            // Before it is known: whoever sees that it is passes over what it wasn't led to.
            self.lead(&Arc::new(shared.clone()));
        }
        let mut pause = Duration::ZERO;
        self.known.send_modify(|known| {
            if known.changes != changes {
                return;
            }
            match answer {
                Ok(shared) if is_suspect(&shared) => {
                    known.is_pending = true;
                    known.told = None;
                    known.changes += 1;
                    return;
                }
                Ok(shared) => {
                    pause = if self.is_present() { LIFE } else { LIFE_AT_REST };
                    let now = Instant::now();
                    (known.told, known.answered) = (Some(now), now);
                    known.shared = Arc::new(shared);
                }
                Err(why) => {
                    debug!(why, "what is shared with a user isn't known");
                    pause = RETRY;
                }
            }
            known.asked = Some(Instant::now());
            known.is_pending = false;
        });
        drop(suspects);
        // Whoever joined meanwhile as well.
        let shared = Arc::clone(&self.known.borrow().shared);
        self.lead(&shared);
        pause
    }

    /// Has a reader woken for what others share, from now on; the seat is made with the filters it is
    /// given.
    pub(super) fn join(
        &self,
        filter: &Filter,
        seat: impl FnOnce(Vec<Filter>) -> Arc<Seat>,
    ) -> Arc<Seat> {
        let mut seats = locked(&self.seats);
        // Under the lock, so that no answer comes between.
        let shared = Arc::clone(&self.known.borrow().shared);
        let seat = seat(self.narrowed(filter, &shared));
        seats.push(Led { seat: Arc::downgrade(&seat), filter: filter.clone(), shared });
        seat
    }

    /// Has whoever wants it woken for what others share now. To somebody of whom nothing was read
    /// before the reader is led from where it stands: what came while the store was asked was passed
    /// over.
    fn lead(&self, shared: &Arc<Shared>) {
        let mut seats = locked(&self.seats);
        seats.retain_mut(|led| {
            let Some(seat) = led.seat.upgrade() else { return false };
            if led.shared != *shared {
                let is_more = shared.owners().any(|owner| !led.shared.is_of(owner))
                    || shared.nobodys().any(|mailbox| !led.shared.has(None, mailbox));
                let filters = self.narrowed(&led.filter, shared);
                if is_more {
                    seat.widen(filters);
                } else {
                    seat.refilter(filters);
                }
                led.shared = Arc::clone(shared);
            }
            true
        });
    }

    fn narrowed(&self, filter: &Filter, shared: &Shared) -> Vec<Filter> {
        let mut users = vec![self.name.clone()];
        users.extend(shared.owners().map(Box::from));
        let of_users = filter.of_users(Some(&users));
        [of_users].into_iter().chain(filter.of_mailboxes(shared.nobodys())).collect()
    }

    /// Whether a stream of theirs is open.
    fn is_present(&self) -> bool {
        Arc::strong_count(&self.present) > 1
    }

    /// Has all that the store said be so much older.
    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        let older = |at: Option<Instant>| at.and_then(|at| at.checked_sub(by));
        self.known.send_modify(|known| {
            (known.told, known.asked) = (older(known.told), older(known.asked));
        });
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // So that the task sees that nobody wants to know any more.
        self.again.notify_one();
    }
}

/// What is guarded is whole between any two steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
