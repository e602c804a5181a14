//! What postbell costs a Cyrus in the place of its own notifyd: the same commands to two with the
//! one, so that it is seen what two that are alike differ by, to one with the other, and to one that
//! tells nobody.
//!
//! `scripts/cyrus-cost [ROUNDS [STARTS [ONLY]]]` runs it. The servers stand beside each other, and a hundred
//! commands at a time go to one after the other, so that whatever the machine does meets all of
//! them. They are started anew, in another order, several times: two that are alike differ more from
//! one start to the next than by anything that is told to them.

#![expect(clippy::print_stdout, reason = "it prints a table")]

mod cost;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cost::{Awake, Open, Plan, Table};
use postbell_testkit::cyrus::{Cyrus, Form, Notified, Notify, Options};
use postbell_testkit::{ALICE, Error, Hub};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let rounds = cost::number(arguments.next(), ROUNDS);
    let starts = cost::number(arguments.next(), STARTS);
    let only = arguments.next();
    let awake = Awake::begin()?;
    let mut table =
        Table::new(&Server::NAMES, Plan { rounds, in_a_row: 100, only: only.as_deref() });
    for turn in 0..starts {
        let Some(servers) = Server::start_all(&program, turn)? else { return Ok(()) };
        let mut open = Vec::new();
        for server in &servers {
            let cyrus = server.cyrus();
            let login = Box::new(|| cyrus.imap(ALICE));
            open.push(Open { imap: cyrus.imap(ALICE)?, lmtp: cyrus.lmtp()?, login });
        }
        table.measure(&mut open, ALICE)?;
        // All that it was told is in a journal, or there was nothing to measure.
        for told in servers.iter().filter_map(Server::told) {
            told.observations()?;
        }
    }
    table.print(&format!("Cyrus, started {starts} times"));
    drop(awake);
    Ok(())
}

/// One that is measured.
enum Server {
    Untold(Cyrus),
    Told(Told),
}

impl Server {
    const NAMES: [&str; 5] =
        ["Cyrus's notifyd", "the same again", "postbell", "postbell, stream", "nobody"];

    /// One of each, in the order of their names; which is started first changes from turn to turn.
    fn start_all(program: &Path, turn: usize) -> Result<Option<Vec<Self>>, Error> {
        let mut servers = Vec::new();
        for at in
            (0..Self::NAMES.len()).cycle().skip(turn % Self::NAMES.len()).take(Self::NAMES.len())
        {
            let started = match at {
                0 | 1 => Cyrus::start_with(Options::telling(Notify::Notifyd))?.map(Self::Untold),
                2 => Told::start(program, Form::Datagrams)?.map(Self::Told),
                3 => Told::start(program, Form::Streams)?.map(Self::Told),
                _ => Cyrus::start()?.map(Self::Untold),
            };
            let Some(started) = started else { return Ok(None) };
            servers.push((at, started));
        }
        servers.sort_by_key(|(at, _)| *at);
        Ok(Some(servers.into_iter().map(|(_, server)| server).collect()))
    }

    fn cyrus(&self) -> &Cyrus {
        match self {
            Self::Untold(cyrus) => cyrus,
            Self::Told(told) => &told.notified.cyrus,
        }
    }

    fn told(&self) -> Option<&Told> {
        match self {
            Self::Untold(_) => None,
            Self::Told(told) => Some(told),
        }
    }
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

/// Commands of a kind each time.
const ROUNDS: usize = 300;

/// So often the slowest hundredth of two alike comes out alike.
const STARTS: usize = 10;
