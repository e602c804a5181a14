//! An intake that keeps what it is told, and a source running on a thread of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postbell_engine::{Message, What};
use postbell_sources::maildir::{MaildirError, Options, run};
use postbell_sources::{Health, State, Stop};

use crate::support::Kept;

/// A source on a thread.
pub(crate) struct Rig {
    pub(crate) kept: Arc<Kept>,
    pub(crate) health: Health,
    options: Options,
    running: Option<(Stop, JoinHandle<Result<(), MaildirError>>)>,
}

impl Rig {
    pub(crate) fn start(options: Options) -> Self {
        let mut rig =
            Self { kept: Kept::without_quotas(), health: Health::new(), options, running: None };
        rig.resume();
        rig
    }

    pub(crate) fn resume(&mut self) {
        let stop = Stop::new().unwrap();
        self.health = Health::new();
        let (kept, health, options) =
            (Arc::clone(&self.kept), self.health.clone(), self.options.clone());
        let asked = stop.clone();
        let thread = std::thread::spawn(move || run(&options, &*kept, &health, &asked));
        self.running = Some((stop, thread));
        let ready = || !matches!(self.health.snapshot().state, State::Starting | State::Scanning);
        wait_until("the first look", ready);
    }

    /// Looks once, and stops.
    pub(crate) fn look(&mut self) {
        self.resume();
        self.stop();
    }

    /// Looks, and dies once that many batches are durable.
    pub(crate) fn crash_after(&mut self, batches: usize) {
        self.kept.takes_left.store(batches, Ordering::SeqCst);
        let (stop, health) = (Stop::new().unwrap(), Health::new());
        let ended = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&self.options, &*self.kept, &health, &stop));
            wait_until("the crash or the look", || {
                running.is_finished() || health.snapshot().state == State::Running
            });
            stop.set();
            running.join().unwrap()
        });
        assert!(ended.is_ok() || self.kept.takes_left.load(Ordering::SeqCst) == 0);
        self.kept.takes_left.store(usize::MAX, Ordering::SeqCst);
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.set();
            thread.join().unwrap().unwrap();
        }
    }

    /// Has one more message come, and holds the source up while it tells of it, so that it sees at
    /// once whatever is done until this is dropped.
    pub(crate) fn held_up(&self, inbox: &Path) -> MutexGuard<'_, ()> {
        let gate = self.kept.gate.lock().unwrap();
        let before = self.kept.arrived.load(Ordering::SeqCst);
        let name = format!("{before}.held.h");
        std::fs::write(inbox.join("tmp").join(&name), "x").unwrap();
        std::fs::rename(inbox.join("tmp").join(&name), inbox.join("new").join(&name)).unwrap();
        wait_until("it to be held up", || self.kept.arrived.load(Ordering::SeqCst) > before);
        gate
    }

    /// What is told from `from` on, once `count` more is, and then nothing for a while.
    pub(crate) fn hear(&self, from: usize, count: usize) -> Vec<String> {
        let begun = Instant::now();
        while self.kept.count() < from + count && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.hear_out(from)
    }

    pub(crate) fn hear_out(&self, from: usize) -> Vec<String> {
        let mut count = self.kept.count();
        loop {
            std::thread::sleep(SILENCE);
            let now = self.kept.count();
            if now == count {
                return self.kept.told()[from..].iter().map(|told| shown(&told.what)).collect();
            }
            count = now;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.set();
            let _ended = thread.join();
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_millis(400);

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn options(root: &Path) -> Options {
    Options {
        root: root.to_str().unwrap().to_owned(),
        user: Some("alice".to_owned()),
        scan_interval: Duration::from_secs(3600),
        quota: None,
        server_fqdn: Some("mx.example.org".to_owned()),
        body_structure: false,
        content_max_octets: None,
    }
}

/// One line for each thing told.
pub(crate) fn shown(what: &What) -> String {
    let mut line = String::new();
    match what {
        What::Delivered { message, .. } => {
            write!(line, "new {}", message_shown(message)).unwrap();
        }
        What::Appended(message) => write!(line, "append {}", message_shown(message)).unwrap(),
        What::Expunged { mailbox, uids, status, moved_to } => {
            write!(line, "expunge {} {uids} messages={}", mailbox.name, status.messages.unwrap())
                .unwrap();
            if let Some(to) = moved_to {
                write!(line, " to {} {}", to.mailbox.name, to.uids).unwrap();
            }
        }
        What::FlagsChanged { mailbox, uids, set, cleared, .. } => {
            write!(line, "flags {} {uids} +({set}) -({cleared})", mailbox.name).unwrap();
        }
        What::MailboxCreated(mailbox) => write!(line, "create {}", mailbox.name).unwrap(),
        What::MailboxDeleted(mailbox) => write!(line, "delete {}", mailbox.name).unwrap(),
        What::MailboxRenamed { from, to, .. } => {
            write!(line, "rename {} {}", from.name, to.name).unwrap();
        }
        What::Subscribed(mailbox) => write!(line, "subscribe {}", mailbox.name).unwrap(),
        What::Unsubscribed(mailbox) => write!(line, "unsubscribe {}", mailbox.name).unwrap(),
        What::Missed { mailbox, .. } => {
            write!(line, "gap {}", mailbox.as_ref().unwrap().name).unwrap();
        }
        other => write!(line, "{other:?}").unwrap(),
    }
    line
}

fn message_shown(message: &Message) -> String {
    let Message { mailbox, uid, status, flags, copied_from, .. } = message;
    let (messages, uidnext) = (status.messages.unwrap(), status.uidnext.unwrap());
    let mut line =
        format!("{} {uid} ({flags}) messages={messages} uidnext={uidnext}", mailbox.name);
    if let Some(from) = copied_from {
        write!(line, " from {} {}", from.mailbox.name, from.uids).unwrap();
    }
    line
}

/// An empty Maildir.
pub(crate) fn maildir(path: &Path) -> PathBuf {
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(path.join(part)).unwrap();
    }
    path.to_owned()
}
