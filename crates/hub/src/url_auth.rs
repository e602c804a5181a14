//! References to content that the store itself authorises (RFC 4467, R45), where the operator wants
//! those in the place of our own links.
//!
//! Whether one is wanted is decided by the event and by who is told of it. The store is then asked
//! over IMAP, beside everything else and no longer than [`WAIT_MAX`]: who waits in vain sends a link
//! of our own. What the store made is kept for a short while and in memory alone, so that a repeated
//! attempt doesn't ask again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use mail_event::{ImapUrl, json};
use postbell_engine::{Principal, Role};
use postbell_sources::{Authorised, Authoriser, Token, cyrus, dovecot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, warn};

use crate::config::{SourceConfig, SourceKind};
use crate::hub::stopped;
use crate::lock::locked;
use crate::metrics::Metrics;
use crate::sources::{Wiring, chain, cyrus_options, dovecot_options};

/// Has stores authorise URLs; cheap to clone. Switched off, none is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct UrlAuth(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// The hub's own store: of another's events nobody here can be asked.
    host: String,
    lifetime: Duration,
    stores: Vec<Asked>,
    /// The places in which stores are asked for content, too.
    asking: Arc<Semaphore>,
    known: Mutex<Known<Token>>,
    metrics: Arc<Metrics>,
}

/// What became of a URL that was wanted. Where it isn't made or known, a link of ours goes in its place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// Nobody can be asked, or not now.
    Away,
    /// The message isn't there any more, or its owner isn't let in.
    Unfit,
    /// The store doesn't authorise this one.
    Refused,
    /// All places in which stores are asked were taken for too long.
    Crowded,
    /// The store didn't answer in time.
    Late,
    /// It was made a short while ago.
    Known,
    /// The store made it.
    Made,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Away,
        Self::Unfit,
        Self::Refused,
        Self::Crowded,
        Self::Late,
        Self::Known,
        Self::Made,
    ];

    /// In a word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Unfit => "unfit",
            Self::Refused => "refused",
            Self::Crowded => "crowded",
            Self::Late => "late",
            Self::Known => "known",
            Self::Made => "made",
        }
    }
}

/// A URL that is to be authorised, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    message: ImapUrl,
    user: String,
    until: Timestamp,
}

/// The URL and where it is from, or why there is none.
type Answer = Result<(Token, Outcome), Outcome>;

/// A store that is asked.
struct Asked {
    name: String,
    config: SourceConfig,
    wiring: Wiring,
    /// Who asks: each owner's mailboxes always the same, so that one login does for all of them.
    askers: [Mutex<Option<Authoriser>>; ASKERS],
    /// Until when it isn't asked, since it couldn't be, and why.
    rests: Mutex<Option<(Instant, String)>>,
    /// What it refused since it authorised one.
    refused: AtomicU32,
}

/// What was authorised a short while ago, by what was asked, and until when it is good; the oldest
/// goes first.
#[derive(Debug)]
struct Known<T> {
    found: HashMap<String, (T, Timestamp)>,
    order: VecDeque<String>,
}

impl UrlAuth {
    /// Asks the stores that the sources follow, where there is somebody to ask as; what it gets is
    /// good for `lifetime`.
    pub(crate) fn new(
        configs: &BTreeMap<String, SourceConfig>,
        wiring: &Wiring,
        lifetime: Duration,
        asking: Arc<Semaphore>,
    ) -> Self {
        let can_be_asked = |config: &SourceConfig| {
            config.kind != SourceKind::Maildir && !config.master_user.is_empty()
        };
        let stores = configs.iter().filter(|(_, config)| can_be_asked(config));
        let stores = stores.map(|(name, config)| Asked {
            name: name.clone(),
            config: config.clone(),
            wiring: wiring.clone(),
            askers: Default::default(),
            rests: Mutex::default(),
            refused: AtomicU32::new(0),
        });
        Self(Some(Arc::new(Inner {
            host: wiring.store.host().to_owned(),
            lifetime,
            stores: stores.collect(),
            asking,
            known: Mutex::default(),
            metrics: Arc::clone(&wiring.metrics),
        })))
    }

    /// What is to be authorised of a record for this principal, who may have the event and its
    /// content: nothing but for a user of the hub's own store, and nothing but a message of which the
    /// store is known to have it, and how large it is.
    pub(crate) fn wanted(
        &self,
        record: &[u8],
        principal: &Principal,
        now: Timestamp,
    ) -> Option<Wanted> {
        let inner = self.0.as_ref()?;
        let is_own = principal.role() == Role::User && principal.stores().elsewhere().is_none();
        let [user] = principal.users().filter(|_| is_own)? else { return None };
        let event = json::from_slice(record).ok()?.event;
        // A source says so of what it did not read; of a publisher's event the store is not asked.
        if event.vendor_json("vnd.postbell.contentSuppressed") != Some("\"size\"") {
            return None;
        }
        // By a link of ours what is too large is found out when it is followed, by this never.
        event.message_size()?;
        let message = event.uri().as_imap()?;
        let is_here = message.host().eq_ignore_ascii_case(&inner.host);
        let is_whole = message.user().is_some()
            && message.mailbox().is_some()
            && message.uid_validity().is_some()
            && message.uid().is_some();
        (is_here && is_whole).then(|| Wanted {
            message: message.clone(),
            user: user.to_string(),
            until: expiry(now, inner.lifetime),
        })
    }

    /// The URL that was wanted, unless the store makes none by `deadline`.
    pub(crate) async fn authorise(&self, wanted: Wanted, deadline: Instant) -> Option<Token> {
        let inner = self.0.as_ref()?;
        let answer = inner.authorise(wanted, deadline).await;
        inner.metrics.url_auth(match &answer {
            Ok((_, outcome)) | Err(outcome) => *outcome,
        });
        answer.ok().map(|(token, _)| token)
    }

    /// Why the store behind a source couldn't authorise any last, if it couldn't.
    pub(crate) fn trouble(&self, source: &str) -> Option<String> {
        let store = self.0.as_ref()?.stores.iter().find(|store| store.name == source)?;
        let rests = locked(&store.rests);
        let refuses = store.refused.load(Ordering::Relaxed) >= REFUSED_TOLD;
        let why = rests.as_ref().map(|(_, why)| why.clone());
        why.or_else(|| refuses.then(|| REFUSES.to_owned()))
    }

    /// Closes connections that nobody needs, until the hub stops.
    pub(crate) async fn watch(self, mut stopping: watch::Receiver<bool>) {
        let Some(inner) = self.0 else { return };
        loop {
            tokio::select! {
                () = tokio::time::sleep(TIDY_EVERY) => {}
                () = stopped(&mut stopping) => return,
            }
            let inner = Arc::clone(&inner);
            if let Err(error) = spawn_blocking(move || inner.tidy()).await {
                error!(%error, "closing connections panicked");
            }
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known<Token>> {
        locked(&self.known)
    }

    async fn authorise(self: &Arc<Self>, wanted: Wanted, deadline: Instant) -> Answer {
        if let Some(token) = self.known().find(&wanted.name()) {
            return Ok((token, Outcome::Known));
        }
        if self.stores.iter().all(Asked::rests) {
            return Err(Outcome::Away);
        }
        let place = place(&self.asking, deadline).await?;
        let inner = Arc::clone(self);
        // Who comes too late finds it at the next attempt.
        let asked = spawn_blocking(move || {
            let answer = inner.ask(&wanted);
            drop(place);
            answer
        });
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                error!(%error, "asking for a URL panicked");
                Err(Outcome::Away)
            }
            Err(_) => Err(Outcome::Late),
        }
    }

    /// Asks one store after the other. Blocks.
    fn ask(&self, wanted: &Wanted) -> Answer {
        // While this waited for a place another may have asked.
        if let Some(token) = self.known().find(&wanted.name()) {
            return Ok((token, Outcome::Known));
        }
        // Of several that make none, the one that came nearest says why.
        let mut outcome = Outcome::Away;
        for store in &self.stores {
            match store.ask(wanted) {
                Ok(token) => {
                    self.known().keep(wanted.name(), token.clone(), wanted.until);
                    return Ok((token, Outcome::Made));
                }
                Err(other) => outcome = outcome.max(other),
            }
        }
        Err(outcome)
    }

    fn tidy(&self) {
        self.known().forget_before(expiry(Timestamp::now(), self.lifetime));
        for store in &self.stores {
            for asker in &store.askers {
                if let Some(asker) = &mut *locked(asker) {
                    asker.tidy();
                }
            }
        }
    }
}

/// A place to ask in, unless there is none by `deadline`.
async fn place(
    asking: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<OwnedSemaphorePermit, Outcome> {
    let place = timeout_at(deadline, Arc::clone(asking).acquire_owned()).await;
    // Places are never closed.
    place.ok().and_then(Result::ok).ok_or(Outcome::Crowded)
}

impl Asked {
    fn rests(&self) -> bool {
        let rests = locked(&self.rests);
        rests.as_ref().is_some_and(|(until, _)| Instant::now() < *until)
    }

    fn ask(&self, wanted: &Wanted) -> Result<Token, Outcome> {
        let mut hash = DefaultHasher::new();
        wanted.message.user().hash(&mut hash);
        let at = usize::try_from(hash.finish() % ASKERS as u64).unwrap_or_default();
        let asker = self.askers.get(at).ok_or(Outcome::Away)?;
        let mut asker = locked(asker);
        // It may have been found out while this one waited.
        if self.rests() {
            return Err(Outcome::Away);
        }
        if asker.is_none() {
            match self.asker() {
                Ok(made) => *asker = made,
                Err(why) => {
                    self.rest(why);
                    return Err(Outcome::Away);
                }
            }
        }
        let asked = asker.as_mut().ok_or(Outcome::Away)?;
        let answer = asked.authorise(&wanted.message, &wanted.user, wanted.until);
        drop(asker);
        match answer {
            Authorised::Url(token) => {
                *locked(&self.rests) = None;
                self.refused.store(0, Ordering::Relaxed);
                Ok(token)
            }
            Authorised::Refused => {
                debug!(source = %self.name, "the store didn't authorise a URL");
                if self.refused.fetch_add(1, Ordering::Relaxed) + 1 == REFUSED_TOLD {
                    warn!(source = %self.name, "{REFUSES}: links of our own go in the place of URLs");
                }
                Err(Outcome::Refused)
            }
            Authorised::Unfit => Err(Outcome::Unfit),
            Authorised::Never(why) => {
                self.rest(why);
                Err(Outcome::Away)
            }
        }
    }

    /// Lets it alone for a while.
    fn rest(&self, why: String) {
        let mut rests = locked(&self.rests);
        if rests.as_ref().is_none_or(|(_, before)| *before != why) {
            warn!(source = %self.name, why, "the store authorises no URLs: links of our own go in their place");
        }
        *rests = Some((Instant::now() + REST, why));
    }

    fn asker(&self) -> Result<Option<Authoriser>, String> {
        let (config, wiring) = (&self.config, &self.wiring);
        match config.kind {
            SourceKind::Maildir => Ok(None),
            SourceKind::Dovecot => dovecot_options(config, wiring, dovecot::Exporter::new())
                .map_err(|error| chain(&*error))
                .and_then(|options| dovecot::authoriser(&options)),
            SourceKind::Cyrus => cyrus_options(config, wiring)
                .map_err(|error| chain(&error))
                .and_then(|options| cyrus::authoriser(&options)),
        }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Wanted {
    /// What it is known by: the message, for whom and until when.
    fn name(&self) -> String {
        self.message.clone().for_user_until(&self.user, self.until).to_string()
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { found: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T: Clone> Known<T> {
    fn find(&self, name: &str) -> Option<T> {
        self.found.get(name).map(|(token, _)| token.clone())
    }

    fn keep(&mut self, name: String, token: T, until: Timestamp) {
        if self.found.insert(name.clone(), (token, until)).is_none() {
            self.order.push_back(name);
        }
        while self.order.len() > KNOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.found.remove(&oldest);
            }
        }
    }

    /// Lets go of what is good until before `until`: whoever asks now wants it good for longer.
    fn forget_before(&mut self, until: Timestamp) {
        self.found.retain(|_, (_, ends)| *ends >= until);
        self.order.retain(|name| self.found.contains_key(name));
    }
}

/// When what is authorised now ends: after `lifetime`, and up to an eighth of it or [`WINDOW_MAX`]
/// sooner, so that attempts that follow each other want the same.
fn expiry(now: Timestamp, lifetime: Duration) -> Timestamp {
    let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let window = (lifetime / 8).clamp(1, WINDOW_MAX_SECONDS);
    let until = now.as_second().saturating_add(lifetime);
    Timestamp::from_second(until - until.rem_euclid(window)).unwrap_or(Timestamp::MAX)
}

/// How long a delivery waits for the store: longer than a healthy one takes under load, and no
/// longer than nobody minds.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(2);

/// The window within which attempts want the same URL. After it, one whose key its owner has reset
/// is made anew.
const WINDOW_MAX_SECONDS: i64 = 600;

/// URLs kept: a thousand deliveries that are repeated within the window, half a megabyte.
const KNOWN_MAX: usize = 1_024;

/// How long a store that couldn't make any isn't asked.
const REST: Duration = Duration::from_secs(10);

/// Refusals in a row that are told: that many messages aren't gone between their event and its
/// delivery.
const REFUSED_TOLD: u32 = 10;

/// What they are told as.
const REFUSES: &str = "it refuses to authorise whatever it is asked to: store.host and store.port may not be what it calls itself";

/// Owners at once for whom a store is asked: as many as there are places to ask.
const ASKERS: usize = 4;

/// How often connections are looked at that nobody needs.
const TIDY_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r45_who_finds_no_place_to_ask_in_waits_no_longer_than_the_others_would() {
        let asking = Arc::new(Semaphore::new(1));
        let first = place(&asking, Instant::now()).await.unwrap();
        let second = place(&asking, Instant::now() + Duration::from_millis(1)).await;
        assert_eq!(second.err(), Some(Outcome::Crowded));
        drop(first);
        assert!(place(&asking, Instant::now()).await.is_ok());
    }

    #[test]
    fn r45_what_nobody_can_want_any_more_is_forgotten() {
        let (lifetime, begun) = (Duration::from_secs(86_400), 1_000_200);
        let at = |second: i64| Timestamp::from_second(begun + second).unwrap();
        let mut known = Known::default();
        for second in [0_i64, 30, 650] {
            known.keep(format!("{second}"), second, expiry(at(second), lifetime));
        }
        let mut left = |second| {
            known.forget_before(expiry(at(second), lifetime));
            [0, 30, 650].map(|name| known.find(&name.to_string()).is_some())
        };
        assert_eq!(left(599), [true, true, true]);
        assert_eq!(left(650), [false, false, true]);
        assert_eq!(left(1_250), [false, false, false]);
        assert!(known.order.is_empty());
    }

    #[test]
    fn r45_what_follows_shortly_wants_the_same_and_never_beyond_its_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (lifetime, window) in [(1, 1), (60, 7), (86_400, 600)] {
            let until = |now| expiry(at(now), Duration::from_secs(lifetime)).as_second();
            let lifetime = i64::try_from(lifetime).unwrap();
            for now in 1_000_000..1_002_000 {
                let left = until(now) - now;
                assert!(left <= lifetime && left > lifetime - window, "{lifetime} {now} {left}");
            }
            let different: std::collections::BTreeSet<_> =
                (1_000_000..1_000_000 + 3 * window).map(until).collect();
            assert!(different.len() <= 4, "{different:?}");
        }
    }
}
