//! What anybody wants to have made: counted, told to whoever makes it, and in force before anybody
//! is told that they have subscribed (R24).
//!
//! Who joins counts at once. Where that is more than was wanted before, they wait until it is in
//! force: the spools' scripts can read it, and publishers have confirmed it, or had their time to.
//! Nobody is waited for longer than that, whatever hangs; then a gap is told, to each who joins.
//! Who leaves counts for a while longer, so that a stream that comes back finds no gap; so does
//! everything, after a start.

mod journalled;
mod publishers;
mod spools;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use postbell_engine::{Demand, Policy, Store, Tally};
use postbell_journal::Journal;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{error, warn};

use self::journalled::{Journalled, Noted};
pub(crate) use self::publishers::Publisher;
use self::publishers::Publishers;
pub(crate) use self::publishers::Reached as PublishersReached;
pub(crate) use self::spools::Reached;
use self::spools::Spools;
use crate::config::Record;
use crate::lock::locked;

/// What anybody wants; cheap to clone, and the clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Demands(Arc<Shared>);

/// What is counted as wanted as long as this is held, and some time longer.
#[derive(Debug)]
pub(crate) struct Held {
    demand: Demand,
    shared: Weak<Shared>,
}

/// What is wanted, and how often that has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) number: u64,
    pub(crate) demand: Demand,
    /// Since when.
    pub(crate) since: Instant,
}

/// What demand is kept under, and who is told of it.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) record: Record,
    /// How long who has left still counts.
    pub(crate) linger: Duration,
    /// How long whoever joins waits for publishers to confirm.
    pub(crate) confirm: Duration,
    /// How long they wait for spools, and then for the journal.
    pub(crate) patience: Duration,
    /// How often it is looked whether what was written into spools is still there.
    pub(crate) look_every: Duration,
    pub(crate) policy: Policy,
    pub(crate) store: Store,
    /// Spools whose scripts read it, by the names of their sources.
    pub(crate) spools: Vec<(String, PathBuf)>,
}

#[derive(Debug)]
struct Shared {
    terms: Terms,
    counts: Mutex<Counts>,
    /// What is let in; what is told to publishers.
    told: watch::Sender<Told>,
    /// What everybody who makes events has been told; nothing before the beginning.
    in_force: Mutex<Option<InForce>>,
    /// Held while what is in force changes; says in which round everybody was waited for last.
    changing: tokio::sync::Mutex<u64>,
    /// How many rounds have begun in which what is wanted was looked at.
    rounds: AtomicU64,
    /// The hub is going away: nothing is let go of any more.
    is_ending: AtomicBool,
    publishers: Publishers,
    spools: Spools,
    journalled: Journalled,
    /// Somebody has left.
    left: Notify,
    keeper: Mutex<Option<AbortHandle>>,
}

/// What everybody who makes events has been told, or was waited for in vain.
#[derive(Clone, Copy, Debug)]
struct InForce {
    demand: Demand,
    /// Who goes by what has this number, or by what was told later, leaves out nothing of it.
    number: u64,
}

/// For whom what is wanted comes into force.
#[derive(Clone, Copy, Debug)]
enum For {
    /// Somebody who has joined, when so many rounds had begun: is anybody still behind, they are told.
    Joining(u64),
    /// Those who have left, and who was told already.
    Others,
}

#[derive(Debug, Default)]
struct Counts {
    tally: Tally,
    /// Who has left and counts still, and until when.
    leaving: VecDeque<(Instant, Demand)>,
}

impl Demands {
    /// Nothing is told before [`Demands::begin`]; what is let in is everything until then.
    pub(crate) fn new(terms: Terms, journal: Arc<dyn Journal>) -> Self {
        let demand = Demand::everything().under(&terms.policy);
        let journalled = Journalled::new(journal, terms.store.clone(), demand, terms.patience);
        let spools = Spools::new(terms.spools.clone());
        Self(Arc::new(Shared {
            terms,
            counts: Mutex::default(),
            told: watch::Sender::new(Told { number: 1, demand, since: Instant::now() }),
            in_force: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            rounds: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            publishers: Publishers::default(),
            spools,
            journalled,
            left: Notify::new(),
            keeper: Mutex::default(),
        }))
    }

    /// Everything is wanted, and nobody told.
    #[cfg(test)]
    pub(crate) fn everything(journal: Arc<dyn Journal>) -> Self {
        let terms = Terms {
            record: Record::Everything,
            linger: Duration::ZERO,
            confirm: CONFIRM_MAX,
            patience: PATIENCE_MAX,
            look_every: LOOK_EVERY,
            policy: Policy::default(),
            store: tests::store(),
            spools: Vec::new(),
        };
        Self::new(terms, journal)
    }

    /// Tells everybody, and goes on to; those who want something from the start have been counted.
    pub(crate) async fn begin(&self) {
        // Streams of before come back in a while.
        drop(self.count(Demand::everything()));
        let shared = Arc::clone(&self.0);
        match spawn_blocking(move || shared.journalled.read()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "what was recorded before can't be read"),
            Err(error) => error!(%error, "reading what was recorded before panicked"),
        }
        self.0.spools.begin(&self.0.told.subscribe(), self.0.terms.look_every);
        self.apply(For::Others).await;
        let keeper = tokio::spawn(keep(Arc::downgrade(&self.0))).abort_handle();
        *locked(&self.0.keeper) = Some(keeper);
    }

    /// Counts what somebody wants, without waiting until it is in force.
    pub(crate) fn count(&self, demand: Demand) -> Held {
        locked(&self.0.counts).tally.add(&demand);
        Held { demand, shared: Arc::downgrade(&self.0) }
    }

    /// Counts what somebody wants; once this returns it is in force, or it is told that something may
    /// be missing. Takes a few seconds at most.
    pub(crate) async fn hold(&self, demand: Demand) -> Held {
        let held = self.count(demand);
        let rounds = self.0.rounds.load(Ordering::SeqCst);
        let in_force = *locked(&self.0.in_force);
        if !in_force.is_some_and(|in_force| self.0.is_met(in_force)) {
            self.apply(For::Joining(rounds)).await;
        }
        held
    }

    /// From now on nothing is let go of: the hub goes away, who is there goes with it, and what
    /// happens until they come back is theirs.
    pub(crate) fn keep_all(&self) {
        self.0.is_ending.store(true, Ordering::SeqCst);
    }

    /// What is wanted now: what is let in.
    pub(crate) fn now(&self) -> Demand {
        self.0.told.borrow().demand
    }

    /// How long it has been so.
    pub(crate) fn age(&self) -> Duration {
        self.0.told.borrow().since.elapsed()
    }

    /// How far the script of the source with this name has been told it; nothing where it has none.
    pub(crate) fn spool(&self, source: &str) -> Option<Reached> {
        self.0.spools.reached(source, self.0.told.borrow().number)
    }

    /// How far publishers have been told it.
    pub(crate) fn publishers(&self) -> PublishersReached {
        self.0.publishers.reached(self.0.told.borrow().number)
    }

    /// Whether only what is wanted is recorded.
    pub(crate) fn record(&self) -> Record {
        self.0.terms.record
    }

    /// How many want each event, those who have just left among them.
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        locked(&self.0.counts).tally.each().collect()
    }

    /// A place for a publisher that is told, and confirms what it was told.
    pub(crate) fn publisher(&self) -> Publisher {
        self.0.publishers.join(self.0.told.subscribe())
    }

    /// Has what is wanted now come into force. Whoever waits for it may go away meanwhile.
    async fn apply(&self, whom: For) {
        let shared = Arc::clone(&self.0);
        if let Err(error) = tokio::spawn(async move { shared.apply(whom).await }).await
            && error.is_panic()
        {
            error!(%error, "telling what is wanted panicked");
        }
    }
}

impl Shared {
    /// What is to be recorded.
    fn wanted(&self) -> Demand {
        let wanted = match self.terms.record {
            Record::Everything => Demand::everything(),
            Record::Wanted => locked(&self.counts).tally.union(),
        };
        wanted.under(&self.terms.policy)
    }

    /// Whether what is in force is all that is wanted, and nobody may go by less.
    fn is_met(&self, in_force: InForce) -> bool {
        let InForce { demand, number } = in_force;
        demand.covers(&self.wanted()) && self.spools.go_by(number) && self.publishers.go_by(number)
    }

    async fn apply(&self, whom: For) {
        let mut waited_in = self.changing.lock().await;
        let round = self.rounds.fetch_add(1, Ordering::SeqCst) + 1;
        let wanted = self.wanted();
        let before = *locked(&self.in_force);
        let more = before.map_or(wanted, |before| before.demand.union(wanted));
        let is_more = before.is_none_or(|before| before.demand != more);
        let is_behind = match whom {
            // Who joined while others were waited for is told what they are.
            For::Joining(rounds) => {
                *waited_in <= rounds && !before.is_some_and(|before| self.is_met(before))
            }
            For::Others => false,
        };
        if is_more || is_behind {
            *waited_in = round;
            self.raise(more).await;
        }
        if wanted != more {
            self.lower(more).await;
        }
    }

    /// Tells what the journal didn't take before.
    async fn tell_what_is_left(&self) {
        let _changing = self.changing.lock().await;
        let in_force = *locked(&self.in_force);
        if let Some(in_force) = in_force {
            // What isn't taken now is told the next time.
            self.journalled.note(in_force.demand).await;
        }
    }

    /// First everybody is told, then it is said to be recorded.
    async fn raise(&self, demand: Demand) {
        let before = locked(&self.in_force).filter(|before| before.demand == demand);
        let number = before.map_or_else(|| self.tell(demand), |before| before.number);
        let (troubles, confirmed) = tokio::join!(
            self.spools.told(number, self.terms.patience),
            self.publishers.confirmed(number, self.terms.confirm),
        );
        let late = (!confirmed).then(|| LATE.to_owned());
        for why in troubles.into_iter().chain(late) {
            warn!(why, "somebody may not make what is wanted by now");
            self.journalled.gap(why);
        }
        // Where that isn't taken, the journal says for a while that less is recorded than is.
        self.journalled.note(demand).await;
        *locked(&self.in_force) = Some(InForce { demand, number });
    }

    /// First it is in force no more, so that who comes meanwhile waits until more is again; then it is
    /// said to be recorded no more, and everybody is told.
    ///
    /// Before the journal has it nobody is told, since it would say that more is recorded than is; it
    /// is tried again later.
    async fn lower(&self, before: Demand) {
        let is_ending = || self.is_ending.load(Ordering::SeqCst);
        let demand = {
            let mut in_force = locked(&self.in_force);
            let demand = self.wanted();
            // Who came meanwhile and wants more has it raised. Who was there when the hub began to
            // end counts, and whether it has is asked after they were counted.
            let Some(now) = in_force.as_mut().filter(|_| before.covers(&demand) && !is_ending())
            else {
                return;
            };
            now.demand = demand;
            demand
        };
        if self.journalled.note(demand).await == Noted::Stands && !is_ending() {
            self.tell(demand);
        } else if let Some(now) = locked(&self.in_force).as_mut() {
            now.demand = before;
        }
    }

    fn tell(&self, demand: Demand) -> u64 {
        self.told.send_modify(|told| {
            if told.demand != demand {
                *told = Told { number: told.number + 1, demand, since: Instant::now() };
            }
        });
        self.told.borrow().number
    }

    /// Lets those go whose time is over; says when the next one's is.
    fn let_go(&self, now: Instant) -> Option<Instant> {
        let mut counts = locked(&self.counts);
        while let Some((_, demand)) = counts.leaving.pop_front_if(|(until, _)| *until <= now) {
            counts.tally.remove(&demand);
        }
        counts.leaving.front().map(|(until, _)| *until)
    }
}

/// Lets go of what nobody wants any more, and tells what could not be told before.
async fn keep(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let next = shared.let_go(Instant::now());
        shared.apply(For::Others).await;
        shared.tell_what_is_left().await;
        let again = Instant::now() + LOOK_EVERY;
        // Whoever leaves while nobody listens is remembered.
        tokio::select! {
            () = shared.left.notified() => {}
            () = tokio::time::sleep_until(next.unwrap_or(again).min(again)) => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let until = Instant::now() + shared.terms.linger;
        locked(&shared.counts).leaving.push_back((until, self.demand));
        shared.left.notify_one();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = locked(&self.keeper).take() {
            keeper.abort();
        }
    }
}

/// How long whoever joins waits for publishers to confirm what is wanted: one that lives answers in
/// a blink, and one that doesn't is told of as a gap.
pub(crate) const CONFIRM_MAX: Duration = Duration::from_secs(2);

/// How long they wait for what is written on disks, which take longer than this only where they hang.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// How often it is looked whether what was written into a spool is still there, and tried again what
/// the journal didn't take.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is told where a publisher does not confirm.
const LATE: &str = "a publisher did not confirm in time what is wanted";
