//! What carries one subscription's records to its receiver.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mail_event::EventId;
use postbell_engine::{
    Attempt, Filter, HEAD_OCTETS, Keys, Lanes, Moment, Next, Outcome, Projection, Stamp, event_id,
};
use postbell_journal::{ReadError, Records, Seq};
use postbell_sinks::webhook::{Answer, Webhook, write_body};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::entry::{Entry, Stop};
use super::{Context, SubscriptionState};
use crate::feed::{Gap, Reader, Step};
use crate::metrics::SubscriptionMetrics;
use crate::state::DeadLetter;
use crate::stream::gap_event;
use crate::token::fill_random;

/// What a worker is made from, again after each trouble.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    pub(super) context: Arc<Context>,
    pub(super) filter: Filter,
    pub(super) projection: Projection,
    pub(super) webhook: Arc<Webhook>,
    pub(super) metrics: SubscriptionMetrics,
}

impl Job {
    /// Delivers until told to stop, or until the receiver wants nothing any more.
    pub(super) async fn run(self, mut stop: watch::Receiver<Stop>) {
        loop {
            let trouble = match Worker::begin(&self).await {
                Ok(mut worker) => match worker.work(&mut stop).await {
                    Ok(()) => return,
                    Err(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            let message = trouble.to_string();
            if self.entry.live.set_trouble(Some(message.clone())) {
                error!(subscription = %self.entry.name, error = %message, "a subscription can't go on; it is tried again and again");
            }
            let stopped = stop.wait_for(|stop| *stop != Stop::No);
            if tokio::time::timeout(TROUBLE_PAUSE, stopped).await.is_ok() {
                return;
            }
        }
    }
}

/// Why a worker begins anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the journal can't be read: {0}")]
    Journal(#[from] ReadError),
    #[error("an attempt panicked")]
    Panicked,
}

/// A worker at work, from a cursor on.
struct Worker<'a> {
    job: &'a Job,
    reader: Reader,
    lanes: Lanes,
    /// The deliveries not done, by number.
    held: HashMap<u64, Held>,
    held_octets: usize,
    /// Records read and not looked at yet, from this number on.
    chunk: Option<(Records, u64)>,
    /// Under way on this task and not on ones of their own: a delivery that has to change threads
    /// costs more than sending it does.
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Deliveries that failed and are to be tried again.
    failing: HashSet<u64>,
    began: Instant,
    saved: Option<u64>,
    cursors: Cursors,
}

/// A record on its way: a copy, so that it doesn't keep a whole block in memory.
struct Held {
    id: EventId,
    head: [u8; HEAD_OCTETS],
    body: Box<[u8]>,
}

/// An attempt that has ended, unless it panicked.
type Ended = Result<(Attempt, Answer), Box<dyn Any + Send>>;

/// What reading on led to.
enum Read {
    Something,
    Nothing,
}

impl<'a> Worker<'a> {
    async fn begin(job: &'a Job) -> Result<Self, Trouble> {
        let context = &job.context;
        let cursors = Cursors::new(&job.entry.id);
        let start = job.entry.kept().start;
        let (done, told) = cursors.load(job, start).await?;
        job.entry.live.cursor.store(done, Ordering::Relaxed);
        let lanes =
            Lanes::new(context.schedule.clone(), done, told, context.lanes, WINDOW_DELIVERIES);
        Ok(Self {
            job,
            reader: context.feed.reader(done + 1),
            lanes,
            held: HashMap::new(),
            held_octets: 0,
            chunk: None,
            attempts: FuturesUnordered::new(),
            failing: HashSet::new(),
            began: Instant::now(),
            saved: None,
            cursors,
        })
    }

    async fn work(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Trouble> {
        loop {
            while let Some(Some(ended)) = self.attempts.next().now_or_never() {
                if self.conclude(ended, stop).await? {
                    return Ok(());
                }
            }
            if *stop.borrow_and_update() != Stop::No {
                return self.wind_down(stop).await;
            }
            self.start_attempts();
            if self.attempts.is_empty()
                || self.lanes.cursor() >= self.saved.unwrap_or(0).saturating_add(SAVE_EVERY)
            {
                self.save();
            }
            if self.has_room() && matches!(self.read().await?, Read::Something) {
                // Others have their turn between two chunks.
                tokio::task::yield_now().await;
                continue;
            }
            self.job.entry.live.set_trouble(None);
            let due = self.lanes.next_due().map(|at| self.began + Duration::from_millis(at.0));
            let has_room = self.has_room();
            tokio::select! {
                biased;
                changed = stop.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                Some(ended) = self.attempts.next() => {
                    if self.conclude(ended, stop).await? {
                        return Ok(());
                    }
                }
                () = sleep_until(due) => {}
                () = self.reader.more(), if has_room => {}
            }
        }
    }

    /// Whether another delivery may be held.
    fn has_room(&self) -> bool {
        self.lanes.has_room() && (self.held_octets < WINDOW_OCTETS || self.held.is_empty())
    }

    /// Looks at what comes next, as far as there is room.
    async fn read(&mut self) -> Result<Read, Trouble> {
        let (records, next) = match self.chunk.take() {
            Some(chunk) => chunk,
            None => match self.reader.try_next().await? {
                None => return Ok(Read::Nothing),
                Some(Step::Gap(gap)) => {
                    self.gap(gap);
                    return Ok(Read::Something);
                }
                Some(Step::Records(records)) => (records, 0),
            },
        };
        for record in records.iter().skip_while(|record| record.seq.0 < next) {
            let seq = record.seq.0;
            if !self.has_room() {
                self.chunk = Some((records.clone(), seq));
                return Ok(Read::Something);
            }
            let view = Keys::from_head(record.head).view(record.body);
            if self.job.filter.matches(&view) {
                self.lanes.push(seq, view.lane());
                let id = EventId::from_u128(record.id.0);
                self.hold(seq, Held { id, head: *record.head, body: record.body.into() });
            } else {
                self.lanes.pass(seq);
            }
        }
        Ok(Read::Something)
    }

    /// Tells of records that can't be told any more, under the number of the last of them.
    fn gap(&mut self, gap: Gap) {
        warn!(subscription = %self.job.entry.name, from = gap.from, to = gap.to, reason = gap.reason, "records can't be delivered any more");
        let event = gap_event(&self.job.context.store, gap);
        let Some((keys, body)) = event.and_then(|body| Some((Keys::find(&body)?, body))) else {
            self.lanes.pass(gap.to);
            return;
        };
        // The same gap has the same id, whenever it is told.
        let id = event_id("gap", format!("{}-{}", gap.from, gap.to).as_bytes(), 0, 0);
        self.lanes.push(gap.to, keys.view(&body).lane());
        self.hold(gap.to, Held { id, head: keys.to_head(), body: body.into() });
    }

    fn hold(&mut self, seq: u64, held: Held) {
        self.held_octets += held.body.len();
        self.held.insert(seq, held);
    }

    fn let_go(&mut self, seq: u64) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        self.held_octets = self.held_octets.saturating_sub(held.body.len());
        Some(held)
    }

    fn start_attempts(&mut self) {
        while let Some(attempt) = self.lanes.start(self.now()) {
            let Some(held) = self.held.get(&attempt.seq) else {
                let next = self.lanes.conclude(attempt.seq, Outcome::Accepted, self.now(), 0);
                error!(seq = attempt.seq, ?next, "a delivery was not held where it should be");
                continue;
            };
            let (id, body) = (held.id, self.body(held, &attempt));
            let webhook = Arc::clone(&self.job.webhook);
            let attempted = async move {
                let answer = webhook.post(id, body, SystemTime::now()).await;
                (attempt, answer)
            };
            self.attempts.push(AssertUnwindSafe(attempted).catch_unwind().boxed());
        }
    }

    /// The request's body, made anew for each attempt rather than kept.
    fn body(&self, held: &Held, attempt: &Attempt) -> Bytes {
        let view = Keys::from_head(&held.head).view(&held.body);
        let stamp = Stamp { id: held.id, seq: attempt.seq, prev_seq: attempt.prev_seq };
        let mut data = Vec::new();
        self.job.projection.write(&mut data, &held.body, &view, &stamp);
        let mut body = Vec::with_capacity(data.len() + ENVELOPE_OCTETS);
        write_body(&mut body, &data, &view, &stamp, &self.job.context.source);
        body.into()
    }

    /// Does what follows from an attempt; `true` where the subscription has ended.
    async fn conclude(
        &mut self,
        ended: Ended,
        stop: &mut watch::Receiver<Stop>,
    ) -> Result<bool, Trouble> {
        let (attempt, answer) = ended.map_err(|_| Trouble::Panicked)?;
        let (live, metrics) = (&self.job.entry.live, &self.job.metrics);
        let (name, seq) = (&self.job.entry.name, attempt.seq);
        live.attempts.fetch_add(1, Ordering::Relaxed);
        // Chance spreads repeats only, and asking the system for it costs a call.
        let dice = if matches!(answer.outcome, Outcome::Failed { .. }) { dice() } else { 0 };
        match self.lanes.conclude(seq, answer.outcome, self.now(), dice) {
            Next::Done => {
                metrics.accepted.increment(1);
                live.last_delivered.fetch_max(seq, Ordering::Relaxed);
                self.failing.remove(&seq);
                if self.failing.is_empty() {
                    live.set_last_error(None);
                }
                self.let_go(seq);
            }
            Next::TryAt(_) => {
                metrics.retried.increment(1);
                debug!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "an attempt failed");
                live.set_last_error(Some(answer.reason));
                self.failing.insert(seq);
            }
            Next::GiveUp => {
                metrics.given_up.increment(1);
                warn!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "delivery given up");
                live.set_last_error(Some(answer.reason.clone()));
                self.failing.remove(&seq);
                if let Some(held) = self.let_go(seq) {
                    self.bury(&held, &attempt, answer.reason, stop).await;
                }
            }
            Next::End => {
                info!(subscription = %name, seq, "the receiver answered 410: the subscription has ended");
                self.attempts.clear();
                self.save();
                end(self.job, answer.reason).await;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps a dead letter. Until that is done the cursor doesn't move: rather a repeat than a
    /// delivery nobody knows of.
    async fn bury(
        &mut self,
        held: &Held,
        attempt: &Attempt,
        reason: String,
        stop: &mut watch::Receiver<Stop>,
    ) {
        let (entry, context) = (&self.job.entry, &self.job.context);
        let letter = DeadLetter {
            seq: attempt.seq,
            event_id: held.id.to_string(),
            at_unix_millis: jiff::Timestamp::now().as_millisecond(),
            attempts: attempt.number,
            reason,
        };
        loop {
            let (id, letter) = (entry.id.clone(), letter.clone());
            let buried = context.blocking(move |db| {
                db.bury(&id, std::slice::from_ref(&letter))?;
                db.dead_letter_count(&id)
            });
            match buried.await {
                Ok(count) => {
                    entry.live.dead_letters.store(count, Ordering::Relaxed);
                    return;
                }
                Err(error) => {
                    if entry.live.set_trouble(Some(error.to_string())) {
                        error!(subscription = %entry.name, %error, "a dead letter can't be kept; the subscription waits");
                    }
                }
            }
            let stopped = stop.wait_for(|stop| *stop != Stop::No);
            if tokio::time::timeout(TROUBLE_PAUSE, stopped).await.is_ok() {
                // The cursor stays where it is: it will be delivered, or given up, again.
                self.saved = Some(u64::MAX);
                return;
            }
        }
    }

    /// Lets what is under way end, for a moment; what doesn't will be delivered again.
    async fn wind_down(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Trouble> {
        let until = Instant::now() + WIND_DOWN;
        while !self.attempts.is_empty() {
            let at_once = stop.wait_for(|stop| *stop == Stop::AtOnce);
            let ended = tokio::select! {
                biased;
                _ = at_once => break,
                () = tokio::time::sleep_until(until) => break,
                ended = self.attempts.next() => ended,
            };
            let Some(ended) = ended else { break };
            if self.conclude(ended, stop).await? {
                return Ok(());
            }
        }
        self.attempts.clear();
        self.save();
        Ok(())
    }

    /// Stores how far it has got, where that is news.
    fn save(&mut self) {
        let done = self.lanes.cursor();
        let context = &self.job.context;
        let lag = context.feed.last().saturating_sub(done);
        // Exact up to 2^53 records.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.job.metrics.lag.set(lag as f64);
        if self.saved.is_some_and(|saved| saved >= done) {
            return;
        }
        match self.cursors.save(context.feed.journal().as_ref(), done, self.lanes.told()) {
            Ok(()) => {
                self.saved = Some(done);
                self.job.entry.live.cursor.store(done, Ordering::Relaxed);
            }
            // It says so itself, and loudly; a cursor that stands too early only repeats.
            Err(error) => debug!(%error, "a cursor was not stored"),
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Keeps it that the receiver wants nothing any more.
async fn end(job: &Job, reason: String) {
    let (entry, context) = (&job.entry, &job.context);
    let body = {
        let mut kept = entry.kept();
        kept.state = SubscriptionState::Ended;
        kept.detail = Some(format!("the receiver answered {reason}"));
        kept.body()
    };
    let id = entry.id.clone();
    if let Err(error) = context.blocking(move |db| db.update(&id, &body)).await {
        error!(subscription = %entry.name, %error, "that the subscription has ended can't be kept");
    }
}

/// The names of a subscription's cursors in the journal.
///
/// Three numbers are kept: the last record done; the last *delivery* among the records done, for
/// the next one's `prevSeq`; and up to where that is known. They are set in this order and each
/// may stand too early after a crash, so whatever is between the second or third and the first
/// is looked at again at the next start.
#[derive(Debug)]
pub(super) struct Cursors {
    done: String,
    told: String,
    known: String,
}

impl Cursors {
    pub(super) fn new(id: &str) -> Self {
        Self { done: id.to_owned(), told: format!("{id}/told"), known: format!("{id}/known") }
    }

    /// Where the subscription stands: the last record done, and the last delivery among them.
    async fn load(&self, job: &Job, start: u64) -> Result<(u64, Option<u64>), ReadError> {
        let feed = &job.context.feed;
        let read = |name: &str| Ok::<_, ReadError>(feed.journal().cursor(name)?.map(|seq| seq.0));
        let done = read(&self.done)?.unwrap_or(start);
        let mut told = read(&self.told)?;
        let known = read(&self.known)?.unwrap_or(start).max(told.unwrap_or(0));
        let mut reader = feed.reader(known + 1);
        while reader.next_seq() <= done {
            match reader.try_next().await? {
                None => break,
                Some(Step::Gap(gap)) => told = Some(gap.to.min(done)),
                Some(Step::Records(records)) => {
                    for record in records.iter().filter(|record| record.seq.0 <= done) {
                        let view = Keys::from_head(record.head).view(record.body);
                        if job.filter.matches(&view) {
                            told = Some(record.seq.0);
                        }
                    }
                }
            }
        }
        Ok((done, told))
    }

    fn save(
        &self,
        journal: &dyn postbell_journal::Journal,
        done: u64,
        told: Option<u64>,
    ) -> Result<(), postbell_journal::AppendError> {
        journal.set_cursor(&self.done, Some(Seq(done)))?;
        if let Some(told) = told {
            journal.set_cursor(&self.told, Some(Seq(told)))?;
        }
        journal.set_cursor(&self.known, Some(Seq(done)))
    }

    pub(super) fn forget(
        &self,
        journal: &dyn postbell_journal::Journal,
    ) -> Result<(), postbell_journal::AppendError> {
        for name in [&self.known, &self.told, &self.done] {
            journal.set_cursor(name, None)?;
        }
        Ok(())
    }
}

/// Spreads the repeats of subscribers that failed together.
fn dice() -> u32 {
    let mut octets = [0; 4];
    // Without randomness the schedule is kept to the second, which is no harm.
    fill_random(&mut octets).map_or(0, |()| u32::from_be_bytes(octets))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Deliveries a subscription may be ahead of its first one not done: how far a failing mailbox
/// lets the others go on.
const WINDOW_DELIVERIES: usize = 1_024;

/// Octets of events a subscription may hold; beyond, nothing more is read. With content of
/// messages in them a few events are a lot.
const WINDOW_OCTETS: usize = 8 * 1024 * 1024;

/// Deliveries after which the cursor is stored even though more are under way: what a killed hub
/// repeats at most, beside what the journal had yet to write.
const SAVE_EVERY: u64 = 64;

/// Octets a CloudEvent adds to an event, about.
const ENVELOPE_OCTETS: usize = 512;

/// How long attempts under way may take when the hub stops or the subscription is held.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long after a trouble it is tried again.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
