//! One subscription in memory: what is kept of it, and how it is doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shown;
use super::SubscriptionState;
use super::kept::{Kept, Owner};
use super::ready::Ready;
use super::worker::Cursors;
use crate::demand::Held;
use crate::feed::Seat;
use crate::lock::locked;
use crate::metrics::SubscriptionFigures;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    kept: Mutex<Kept>,
    /// What is kept of what it asks for, compiled; whoever takes it looks whether it is still that.
    ready: Mutex<Option<Arc<Ready>>>,
    pub(super) live: Live,
    pub(super) running: Mutex<Option<Running>>,
    /// What it wants to have made, as long as it does.
    held: Mutex<Option<Held>>,
}

/// How a subscription is doing; told by its worker, shown by the API.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) cursor: AtomicU64,
    /// 0 for none.
    pub(super) last_delivered: AtomicU64,
    pub(super) attempts: AtomicU64,
    /// Records it wanted.
    pub(super) matched: AtomicU64,
    /// Deliveries that were accepted.
    pub(super) accepted: AtomicU64,
    /// Requests in which several were.
    pub(super) batches: AtomicU64,
    /// Deliveries that failed and are attempted again, each time.
    pub(super) retried: AtomicU64,
    /// Deliveries given up.
    pub(super) given_up: AtomicU64,
    pub(super) dead_letters: AtomicU64,
    /// Dead letters that are to be delivered again.
    pub(super) redriving: AtomicU64,
    /// Dead letters that were delivered after all.
    pub(super) redriven: AtomicU64,
    /// Events of which its condition could not be judged.
    unclear: AtomicU64,
    last_unclear: Mutex<Option<String>>,
    last_error: Mutex<Option<String>>,
    trouble: Mutex<Option<String>>,
    /// Whether it was never at work since it was made or begun anew.
    pub(super) is_fresh: AtomicBool,
    /// When the next event may leave to it, where it is bounded how many may.
    pub(super) paced_until: Mutex<Option<Instant>>,
    /// Where it is told what concerns it, while it has nothing to do.
    resting: Mutex<Weak<Seat>>,
}

/// A worker at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) stop: watch::Sender<Stop>,
    pub(super) task: JoinHandle<()>,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// Go on.
    No,
    /// Begin nothing new; what is under way gets a moment.
    Gently,
    /// Drop everything.
    AtOnce,
}

impl Entry {
    pub(super) fn new(id: String, name: String, kept: Kept) -> Self {
        let live = Live { cursor: AtomicU64::new(kept.start), ..Live::default() };
        // Before the "@" that tells whose it is.
        let name = name.split('@').next().unwrap_or_default().to_owned();
        Self {
            id,
            name,
            kept: Mutex::new(kept),
            ready: Mutex::default(),
            live,
            running: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Whether this is what `asker` means: one of their own by its name or its id, and for whoever
    /// runs the hub anybody's by its id. Two owners may call theirs the same.
    pub(super) fn is_meant(&self, asker: Option<&Owner>, name_or_id: &str) -> bool {
        let is_named = self.name == name_or_id && (asker.is_some() || self.is_the_hubs());
        (is_named || self.id == name_or_id) && self.is_seen_by(asker)
    }

    /// Whether it is `asker`'s, or `asker` runs the hub.
    pub(super) fn is_seen_by(&self, asker: Option<&Owner>) -> bool {
        let Some(asker) = asker else { return true };
        self.kept().owner.as_ref().is_some_and(|owner| owner.is(asker))
    }

    /// Whether it is whoever runs the hub's.
    pub(super) fn is_the_hubs(&self) -> bool {
        self.kept().owner.is_none()
    }

    /// What the log and metrics call it: what users call theirs is their own affair, and two may meet.
    pub(super) fn label(&self) -> &str {
        if self.is_the_hubs() { &self.name } else { &self.id }
    }

    /// Its cursors in the journal, as of where it began last.
    /// Shows where it stands, as the hub starts.
    pub(super) fn stand(&self, journal: &dyn postbell_journal::Journal) {
        let start = self.kept().start;
        if let Some(done) = self.cursors().stand(journal, start) {
            self.live.cursor.store(done, Ordering::Relaxed);
        }
    }

    pub(super) fn cursors(&self) -> Cursors {
        Cursors::new(&self.id, self.kept().begun_anew)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    /// What it asks for, or asked for before, as far as that was compiled.
    pub(super) fn ready(&self) -> Option<Arc<Ready>> {
        locked(&self.ready).clone()
    }

    /// Has this used as long as it asks for it.
    pub(super) fn set_ready(&self, ready: Arc<Ready>) {
        *locked(&self.ready) = Some(ready);
    }

    /// Has this counted as what it wants to have made, in the place of what was.
    pub(super) fn wants(&self, held: Held) {
        *locked(&self.held) = Some(held);
    }

    /// Has nothing counted any more of one that has ended. Whoever has it go on says so first, and
    /// what it wants then, so that it can't be taken for one that has ended.
    pub(super) fn let_go_if_ended(&self) {
        let kept = self.kept();
        if kept.state == SubscriptionState::Ended {
            let held = locked(&self.held).take();
            drop(kept);
            drop(held);
        }
    }

    /// Whether what it wants is counted.
    #[cfg(test)]
    pub(super) fn is_counted(&self) -> bool {
        locked(&self.held).is_some()
    }

    /// The entity tag of how it stands.
    pub(super) fn etag(&self) -> String {
        self.kept().etag(&self.id)
    }

    /// As Prometheus is told of it; `last` is the newest record.
    pub(super) fn figures(&self, last: u64) -> SubscriptionFigures {
        let live = &self.live;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let cursor = live.reached();
        SubscriptionFigures {
            name: self.label().to_owned(),
            matched: of(&live.matched),
            accepted: of(&live.accepted),
            batches: of(&live.batches),
            retried: of(&live.retried),
            given_up: of(&live.given_up),
            dead_letters: of(&live.dead_letters),
            redriven: of(&live.redriven),
            unclear: of(&live.unclear),
            lag: last.saturating_sub(cursor),
            next: cursor.saturating_add(1),
            lag_seconds: 0.0,
        }
    }

    /// As the API shows it; `last` is the newest record.
    pub(super) fn shown(&self, last: u64) -> Shown {
        let kept = self.kept().clone();
        let live = &self.live;
        let cursor = live.reached();
        let last_delivered = live.last_delivered.load(Ordering::Relaxed);
        let (sink, expires, etag) = (kept.shown_sink(), kept.expires(), kept.etag(&self.id));
        Shown {
            id: self.id.clone(),
            name: self.name.clone(),
            owner: kept.owner.map(Owner::shown),
            events: kept.selection.events,
            users: kept.selection.users,
            mailboxes: kept.selection.mailboxes,
            condition: kept.selection.condition,
            parameters: kept.selection.parameters,
            parameters_of: kept.selection.parameters_of,
            tags: kept.selection.tags,
            flag_forms: kept.selection.flag_forms,
            begin: kept.begin,
            sink,
            state: kept.state,
            detail: kept.detail.or_else(|| locked(&live.trouble).clone()),
            cursor,
            lag: last.saturating_sub(cursor),
            last_delivered: (last_delivered != 0).then_some(last_delivered),
            attempts: live.attempts.load(Ordering::Relaxed),
            last_error: locked(&live.last_error).clone(),
            dead_letters: live.dead_letters.load(Ordering::Relaxed),
            redriving: live.redriving.load(Ordering::Relaxed),
            unclear: live.unclear.load(Ordering::Relaxed),
            last_unclear: locked(&live.last_unclear).clone(),
            created: kept.created,
            expires,
            etag,
        }
    }
}

impl Live {
    /// Up to where a worker before the one that begins may have got; `last` is the newest record.
    pub(super) fn inherited(&self, last: u64) -> u64 {
        if self.is_fresh.swap(false, Ordering::Relaxed) { 0 } else { last }
    }

    /// Whether it has nothing to do but wait for what may concern it, told at its seat.
    pub(super) fn rests(&self, seat: Option<&Arc<Seat>>) {
        let mut resting = locked(&self.resting);
        match seat {
            Some(seat) if Weak::as_ptr(&resting) == Arc::as_ptr(seat) => {}
            Some(seat) => *resting = Arc::downgrade(seat),
            None => *resting = Weak::new(),
        }
    }

    /// The last record done; nobody wakes a subscription for what doesn't concern it.
    pub(super) fn reached(&self) -> u64 {
        // What it stored before it came to rest is seen with that.
        let seat = locked(&self.resting).upgrade();
        let done = self.cursor.load(Ordering::Relaxed);
        seat.map_or(done, |seat| seat.reached(done))
    }

    /// Counts an event of which the condition could not be judged, and keeps why.
    pub(super) fn unclear(&self, why: String) {
        self.unclear.fetch_add(1, Ordering::Relaxed);
        *locked(&self.last_unclear) = Some(why);
    }

    pub(super) fn set_last_error(&self, error: Option<String>) {
        *locked(&self.last_error) = error;
    }

    /// How many dead letters there are, and how many of them are to be delivered again.
    pub(super) fn count_letters(&self, (all, marked): (u64, u64)) {
        self.dead_letters.store(all, Ordering::Relaxed);
        self.redriving.store(marked, Ordering::Relaxed);
    }

    /// What keeps it from going on; `true` where that is news.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut kept = locked(&self.trouble);
        let is_news = *kept != trouble;
        *kept = trouble;
        is_news
    }
}
