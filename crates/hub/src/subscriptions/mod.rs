//! Subscriptions: who wants what, and one worker for each that carries it there.

mod api;
mod apply;
mod attempts;
mod batch;
mod burial;
mod carrier;
mod change;
mod commands;
mod disabled;
mod entry;
mod foretold;
mod freezer;
mod kept;
mod life;
mod make;
mod ready;
mod redrive;
#[cfg(test)]
mod tests;
mod threads;
mod verify;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use futures_util::future::join;
use mail_event::Timestamp;
use postbell_engine::{Breaker, Moment, Pace, Policy, Schedule, Store};
use postbell_journal::Seq;
use postbell_sinks::webhook::{ClientCertificate, Reach, Secret, Target, Tls, Webhook};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::{error, warn};

pub(crate) use api::{
    Begin, NewSink, NewSubscription, Redrive, Renewal, Replay, Rotation, Shown, ShownDeadLetter,
    ShownSink, Signature, SubscriptionState,
};
pub(crate) use apply::Applied;
use carrier::Carrier;
use entry::{Entry, Running, Stop};
pub use foretold::{Refusal, refusals};
use freezer::Freezer;
use kept::{Kept, Owner};
use life::House;
pub(crate) use make::{CreateError, check_name};
use threads::DeliveryThreads;
use worker::{Gate, Job};

use crate::access::{Grant, Tokens};
use crate::api::Condition;
use crate::demand::Demands;
use crate::feed::Feed;
use crate::links::Links;
use crate::lock::locked;
use crate::metrics::{SUBSCRIPTIONS_TOLD_MAX, SubscriptionFigures};
use crate::sharing::Sharing;
use crate::state::{StateDb, StateError};
use crate::tls::ClientCertificates;
use crate::traces::Traces;
use crate::{CommandConfig, WebhooksConfig};

/// The subscriptions of one hub.
#[derive(Clone, Debug)]
pub(crate) struct Subscriptions(Arc<Shared>, Condition);

#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    /// What subscriptions' owners may see.
    tokens: Arc<Tokens>,
    /// What others share with them.
    sharing: Sharing,
    policy: Policy,
    demands: Demands,
    reach: Reach,
    webhooks: WebhooksConfig,
    tls: Tls,
    certificates: Arc<ClientCertificates>,
    threads: DeliveryThreads,
    /// Oldest first.
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Held while subscriptions are made, changed or removed: one at a time.
    changing: Mutex<()>,
    house: House,
}

/// What every worker needs.
#[derive(Debug)]
struct Context {
    db: Arc<StateDb>,
    feed: Feed,
    freezer: Freezer,
    store: Store,
    /// The store without a user, for events whose URI doesn't name it.
    source: String,
    links: Arc<Links>,
    traces: Traces,
    schedule: Schedule,
    /// When a receiver is asked again whether it agrees.
    handshake: Schedule,
}

impl Subscriptions {
    /// Reads what was kept and starts a worker for each that is active.
    pub(crate) async fn open(
        db: Arc<StateDb>,
        tokens: (Arc<Tokens>, Sharing),
        feed: (Feed, Demands),
        policy: (Policy, Arc<Links>, Traces),
        store: Store,
        webhooks: (WebhooksConfig, Tls, Arc<ClientCertificates>),
        commands: &BTreeMap<String, CommandConfig>,
    ) -> Result<Self, StateError> {
        let handshake = Schedule::new(HANDSHAKE_SECONDS.map(Duration::from_secs));
        let schedules = (Schedule::standard(), handshake);
        Self::open_with(db, tokens, feed, policy, store, webhooks, commands, schedules).await
    }

    /// The same with schedules of one's own, for deliveries and for the handshake.
    #[expect(clippy::too_many_arguments, reason = "what a hub is made of")]
    async fn open_with(
        db: Arc<StateDb>,
        (tokens, sharing): (Arc<Tokens>, Sharing),
        (feed, demands): (Feed, Demands),
        (policy, links, traces): (Policy, Arc<Links>, Traces),
        store: Store,
        (webhooks, tls, certificates): (WebhooksConfig, Tls, Arc<ClientCertificates>),
        commands: &BTreeMap<String, CommandConfig>,
        (schedule, handshake): (Schedule, Schedule),
    ) -> Result<Self, StateError> {
        let threads = DeliveryThreads::start().map_err(|source| StateError::Threads { source })?;
        let source = store.server(None).to_string();
        let freezer = Freezer::start(Arc::clone(&db), Arc::clone(feed.journal()));
        let context = Arc::new(Context {
            db,
            feed,
            freezer,
            store,
            source,
            links,
            traces,
            schedule,
            handshake,
        });
        let mut entries = Vec::new();
        let rows = context.blocking(StateDb::subscriptions).await?;
        let (of_commands, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(commands::is_one);
        for row in rows {
            let kept: Kept = match serde_json::from_str(&row.body) {
                Ok(kept) => kept,
                Err(error) => {
                    error!(subscription = %row.id, %error, "a subscription can't be read and is left alone");
                    continue;
                }
            };
            let entry = Entry::new(row.id, row.name, kept);
            let id = entry.id.clone();
            let counts = context.blocking(move |db| db.dead_letter_counts(&id)).await?;
            entry.live.count_letters(counts);
            entry.stand(context.feed.journal().as_ref());
            entries.push(Arc::new(entry));
        }
        entries.extend(commands::entries(&context, commands, &of_commands).await?);
        let shared = Arc::new(Shared {
            context,
            tokens,
            sharing,
            policy,
            demands,
            reach: reach(webhooks.reach),
            webhooks,
            tls,
            certificates,
            threads,
            entries: RwLock::new(entries),
            changing: Mutex::new(()),
            house: House::default(),
        });
        let subscriptions = Self(shared, Condition::default());
        let feed = &subscriptions.0.context.feed;
        feed.stand_at(subscriptions.least_recent(feed.last()));
        for entry in subscriptions.entries() {
            let kept = entry.kept().clone();
            if kept.state != SubscriptionState::Ended {
                let wanted = subscriptions.ready_at_start(&entry, &kept).demand;
                entry.wants(subscriptions.0.demands.count(wanted));
            }
            subscriptions.start(&entry).await;
        }
        feed.lead();
        subscriptions.keep_house();
        Ok(subscriptions)
    }

    /// Those that whoever is let in by `grant` may see, oldest first.
    pub(crate) fn list(&self, grant: &Grant) -> Vec<Shown> {
        let asker = Owner::of(grant);
        let seen = |entry: &&Arc<Entry>| entry.is_seen_by(asker.as_ref());
        self.entries().iter().filter(seen).map(|entry| self.shown(entry)).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What Prometheus is told of each, of very many those that lag most. Looks up records, which
    /// may wait for the disk.
    pub(crate) fn figures(&self) -> Vec<SubscriptionFigures> {
        let feed = &self.0.context.feed;
        let last = feed.last();
        let mut all: Vec<_> = self.entries().iter().map(|entry| entry.figures(last)).collect();
        if all.len() > SUBSCRIPTIONS_TOLD_MAX {
            all.sort_by_key(|one| std::cmp::Reverse(one.lag));
            all.truncate(SUBSCRIPTIONS_TOLD_MAX);
        }
        for one in all.iter_mut().filter(|one| one.lag > 0) {
            // What retention has taken meanwhile is as old as the oldest that is left.
            let next = one.next.max(feed.journal().bounds().first.0);
            let written = feed.journal().written_ms(Seq(next));
            one.lag_seconds = written.map_or(0.0, seconds_since);
        }
        all
    }

    /// How many there are in each state.
    pub(crate) fn states(&self) -> Vec<(&'static str, usize)> {
        let entries = self.entries();
        let count = |state| entries.iter().filter(|entry| entry.kept().state == state).count();
        vec![
            ("active", count(SubscriptionState::Active)),
            ("disabled", count(SubscriptionState::Disabled)),
            ("ended", count(SubscriptionState::Ended)),
            ("paused", count(SubscriptionState::Paused)),
            ("unverified", count(SubscriptionState::Unverified)),
        ]
    }

    /// The one with this name or id.
    pub(crate) fn find(&self, grant: &Grant, name_or_id: &str) -> Option<Shown> {
        self.entry(grant, name_or_id).map(|entry| self.shown(&entry))
    }

    /// The newest dead letters of one.
    pub(crate) fn dead_letters(
        &self,
        grant: &Grant,
        name_or_id: &str,
        limit: u32,
    ) -> Result<Option<Vec<ShownDeadLetter>>, StateError> {
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        let letters = self.0.context.db.dead_letters(&entry.id, limit)?;
        let shown = letters.into_iter().map(|letter| ShownDeadLetter {
            seq: letter.seq,
            event_id: letter.event_id,
            at: jiff::Timestamp::from_millisecond(letter.at_unix_millis)
                .map(time)
                .unwrap_or_default(),
            attempts: letter.attempts,
            reason: letter.reason,
            redriving: letter.redrive > 0,
        });
        Ok(Some(shown.collect()))
    }

    /// Stops all workers; attempts under way get a moment to end.
    pub(crate) async fn shutdown(&self) {
        let _changing = self.0.changing.lock().await;
        self.0.house.close();
        let running: Vec<_> =
            self.entries().iter().filter_map(|entry| locked(&entry.running).take()).collect();
        // All of them first, so that they wind down side by side.
        for one in &running {
            one.stop.send_replace(Stop::Gently);
        }
        for one in running {
            joined(one).await;
        }
    }

    /// The same, for a change that is made only where `condition` is met.
    pub(crate) fn only_if(&self, condition: Condition) -> Self {
        Self(Arc::clone(&self.0), condition)
    }

    /// As [`Subscriptions::entry`], of one that may be changed as it stands; for whoever holds
    /// `changing`.
    fn entry_to_change(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Arc<Entry>>, CreateError> {
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        if entry.kept().command.is_some() {
            return Err(CreateError::Configured(entry.name.clone()));
        }
        if self.1.is_met(Some(&entry.etag())) {
            Ok(Some(entry))
        } else {
            Err(CreateError::Changed(entry.name.clone()))
        }
    }

    /// Where the guide begins: after the first record that somebody active isn't done with, so that
    /// after a crash the records since are looked at once, and not by each. Whoever is far behind
    /// reads alone, lest everybody wait.
    fn least_recent(&self, last: u64) -> u64 {
        let oldest = last.saturating_sub(CATCH_UP_RECORDS);
        let entries = self.entries();
        let active = entries.iter().filter(|one| one.kept().state == SubscriptionState::Active);
        let cursors = active.map(|entry| entry.live.cursor.load(Ordering::Relaxed));
        cursors.filter(|cursor| *cursor >= oldest).min().unwrap_or(last).min(last)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `grant` lets somebody call so.
    fn entry(&self, grant: &Grant, name_or_id: &str) -> Option<Arc<Entry>> {
        let asker = Owner::of(grant);
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|one| one.is_meant(asker.as_ref(), name_or_id)).cloned()
    }

    /// What the owner of a subscription may see now; nothing where their token is good no more.
    fn grant(&self, kept: &Kept) -> Option<Arc<Grant>> {
        let tokens = &self.0.tokens;
        match &kept.owner {
            None => Some(Arc::clone(tokens.admin())),
            Some(owner) => tokens.grant(&owner.token).filter(|grant| grant.is_good()),
        }
    }

    /// What the owner of the subscription with this id may see now; nothing where there is none, or
    /// it has ended.
    pub(crate) fn holder(&self, id: &str) -> Option<Arc<Grant>> {
        let kept = {
            let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.iter().find(|entry| entry.id == id)?.kept().clone()
        };
        let is_over = kept.state == SubscriptionState::Ended;
        self.grant(&kept).filter(|_| !is_over)
    }

    fn shown(&self, entry: &Entry) -> Shown {
        entry.shown(self.0.context.feed.last())
    }

    /// Starts the worker of an active subscription.
    async fn start(&self, entry: &Arc<Entry>) {
        let kept = entry.kept().clone();
        if kept.state != kept.awake() || kept.is_expired(jiff::Timestamp::now()) {
            return;
        }
        let job = match self.job(entry, &kept).await {
            Ok(job) => job,
            Err(trouble) => {
                warn!(subscription = %entry.label(), %trouble, "a subscription can't be delivered");
                entry.live.set_trouble(Some(trouble));
                return;
            }
        };
        let (stop, mut told) = watch::channel(Stop::No);
        let job = Arc::new(job);
        let is_redriving = entry.live.redriving.load(Ordering::Relaxed) > 0;
        let redriving = is_redriving.then(|| stop.clone());
        let is_webhook = matches!(job.carrier, Carrier::Webhook(_));
        let work = async move {
            if !verify::passed(&job, &mut told).await {
                return;
            }
            let delivering = Arc::clone(&job).run(told);
            match redriving {
                Some(stop) => {
                    join(delivering, redrive::run(job, stop)).await;
                }
                None => delivering.await,
            }
        };
        let task = match is_webhook {
            true => self.0.threads.spawn(work),
            // To start a program takes a while, in which no receiver is to wait.
            false => tokio::spawn(work),
        };
        *locked(&entry.running) = Some(Running { stop, task });
    }

    /// What was fine when the subscription was made may be out of bounds by now: policy and reach
    /// are the operator's to change.
    async fn job(&self, entry: &Arc<Entry>, kept: &Kept) -> Result<Job, String> {
        let shared = &self.0;
        let grant = self.grant(kept).ok_or_else(|| kept.over())?;
        let role = grant.principal().role();
        let (filter, projection) = self.ready(entry, &kept.selection, role).await.compiled()?;
        let (carrier, lanes) = match &kept.command {
            None => (Carrier::Webhook(Arc::new(self.webhook(kept)?)), shared.webhooks.lanes),
            Some(command) => (Carrier::Command(Arc::new(commands::runs(command))), command.jobs),
        };
        let reads = shared.sharing.of(grant.principal()).since(kept.losses);
        let done = entry.live.cursor.load(Ordering::Relaxed);
        let began = Instant::now();
        let events = shared.policy.for_role(role).events_per_minute();
        let mut pace = Pace::new(kept.per_minute(), events);
        pace.hold_events(paced_until(entry, began));
        Ok(Job {
            entry: Arc::clone(entry),
            seat: reads.join(&shared.context.feed, &filter, grant.principal(), done),
            context: Arc::clone(&shared.context),
            grant,
            reads,
            filter,
            projection,
            carrier,
            lanes: usize::try_from(lanes).unwrap_or(usize::MAX),
            batch: kept.batch.as_ref().map(|batch| batch.limits(&shared.webhooks)),
            gate: std::sync::Mutex::new(Gate {
                pace,
                breaker: Breaker::new(kept.failing_for(jiff::Timestamp::now())),
            }),
            began,
        })
    }

    fn webhook(&self, kept: &Kept) -> Result<Webhook, String> {
        let shared = &self.0;
        let target = Target::parse(&kept.url, shared.reach).map_err(|error| error.to_string())?;
        let read = |text: &str| Secret::parse(text).map_err(|error| error.to_string());
        let timeout = shared.webhooks.timeout;
        let tls = match &kept.client_certificate {
            Some(name) => shared.tls.showing(self.client_certificate(name, kept.owner.as_ref())?),
            None => shared.tls.clone(),
        };
        let mut webhook = Webhook::new(target, read(&kept.secret)?, timeout, &tls);
        if let Some(previous) = &kept.previous {
            let until = Duration::from_secs(u64::try_from(previous.until).unwrap_or(0));
            webhook = webhook.signed_also(read(&previous.secret)?, SystemTime::UNIX_EPOCH + until);
        }
        if kept.batch.is_some() {
            webhook = webhook.in_batches();
        }
        Ok(webhook)
    }
}

/// How long after `began` the next event may leave, for what left before it.
fn paced_until(entry: &Entry, began: Instant) -> Moment {
    let until = *locked(&entry.live.paced_until);
    let pause = until.map(|until| until.saturating_duration_since(began)).unwrap_or_default();
    // Rounded up.
    Moment(u64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

impl Subscriptions {
    /// The certificate of this name, where this owner's subscriptions may have it shown: it is the
    /// operator's, who says which services may. Others don't learn whether there is one.
    fn client_certificate(
        &self,
        name: &str,
        owner: Option<&Owner>,
    ) -> Result<Arc<ClientCertificate>, String> {
        let found = self.0.certificates.find(name);
        let Some(owner) = owner else {
            let missing = || format!("there is no [webhooks.client_certificates.{name}]");
            return found.map(|(shown, _)| Arc::clone(shown)).ok_or_else(missing);
        };
        let service = match owner.user {
            None => self.0.tokens.name(&owner.token),
            Some(_) => None,
        };
        let may = |services: &[String]| service.is_some_and(|name| services.contains(&name));
        match found {
            Some((shown, services)) if may(services) => Ok(Arc::clone(shown)),
            Some(_) | None => {
                Err(format!("{name:?} is no client certificate that may be shown for it"))
            }
        }
    }
}

impl Context {
    /// As [`StateDb::blocking`].
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&StateDb) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        self.db.blocking(act).await
    }
}

/// Stops a worker and waits until it has.
async fn stop(entry: &Entry, how: Stop) {
    let running = locked(&entry.running).take();
    if let Some(running) = running {
        running.stop.send_replace(how);
        joined(running).await;
    }
}

async fn joined(running: Running) {
    if running.task.await.is_err() {
        error!("a subscription's worker panicked");
    }
}

fn time(instant: jiff::Timestamp) -> String {
    Timestamp::new(instant, jiff::tz::Offset::UTC).to_string()
}

fn reach(reach: crate::Reach) -> Reach {
    match reach {
        crate::Reach::Public => Reach::Public,
        crate::Reach::Loopback => Reach::Loopback,
        crate::Reach::Anywhere => Reach::Anywhere,
    }
}

/// Seconds since a time in milliseconds since 1970; 0 for one in the future.
fn seconds_since(unix_millis: u64) -> f64 {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_millis);
    SystemTime::now().duration_since(then).unwrap_or_default().as_secs_f64()
}

/// Records that the guide looks at again when the hub starts, at most: half a second's work.
const CATCH_UP_RECORDS: u64 = 200_000;

/// Pauses before a receiver is asked again whether it agrees: for nearly a day, so that one that is
/// set up by hand is in time.
const HANDSHAKE_SECONDS: [u64; 9] = [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200];
