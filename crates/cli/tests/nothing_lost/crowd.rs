//! Sixteen clients at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postbell_testkit::{ALICE, BOB, CAROL, Error};

use crate::bench::Server;
use crate::client::Client;
use crate::facts::Ledger;

/// How a crowd works.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    /// What its mailboxes' names begin with; a second crowd needs another.
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    /// Deeds of each client at least.
    pub(crate) deeds: u32,
    /// The longest it rests between two deeds.
    pub(crate) pause: Duration,
}

/// Lets a crowd work until `meanwhile` has returned, and for as many deeds as it has at least.
/// Gives what was answered with OK. Whatever isn't answered with OK is an error.
pub(crate) fn work<T>(
    server: &dyn Server,
    crowd: Crowd,
    meanwhile: impl FnOnce() -> T,
) -> Result<(Ledger, T), Error> {
    let is_over = AtomicBool::new(false);
    let meanwhile = || {
        let _over = Over(&is_over);
        meanwhile()
    };
    together(CLIENTS, |number| one(server, crowd, number, &is_over), meanwhile)
}

/// Lets so many clients do `one`, each with its number, while `meanwhile` is done. Gives what was
/// answered with OK to any of them.
pub(crate) fn together<T>(
    clients: usize,
    one: impl Fn(usize) -> Result<Ledger, Error> + Sync,
    meanwhile: impl FnOnce() -> T,
) -> Result<(Ledger, T), Error> {
    thread::scope(|scope| {
        let one = &one;
        let clients: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
        let outcome = meanwhile();
        let mut ok = Ledger::default();
        for client in clients {
            ok.merge(client.join().unwrap()?);
        }
        Ok((ok, outcome))
    })
}

fn one(
    server: &dyn Server,
    crowd: Crowd,
    number: usize,
    is_over: &AtomicBool,
) -> Result<Ledger, Error> {
    let mut dice = dice(crowd.seed, number);
    let name = format!("{}{number}", crowd.name);
    let mut client = Client::begin(server, user(number), name, dice.fork())?;
    let mut done = 0;
    while done < crowd.deeds || !is_over.load(Ordering::SeqCst) {
        client.act()?;
        done += 1;
        thread::sleep(crowd.pause.mul_f64(dice.f64()));
    }
    client.end()
}

/// Who the client of that number is.
pub(crate) fn user(number: usize) -> &'static str {
    [ALICE, BOB, CAROL][number % 3]
}

/// The dice of one client.
pub(crate) fn dice(seed: u64, number: usize) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number as u64))
}

/// Ends the work, a panic notwithstanding.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What makes a run the same again: `POSTBELL_LOSSLESS_SEED`.
#[expect(clippy::print_stdout, reason = "told, so that a failing run can be had again")]
pub(crate) fn seed() -> u64 {
    let seed = number("POSTBELL_LOSSLESS_SEED");
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("POSTBELL_LOSSLESS_SEED={seed}");
    seed
}

/// How often something is killed: `POSTBELL_LOSSLESS_ROUNDS` asks for more.
pub(crate) fn rounds(usually: u64) -> u64 {
    number("POSTBELL_LOSSLESS_ROUNDS").unwrap_or(usually)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

pub(crate) const CLIENTS: usize = 16;
