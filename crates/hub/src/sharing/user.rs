//! What is known about one user.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use postbell_engine::{Filter, Shared};
use postbell_journal::{Bounds, Seq};
use postbell_sources::SharedError;
use tokio::sync::{Notify, watch};
use tracing::debug;

use super::remembered::Said;
use super::{AGAIN_AFTER, Candidates, Lost, SUSPECTS_MAX, Times};
use crate::feed::Seat;
use crate::lock::locked;

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
    /// As the store said it last, to this hub or to the one before.
    pub(super) shared: Arc<Shared>,
    /// What was so before.
    pub(super) lost: Arc<Lost>,
    /// Up to which record it may have been judged what is to be delivered to them.
    used: Arc<AtomicU64>,
    /// Whether it may be otherwise by now: nothing of it counts before the next answer.
    pub(super) is_pending: bool,
    /// How often that was so.
    pub(super) changes: u64,
    /// Whether there may be more by now, while this goes on counting.
    pub(super) has_more: bool,
    /// How often that was so.
    additions: u64,
    /// Whether the store has said nothing yet.
    is_new: bool,
    /// Since when the next answer is waited for, where it is.
    waiting: Option<Instant>,
    /// Answers after which it had to be asked again at once, one after the other.
    futile: u32,
    /// When the store said it; nothing since it may be otherwise.
    told: Option<Instant>,
    /// When it was asked last, whatever came of it.
    asked: Option<Instant>,
    /// When it answered last, or was to be asked first.
    answered: Instant,
    times: Times,
}

impl Known {
    /// Whether it counts: the store said it a short while ago, and nothing since that it is otherwise.
    pub(super) fn counts(&self) -> bool {
        !self.is_pending && self.told.is_some_and(|told| told.elapsed() <= self.times.life_max)
    }

    /// What is to be remembered of it, where it counts.
    pub(super) fn said(&self) -> Option<Said> {
        let (shared, lost) = (Arc::clone(&self.shared), Arc::clone(&self.lost));
        self.counts().then(|| Said { shared, lost, used: Arc::clone(&self.used) })
    }

    /// Takes what the store says, and notes what isn't among it any more.
    fn take(&mut self, shared: Shared, bounds: Bounds) {
        let lost = self.shared.without(&shared);
        if !lost.is_empty() {
            let upto = self.used.load(Ordering::Relaxed);
            Arc::make_mut(&mut self.lost).add(lost, upto, bounds);
        }
        self.shared = Arc::new(shared);
    }

    /// Whether it is time to ask.
    pub(super) fn is_stale(&self) -> bool {
        self.is_pending || self.asked.is_none_or(|asked| asked.elapsed() > self.times.life)
    }

    /// Whether the store hasn't answered for so long that nobody waits for it any more.
    pub(super) fn is_lost(&self) -> bool {
        !self.counts() && self.answered.elapsed() > self.times.waited_for
    }

    /// How much longer the store's answer is waited for, by whomever it keeps waiting. All of them
    /// together wait no longer than one: who has their rights changed all the time is still told of
    /// what is theirs.
    pub(super) fn patience(&self) -> Duration {
        let times = &self.times;
        let patience = if self.is_new { times.patience_at_first } else { times.patience };
        patience.saturating_sub(self.waiting.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Lets nothing count before the next answer.
    fn pend(&mut self) {
        self.wait();
        self.is_pending = true;
        self.told = None;
        self.changes += 1;
    }

    /// Notes that the next answer is waited for.
    fn wait(&mut self) {
        self.waiting.get_or_insert_with(Instant::now);
    }
}

/// What was known of a user as the store was asked about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    changes: u64,
    additions: u64,
}

/// When the store is asked about a user again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Again {
    /// Then, whoever waits: its answers were of no use.
    After(Duration),
    /// By then, or as soon as somebody waits for it.
    Within(Duration),
}

impl User {
    /// One of whom the store has said this before, or nothing.
    pub(super) fn new(name: &str, said: Option<Said>, times: Times) -> Self {
        let is_new = said.is_none();
        let Said { shared, lost, used } = said.unwrap_or_default();
        let (known, _) = watch::channel(Known {
            is_pending: true,
            changes: 0,
            has_more: false,
            additions: 0,
            is_new,
            waiting: Some(Instant::now()),
            futile: 0,
            shared,
            lost,
            used,
            told: None,
            asked: None,
            answered: Instant::now(),
            times,
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
        let known = self.known.borrow();
        known.is_stale() || known.has_more
    }

    /// Lets nothing that is known count until the store has answered anew.
    pub(super) fn doubt(&self) {
        self.known.send_modify(Known::pend);
        self.again.notify_one();
    }

    /// Has the store asked before anything more of its mailboxes' owner is passed over: there may be
    /// one more that they read. Until then nobody waits for it, and it isn't asked.
    pub(super) fn extend(&self) {
        self.known.send_modify(|known| {
            known.has_more = true;
            known.additions += 1;
        });
    }

    /// Whether there may be more; then the store is asked now.
    pub(super) fn ask_for_more(&self) -> bool {
        let waits = |known: &mut Known| {
            let has_more = known.has_more;
            if has_more {
                known.wait();
            }
            has_more
        };
        let has_more = self.known.send_if_modified(waits);
        if has_more {
            self.again.notify_one();
        }
        has_more
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

    /// Begins to ask.
    pub(super) fn begin(&self) -> Begun {
        locked(&self.suspects).clear();
        let known = self.known.borrow();
        Begun { changes: known.changes, additions: known.additions }
    }

    /// Takes an answer of the store's, unless rights on something in it changed since it was asked;
    /// when it is asked again.
    pub(super) fn conclude(
        &self,
        begun: Begun,
        answer: Result<Shared, SharedError>,
        bounds: Bounds,
    ) -> Again {
        // Held until the answer is known: who comes later looks there.
        let suspects = locked(&self.suspects);
        let is_suspect = |shared: &Shared| {
            let in_it = |(owner, mailbox): &Suspect| shared.has(owner.as_deref(), mailbox);
            suspects.len() > SUSPECTS_MAX || suspects.iter().any(in_it)
        };
        if let Ok(shared) = &answer {
            // Before it is known: whoever sees that it is passes over what it wasn't led to. To what it
            // doesn't say any more as well, until it is known what that is.
            let mut all = Shared::clone(&self.known.borrow().shared);
            all.join(shared.clone());
            self.lead(&Arc::new(all));
        }
        let mut again = Again::After(Duration::ZERO);
        self.known.send_modify(|known| {
            let is_futile = known.changes != begun.changes || answer.as_ref().is_ok_and(is_suspect);
            let may_have_more = known.additions != begun.additions;
            if is_futile || may_have_more {
                again = Again::After(AGAIN_AFTER * (1 << known.futile.min(FUTILE_MAX)));
                known.futile = known.futile.saturating_add(1);
            } else {
                known.futile = 0;
            }
            if is_futile {
                if known.changes == begun.changes {
                    known.pend();
                }
                return;
            }
            known.asked = Some(Instant::now());
            let answer = match answer {
                // Who never had anything isn't waited for.
                Err(SharedError::NotLetIn(_)) if known.shared.is_empty() => Ok(Shared::default()),
                answer => answer,
            };
            let within = match answer {
                Ok(shared) => {
                    let now = Instant::now();
                    (known.told, known.answered) = (Some(now), now);
                    known.take(shared, bounds);
                    (known.is_new, known.is_pending) = (false, false);
                    known.has_more &= may_have_more;
                    if !may_have_more {
                        known.waiting = None;
                    }
                    let times = &known.times;
                    if self.is_present() { times.life } else { times.life_at_rest }
                }
                Err(why) => {
                    debug!(%why, "what is shared with a user isn't known");
                    (known.is_new, known.is_pending, known.has_more) = (false, false, false);
                    known.waiting = None;
                    known.times.retry
                }
            };
            if !known.has_more {
                again = Again::Within(within);
            }
        });
        drop(suspects);
        // Whoever joined meanwhile as well.
        let shared = Arc::clone(&self.known.borrow().shared);
        self.lead(&shared);
        again
    }

    /// What may turn out to be readable up to this record, for what is to be delivered by that; of what
    /// was lost, whatever was so behind `since`.
    pub(super) fn candidates(
        &self,
        seq: u64,
        since: u64,
        note_used: impl FnOnce(u64),
    ) -> Candidates {
        let mut candidates = Candidates::default();
        // No answer comes between: what is handed out here is lost up to here at least.
        self.known.send_if_modified(|known| {
            let (mut shared, mut lost) = (Arc::clone(&known.shared), Arc::clone(&known.lost));
            if known.is_lost() {
                // Nobody waits for it any more, but what was to come is held.
                let upto = known.used.load(Ordering::Relaxed);
                let bounds = Bounds { first: Seq(0), last: Seq(upto) };
                Arc::make_mut(&mut lost).add(Shared::clone(&shared), upto, bounds);
                shared = Arc::default();
            } else if !shared.is_empty() && known.used.fetch_max(seq, Ordering::Relaxed) < seq {
                note_used(seq);
            }
            candidates = Candidates::new(shared, lost, since);
            false
        });
        candidates
    }

    /// Has a reader woken for what others share, from now on; the seat is made with the filters it is
    /// given. The guide has looked up to `led_upto`.
    pub(super) fn join(
        &self,
        filter: &Filter,
        led_upto: u64,
        seat: impl FnOnce(Vec<Filter>) -> Arc<Seat>,
    ) -> Arc<Seat> {
        let mut seats = locked(&self.seats);
        // Under the lock, so that no answer comes between.
        let shared = {
            let known = self.known.borrow();
            known.lost.led(&known.shared, led_upto + 1)
        };
        let seat = seat(self.narrowed(filter, &shared));
        seats.push(Led { seat: Arc::downgrade(&seat), filter: filter.clone(), shared });
        seat
    }

    /// Has whoever wants it woken for what others share now. To somebody of whom nothing was read
    /// before the reader is led from where it stands: what came while the store was asked was passed
    /// over.
    fn lead(&self, shared: &Arc<Shared>) {
        let mut seats = locked(&self.seats);
        let lost = Arc::clone(&self.known.borrow().lost);
        seats.retain_mut(|led| {
            let Some(seat) = led.seat.upgrade() else { return false };
            let shared = lost.led(shared, seat.led_upto() + 1);
            if led.shared != shared {
                let is_more = shared.owners().any(|owner| !led.shared.is_of(owner))
                    || shared.nobodys().any(|mailbox| !led.shared.has(None, mailbox));
                let filters = self.narrowed(&led.filter, &shared);
                if is_more {
                    seat.widen(filters);
                } else {
                    seat.refilter(filters);
                }
                led.shared = shared;
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

    /// How long an answer counts about them, where a stream of theirs is open.
    pub(super) fn life(&self) -> Duration {
        self.known.borrow().times.life
    }

    /// Whether a stream of theirs is open.
    pub(super) fn is_present(&self) -> bool {
        Arc::strong_count(&self.present) > 1
    }

    /// Has all that the store said, and that it is waited for, be so much older.
    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        let older = |at: Option<Instant>| at.and_then(|at| at.checked_sub(by));
        self.known.send_modify(|known| {
            (known.told, known.asked) = (older(known.told), older(known.asked));
            known.waiting = older(known.waiting);
        });
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // So that the task sees that nobody wants to know any more.
        self.again.notify_one();
    }
}

/// How often the pause after a futile answer doubles: to ten seconds and a half.
const FUTILE_MAX: u32 = 9;
