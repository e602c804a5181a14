//! A mail server and a hub that follows it, as processes of their own.

mod cyrus;
mod dovecot;
mod handed;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use mail_event::Event;
use postbell_testkit::{ALICE, BOB, CAROL, Error, Hub, Imap};
use serde_json::Value;
use tempfile::TempDir;

use crate::facts::{self, Ledger};
pub(crate) use dovecot::Exporter;
pub(crate) use handed::Handed;

/// What clients need of a mail server.
pub(crate) trait Server: Sync {
    /// A fresh session of `user`.
    fn imap(&self, user: &str) -> Result<Imap, Error>;

    /// What it logged, for the message of a failing test.
    fn log(&self) -> String;
}

/// A mail server, and a hub that reads what it says.
pub(crate) struct Bench<S> {
    pub(crate) server: S,
    pub(crate) hub: Hub,
    pub(crate) spool: PathBuf,
    /// The last number before the test began.
    since: u64,
    // Kept for its removal.
    _room: TempDir,
}

/// An event as the stream had it.
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) event: Event,
}

impl<S: Server> Bench<S> {
    /// With everybody known; `since` then is where the test begins.
    fn begin(server: S, hub: Hub, spool: PathBuf, room: TempDir) -> Result<Self, Error> {
        let mut bench = Self { server, hub, spool, since: 0, _room: room };
        bench.hub.resume()?;
        bench.greet()?;
        Ok(bench)
    }

    /// Has everybody known, with the mailboxes that Dovecot makes at the first login.
    fn greet(&mut self) -> Result<(), Error> {
        for user in USERS {
            self.server.imap(user)?.logout()?;
        }
        let logouts: Ledger = USERS.map(facts::logout).into_iter().collect();
        self.wait_for("everybody to be known", || {
            logouts.without(&self.ledger()).is_empty() && self.is_settled()
        });
        // What the server is asked of them comes in several turns.
        thread::sleep(SILENCE);
        self.wait_for("everybody to be looked at", || self.is_settled());
        self.since = self.told().last().map_or(0, |told| told.seq);
        Ok(())
    }

    /// Everything told since the test began, in order. No number is missing, and no id comes twice.
    pub(crate) fn told(&self) -> Vec<Told> {
        let path = format!("/v1/events?since={}&follow=false&parameters=*", self.since);
        let answer = self.hub.get(&path).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let told: Vec<Told> = data.map(Told::read).collect();
        for (told, seq) in told.iter().zip(self.since + 1..) {
            assert_eq!(told.seq, seq, "numbers are contiguous");
        }
        let ids: BTreeSet<&str> = told.iter().map(|told| &*told.id).collect();
        assert_eq!(ids.len(), told.len(), "no id comes twice");
        told
    }

    /// The same as facts.
    pub(crate) fn ledger(&self) -> Ledger {
        self.told().iter().flat_map(|told| facts::of(&told.event)).collect()
    }

    /// Waits until exactly this is told: all of it, nothing else, and nothing twice.
    pub(crate) fn assert_told(&self, wanted: &Ledger) {
        let begun = Instant::now();
        // How much it was is kept, since every look reads all of it.
        while begun.elapsed() < PATIENCE {
            let is_all = wanted.without(&self.ledger()).is_empty();
            if is_all && self.is_settled() {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        // What is told too often may come last.
        thread::sleep(SILENCE);
        let told = self.ledger();
        let (lost, more) = (wanted.without(&told), told.without(wanted));
        assert!(
            lost.is_empty() && more.is_empty(),
            "of {} facts\nnot told:\n{lost}\ntold, and not so, or twice:\n{more}\n{}",
            wanted.count(),
            self.state()
        );
    }

    /// Whether the source has read all there is, and waits for no answer of the server's.
    pub(crate) fn is_settled(&self) -> bool {
        let source = self.source();
        let detail = source["detail"].as_str().unwrap_or_default();
        source["state"] == "running"
            && source["unread"] == 0
            && !detail.contains("looks for what was missed")
    }

    /// How the source is.
    pub(crate) fn source(&self) -> Value {
        let answer = self.hub.get("/v1/sources/mail").unwrap();
        serde_json::from_str(&answer.body).unwrap()
    }

    /// How all stands, for the message of a failing test.
    fn state(&self) -> String {
        format!("{}\n{}\n{}", self.source(), self.hub.log(), self.server.log())
    }

    pub(crate) fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {what}\n{}\n{}",
                self.ledger(),
                self.state()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Told {
    fn read(data: &str) -> Self {
        let json: Value = serde_json::from_str(data).unwrap();
        let parsed = mail_event::json::from_slice(data.as_bytes()).unwrap();
        assert!(parsed.repairs.is_empty(), "{:?} {data}", parsed.repairs);
        Self {
            id: json["vnd.postbell.eventId"].as_str().unwrap().to_owned(),
            seq: json["vnd.postbell.seq"].as_u64().unwrap(),
            event: parsed.event,
        }
    }

    /// Whether nobody saw it happen.
    pub(crate) fn is_inferred(&self) -> bool {
        self.event.vendor("vnd.postbell.inferred").is_some()
    }
}

pub(crate) const USERS: [&str; 3] = [ALICE, BOB, CAROL];

/// Generous, because a loaded machine is no defect, and a Dovecot that was killed takes a minute and a half
/// for its first looks at thousands of messages.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longer than the source lets pass between two looks at Dovecot's processes.
const SILENCE: Duration = Duration::from_secs(3);
