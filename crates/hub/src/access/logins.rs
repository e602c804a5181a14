//! A user's password for a token of theirs, checked by the store.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::client::Client;
use super::guesses::{Guesses, network};
use super::places::Places;
use super::store::{Answer, Store};
use super::tokens::{CreateError, ShownToken, Tokens};
use crate::config::LoginConfig;
use crate::lock::locked;
use crate::state::StateError;
use crate::tls::TlsError;

/// Lets users in by the store's own password check.
#[derive(Debug)]
pub(crate) struct Logins {
    store: Store,
    lifetime: Duration,
    /// The store's time is not to be had without bound.
    places: Semaphore,
    /// Nor the most of it by one network.
    by_network: Places,
    started: Instant,
    tries: Mutex<Tries>,
}

/// Tries of late: by where they come from, and by that and the user they name. Not by the user
/// alone, lest anybody keep a user out.
#[derive(Debug, Default)]
struct Tries {
    by_place: Guesses<Counted>,
    by_user: Guesses<(Counted, Box<str>)>,
}

/// Where tries come from that count together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Counted {
    /// One address, or whoever has a whole network of them.
    Network(IpAddr),
    /// Behind a proxy on this machine that was not named. Not with this machine's own programs: none of
    /// them is to be kept out by whoever comes that way.
    Unnamed,
}

impl Counted {
    fn of(client: Client) -> Self {
        match client {
            Client::At(address) => Self::Network(network(address)),
            Client::Behind(_) => Self::Unnamed,
        }
    }
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
            by_network: Places::default(),
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
        client: Client,
    ) -> Result<ShownToken, Refusal> {
        if let Some(pause) = self.tried(user, client) {
            return Err(Refusal::TooMany(pause));
        }
        let of_network = match shared_with(client) {
            None => None,
            Some(all) => {
                let place = self.by_network.take_for(all, PER_NETWORK_MAX);
                Some(place.ok_or(Refusal::TooMany(NETWORK_PAUSE))?)
            }
        };
        let Ok(_place) = self.places.try_acquire() else { return Err(Refusal::Unavailable) };
        let answer = self.store.check(user, password).await;
        drop(of_network);
        match answer {
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
    fn tried(&self, user: &str, client: Client) -> Option<Duration> {
        let now = self.started.elapsed();
        let place = Counted::of(client);
        let mut tries = locked(&self.tries);
        // The address first: one that is beyond its tries is to fill no table with names it makes up.
        let all = tries.by_place.one(place, now, PER_ADDRESS);
        all.or_else(|| tries.by_user.one((place, user.into()), now, PER_USER))
    }
}

/// With whom a client shares the passwords that are checked at once for a network. This machine's own
/// programs share with nobody: who may run one may do worse.
fn shared_with(client: Client) -> Option<String> {
    match client {
        Client::At(address) if address.to_canonical().is_loopback() => None,
        Client::At(address) => Some(neighbours(address)),
        // No network is called so.
        Client::Behind(_) => Some("unnamed".to_owned()),
    }
}

/// The network of an address, as those are given out to one household or firm: a /24 of IPv4, a /56
/// of IPv6.
fn neighbours(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}")
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{:x}", d & 0xff00)
        }
    }
}

/// Passwords that are checked at once. A store that slows down guessing holds each for seconds.
const AT_ONCE_MAX: usize = 64;

/// Those of one network among them, so that a few of its addresses don't take them all.
const PER_NETWORK_MAX: usize = 8;

/// After which one of those is likely to be over.
const NETWORK_PAUSE: Duration = Duration::from_secs(1);

/// Tries taken at once of one user from one place, and the pause after which there is another: a
/// person's mistakes.
const PER_USER: (u32, Duration) = (10, Duration::from_secs(6));

/// The same for all users from one place: an office behind one address.
const PER_ADDRESS: (u32, Duration) = (60, Duration::from_secs(1));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateDb;
    use crate::token::Token;

    fn tokens(folder: &std::path::Path) -> Arc<Tokens> {
        let file = Token::load_or_make(&folder.join("token")).unwrap();
        let db = Arc::new(StateDb::open(&folder.join("hub.db")).unwrap());
        Arc::new(Tokens::open(file, db, "mail.example.org").unwrap())
    }

    #[tokio::test]
    async fn r165_one_network_does_not_take_all_of_the_stores_time() {
        let folder = tempfile::tempdir().unwrap();
        // A store that takes connections, and for ever to answer.
        let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = LoginConfig { imap: store.local_addr().ok(), ..LoginConfig::default() };
        let logins = Arc::new(Logins::open(&config).unwrap().unwrap());
        let tokens = tokens(folder.path());
        let enter = |peer: &str, user: &str| {
            let (logins, tokens) = (Arc::clone(&logins), Arc::clone(&tokens));
            let (client, user) = (Client::At(peer.parse().unwrap()), user.to_owned());
            tokio::spawn(async move { logins.enter(&tokens, &user, "x", client).await })
        };
        let mut asking = Vec::new();
        let mut taken = Vec::new();
        for at in 0..PER_NETWORK_MAX {
            asking.push(enter(&format!("192.0.2.{at}"), &format!("u{at}")));
            taken.push(store.accept().await.unwrap());
        }
        let refused = enter("192.0.2.200", "john").await.unwrap();
        assert!(matches!(refused, Err(Refusal::TooMany(_))), "{refused:?}");
        // Others, and this machine's own programs, are not kept out by that.
        for peer in ["198.51.100.1", "2001:db8::1", "127.0.0.1"] {
            asking.push(enter(peer, "john"));
            taken.push(store.accept().await.unwrap());
        }
        asking.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn r165_clients_of_a_proxy_here_that_was_not_named_keep_this_machines_programs_out_of_nothing()
     {
        let folder = tempfile::tempdir().unwrap();
        // A store that takes connections, and for ever to answer.
        let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = LoginConfig { imap: store.local_addr().ok(), ..LoginConfig::default() };
        let logins = Arc::new(Logins::open(&config).unwrap().unwrap());
        let tokens = tokens(folder.path());
        let enter = |client: Client, user: &str| {
            let (logins, tokens, user) =
                (Arc::clone(&logins), Arc::clone(&tokens), user.to_owned());
            tokio::spawn(async move { logins.enter(&tokens, &user, "x", client).await })
        };
        let here = "127.0.0.1".parse().unwrap();
        let mut asking = Vec::new();
        let mut taken = Vec::new();
        for at in 0..PER_NETWORK_MAX {
            asking.push(enter(Client::Behind(here), &format!("u{at}")));
            taken.push(store.accept().await.unwrap());
        }
        // By whichever address the proxy asks, its clients are one.
        for proxy in ["127.0.0.1", "::1"] {
            let refused = enter(Client::Behind(proxy.parse().unwrap()), "john").await.unwrap();
            assert!(matches!(refused, Err(Refusal::TooMany(_))), "{refused:?}");
        }
        // Nor do they use up its programs' tries.
        for at in 0..=PER_ADDRESS.0 {
            logins.tried(&format!("made-up-{at}"), Client::Behind(here));
        }
        assert!(logins.tried("jane", Client::Behind(here)).is_some());
        for at in 0..=PER_NETWORK_MAX {
            asking.push(enter(Client::At(here), &format!("u{at}")));
            taken.push(store.accept().await.unwrap());
        }
        asking.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[test]
    fn r165_names_made_up_beyond_an_addresses_tries_fill_no_table() {
        let config = LoginConfig { imap: "127.0.0.1:1".parse().ok(), ..LoginConfig::default() };
        let logins = Logins::open(&config).unwrap().unwrap();
        let client = Client::At("192.0.2.1".parse().unwrap());
        for at in 0..1_000 {
            logins.tried(&format!("made-up-{at}"), client);
        }
        let tries = logins.tries.lock().unwrap();
        assert!(tries.by_user.len() < 100, "{}", tries.by_user.len());
    }

    #[test]
    fn an_address_has_neighbours() {
        let of = |text: &str| neighbours(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.255"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1:2ab::1"), of("2001:db8:1:2ff::1"));
        assert_ne!(of("2001:db8:1:2ab::1"), of("2001:db8:1:3ab::1"));
    }
}
