//! Attempts under way, at what is new and at dead letters alike.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::iter::once;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mail_event::EventId;
use postbell_engine::{
    Attempt, BatchLimits, HEAD_OCTETS, Keys, Lanes, Moment, Next, Outcome, Shared, Turn,
};
use postbell_sinks::webhook::Answer;
use tokio::time::Instant;
use tracing::{error, warn};

use super::batch::Batch;
use super::carrier::Carrier;
use super::freezer::New;
use super::worker::{Job, dice};
use crate::metrics::EventIndex;
use crate::state::{Frozen, Generation};
use crate::traces::Attempted;

/// The deliveries of one subscription that are not done, and the attempts at them.
pub(super) struct Attempts<'a> {
    job: &'a Arc<Job>,
    pub(super) lanes: Lanes,
    /// By number.
    held: HashMap<u64, Held, BuildHasherDefault<Itself>>,
    held_octets: usize,
    /// On the task of whoever asks and not on ones of their own: a delivery that has to change
    /// threads costs more than sending it does.
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    began: Instant,
    /// When the receiver takes the next request, where one waits for that.
    held_back: Option<Instant>,
    /// Whose batches these are; none where each goes by itself.
    batcher: Option<Batcher>,
    /// Batches put together of which no attempt has ended that could say they are kept, by the first
    /// delivery of each: whether they are.
    unkept: HashMap<u64, Arc<AtomicBool>>,
}

/// A worker whose deliveries go in batches.
pub(super) struct Batcher {
    pub(super) generation: Generation,
    /// What is kept as going together since before it.
    pub(super) kept: HashSet<u64>,
}

/// A record on its way: a copy, so that it doesn't keep a whole block in memory.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) id: EventId,
    pub(super) head: [u8; HEAD_OCTETS],
    pub(super) body: Box<[u8]>,
    /// The number of the delivery before it.
    pub(super) prev_seq: Option<u64>,
    pub(super) whose: Whose,
}

/// Whether a record is its reader's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// Whatever the store's ACL says.
    Own,
    /// It is told as long as the store's ACL lets it be read.
    Others,
}

/// An attempt that has ended, and how.
pub(super) type Ended = (Attempt, Result<Answer, Unsettled>);

/// Nothing was sent, or no more of it, since nobody knows whether its owner may have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unsettled {
    /// Rights may be others than they were: that is being asked.
    Doubted,
    /// The store can't be asked.
    Unknown,
}

/// What follows from an attempt.
pub(super) struct Concluded {
    pub(super) attempt: Attempt,
    /// What else was in its batch.
    others: Vec<u64>,
    pub(super) next: Next,
    /// What it changed for the subscription as a whole.
    pub(super) turn: Turn,
    pub(super) reason: String,
}

impl Held {
    /// When it happened.
    pub(super) fn unix_millis(&self) -> i64 {
        i64::try_from(self.id.as_u128() >> ID_TIME_BEGINS).unwrap_or(i64::MAX)
    }
}

impl Batcher {
    /// A batch of these.
    fn batch(&self, seqs: Arc<[u64]>) -> New {
        let are_moved = seqs.iter().any(|seq| self.kept.contains(seq));
        New { generation: self.generation, seqs, are_moved }
    }
}

impl Concluded {
    /// The deliveries it was an attempt at.
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> {
        once(self.attempt.seq).chain(self.others.iter().copied())
    }

    /// Why each of them failed.
    pub(super) fn reason_for_each(&self) -> String {
        match self.others.len() {
            0 => self.reason.clone(),
            others => format!("{} (to a batch of {})", self.reason, others + 1),
        }
    }
}

impl<'a> Attempts<'a> {
    /// None yet. Batches are kept as this one's, where they go in such.
    pub(super) fn new(job: &'a Arc<Job>, lanes: Lanes, batcher: Option<Batcher>) -> Self {
        Self {
            job,
            lanes,
            held: HashMap::default(),
            held_octets: 0,
            under_way: FuturesUnordered::new(),
            began: Instant::now(),
            held_back: None,
            batcher,
            unkept: HashMap::new(),
        }
    }

    /// Whether another delivery may be held, of at most so many octets together.
    pub(super) fn has_room(&self, octets_max: usize) -> bool {
        let is_light = self.held_octets < octets_max || self.held.is_empty();
        // What is missing of a batch is taken whatever there is: all else waits for it.
        self.lanes.has_room() && (is_light || self.lanes.is_stuck())
    }

    /// Takes a delivery, unless it was taken before.
    pub(super) fn push(&mut self, seq: u64, lane: &[u8], held: Held) {
        let (octets, now) = (held.body.len(), self.now());
        let is_taken = match held.whose {
            Whose::Own => self.lanes.push(seq, lane, octets, now),
            Whose::Others => self.lanes.push_apart(seq, lane, octets, now),
        };
        if is_taken {
            self.held_octets += octets;
            self.held.insert(seq, held);
        }
    }

    /// Gives up a delivery that is done.
    pub(super) fn let_go(&mut self, seq: u64) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        self.held_octets = self.held_octets.saturating_sub(held.body.len());
        Some(held)
    }

    /// Starts what may start.
    pub(super) fn start(&mut self) {
        let now = self.now();
        self.held_back = None;
        while self.job.grant.is_good() && self.lanes.has_ready(now) {
            if let Err(at) = self.job.may_begin() {
                self.held_back = Some(at);
                break;
            }
            let Some(mut attempt) = self.lanes.start(now) else { break };
            if attempt.is_new && self.batcher.is_some() {
                self.unkept.insert(attempt.seq, Arc::default());
            }
            // Where the first attempt ended before the batch was kept, this one is to see to it.
            attempt.is_new |= self.unkept.contains_key(&attempt.seq);
            let begun = guarded(attempt, || match self.job.batch {
                Some(limits) => self.attempt_batch(&attempt, limits),
                None => self.attempt(&attempt),
            });
            if self.job.batch.is_some() {
                // Only now, as what doesn't fit was cut off it.
                self.job.also_has(self.lanes.others(attempt.seq).len());
            }
            self.under_way.push(self.traced(&attempt, begun));
        }
    }

    /// The same attempt, told as a span where its events are traced.
    fn traced(
        &self,
        attempt: &Attempt,
        begun: BoxFuture<'static, Ended>,
    ) -> BoxFuture<'static, Ended> {
        let traces = &self.job.context.traces;
        let held = self.held.get(&attempt.seq).filter(|_| traces.is_on());
        let Some(held) = held else { return begun };
        let others = self.lanes.others(attempt.seq);
        let attempted = Attempted {
            subscription: &self.job.entry.id,
            sink: self.job.carrier.word(),
            seq: attempt.seq,
            event: EventIndex::at(Keys::from_head(&held.head).place()),
            events: others.len() + 1,
            attempt: attempt.number,
        };
        let others = others.iter().filter_map(|seq| self.held.get(seq));
        let ids = once(held).chain(others).map(|held| held.id.as_u128());
        let Some(span) = traces.attempt(ids, attempted) else { return begun };
        let told = |(_, answer): &Ended| {
            if let Ok(answer) = answer {
                span.ended(answer.outcome);
            }
        };
        begun.inspect(told).boxed()
    }

    /// When something may start without anything having ended.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.lanes.next_due().map(|at| self.began + Duration::from_millis(at.0));
        // What is due and held back begins no sooner for being looked at.
        self.held_back.or(due)
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Moves them on; ready with one that has ended, or with nothing where there are none.
    pub(super) fn poll_next(&mut self, context: &mut task::Context<'_>) -> Poll<Option<Ended>> {
        self.under_way.poll_next_unpin(context)
    }

    /// Waits for one to end; nothing where there are none.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.under_way.next().await
    }

    /// Drops what is under way.
    pub(super) fn clear(&mut self) {
        self.under_way.clear();
    }

    /// Counts an attempt that has ended and says what follows; where that is the end of the
    /// subscription, it has ended in memory.
    pub(super) fn conclude(&mut self, (attempt, answer): Ended) -> Concluded {
        if self.unkept.get(&attempt.seq).is_some_and(|is_kept| is_kept.load(Ordering::Relaxed)) {
            self.unkept.remove(&attempt.seq);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(unsettled) => return self.put_back(attempt, unsettled),
        };
        let Answer { outcome, reason } = &answer;
        let live = &self.job.entry.live;
        live.attempts.fetch_add(1, Ordering::Relaxed);
        // Chance spreads repeats only, and asking the system for it costs a call.
        let dice = if matches!(outcome, Outcome::Failed { .. }) { dice() } else { 0 };
        let turn = self.job.concluded(&answer, dice);
        let others = self.lanes.others(attempt.seq).to_vec();
        let count = u64::try_from(others.len()).unwrap_or(u64::MAX).saturating_add(1);
        let next = self.lanes.conclude(attempt.seq, *outcome, self.now(), dice);
        if !matches!(next, Next::TryAt(_)) {
            self.unkept.remove(&attempt.seq);
        }
        match next {
            Next::Done => {
                if self.job.batch.is_some() {
                    live.batches.fetch_add(1, Ordering::Relaxed);
                }
                live.accepted.fetch_add(count, Ordering::Relaxed)
            }
            Next::TryAt(_) => live.retried.fetch_add(count, Ordering::Relaxed),
            Next::GiveUp => live.given_up.fetch_add(count, Ordering::Relaxed),
            Next::End => {
                warn!(subscription = %self.job.entry.label(), seq = attempt.seq, %reason, "the receiver wants nothing any more: the subscription has ended");
                self.job.entry.kept().end(format!("the receiver answered {reason}"));
                0
            }
        };
        Concluded { attempt, others, next, turn, reason: answer.reason }
    }

    /// Has it attempted again as if it had not been begun.
    fn put_back(&mut self, attempt: Attempt, unsettled: Unsettled) -> Concluded {
        let (pause, reason) = match unsettled {
            Unsettled::Doubted => (Duration::ZERO, "who shares what is being asked"),
            Unsettled::Unknown => {
                (self.job.reads.retry(), "the store can't be asked what others share")
            }
        };
        self.job.abandoned();
        let next = self.lanes.put_back(attempt.seq, self.now(), pause);
        let (turn, reason) = (Turn::Same, reason.to_owned());
        Concluded { attempt, others: Vec::new(), next, turn, reason }
    }

    fn attempt(&self, attempt: &Attempt) -> BoxFuture<'static, Result<Answer, Unsettled>> {
        let Some(held) = self.held.get(&attempt.seq) else {
            error!(seq = attempt.seq, "a delivery was not held where it should be");
            let reason = "it was not held".to_owned();
            return ready(Ok(Answer { outcome: Outcome::Accepted, reason })).boxed();
        };
        self.job.attempt(attempt.seq, held)
    }

    /// The same at all of a batch. One put together for this is kept first, so that its id never
    /// stands for others.
    fn attempt_batch(
        &mut self,
        attempt: &Attempt,
        limits: BatchLimits,
    ) -> BoxFuture<'static, Result<Answer, Unsettled>> {
        let Carrier::Webhook(webhook) = &self.job.carrier else { return self.attempt(attempt) };
        // As it is likely to be: settled is it where it is sent.
        let shared = self.job.reads.known();
        let mut batch = Batch::new(&self.job.entry.id);
        let others = self.lanes.others(attempt.seq).to_vec();
        // By how much it may grow as it stands.
        let mut growth = 0_usize;
        for (seq, before) in once(attempt.seq).chain(others).zip(0..) {
            let Some(held) = self.held.get(&seq) else {
                error!(seq, "a delivery was not held where it should be");
                continue;
            };
            let whole = batch.body.len();
            batch.add(self.job, seq, held, &shared);
            if attempt.is_new && held.whose == Whose::Others {
                let octets = batch.body.len() - whole;
                growth += self.job.octets_at_most(seq, held).saturating_sub(octets);
            }
            // With the bracket at its end; and never without any.
            if attempt.is_new && before > 0 && batch.body.len() + growth >= limits.octets {
                batch.take_back(whole);
                self.lanes.cut(attempt.seq, before);
                break;
            }
        }
        let (id, body, references) = batch.finish();
        // One alone may be larger than a batch.
        let is_alone = self.lanes.others(attempt.seq).is_empty();
        let octets_max = if is_alone { usize::MAX } else { limits.octets };
        let seqs = once(attempt.seq).chain(self.lanes.others(attempt.seq).iter().copied());
        let batcher = self.batcher.as_ref().filter(|_| attempt.is_new);
        let new = batcher.map(|batcher| batcher.batch(seqs.collect()));
        let is_kept = self.unkept.get(&attempt.seq).map(Arc::clone);
        let (job, webhook) = (Arc::clone(self.job), Arc::clone(webhook));
        let unsettled = self.batch_with_others(attempt.seq);
        async move {
            if let Some(new) = new {
                match job.context.freezer.freeze(&job.entry, new).await {
                    // Another worker has begun, so this one has been told to stop, and drops this.
                    Frozen::Late => return pending().await,
                    Frozen::Kept => {
                        if let Some(is_kept) = &is_kept {
                            is_kept.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
            let Some(members) = unsettled else {
                let body = job.context.links.settle(body, references, octets_max).await;
                return Ok(webhook.post(id, body.into(), SystemTime::now()).await);
            };
            let send = |shared: &Shared| {
                let mut batch = Batch::new(&job.entry.id);
                for (seq, held) in &members {
                    batch.add(&job, *seq, held, shared);
                }
                let (id, body, references) = batch.finish();
                let links = Arc::clone(&job.context.links);
                async move {
                    let body = links.settle(body, references, octets_max).await;
                    webhook.post(id, body.into(), SystemTime::now()).await
                }
                .boxed()
            };
            job.settled(send).await
        }
        .boxed()
    }

    /// All of a batch, where some of it is others'.
    fn batch_with_others(&self, seq: u64) -> Option<Vec<(u64, Held)>> {
        let seqs = once(seq).chain(self.lanes.others(seq).iter().copied());
        let members = seqs.filter_map(|seq| Some((seq, self.held.get(&seq)?)));
        let is_others = |(_, held): (u64, &Held)| held.whose == Whose::Others;
        members
            .clone()
            .any(is_others)
            .then(|| members.map(|(seq, held)| (seq, held.clone())).collect())
    }

    fn now(&self) -> Moment {
        Moment(0).after(self.began.elapsed())
    }
}

/// An attempt of which a panic, in beginning it or later, is a failure like any other: it ends
/// nobody else's.
fn guarded(
    attempt: Attempt,
    begin: impl FnOnce() -> BoxFuture<'static, Result<Answer, Unsettled>>,
) -> BoxFuture<'static, Ended> {
    let panicked = || {
        error!("an attempt panicked");
        let outcome = Outcome::Failed { retry_after: None };
        Ok(Answer { outcome, reason: "the attempt panicked".to_owned() })
    };
    match catch_unwind(AssertUnwindSafe(begin)) {
        Ok(answer) => AssertUnwindSafe(answer)
            .catch_unwind()
            .map(move |answer| (attempt, answer.unwrap_or_else(|_| panicked())))
            .boxed(),
        Err(_) => ready((attempt, panicked())).boxed(),
    }
}

/// A number is its own hash, but for the upper bits, which tables look at as well: records'
/// numbers follow each other, and nobody chooses them.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*octet));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number ^ (number << 57);
    }
}

/// Before the 80 bits of an id that are its own stands its time.
const ID_TIME_BEGINS: u32 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_that_panics_has_failed_whether_it_began_or_not() {
        let attempt = Attempt { seq: 7, prev_seq: None, number: 1, is_new: true };
        let begun = guarded(attempt, || async { panic!("begun") }.boxed()).await;
        let never = guarded(attempt, || panic!("never begun")).await;
        for (which, answer) in [begun, never] {
            assert_eq!(which, attempt);
            let answer = answer.unwrap();
            assert_eq!(answer.outcome, Outcome::Failed { retry_after: None });
            assert_eq!(answer.reason, "the attempt panicked");
        }
    }
}
