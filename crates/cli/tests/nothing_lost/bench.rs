//! A Dovecot and a hub that follows it, both as processes of their own.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mail_event::Event;
use postbell_testkit::{ALICE, BOB, CAROL, Dovecot, Error, Hub, MASTER, Notify, Options, password};
use serde_json::Value;
use tempfile::TempDir;

use crate::facts::{self, Ledger};

/// Whether Dovecot's exporter reaches the hub.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Exporter {
    /// It posts to the hub.
    Heard,
    /// It posts to where nobody listens, and the hub has no secret to know it by.
    Away,
}

/// A Dovecot, and a hub that reads its spool and may ask it.
pub(crate) struct Bench {
    pub(crate) dovecot: Dovecot,
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

impl Bench {
    /// `None` where there is no Dovecot to be had.
    pub(crate) fn start(exporter: Exporter) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let spool = room.path().join("spool");
        Self::start_with(exporter, spool, room)
    }

    /// The same with the spool elsewhere.
    pub(crate) fn start_on(disk: &Path) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        Self::start_with(Exporter::Heard, disk.join("spool"), room)
    }

    fn start_with(
        exporter: Exporter,
        spool: PathBuf,
        room: TempDir,
    ) -> Result<Option<Self>, Error> {
        let hub = Hub::new(env!("CARGO_BIN_EXE_postbell"))?;
        let port = free_port();
        let url = match exporter {
            Exporter::Heard => {
                private(&hub.data().join("dovecot-mail.secret"), SECRET);
                Some(format!("http://127.0.0.1:{port}/v1/dovecot/mail/{SECRET}"))
            }
            Exporter::Away => None,
        };
        let notify = Notify { exporter: url, ..Notify::into_spool(&spool) };
        let Some(dovecot) = Dovecot::start_with(Options::whole(notify))? else { return Ok(None) };
        private(&room.path().join("master"), &password(MASTER));
        hub.configure(
            &CONFIG
                .replace("@PORT@", &port.to_string())
                .replace("@SPOOL@", &spool.display().to_string())
                .replace("@IMAP@", &dovecot.imap_address().to_string())
                .replace("@MASTER@", MASTER)
                .replace("@PASSWORD@", &room.path().join("master").display().to_string()),
        )?;
        let mut bench = Self { dovecot, hub, spool, since: 0, _room: room };
        bench.hub.resume()?;
        bench.greet()?;
        Ok(Some(bench))
    }

    /// Has everybody known, with the mailboxes that Dovecot makes at the first login.
    fn greet(&mut self) -> Result<(), Error> {
        for user in USERS {
            self.dovecot.imap(user)?.logout()?;
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
        format!("{}\n{}\n{}", self.source(), self.hub.log(), self.dovecot.log())
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

/// A file that only its owner may read.
fn private(path: &Path, text: &str) {
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// A port that the kernel gives to nobody by itself, so that it is still free when the hub comes
/// back.
fn free_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let lowest: u16 = range.split_ascii_whitespace().next().unwrap().parse().unwrap();
    let mut dice = fastrand::Rng::new();
    loop {
        let port = dice.u16(lowest.saturating_sub(8_000).max(1_024)..lowest);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub(crate) const USERS: [&str; 3] = [ALICE, BOB, CAROL];

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than the source lets pass between two looks at Dovecot's processes.
const SILENCE: Duration = Duration::from_secs(3);

const SECRET: &str = "5423542354235423542354235423542354235423542354235423542354235423";

const CONFIG: &str = r#"
data = "@FOLDER@/data"
listen = "127.0.0.1:@PORT@"

[store]
host = "mail.example.org"

[sources.mail]
kind = "dovecot"
spool = "@SPOOL@"
separator = "/"
annotation_window = "2s"
shared = ["shared/%u/"]
master_address = "@IMAP@"
master_user = "@MASTER@"
master_password_file = "@PASSWORD@"
"#;
