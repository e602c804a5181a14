//! `postbell notifyd` and the hub are killed and stopped while clients of a Cyrus change flags.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postbell_testkit::Error;
use postbell_testkit::cyrus::Form;

use crate::bench::{Bench, Server};
use crate::client::Client;
use crate::crowd;
use crate::facts::Ledger;

#[test]
fn killed_a_hundred_times_it_tells_each_of_12000_changes_once() -> Result<(), Error> {
    killed(Form::Datagrams, Work::of(4_000), crowd::rounds(100))
}

#[test]
fn killed_while_cyrus_waits_for_an_answer_it_tells_each_change_once() -> Result<(), Error> {
    killed(Form::Streams, Work::of(400), crowd::rounds(20))
}

/// In each of so many parts of the work, at any moment of it, whoever reads what Cyrus says and the
/// hub are killed.
fn killed(form: Form, work: Work, parts: u64) -> Result<(), Error> {
    let Some(mut bench) = Bench::of_cyrus(form)? else { return Ok(()) };
    let seed = crowd::seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let Bench { server, hub, .. } = &mut bench;
    let (ok, outcome) = crowd::together(
        CLIENTS,
        |number| work.one(server, seed, number),
        || {
            let _free = Free(&work);
            for part in 0..parts {
                work.go_on(part, parts, &mut dice);
                work.wait_until("a reader to be killed", || server.notifyd.kill_reader());
                hub.kill();
                hub.resume()?;
            }
            Ok::<(), Error>(())
        },
    )?;
    outcome?;
    bench.assert_told(&ok);
    Ok(())
}

/// No answer of Cyrus's comes because somebody went on: first the hub and the process that holds
/// the sockets stand still, then the hub and the one that reads.
#[test]
fn stopped_it_holds_no_client_up_and_then_tells_all() -> Result<(), Error> {
    let Some(bench) = Bench::of_cyrus(Form::Datagrams)? else { return Ok(()) };
    let (server, seed) = (&bench.server, crowd::seed());
    let work = Work::of(600);
    bench.hub.hold()?;
    server.notifyd.hold()?;
    let (ok, ()) = crowd::together(
        CLIENTS,
        |number| work.one(server, seed, number),
        || {
            let _free = Free(&work);
            work.allowed.store(work.each / 2, Ordering::SeqCst);
            work.wait_for(work.each / 2 * CLIENTS as u64);
            server.notifyd.release().unwrap();
            work.wait_until("a reader to be stopped", || server.notifyd.hold_reader());
        },
    )?;
    assert!(bench.hub.is_held());
    bench.hub.release()?;
    bench.assert_told(&ok);
    Ok(())
}

/// What clients do side by side: each changes flags of messages of its own, one at a time.
pub(crate) struct Work {
    /// Changes of each.
    pub(crate) each: u64,
    /// Up to which of its changes each client may go on.
    allowed: AtomicU64,
    /// Changes of all of them.
    done: AtomicU64,
}

impl Work {
    pub(crate) fn of(each: u64) -> Self {
        Self { each, allowed: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    pub(crate) fn one(
        &self,
        server: &dyn Server,
        seed: u64,
        number: usize,
    ) -> Result<Ledger, Error> {
        let ended = self.all(server, seed, number);
        if ended.is_err() {
            // Nobody waits for what doesn't come.
            self.done.store(u64::MAX / 2, Ordering::SeqCst);
        }
        ended
    }

    fn all(&self, server: &dyn Server, seed: u64, number: usize) -> Result<Ledger, Error> {
        let dice = crowd::dice(seed, number);
        let mut client = Client::begin(server, crowd::user(number), format!("f{number}"), dice)?;
        client.fill(MESSAGES)?;
        for change in 0..self.each {
            while self.allowed.load(Ordering::SeqCst) <= change {
                thread::sleep(Duration::from_millis(1));
            }
            client.change_flag()?;
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        client.end()
    }

    /// Lets the clients do the next of so many parts, and returns at any moment of it.
    pub(crate) fn go_on(&self, part: u64, parts: u64, dice: &mut fastrand::Rng) {
        let (begins, ends) = (self.each * part / parts, self.each * (part + 1) / parts);
        self.allowed.store(ends, Ordering::SeqCst);
        let clients = CLIENTS as u64;
        self.wait_for(dice.u64(begins * clients..ends * clients));
    }

    /// Waits for so many changes.
    fn wait_for(&self, changes: u64) {
        self.wait_until("changes", || self.done.load(Ordering::SeqCst) >= changes);
    }

    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Lets all clients go on to their end, a panic notwithstanding.
pub(crate) struct Free<'a>(pub(crate) &'a Work);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.allowed.store(u64::MAX, Ordering::SeqCst);
    }
}

pub(crate) const CLIENTS: usize = 3;
/// Messages of each client.
const MESSAGES: usize = 50;
/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(120);
