//! What carries one subscription's records to its receiver.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mail_event::EventId;
use postbell_engine::{
    Attempt, Filter, HEAD_OCTETS, Keys, Lanes, Moment, Next, Outcome, Projection, Stamp, Verdict,
    View, event_id,
};
use postbell_journal::{ReadError, Records, Seq};
use postbell_sinks::webhook::{Answer, Webhook, write_body};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, error, info, warn};

use super::burial::Burials;
use super::entry::{Entry, Stop};
use super::{Context, OVER, SubscriptionState};
use crate::access::Grant;
use crate::feed::{Gap, Reader, Step};
use crate::stream::gap_event;
use crate::token::fill_random;

/// What a worker is made from, again after each trouble.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    pub(super) context: Arc<Context>,
    /// What its owner may see, as long as it is good.
    pub(super) grant: Arc<Grant>,
    pub(super) filter: Filter,
    pub(super) projection: Projection,
    pub(super) webhook: Arc<Webhook>,
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
            self.webhook.sweep();
            let stopped = stop.wait_for(|stop| *stop != Stop::No);
            if tokio::time::timeout(TROUBLE_PAUSE, stopped).await.is_ok() {
                return;
            }
        }
    }
}

impl Job {
    /// Whether an event is wanted, and its owner's to have. That comes first: not even that a
    /// condition failed is told of what is another's.
    fn judge(&self, view: &View<'_>, json: &[u8]) -> Verdict {
        let principal = self.grant.principal();
        match principal.may(view, json) {
            true => self.filter.judge(view, &principal.redact(view, json)),
            false => Verdict::Unwanted,
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
    lanes: Lanes,
    /// The deliveries not done, by number.
    held: HashMap<u64, Held, BuildHasherDefault<Itself>>,
    held_octets: usize,
    /// What comes next of the journal, once it is wanted.
    reading: Reading,
    /// Records read and not looked at yet, from this number on.
    chunk: Option<(Records, u64)>,
    /// Under way on this task and not on ones of their own: a delivery that has to change threads
    /// costs more than sending it does.
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// What was given up and is not kept yet.
    burials: Burials,
    /// Deliveries that failed and are to be tried again.
    failing: HashSet<u64>,
    /// Whether an error may be shown.
    erred: bool,
    /// When connections are looked at that nothing is sent over.
    sweep: Interval,
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

/// An attempt that has ended, unless it panicked.
type Ended = Result<(Attempt, Answer), Box<dyn Any + Send>>;

/// One step in the journal; it hands the reader back.
type Reading = BoxFuture<'static, (Reader, Result<Option<Step>, ReadError>)>;

/// What happened meanwhile.
#[derive(Default)]
struct News {
    ended: Vec<Ended>,
    /// Whether records have come.
    read: bool,
    buried: bool,
    swept: bool,
}

/// Whether the subscription goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Course {
    Goes,
    Ended,
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
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            job,
            lanes,
            held: HashMap::default(),
            held_octets: 0,
            reading: step(context.feed.reader(done + 1), Wait::No),
            chunk: None,
            attempts: FuturesUnordered::new(),
            burials: Burials::new(Arc::clone(&job.entry), Arc::clone(context)),
            failing: HashSet::new(),
            erred: true,
            sweep,
            began: Instant::now(),
            saved: None,
            cursors,
        })
    }

    async fn work(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Trouble> {
        let job = self.job;
        let mut over = pin!(job.grant.ended());
        let mut is_over = false;
        {
            // Whoever could say it being gone is as good as being told.
            let mut stopped = pin!(stop.wait_for(|stop| *stop != Stop::No));
            loop {
                self.take_up();
                self.start_attempts();
                self.note_progress();
                let due = self.lanes.next_due().map(|at| self.began + Duration::from_millis(at.0));
                let news = tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    () = &mut over => {
                        is_over = true;
                        break;
                    }
                    news = poll_fn(|context| self.poll_news(context)) => news?,
                    () = sleep_until(due) => continue,
                };
                let news_is_idle = !news.read && news.ended.is_empty();
                if self.act_on(news).await? == Course::Ended {
                    return Ok(());
                }
                if !news_is_idle {
                    // Others have their turn, and answers that come meanwhile are taken together:
                    // to sleep and be woken for each costs more than all else.
                    tokio::task::yield_now().await;
                }
            }
        }
        if is_over {
            self.lose().await;
            return Ok(());
        }
        self.wind_down(stop).await
    }

    /// Ends the subscription whose owner's token is over, at once: what is under way is dropped.
    async fn lose(&mut self) {
        info!(subscription = %self.job.entry.id, "the owner's token is over: the subscription has ended");
        self.attempts.clear();
        self.note_progress();
        self.save();
        {
            let mut kept = self.job.entry.kept();
            kept.state = SubscriptionState::Ended;
            kept.detail = Some(OVER.to_owned());
        }
        end(self.job).await;
    }

    /// Whether another delivery may be held.
    fn has_room(&self) -> bool {
        self.lanes.has_room() && (self.held_octets < WINDOW_OCTETS || self.held.is_empty())
    }

    /// Moves everything on that is under way, the attempts whatever else there is; ready once
    /// anything has come of it.
    fn poll_news(&mut self, context: &mut task::Context<'_>) -> Poll<Result<News, Trouble>> {
        let mut news = News::default();
        while let Poll::Ready(Some(ended)) = self.attempts.poll_next_unpin(context) {
            news.ended.push(ended);
        }
        news.buried = self.burials.poll(context).is_ready();
        // While a dead letter can't be kept nothing more is taken up.
        if self.chunk.is_none() && self.burials.is_empty() && self.has_room() {
            news.read = self.poll_read(context)?.is_ready();
        }
        if self.job.webhook.connections_kept() > 0 && self.sweep.poll_tick(context).is_ready() {
            self.job.webhook.sweep();
            // Asked again for the next one to wake us.
            news.swept = true;
        }
        let anything = !news.ended.is_empty() || news.buried || news.read || news.swept;
        if anything { Poll::Ready(Ok(news)) } else { Poll::Pending }
    }

    fn poll_read(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Trouble>> {
        loop {
            let (reader, found) = ready!(self.reading.poll_unpin(context));
            let found = match found {
                Ok(found) => found,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            let wait = if found.is_none() { Wait::Yes } else { Wait::No };
            self.reading = step(reader, wait);
            self.job.entry.live.set_trouble(None);
            match found {
                // Polled again, to be woken by the next commit.
                None => {}
                Some(Step::Gap(gap)) => {
                    self.gap(gap);
                    return Poll::Ready(Ok(()));
                }
                Some(Step::Records(records)) => {
                    self.chunk = Some((records, 0));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    async fn act_on(&mut self, news: News) -> Result<Course, Trouble> {
        let now = self.now();
        for ended in news.ended {
            if self.conclude(ended, now)? == Course::Ended {
                self.attempts.clear();
                self.note_progress();
                self.save();
                end(self.job).await;
                return Ok(Course::Ended);
            }
        }
        Ok(Course::Goes)
    }

    /// Looks at the records read, as far as there is room.
    fn take_up(&mut self) {
        let Some((records, next)) = self.chunk.take() else { return };
        for record in records.iter().skip_while(|record| record.seq.0 < next) {
            let seq = record.seq.0;
            if !self.has_room() {
                self.chunk = Some((records.clone(), seq));
                return;
            }
            let view = Keys::from_head(record.head).view(record.body);
            match self.job.judge(&view, record.body) {
                Verdict::Wanted => {
                    self.lanes.push(seq, view.lane());
                    let id = EventId::from_u128(record.id.0);
                    self.hold(seq, Held { id, head: *record.head, body: record.body.into() });
                }
                Verdict::Unwanted => self.lanes.pass(seq),
                Verdict::Unclear(why) => {
                    self.job.entry.live.unclear(why);
                    self.lanes.pass(seq);
                }
            }
        }
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
        let now = self.now();
        while self.job.grant.is_good()
            && let Some(attempt) = self.lanes.start(now)
        {
            let Some(held) = self.held.get(&attempt.seq) else {
                let next = self.lanes.conclude(attempt.seq, Outcome::Accepted, now, 0);
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
        let mut data = Vec::with_capacity(held.body.len() + STAMP_OCTETS);
        let allowed = self.job.grant.principal().redact(&view, &held.body);
        self.job.projection.write(&mut data, &allowed, &view, &stamp);
        let mut body = Vec::with_capacity(data.len() + ENVELOPE_OCTETS);
        write_body(&mut body, &data, &view, &stamp, &self.job.context.source);
        body.into()
    }

    /// Does what follows from an attempt.
    fn conclude(&mut self, ended: Ended, now: Moment) -> Result<Course, Trouble> {
        let (attempt, answer) = ended.map_err(|_| Trouble::Panicked)?;
        let live = &self.job.entry.live;
        let (name, seq) = (&self.job.entry.name, attempt.seq);
        live.attempts.fetch_add(1, Ordering::Relaxed);
        // Chance spreads repeats only, and asking the system for it costs a call.
        let dice = if matches!(answer.outcome, Outcome::Failed { .. }) { dice() } else { 0 };
        match self.lanes.conclude(seq, answer.outcome, now, dice) {
            Next::Done => {
                live.accepted.fetch_add(1, Ordering::Relaxed);
                live.last_delivered.fetch_max(seq, Ordering::Relaxed);
                if self.erred {
                    self.failing.remove(&seq);
                    if self.failing.is_empty() {
                        live.set_last_error(None);
                        self.erred = false;
                    }
                }
                self.let_go(seq);
            }
            Next::TryAt(_) => {
                live.retried.fetch_add(1, Ordering::Relaxed);
                debug!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "an attempt failed");
                live.set_last_error(Some(answer.reason));
                self.erred = true;
                self.failing.insert(seq);
            }
            Next::GiveUp => {
                live.given_up.fetch_add(1, Ordering::Relaxed);
                warn!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "delivery given up");
                live.set_last_error(Some(answer.reason.clone()));
                self.erred = true;
                self.failing.remove(&seq);
                if let Some(held) = self.let_go(seq) {
                    self.burials.add(held.id, &attempt, answer.reason);
                }
            }
            Next::End => {
                warn!(subscription = %name, seq, reason = %answer.reason, "the receiver wants nothing any more: the subscription has ended");
                let mut kept = self.job.entry.kept();
                kept.state = SubscriptionState::Ended;
                kept.detail = Some(format!("the receiver answered {}", answer.reason));
                return Ok(Course::Ended);
            }
        }
        Ok(Course::Goes)
    }

    /// Lets what is under way end, for a moment; what doesn't will be delivered again. What has
    /// no connection yet is no loss: the receiver hasn't seen it.
    async fn wind_down(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Trouble> {
        {
            let mut at_once = pin!(stop.wait_for(|stop| *stop == Stop::AtOnce));
            let mut enough = pin!(tokio::time::sleep(WIND_DOWN));
            while self.job.webhook.attempts_seen() > 0 || !self.burials.is_empty() {
                let news = tokio::select! {
                    biased;
                    _ = &mut at_once => break,
                    () = &mut enough => break,
                    news = poll_fn(|context| self.poll_last(context)) => news,
                };
                if self.act_on(news).await? == Course::Ended {
                    return Ok(());
                }
            }
        }
        self.attempts.clear();
        self.note_progress();
        self.save();
        Ok(())
    }

    /// As [`Worker::poll_news`], with nothing new taken up; ready as soon as there is nothing left
    /// to wait for.
    fn poll_last(&mut self, context: &mut task::Context<'_>) -> Poll<News> {
        let mut news = News::default();
        while let Poll::Ready(Some(ended)) = self.attempts.poll_next_unpin(context) {
            news.ended.push(ended);
        }
        news.buried = self.burials.poll(context).is_ready();
        let idle = self.job.webhook.attempts_seen() == 0 && self.burials.is_empty();
        if idle || news.buried || !news.ended.is_empty() {
            Poll::Ready(news)
        } else {
            Poll::Pending
        }
    }

    /// Up to where nothing is left to do, and the last delivery among it: a dead letter that
    /// isn't kept yet holds both back, since a repeat is better than a delivery nobody knows of.
    fn progress(&self) -> (u64, Option<u64>) {
        match self.burials.first() {
            Some(first) if first.seq <= self.lanes.cursor() => {
                (first.seq.saturating_sub(1), first.prev_seq)
            }
            Some(_) | None => (self.lanes.cursor(), self.lanes.told()),
        }
    }

    /// Shows how far it has got, and stores it now and then.
    fn note_progress(&mut self) {
        let (done, _) = self.progress();
        self.job.entry.live.cursor.store(done, Ordering::Relaxed);
        if self.attempts.is_empty() || done >= self.saved.unwrap_or(0).saturating_add(SAVE_EVERY) {
            self.save();
        }
    }

    /// Stores how far it has got, where that is news.
    fn save(&mut self) {
        let (done, told) = self.progress();
        if self.saved.is_some_and(|saved| saved >= done) {
            return;
        }
        match self.cursors.save(self.job.context.feed.journal().as_ref(), done, told) {
            Ok(()) => self.saved = Some(done),
            // It says so itself, and loudly; a cursor that stands too early only repeats.
            Err(error) => debug!(%error, "a cursor was not stored"),
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Keeps it that the receiver wants nothing any more.
async fn end(job: &Job) {
    let (entry, context) = (&job.entry, &job.context);
    let (id, body) = (entry.id.clone(), entry.kept().body());
    if let Err(error) = context.blocking(move |db| db.update(&id, &body)).await {
        error!(subscription = %entry.name, %error, "that the subscription has ended can't be kept");
    }
}

/// Whether a reader at the journal's end waits there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    Yes,
    No,
}

/// Takes the next step in the journal, as soon as somebody asks for it.
fn step(mut reader: Reader, wait: Wait) -> Reading {
    let step = async move {
        if wait == Wait::Yes {
            reader.more().await;
        }
        let found = reader.try_next().await;
        (reader, found)
    };
    step.boxed()
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
                        if job.judge(&view, record.body) == Verdict::Wanted {
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

    /// Has the subscription begin behind this number, as one does that is new.
    pub(super) fn begin_anew(
        &self,
        journal: &dyn postbell_journal::Journal,
        start: u64,
    ) -> Result<(), postbell_journal::AppendError> {
        journal.set_cursor(&self.told, None)?;
        journal.set_cursor(&self.known, Some(Seq(start)))?;
        journal.set_cursor(&self.done, Some(Seq(start)))
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

/// Octets that id, numbers and tags add to an event, about.
const STAMP_OCTETS: usize = 256;

/// Octets a CloudEvent adds to an event, about.
const ENVELOPE_OCTETS: usize = 512;

/// How often connections are looked at that nothing is sent over: so long at most does one that
/// the receiver has closed stay half open.
pub(super) const SWEEP: Duration = Duration::from_secs(5);

/// How long attempts under way may take when the hub stops or the subscription is held.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long after a trouble it is tried again.
pub(super) const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
