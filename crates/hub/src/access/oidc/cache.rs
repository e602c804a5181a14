//! An issuer's keys as they were read last, and when they are read anew.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tracing::{info, warn};

use super::fetch::Place;
use super::keys::KeySet;
use crate::hub::stopped;

/// The keys, and where they come from.
#[derive(Debug)]
pub(super) struct Keys {
    place: Place,
    started: Instant,
    state: RwLock<State>,
    /// Held by the one who reads; the others wait for what they find.
    reading: Mutex<()>,
}

/// What is known, on the hub's clock.
#[derive(Clone, Debug, Default)]
struct State {
    set: Arc<KeySet>,
    /// When they were read last.
    read: Option<Duration>,
    /// When that was tried last, whatever came of it; from its beginning on, as who had it begun may go
    /// before it ends.
    tried: Option<Duration>,
}

impl State {
    /// The keys, as long as they may be trusted.
    fn usable(&self, now: Duration) -> Option<Arc<KeySet>> {
        let read = self.read.filter(|read| now < *read + KEYS_LIFE)?;
        (now >= read).then(|| Arc::clone(&self.set))
    }

    /// Whether somebody may have them read now, because of a key that isn't among them.
    fn may_ask(&self, now: Duration) -> bool {
        self.tried.is_none_or(|tried| now >= tried + ASK_EVERY)
    }

    /// How long until they are read anew by themselves.
    fn due_in(&self, now: Duration, refresh: Duration) -> Duration {
        let Some(tried) = self.tried else { return Duration::ZERO };
        let pause = if self.read == self.tried { refresh } else { ASK_EVERY };
        (tried + pause).saturating_sub(now)
    }
}

impl Keys {
    /// None yet.
    pub(super) fn new(place: Place) -> Self {
        Self { place, started: Instant::now(), state: RwLock::default(), reading: Mutex::new(()) }
    }

    /// The keys of the moment; none where they were never read, or too long ago.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.state().usable(self.started.elapsed())
    }

    /// Others than `known`, where there are such now. The place is asked once in a while at most,
    /// whoever makes up keys, and by one at a time.
    pub(super) async fn newer(&self, known: Option<&Arc<KeySet>>) -> Option<Arc<KeySet>> {
        let _reading = self.reading.lock().await;
        let is_new = |set: &Arc<KeySet>| known.is_none_or(|known| !Arc::ptr_eq(known, set));
        // Somebody else may have had them read while we waited.
        if let Some(set) = self.current().filter(is_new) {
            return Some(set);
        }
        if self.state().may_ask(self.started.elapsed()) {
            self.read().await;
        }
        self.current().filter(is_new)
    }

    /// Reads them anew, in good time, until the hub stops.
    pub(super) async fn watch(&self, mut stopping: watch::Receiver<bool>) {
        let refresh = match self.place {
            Place::File(_) => REREAD_EVERY,
            Place::Issuer { .. } => REFRESH_EVERY,
        };
        loop {
            let pause = self.state().due_in(self.started.elapsed(), refresh);
            if pause.is_zero() {
                let _reading = self.reading.lock().await;
                tokio::select! {
                    () = self.read() => {}
                    () = stopped(&mut stopping) => return,
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut stopping) => return,
            }
        }
    }

    /// Reads them. Where that fails, those there are go on, for a while.
    async fn read(&self) {
        self.tried();
        let read = self.place.fetch().await;
        let now = self.tried();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(set) => {
                if state.read.is_none() || set.len() == 0 {
                    info!(keys = set.len(), "the issuer's keys were read");
                }
                state.set = Arc::new(set);
                state.read = Some(now);
            }
            Err(error) => {
                warn!(%error, "the issuer's keys can't be read, and those there are go on");
            }
        }
    }

    /// Notes that they were tried to be read, and when.
    fn tried(&self) -> Duration {
        let now = self.started.elapsed();
        self.state.write().unwrap_or_else(PoisonError::into_inner).tried = Some(now);
        now
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How often an issuer is asked unasked: so long a key it has taken back goes on.
const REFRESH_EVERY: Duration = Duration::from_secs(10 * 60);

/// How often a file is read.
const REREAD_EVERY: Duration = Duration::from_secs(60);

/// How often, at most, a key that isn't known has them read, and how long after a failure.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How long keys go on where nobody can be asked: a night's repair.
const KEYS_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn state(read: Option<u64>, tried: Option<u64>) -> State {
        let [read, tried] = [read, tried].map(|seconds| seconds.map(Duration::from_secs));
        State { set: Arc::default(), read, tried }
    }

    #[test]
    fn r161_keys_of_an_issuer_that_is_away_go_on_for_a_day_and_no_longer() {
        let at = Duration::from_secs;
        let state = state(Some(100), Some(90_000));
        assert!(state.usable(at(100)).is_some() && state.usable(at(100 + 86_399)).is_some());
        assert!(state.usable(at(100 + 86_400)).is_none() && state.usable(at(99)).is_none());
        assert!(State::default().usable(at(0)).is_none());
    }

    #[test]
    fn r157_whoever_makes_up_keys_has_the_issuer_asked_once_in_a_while_alone() {
        let at = Duration::from_secs;
        assert!(State::default().may_ask(at(0)));
        let state = state(Some(100), Some(100));
        let asked = (100..220).filter(|second| state.may_ask(at(*second))).min();
        assert_eq!(asked, Some(110));
        // One that nobody waited for the end of counts as well.
        let left = State { tried: Some(at(200)), ..state };
        assert!(!left.may_ask(at(209)) && left.may_ask(at(210)));
    }

    #[test]
    fn keys_are_read_anew_before_they_end_and_soon_after_a_failure() {
        let at = Duration::from_secs;
        assert_eq!(State::default().due_in(at(5), REFRESH_EVERY), Duration::ZERO);
        assert_eq!(state(Some(100), Some(100)).due_in(at(160), REFRESH_EVERY), at(540));
        assert_eq!(state(Some(100), Some(700)).due_in(at(705), REFRESH_EVERY), at(5));
        assert!(REFRESH_EVERY < KEYS_LIFE && REREAD_EVERY < KEYS_LIFE);
    }
}
