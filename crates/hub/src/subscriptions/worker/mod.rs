//! What carries one subscription's records to its receiver.

mod cursors;
mod gate;
mod intake;
mod outcome;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

use postbell_engine::{BatchLimits, Filter, Lanes, Projection, Shared, Turn, Verdict, View};
use postbell_journal::{ReadError, Records};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{error, info};

pub(super) use self::cursors::Cursors;
use self::cursors::Saved;
pub(super) use self::gate::Gate;
use self::intake::{Reading, Wait, step};
pub(super) use self::outcome::dice;
use super::attempts::{Attempts, Batcher, Ended, Whose};
use super::burial::Burials;
use super::carrier::Carrier;
use super::entry::{Entry, Stop};
use super::{Context, disabled};
use crate::access::Grant;
use crate::feed::Seat;
use crate::sharing::{Candidates, Reads};
use crate::state::StateError;

/// What a worker is made from, again after each trouble.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    pub(super) context: Arc<Context>,
    /// What its owner may see, as long as it is good.
    pub(super) grant: Arc<Grant>,
    /// What its owner may read of others.
    pub(super) reads: Reads,
    pub(super) filter: Arc<Filter>,
    /// Where it is told what may concern it.
    pub(super) seat: Arc<Seat>,
    pub(super) projection: Arc<Projection>,
    pub(super) carrier: Carrier,
    /// Attempts that go side by side.
    pub(super) lanes: usize,
    /// How its deliveries go together.
    pub(super) batch: Option<BatchLimits>,
    pub(super) gate: Mutex<Gate>,
    /// When the clock of the gate began.
    pub(super) began: Instant,
}

impl Job {
    /// Delivers until told to stop, or until the receiver wants nothing any more.
    pub(super) async fn run(self: Arc<Self>, mut stop: watch::Receiver<Stop>) {
        loop {
            let trouble = match Worker::begin(&self).await {
                Ok(mut worker) => {
                    let worked = worker.work(&mut stop).await;
                    self.entry.live.rests(None);
                    match worked {
                        Ok(()) => return,
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            self.abandoned();
            let message = trouble.to_string();
            if self.entry.live.set_trouble(Some(message.clone())) {
                error!(subscription = %self.entry.label(), error = %message, "a subscription can't go on; it is tried again and again");
            }
            self.carrier.sweep();
            let stopped = stop.wait_for(|stop| *stop != Stop::No);
            if tokio::time::timeout(TROUBLE_PAUSE, stopped).await.is_ok() {
                return;
            }
        }
    }
}

impl Job {
    /// Keeps how the subscription stands now: that it has ended, or may be delivered to.
    pub(super) async fn keep(&self) {
        let (entry, context) = (&self.entry, &self.context);
        let (id, body) = (entry.id.clone(), entry.kept().body());
        if let Err(error) = context.blocking(move |db| db.update(&id, &body)).await {
            error!(subscription = %entry.label(), %error, "how the subscription stands can't be kept");
        }
    }

    /// Whether an event is wanted, and its owner's to have, who may read `shared` of others. That comes
    /// first: not even that a condition failed is told of what is another's.
    fn judge(&self, view: &View<'_>, json: &[u8], shared: &Shared) -> (Verdict, Whose) {
        let principal = self.grant.principal();
        if principal.may(view, json) {
            return (self.filter.judge(view, &principal.redact(view, json)), Whose::Own);
        }
        if shared.is_empty() || !principal.may_with(view, json, shared) {
            return (Verdict::Unwanted, Whose::Others);
        }
        let verdict = self.filter.judge(view, &principal.redact_with(view, json, shared));
        (verdict, Whose::Others)
    }
}

/// Why a worker begins anew.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the journal can't be read: {0}")]
    Journal(#[from] ReadError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// A worker at work, from a cursor on.
struct Worker<'a> {
    job: &'a Arc<Job>,
    attempts: Attempts<'a>,
    /// What comes next of the journal, once it is wanted.
    reading: Reading,
    /// Up to where nothing concerned it while it had nothing to do; of this worker alone, since one
    /// that begins anew does so where its cursor stands.
    passed: Arc<AtomicU64>,
    /// Records read and not looked at yet, from this number on, and what its owner may turn out to read
    /// of others.
    chunk: Option<(Records, u64, Candidates)>,
    /// Up to where a worker before it may have had something to deliver, which was named already.
    inherited: u64,
    /// What was given up and is not kept yet.
    burials: Burials,
    /// Deliveries that failed and are to be tried again.
    failing: HashSet<u64>,
    /// Whether an error may be shown.
    erred: bool,
    /// When connections are looked at that nothing is sent over.
    sweep: Interval,
    /// When one with nothing to do notes how far that is so.
    rest: Interval,
    saved: Saved,
    cursors: Cursors,
}

/// What happened meanwhile.
#[derive(Default)]
struct News {
    ended: Vec<Ended>,
    /// Whether records have come.
    read: bool,
    buried: bool,
    swept: bool,
    rested: bool,
}

/// Whether the subscription goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Course {
    Goes,
    Ended,
}

impl<'a> Worker<'a> {
    async fn begin(job: &'a Arc<Job>) -> Result<Self, Trouble> {
        let context = &job.context;
        let inherited = job.entry.live.inherited(context.feed.last());
        let cursors = job.entry.cursors();
        let start = job.entry.kept().start;
        let (done, told) = cursors.load(job, start).await?;
        job.entry.live.cursor.store(done, Ordering::Relaxed);
        let mut lanes =
            Lanes::new(context.schedule.clone(), done, told, job.lanes, WINDOW_DELIVERIES);
        let mut batcher = None;
        if let Some(limits) = job.batch {
            lanes = lanes.in_batches(limits);
            let (id, last) = (job.entry.id.clone(), context.feed.last());
            let (generation, batches) = context.blocking(move |db| db.batches(&id, done)).await?;
            let kept = batches.iter().flatten().copied().collect();
            batcher = Some(Batcher { generation, kept });
            for mut seqs in batches {
                // Another journal may be in the place of the one they were of.
                seqs.retain(|seq| *seq <= last);
                lanes.expect(&seqs);
            }
        }
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Not all at once.
        let first = REST.mul_f64(f64::from(dice()) / f64::from(u32::MAX));
        let mut rest = tokio::time::interval_at(Instant::now() + first, REST);
        rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reader = context.feed.reader(done + 1).led(Arc::clone(&job.seat));
        let passed = Arc::new(AtomicU64::new(done));
        Ok(Self {
            job,
            attempts: Attempts::new(job, lanes, batcher),
            reading: step(reader, Wait::No, Arc::clone(&passed), job.reads.clone()),
            passed,
            chunk: None,
            inherited,
            burials: Burials::new(Arc::clone(&job.entry), Arc::clone(context)),
            failing: HashSet::new(),
            erred: true,
            sweep,
            rest,
            saved: Saved::new(done, told),
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
                self.attempts.start();
                self.note_progress();
                self.note_rest();
                let due = self.attempts.due();
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
                if self.act_on(news).await == Course::Ended {
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
        self.wind_down(stop).await;
        Ok(())
    }

    /// Ends the subscription whose owner's token is over, at once: what is under way is dropped.
    async fn lose(&mut self) {
        info!(subscription = %self.job.entry.label(), "the owner's token is over: the subscription has ended");
        self.settle();
        {
            let mut kept = self.job.entry.kept();
            let why = kept.over().to_owned();
            kept.end(why);
        }
        self.job.keep().await;
    }

    /// Moves everything on that is under way, the attempts whatever else there is; ready once
    /// anything has come of it.
    fn poll_news(&mut self, context: &mut task::Context<'_>) -> Poll<Result<News, Trouble>> {
        let mut news = News::default();
        while let Poll::Ready(Some(ended)) = self.attempts.poll_next(context) {
            news.ended.push(ended);
        }
        news.buried = self.burials.poll(context).is_ready();
        // While a dead letter can't be kept nothing more is taken up.
        if self.chunk.is_none() && self.burials.is_empty() && self.has_room() {
            news.read = self.poll_read(context)?.is_ready();
        }
        if self.job.carrier.connections_kept() > 0 && self.sweep.poll_tick(context).is_ready() {
            self.job.carrier.sweep();
            // Asked again for the next one to wake us.
            news.swept = true;
        }
        if self.rest.poll_tick(context).is_ready() {
            self.pass_over();
            news.rested = true;
        }
        let anything =
            !news.ended.is_empty() || news.buried || news.read || news.swept || news.rested;
        if anything { Poll::Ready(Ok(news)) } else { Poll::Pending }
    }

    async fn act_on(&mut self, news: News) -> Course {
        let mut turned = false;
        for ended in news.ended {
            let (course, turn) = self.conclude(ended);
            if course == Course::Ended {
                self.settle();
                self.job.keep().await;
                if turn == Turn::Hopeless {
                    disabled::tell(self.job).await;
                }
                return Course::Ended;
            }
            turned |= turn != Turn::Same;
        }
        if turned {
            self.job.keep().await;
        }
        Course::Goes
    }

    /// Lets what is under way end, for a moment; what doesn't will be delivered again. What has
    /// no connection yet is no loss: the receiver hasn't seen it.
    async fn wind_down(&mut self, stop: &mut watch::Receiver<Stop>) {
        {
            let mut at_once = pin!(stop.wait_for(|stop| *stop == Stop::AtOnce));
            let mut enough = pin!(tokio::time::sleep(WIND_DOWN));
            while self.job.carrier.attempts_seen() > 0 || !self.burials.is_empty() {
                let news = tokio::select! {
                    biased;
                    _ = &mut at_once => break,
                    () = &mut enough => break,
                    news = poll_fn(|context| self.poll_last(context)) => news,
                };
                if self.act_on(news).await == Course::Ended {
                    return;
                }
            }
        }
        self.settle();
    }

    /// As [`Worker::poll_news`], with nothing new taken up; ready as soon as there is nothing left
    /// to wait for.
    fn poll_last(&mut self, context: &mut task::Context<'_>) -> Poll<News> {
        let mut news = News::default();
        while let Poll::Ready(Some(ended)) = self.attempts.poll_next(context) {
            news.ended.push(ended);
        }
        news.buried = self.burials.poll(context).is_ready();
        let idle = self.job.carrier.attempts_seen() == 0 && self.burials.is_empty();
        if idle || news.buried || !news.ended.is_empty() {
            Poll::Ready(news)
        } else {
            Poll::Pending
        }
    }

    /// Drops what is under way, and stores how far it has got.
    fn settle(&mut self) {
        self.attempts.clear();
        self.pass_over();
        self.note_progress();
        self.save();
    }
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

/// How often connections are looked at that nothing is sent over: so long at most does one that
/// the receiver has closed stay half open.
pub(super) const SWEEP: Duration = Duration::from_secs(5);

/// How often one with nothing to do notes how far that is so. Ten thousand of them then take their
/// turns every six milliseconds.
const REST: Duration = Duration::from_secs(60);

/// How long attempts under way may take when the hub stops or the subscription is held.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long after a trouble it is tried again.
pub(super) const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
