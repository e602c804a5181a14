//! A user's password for a token of theirs, checked by the store.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::guesses::{Guesses, network};
use super::store::{Answer, Store};
use super::tokens::{CreateError, ShownToken, Tokens};
use crate::config::LoginConfig;
use crate::state::StateError;
use crate::tls::TlsError;

/// Lets users in by the store's own password check.
#[derive(Debug)]
pub(crate) struct Logins {
    store: Store,
    lifetime: Duration,
    /// The store's time is not to be had without bound.
    places: Semaphore,
    started: Instant,
    tries: Mutex<Tries>,
}

/// Tries of late: by where they come from, and by that and the user they name. Not by the user
/// alone, lest anybody keep a user out.
#[derive(Debug, Default)]
struct Tries {
    by_address: Guesses<IpAddr>,
    by_user: Guesses<(IpAddr, Box<str>)>,
}

/// Why nobody is let in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The store takes no such password of no such user.
    Wrong,
    /// Too many tries; how long to wait.
    TooMany(Duration),
    /// The store can't be asked now.
    Unavailable,
    /// It was right, and no token can be made.
    Token(CreateError),
}

impl Logins {
    /// The store's logins, where they are configured. Reads the authorities' file.
    pub(crate) fn open(config: &LoginConfig) -> Result<Option<Self>, TlsError> {
        Ok(Store::open(config)?.map(|store| Self {
            store,
            lifetime: config.lifetime,
            places: Semaphore::new(AT_ONCE_MAX),
            started: Instant::now(),
            tries: Mutex::default(),
        }))
    }

    /// A token of `user`'s, where the store takes the password. Every try counts, whether or not
    /// there is such a user, and takes as long as the store does.
    pub(crate) async fn enter(
        &self,
        tokens: &Arc<Tokens>,
        user: &str,
        password: &str,
        peer: IpAddr,
    ) -> Result<ShownToken, Refusal> {
        if let Some(pause) = self.tried(user, peer) {
            return Err(Refusal::TooMany(pause));
        }
        let Ok(_place) = self.places.try_acquire() else { return Err(Refusal::Unavailable) };
        match self.store.check(user, password).await {
            Answer::Right => {}
            Answer::Wrong => return Err(Refusal::Wrong),
            Answer::Unavailable(why) => {
                warn!(%why, "the store can't be asked whether a password is right");
                return Err(Refusal::Unavailable);
            }
        }
        let (tokens, user, lifetime) = (Arc::clone(tokens), user.to_owned(), self.lifetime);
        let made = spawn_blocking(move || tokens.entered(&user, lifetime)).await;
        let interrupted = |error| StateError::Interrupted { source: Box::new(error) };
        made.map_err(interrupted).map_err(CreateError::from).flatten().map_err(Refusal::Token)
    }

    /// Counts a try; how long to wait, where it is one too many.
    fn tried(&self, user: &str, peer: IpAddr) -> Option<Duration> {
        let now = self.started.elapsed();
        let place = network(peer);
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let own = tries.by_user.one((place, user.into()), now, PER_USER);
        own.or_else(|| tries.by_address.one(place, now, PER_ADDRESS))
    }
}

/// Passwords that are checked at once. A store that slows down guessing holds each for seconds.
const AT_ONCE_MAX: usize = 64;

/// Tries taken at once of one user from one place, and the pause after which there is another: a
/// person's mistakes.
const PER_USER: (u32, Duration) = (10, Duration::from_secs(6));

/// The same for all users from one place: an office behind one address.
const PER_ADDRESS: (u32, Duration) = (60, Duration::from_secs(1));
