//! Subscriptions: who wants what, and one worker for each that carries it there.

mod api;
mod burial;
mod entry;
mod kept;
#[cfg(test)]
mod tests;
mod threads;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mail_event::{EventId, Timestamp};
use postbell_engine::{Policy, Schedule, Store};
use postbell_journal::{ReadError, Seq};
use postbell_sinks::webhook::{Reach, Secret, Target, Tls, Webhook};
use tokio::sync::{Mutex, watch};
use tracing::{debug, error, warn};

pub(crate) use api::{
    Begin, NewSink, NewSubscription, Replay, Rotation, Shown, ShownDeadLetter, ShownSink,
    Signature, SubscriptionState,
};
use entry::{Entry, Running, Stop, locked};
use kept::{Kept, Owner, Previous};
use threads::DeliveryThreads;
use worker::{Cursors, Job};

use crate::WebhooksConfig;
use crate::access::{Grant, Tokens};
use crate::feed::Feed;
use crate::metrics::SubscriptionFigures;
use crate::state::{Row, StateDb, StateError};
use crate::token::fill_random;

/// The subscriptions of one hub.
#[derive(Clone, Debug)]
pub(crate) struct Subscriptions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    /// What subscriptions' owners may see.
    tokens: Arc<Tokens>,
    policy: Policy,
    reach: Reach,
    webhooks: WebhooksConfig,
    tls: Tls,
    threads: DeliveryThreads,
    /// Oldest first.
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Held while subscriptions are made, changed or removed: one at a time.
    changing: Mutex<()>,
}

/// What every worker needs.
#[derive(Debug)]
struct Context {
    db: Arc<StateDb>,
    feed: Feed,
    store: Store,
    /// The store without a user, for events whose URI doesn't name it.
    source: String,
    schedule: Schedule,
    lanes: usize,
}

/// Why a subscription can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// Something in it is wrong.
    #[error("{message}")]
    Invalid {
        /// Where in it, as a JSON Pointer.
        pointer: String,
        /// What is wrong there.
        message: String,
    },
    /// Another one is called that.
    #[error("a subscription called {0:?} exists already")]
    NameTaken(String),
    /// There are as many as there may be.
    #[error("there are {0} subscriptions already, and no more are taken")]
    TooMany(usize),
    /// All of them together are as many as there may be.
    #[error("no more subscriptions are taken")]
    Full,
    /// It can't be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Subscriptions {
    /// Reads what was kept and starts a worker for each that is active.
    pub(crate) async fn open(
        db: Arc<StateDb>,
        tokens: Arc<Tokens>,
        feed: Feed,
        policy: Policy,
        store: Store,
        webhooks: WebhooksConfig,
    ) -> Result<Self, StateError> {
        let schedule = Schedule::standard();
        Self::open_with(db, tokens, feed, policy, store, webhooks, schedule).await
    }

    /// The same with a schedule of one's own.
    async fn open_with(
        db: Arc<StateDb>,
        tokens: Arc<Tokens>,
        feed: Feed,
        policy: Policy,
        store: Store,
        webhooks: WebhooksConfig,
        schedule: Schedule,
    ) -> Result<Self, StateError> {
        let tls = Tls::new().map_err(|source| StateError::Tls { source: source.into() })?;
        let threads = DeliveryThreads::start().map_err(|source| StateError::Threads { source })?;
        let source = store.server(None).to_string();
        let lanes = usize::try_from(webhooks.lanes).unwrap_or(usize::MAX);
        let context = Arc::new(Context { db, feed, store, source, schedule, lanes });
        let mut entries = Vec::new();
        let rows = context.blocking(StateDb::subscriptions).await?;
        for row in rows {
            let kept: Kept = match serde_json::from_str(&row.body) {
                Ok(kept) => kept,
                Err(error) => {
                    error!(subscription = %row.name, %error, "a subscription can't be read and is left alone");
                    continue;
                }
            };
            let entry = Entry::new(row.id, row.name, kept);
            let id = entry.id.clone();
            let count = context.blocking(move |db| db.dead_letter_count(&id)).await?;
            entry.live.dead_letters.store(count, Ordering::Relaxed);
            if let Ok(Some(Seq(done))) = context.feed.journal().cursor(&entry.id) {
                entry.live.cursor.store(done, Ordering::Relaxed);
            }
            entries.push(Arc::new(entry));
        }
        let subscriptions = Self(Arc::new(Shared {
            context,
            tokens,
            policy,
            reach: reach(webhooks.reach),
            webhooks,
            tls,
            threads,
            entries: RwLock::new(entries),
            changing: Mutex::new(()),
        }));
        for entry in subscriptions.entries() {
            subscriptions.start(&entry);
        }
        Ok(subscriptions)
    }

    /// Makes a subscription of whoever is let in by `grant`; the answer alone holds its secret.
    pub(crate) async fn create(
        &self,
        new: NewSubscription,
        grant: &Grant,
    ) -> Result<Shown, CreateError> {
        let shared = &self.0;
        let selection = new.selection();
        check_name(&new.name)?;
        let policy = shared.policy.for_role(grant.principal().role());
        selection.compile(&policy).map_err(|error| CreateError::Invalid {
            pointer: error.pointer,
            message: error.message,
        })?;
        let NewSink::Webhook { url, signature, secret } = new.sink;
        Target::parse(&url, shared.reach).map_err(|error| invalid("/sink/url", error))?;
        let secret = match secret {
            Some(text) => Secret::parse(&text).map_err(|error| invalid("/sink/secret", error))?,
            None => made(signature)?,
        };
        let _changing = shared.changing.lock().await;
        let start = self.start_of(&new.begin).await?;
        let owner = Owner::of(grant);
        let is_own = |entry: &Arc<Entry>| match &owner {
            Some(_) => entry.is_seen_by(owner.as_ref()),
            None => entry.is_the_hubs(),
        };
        let own: Vec<_> = self.entries().into_iter().filter(is_own).collect();
        if own.iter().any(|entry| entry.name == new.name) {
            return Err(CreateError::NameTaken(new.name));
        }
        let count = self.count();
        if policy.ceiling().is_some_and(|ceiling| own.len() >= ceiling.subscriptions) {
            return Err(CreateError::TooMany(own.len()));
        }
        if count >= SUBSCRIPTIONS_MAX {
            // How many others have is nobody's business.
            return Err(if owner.is_some() {
                CreateError::Full
            } else {
                CreateError::TooMany(count)
            });
        }
        let kept = Kept {
            selection,
            begin: new.begin,
            start,
            url,
            secret: secret.reveal(),
            previous: None,
            state: SubscriptionState::Active,
            detail: None,
            created: time(jiff::Timestamp::now()),
            owner,
        };
        let qualified = kept
            .owner
            .as_ref()
            .map_or_else(|| new.name.clone(), |owner| owner.qualified(&new.name));
        let id = format!("sub_{}", EventId::from_u128(u128::from_be_bytes(random()?)));
        let id = id.to_ascii_lowercase();
        let row = Row { id: id.clone(), name: qualified, body: kept.body() };
        if !shared.context.blocking(move |db| db.add(&row)).await? {
            return Err(CreateError::NameTaken(new.name));
        }
        let entry = Arc::new(Entry::new(id, new.name, kept));
        shared.entries.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        self.start(&entry);
        let mut shown = self.shown(&entry);
        shown.sink.tell(&secret);
        Ok(shown)
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

    /// What Prometheus is told of each.
    pub(crate) fn figures(&self) -> Vec<SubscriptionFigures> {
        let last = self.0.context.feed.last();
        self.entries().iter().map(|entry| entry.figures(last)).collect()
    }

    /// The one with this name or id.
    pub(crate) fn find(&self, grant: &Grant, name_or_id: &str) -> Option<Shown> {
        self.entry(grant, name_or_id).map(|entry| self.shown(&entry))
    }

    /// Holds one; `None` where there is none. Nothing is attempted any more once this returns;
    /// one that has ended stays so.
    pub(crate) async fn pause(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, StateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        stop(&entry, Stop::Gently).await;
        if entry.kept().state != SubscriptionState::Ended {
            self.keep(&entry, SubscriptionState::Paused).await?;
        }
        Ok(Some(self.shown(&entry)))
    }

    /// Lets one go on where it stood, also one that had ended.
    pub(crate) async fn resume(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, StateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        let kept = entry.kept().clone();
        if kept.state != SubscriptionState::Active || self.grant(&kept).is_none() {
            stop(&entry, Stop::Gently).await;
            // Whoever else resumes it lends no token: it stays its owner's.
            if let Some(owner) = Owner::of(grant) {
                entry.kept().owner = Some(owner);
            }
            self.keep(&entry, SubscriptionState::Active).await?;
            self.start(&entry);
        }
        Ok(Some(self.shown(&entry)))
    }

    /// Gives one another secret, which the answer alone holds; deliveries are signed with the one
    /// before as well for a while. `None` where there is none such.
    pub(crate) async fn rotate(
        &self,
        grant: &Grant,
        name_or_id: &str,
        rotation: Rotation,
    ) -> Result<Option<Shown>, CreateError> {
        let overlap = rotation.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
        if overlap > OVERLAP_SECONDS_MAX {
            let message = format!("at most {OVERLAP_SECONDS_MAX} seconds");
            return Err(invalid("/overlapSeconds", message));
        }
        let given = rotation.secret.map(|text| Secret::parse(&text)).transpose();
        let given = given.map_err(|error| invalid("/secret", error))?;
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        // What its worker has to say of it comes first.
        stop(&entry, Stop::Gently).await;
        let mut changed = entry.kept().clone();
        let is_pair = Secret::parse(&changed.secret).is_ok_and(|secret| secret.public().is_some());
        let secret = match given {
            Some(secret) => Ok(secret),
            None => made(if is_pair { Signature::V1a } else { Signature::V1 }),
        };
        let rotated = match secret {
            Ok(secret) => {
                let until = jiff::Timestamp::now().as_second().saturating_add_unsigned(overlap);
                let previous = std::mem::replace(&mut changed.secret, secret.reveal());
                changed.previous = (overlap > 0).then_some(Previous { secret: previous, until });
                self.store(&entry, changed).await.map(|()| secret)
            }
            Err(error) => Err(error),
        };
        self.start(&entry);
        let secret = rotated?;
        let mut shown = self.shown(&entry);
        shown.sink.tell(&secret);
        Ok(Some(shown))
    }

    /// Has one deliver anew from there on, or leave out what it hadn't come to; `None` where there is
    /// none such. One that is held or has ended stays so.
    pub(crate) async fn replay(
        &self,
        grant: &Grant,
        name_or_id: &str,
        begin: Begin,
    ) -> Result<Option<Shown>, CreateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        let start = self.start_of(&begin).await?;
        stop(&entry, Stop::Gently).await;
        let mut changed = entry.kept().clone();
        (changed.begin, changed.start) = (begin, start);
        let mut begun = self.store(&entry, changed).await;
        if begun.is_ok() {
            let journal = self.0.context.feed.journal().as_ref();
            let cursors = Cursors::new(&entry.id).begin_anew(journal, start);
            begun = cursors.map_err(|source| StateError::Cursor { source });
        }
        if begun.is_ok() {
            let live = &entry.live;
            live.cursor.store(start, Ordering::Relaxed);
            live.last_delivered.store(0, Ordering::Relaxed);
            live.set_last_error(None);
        }
        self.start(&entry);
        begun?;
        Ok(Some(self.shown(&entry)))
    }

    /// Forgets one and its dead letters; the answer is how it stood.
    pub(crate) async fn remove(
        &self,
        grant: &Grant,
        name_or_id: &str,
    ) -> Result<Option<Shown>, StateError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.entry(grant, name_or_id) else { return Ok(None) };
        let shown = self.shown(&entry);
        stop(&entry, Stop::AtOnce).await;
        let id = entry.id.clone();
        self.0.context.blocking(move |db| db.remove(&id)).await?;
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|one| one.id != entry.id);
        drop(entries);
        let forgotten = Cursors::new(&entry.id).forget(self.0.context.feed.journal().as_ref());
        if let Err(error) = forgotten {
            // Its id never comes again, so what is left of it costs a few octets and no more.
            debug!(%error, "the cursors of a removed subscription were left");
        }
        Ok(Some(shown))
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
        });
        Ok(Some(shown.collect()))
    }

    /// Stops all workers; attempts under way get a moment to end.
    pub(crate) async fn shutdown(&self) {
        let _changing = self.0.changing.lock().await;
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

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `grant` lets somebody call so. Whoever runs the hub means their own before another's.
    fn entry(&self, grant: &Grant, name_or_id: &str) -> Option<Arc<Entry>> {
        let asker = Owner::of(grant);
        let entries = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut meant = entries.iter().filter(|one| one.is_meant(asker.as_ref(), name_or_id));
        let first = meant.clone().next();
        meant.find(|one| one.is_the_hubs()).or(first).cloned()
    }

    /// What the owner of a subscription may see now; nothing where their token is good no more.
    fn grant(&self, kept: &Kept) -> Option<Arc<Grant>> {
        let tokens = &self.0.tokens;
        match &kept.owner {
            None => Some(Arc::clone(tokens.admin())),
            Some(owner) => tokens.grant(&owner.token).filter(|grant| grant.is_good()),
        }
    }

    fn shown(&self, entry: &Entry) -> Shown {
        entry.shown(self.0.context.feed.last())
    }

    /// The number before the first record wanted.
    async fn start_of(&self, begin: &Begin) -> Result<u64, CreateError> {
        let feed = &self.0.context.feed;
        let bounds = feed.journal().bounds();
        match begin {
            Begin::Now => Ok(bounds.last.0),
            Begin::Seq(0) => Ok(bounds.first.0.saturating_sub(1)),
            Begin::Seq(seq) if *seq > bounds.last.0 + 1 => Err(invalid(
                "/begin/seq",
                format!("there is no record {seq} yet; the newest is {}", bounds.last.0),
            )),
            Begin::Seq(seq) if *seq < bounds.first.0 => Err(invalid(
                "/begin/seq",
                format!("record {seq} is no longer kept; the oldest is {}", bounds.first.0),
            )),
            Begin::Seq(seq) => Ok(seq - 1),
            Begin::Time(text) => {
                let (time, _) = Timestamp::parse_lenient(text)
                    .map_err(|error| invalid("/begin/time", error))?;
                let millis = u64::try_from(time.unix_millis()).unwrap_or(0);
                let journal = Arc::clone(feed.journal());
                let first = tokio::task::spawn_blocking(move || journal.first_since(millis)).await;
                let first = first.map_err(|error| ReadError::Unreadable {
                    file: "journal".into(),
                    source: Box::new(error),
                });
                match first.and_then(|first| first) {
                    Ok(first) => Ok(first.0.saturating_sub(1)),
                    Err(error) => Err(CreateError::State(StateError::Journal { source: error })),
                }
            }
        }
    }

    /// Starts the worker of an active subscription.
    fn start(&self, entry: &Arc<Entry>) {
        let kept = entry.kept().clone();
        if kept.state != SubscriptionState::Active {
            return;
        }
        let job = match self.job(entry, &kept) {
            Ok(job) => job,
            Err(trouble) => {
                warn!(subscription = %entry.name, %trouble, "a subscription can't be delivered");
                entry.live.set_trouble(Some(trouble));
                return;
            }
        };
        let (stop, told) = watch::channel(Stop::No);
        let task = self.0.threads.spawn(job.run(told));
        *locked(&entry.running) = Some(Running { stop, task });
    }

    /// What was fine when the subscription was made may be out of bounds by now: policy and reach
    /// are the operator's to change.
    fn job(&self, entry: &Arc<Entry>, kept: &Kept) -> Result<Job, String> {
        let shared = &self.0;
        let grant = self.grant(kept).ok_or(OVER)?;
        let policy = shared.policy.for_role(grant.principal().role());
        let (filter, projection) =
            kept.selection.compile_again(&policy).map_err(|error| error.to_string())?;
        let target = Target::parse(&kept.url, shared.reach).map_err(|error| error.to_string())?;
        let read = |text: &str| Secret::parse(text).map_err(|error| error.to_string());
        let timeout = shared.webhooks.timeout;
        let mut webhook = Webhook::new(target, read(&kept.secret)?, timeout, &shared.tls);
        if let Some(previous) = &kept.previous {
            let until = Duration::from_secs(u64::try_from(previous.until).unwrap_or(0));
            webhook = webhook.signed_also(read(&previous.secret)?, SystemTime::UNIX_EPOCH + until);
        }
        Ok(Job {
            entry: Arc::clone(entry),
            context: Arc::clone(&shared.context),
            grant,
            filter,
            projection,
            webhook: Arc::new(webhook),
        })
    }

    async fn keep(&self, entry: &Entry, state: SubscriptionState) -> Result<(), StateError> {
        let mut changed = entry.kept().clone();
        changed.state = state;
        changed.detail = None;
        self.store(entry, changed).await?;
        entry.live.set_trouble(None);
        Ok(())
    }

    async fn store(&self, entry: &Entry, changed: Kept) -> Result<(), StateError> {
        let (id, body) = (entry.id.clone(), changed.body());
        self.0.context.blocking(move |db| db.update(&id, &body)).await?;
        // Only what is stored is shown.
        *entry.kept() = changed;
        Ok(())
    }
}

impl Context {
    /// Does something with the database where waiting for the disk holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&StateDb) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let db = Arc::clone(&self.db);
        let done = tokio::task::spawn_blocking(move || act(&db)).await;
        done.map_err(|source| StateError::Interrupted { source: Box::new(source) })?
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

fn check_name(name: &str) -> Result<(), CreateError> {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_OCTETS_MAX || !name.chars().all(fine) {
        let message = format!(
            "{:?} is not a name: 1 to {NAME_OCTETS_MAX} letters, digits, \".\", \"_\" and \"-\"",
            name.chars().take(NAME_OCTETS_MAX).collect::<String>()
        );
        return Err(invalid("/name", message));
    }
    // In a path these two go up or nowhere: many clients take them out before they ask.
    if name == "." || name == ".." {
        return Err(invalid("/name", format!("{name:?} is no name that can stand in a path")));
    }
    if name.starts_with("sub_") {
        return Err(invalid("/name", format!("{name:?} looks like an id")));
    }
    Ok(())
}

fn invalid(pointer: &str, message: impl ToString) -> CreateError {
    CreateError::Invalid { pointer: pointer.to_owned(), message: message.to_string() }
}

fn made(signature: Signature) -> Result<Secret, StateError> {
    Ok(match signature {
        Signature::V1 => Secret::new(random()?),
        Signature::V1a => Secret::pair(random()?),
    })
}

fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], StateError> {
    let mut octets = [0; OCTETS];
    fill_random(&mut octets).map_err(|source| StateError::Random { source })?;
    Ok(octets)
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

/// Subscriptions at most. Each has a worker, and may hold some megabytes while its receiver
/// fails.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// How long the secret before holds: a day, for a receiver that is told by hand.
const OVERLAP_SECONDS: u64 = 24 * 3600;

/// A secret that is to be replaced shouldn't hold for ever.
const OVERLAP_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// Why a subscription delivers nothing any more.
const OVER: &str = "its owner's token was revoked or has expired (resume it with another one)";

/// Octets of a name: it is a label of metrics and a part of paths.
const NAME_OCTETS_MAX: usize = 64;
