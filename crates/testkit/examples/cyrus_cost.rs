//! What postbell costs a Cyrus in the place of its own notifyd: the same commands to one with the
//! one, to one with the other, and to one that tells nobody.
//!
//! `scripts/cyrus-cost [ROUNDS]` runs it. The servers stand beside each other, and a hundred commands at a
//! time go to one after the other, so that whatever the machine does meets all of them.

#![expect(clippy::print_stdout, reason = "it prints a table")]

mod cost;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cost::{Open, Plan};
use postbell_testkit::cyrus::{Cyrus, Form, Notified, Notify, Options};
use postbell_testkit::{ALICE, Error, Hub};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let rounds = cost::rounds(arguments.next());
    let Some(own) = Cyrus::start_with(Options::telling(Notify::Notifyd))? else { return Ok(()) };
    let Some(silent) = Cyrus::start()? else { return Ok(()) };
    let datagrams = Told::start(&program, Form::Datagrams)?;
    let streams = Told::start(&program, Form::Streams)?;
    let (Some(datagrams), Some(streams)) = (datagrams, streams) else { return Ok(()) };
    let servers = [&own, &datagrams.notified.cyrus, &streams.notified.cyrus, &silent];
    let mut open = Vec::new();
    for cyrus in servers {
        let login = Box::new(|| cyrus.imap(ALICE));
        open.push(Open { imap: cyrus.imap(ALICE)?, lmtp: cyrus.lmtp()?, login });
    }
    let names = ["Cyrus's notifyd", "postbell", "postbell, stream", "nobody"];
    cost::compare("Cyrus", &names, &mut open, ALICE, Plan { rounds, in_a_row: 100 })?;
    println!();
    for (name, told) in [("datagrams", &datagrams), ("streams", &streams)] {
        println!("{name}: {} observations in the journal", told.observations()?);
    }
    Ok(())
}

/// A Cyrus whose notifications postbell takes.
struct Told {
    notified: Notified,
    hub: Hub,
    // Kept for its removal.
    _room: TempDir,
}

impl Told {
    fn start(program: &Path, form: Form) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        let mut hub = Hub::new(program)?;
        let Some(notified) = Notified::start(&hub, room.path(), form)? else { return Ok(None) };
        hub.resume()?;
        Ok(Some(Self { notified, hub, _room: room }))
    }

    /// How many observations were made and are durable, once all that was written down is read.
    fn observations(&self) -> Result<u64, Error> {
        let begun = Instant::now();
        let mut before = 0;
        loop {
            let answer = self.hub.get("/v1/sources/mail")?.body;
            let source: Value = serde_json::from_str(&answer).unwrap_or_default();
            let number = |name: &str| source.get(name).and_then(Value::as_u64);
            let (unread, told) = (number("unread"), number("observations"));
            if let (Some(0), Some(told @ 1..)) = (unread, told) {
                if told == before {
                    return Ok(told);
                }
                before = told;
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Answer { expected: "all to be read".to_owned(), answer });
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// The source says how much is unread once a second, so what it says twice with more between is so.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
