//! Dovecot is killed in the middle of transactions.

use std::ffi::OsStr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use postbell_testkit::{Dovecot, Error};

use crate::bench::{Bench, Exporter, USERS};
use crate::client::Client;
use crate::crowd::{self, CLIENTS};
use crate::facts::{self, Ledger};
use crate::store;

/// Its master and all of its processes, with sixteen sessions that copy heaps of messages.
///
/// What was answered with OK is told once; what was under way may have happened or not, and the
/// server is the judge: whoever follows what is told has the messages that the server has.
#[test]
fn what_a_killed_dovecot_never_wrote_down_is_found_in_its_mailboxes() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Exporter::Heard)? else { return Ok(()) };
    let seed = crowd::seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let before = store::now(&bench.server)?;
    let mut ok = Ledger::default();
    for round in 0..crowd::rounds(2) {
        let dovecot = &bench.server;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| scope.spawn(move || until_killed(dovecot, seed, round, number)))
                .collect();
            thread::sleep(Duration::from_millis(dice.u64(500..4_000)));
            dovecot.strike();
            for client in clients {
                ok.merge(client.join().unwrap());
            }
        });
        bench.server.kill();
        unlock(&bench.server.mail());
        bench.server.start_again()?;
    }
    bench.wait_for("all sessions to be over", || {
        let told = bench.ledger();
        let detail = bench.source()["detail"].to_string();
        detail.contains("; 0 processes and 0 sessions")
            && bench.is_settled()
            && ok.without(&told).is_empty()
    });
    let now = store::now(&bench.server)?;
    bench.wait_for("what was told to be what the server has", || {
        now.is_told(&before, &bench.told())
    });
    let told = bench.ledger();
    let twice: Vec<_> =
        told.twice().filter(|fact| fact.contains(" added ") || fact.contains(" gone ")).collect();
    assert!(twice.is_empty(), "told twice: {twice:?}");
    for user in USERS {
        let count = |fact: &str| told.times(fact);
        assert_eq!(count(&facts::login(user)), count(&facts::logout(user)), "{user}");
    }
    Ok(())
}

/// Takes away the locks of those who were killed. Dovecot believes for two minutes that somebody
/// holds them, and neither clients nor postbell get into such a mailbox before.
fn unlock(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            unlock(&entry.path());
        } else if entry.path().extension() == Some(OsStr::new("lock")) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Works until Dovecot is gone; gives what was answered with OK until then.
fn until_killed(dovecot: &Dovecot, seed: u64, round: u64, number: usize) -> Ledger {
    let dice = crowd::dice(seed.wrapping_add(round), number);
    let name = format!("r{round}w{number}");
    let begun = Client::begin(dovecot, crowd::user(number), name, dice);
    let Ok(mut client) = begun else { return Ledger::default() };
    while client.heap(40).and_then(|()| client.act()).is_ok() {}
    client.ok()
}
