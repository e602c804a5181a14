//! Runs the writer, kills it, and looks at what it left behind.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use postbell_journal::contract::{checkpoint_at, entry};
use postbell_journal::{Journal as _, Options, Seq, SqliteJournal};

/// How the writer is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) batches: u64,
    pub(crate) ahead: u64,
    pub(crate) keep_octets: u64,
}

/// What the writer said before it ended.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The number after the last acknowledged one, if any was.
    pub(crate) acknowledged: Option<u64>,
    /// How far its cursor was durable.
    pub(crate) durable: Option<Seq>,
    /// Batches refused because the disk was full.
    pub(crate) full: usize,
    /// What it said last.
    pub(crate) last: String,
}

/// The writer, running.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    said: JoinHandle<Said>,
    /// Hears of each thing it says, and whether that is `full`.
    heard: Receiver<bool>,
}

impl Writer {
    /// Starts it on `folder`, with more of an environment.
    pub(crate) fn start(self, folder: &Path, environment: &[(&str, &str)]) -> Running {
        let numbers = [self.seed, self.first, self.batches, self.ahead, self.keep_octets];
        let mut child = Command::new(built("crash_writer"))
            .arg(folder)
            .args(numbers.map(|number| number.to_string()))
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, heard) = mpsc::channel();
        let said = std::thread::spawn(move || {
            let mut said = Said::default();
            for line in lines.map_while(Result::ok) {
                if let Some(done) = line.strip_prefix("durable ") {
                    said.durable = done.parse().ok().map(Seq);
                    continue;
                }
                tell.send(line == "full").unwrap_or_default();
                match line.parse() {
                    Ok(end) => said.acknowledged = Some(end),
                    Err(_) if line == "full" => said.full += 1,
                    Err(_) => {}
                }
                said.last = line;
            }
            said
        });
        Running { child, said, heard }
    }
}

impl Running {
    /// Waits until it has said something.
    pub(crate) fn wait_until_begun(&self) {
        self.heard.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    /// Waits until it has said `count` times that the disk is full, or ended.
    pub(crate) fn wait_until_full(&self, count: usize) {
        let mut full = 0;
        while full < count {
            let Ok(is_full) = self.heard.recv_timeout(Duration::from_secs(60)) else { return };
            full += usize::from(is_full);
        }
    }

    /// Waits for its end and says what it said.
    pub(crate) fn end(mut self) -> Said {
        self.child.wait().unwrap();
        self.said.join().unwrap()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.end()
    }
}

/// Opens what the writer left, and checks it from record `from` on: nothing acknowledged is
/// missing, each is there once and in order, the checkpoint fits, and no cursor is ahead.
/// Says the number after the last record.
pub(crate) fn check(folder: &Path, from: u64, acknowledged: Option<u64>, what: &str) -> u64 {
    let journal = SqliteJournal::open(folder, Options::default())
        .unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let bounds = journal.bounds();
    let end = bounds.last.0 + 1;
    let acknowledged = acknowledged.unwrap_or(from);
    assert!(end >= acknowledged, "{what}: ends before {end}, though {acknowledged} was next");
    let mut next = bounds.first.0.max(from);
    while next < end {
        let records = journal.read(Seq(next), 1 << 20).unwrap();
        assert!(!records.is_empty(), "{what}: nothing at {next}");
        for record in &records {
            let wanted = entry(next.into());
            let found = (record.seq.0, record.id, record.body);
            assert_eq!(found, (next, wanted.id, &*wanted.body), "{what}");
            next += 1;
        }
    }
    assert_eq!(next, end.max(from), "{what}");
    let kept = journal.checkpoint("writer", b"").unwrap();
    let changes = if end > 1 { checkpoint_at(end).changes } else { Vec::new() };
    for change in changes {
        let found = kept.iter().find(|(key, _)| *key == change.key).map(|(_, value)| value);
        assert_eq!(
            found,
            change.value.as_ref(),
            "{what}: the checkpoint fits its records: {kept:?}"
        );
    }
    let cursor = journal.cursor("reader").unwrap();
    assert!(cursor <= Some(bounds.last), "{what}: the cursor {cursor:?} is ahead");
    journal.close();
    end
}

/// Checks that the cursor is found no earlier than it was durable.
pub(crate) fn check_cursor(folder: &Path, said: &Said, what: &str) {
    let journal = SqliteJournal::open(folder, Options::default()).unwrap();
    let cursor = journal.cursor("reader").unwrap();
    assert!(cursor >= said.durable, "{what}: the cursor {cursor:?} is behind {:?}", said.durable);
}

/// A program that cargo built beside the tests.
pub(crate) fn built(example: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(example);
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

/// The number in an environment variable, or `otherwise`.
pub(crate) fn rounds(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Drawn from a seed: looks random, and is the same each time.
pub(crate) fn drawn(seed: u64, below: u64) -> u64 {
    let mixed = (seed ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % below
}
