//! A spool, an intake that keeps what it is told, and a source running on a thread of its own.

use std::fs::{DirEntry, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postbell_engine::{Observation, What};
use postbell_sources::dovecot::{DovecotError, Exporter, Options, run};
use postbell_sources::{Health, State, Stop};

use crate::support::Kept;

/// A source on a thread, and its spool.
pub(crate) struct Rig {
    pub(crate) kept: Arc<Kept>,
    pub(crate) health: Health,
    pub(crate) options: Options,
    pub(crate) uid: u32,
    running: Option<(Stop, JoinHandle<Result<(), DovecotError>>)>,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A spool nobody reads yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            spool: folder.path().join("spool"),
            separator: '/',
            shared: Vec::new(),
            expire: Vec::new(),
            annotation_window: Duration::from_millis(100),
            server_fqdn: None,
            master: None,
            hole_window: Duration::from_secs(600),
            body_structure: false,
            content_max_octets: None,
            exporter: Exporter::new(),
        };
        std::fs::create_dir(&options.spool).unwrap();
        let kept = Kept::new();
        let uid = folder.path().metadata().unwrap().uid();
        Self { kept, health: Health::new(), options, uid, running: None, _folder: folder }
    }

    /// One that is read, with all the time a slow machine needs between the lines that belong
    /// together.
    pub(crate) fn patient() -> Self {
        let mut rig = Self::new();
        rig.options.annotation_window = Duration::from_secs(60);
        rig.start();
        rig
    }

    /// One that is read.
    pub(crate) fn started() -> Self {
        let mut rig = Self::new();
        rig.start();
        rig
    }

    pub(crate) fn start(&mut self) {
        let stop = Stop::new().unwrap();
        self.health = Health::new();
        let (kept, health, options) =
            (Arc::clone(&self.kept), self.health.clone(), self.options.clone());
        let asked = stop.clone();
        let thread = std::thread::spawn(move || run(&options, &*kept, &health, &asked));
        self.running = Some((stop, thread));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.set();
            thread.join().unwrap().unwrap();
        }
    }

    /// Runs until that many batches are durable, and dies there; or until all is quiet.
    pub(crate) fn crash_after(&mut self, batches: usize) {
        self.kept.takes_left.store(batches, Ordering::SeqCst);
        self.start();
        let (stop, thread) = self.running.take().unwrap();
        let (mut count, begun) = (self.kept.count(), Instant::now());
        while !thread.is_finished() && begun.elapsed() < Duration::from_millis(150) {
            std::thread::sleep(Duration::from_millis(30));
            if self.kept.count() == count && self.health.snapshot().state == State::Running {
                break;
            }
            count = self.kept.count();
        }
        stop.set();
        drop(thread.join().unwrap());
        self.kept.takes_left.store(usize::MAX, Ordering::SeqCst);
    }

    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.options.spool.join(format!("{}.ndjson{suffix}", self.uid))
    }

    /// Adds octets to the file written now, as the script does.
    pub(crate) fn write(&self, text: &str) {
        self.write_to("", text);
    }

    pub(crate) fn write_to(&self, suffix: &str, text: &str) {
        let path = self.path(suffix);
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Whether the source's checkpoint stands behind the last whole line of each file.
    fn is_read_out(&self) -> bool {
        let Ok(folder) = std::fs::read_dir(&self.options.spool) else { return true };
        // One may be put aside or removed meanwhile: then it is looked for again.
        folder.filter_map(Result::ok).all(|file| self.is_file_read_out(&file).unwrap_or(false))
    }

    fn is_file_read_out(&self, file: &DirEntry) -> std::io::Result<bool> {
        let meta = file.metadata()?;
        let name = file.file_name().into_string().unwrap();
        if !meta.is_file() || !name.starts_with(&format!("{}.ndjson", meta.uid())) {
            return Ok(true);
        }
        let text = std::fs::read(file.path())?;
        let end = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let key = format!("spool/{}-", meta.ino());
        let place = self.kept.value(&key).unwrap_or_else(|| "0".to_owned());
        Ok(place == end.to_string())
    }

    /// What is told, once that much is.
    pub(crate) fn hear(&self, count: usize) -> Vec<String> {
        wait_until(|| self.kept.count() >= count);
        self.hear_out()
    }

    /// What is told, once all that is written has been and nothing more is for a while.
    pub(crate) fn hear_out(&self) -> Vec<String> {
        wait_until(|| self.is_read_out());
        let mut count = self.kept.count();
        loop {
            std::thread::sleep(Duration::from_millis(150));
            if self.kept.count() == count {
                return self.kept.told().iter().map(shown).collect();
            }
            count = self.kept.count();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.set();
            drop(thread.join());
        }
    }
}

pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An observation in a few words.
pub(crate) fn shown(seen: &Observation) -> String {
    let owner = seen.owner.as_deref().unwrap_or("-");
    match &seen.what {
        What::Delivered { message, envelope } => {
            let with = if envelope.is_some() { " with envelope" } else { "" };
            format!("{owner} delivered {} {}{with}", message.mailbox.name, message.uid)
        }
        What::Appended(message) => {
            let from = message.copied_from.as_ref();
            let from = from.map(|from| format!(" from {} {}", from.mailbox.name, from.uids));
            let from = from.unwrap_or_default();
            format!("{owner} appended {} {}{from}", message.mailbox.name, message.uid)
        }
        What::Expunged { mailbox, uids, moved_to, .. } => {
            let to = moved_to.as_ref().map(|to| format!(" to {} {}", to.mailbox.name, to.uids));
            format!("{owner} expunged {} {uids}{}", mailbox.name, to.unwrap_or_default())
        }
        What::Expired { mailbox, uids, policy, .. } => {
            format!("{owner} expired {} {uids} by {}", mailbox.name, policy.as_deref().unwrap())
        }
        What::MailboxCreated(mailbox) => format!("{owner} created {}", mailbox.name),
        What::MailboxDeleted(mailbox) => {
            format!("{owner} deleted {} {:?}", mailbox.name, mailbox.uid_validity)
        }
        What::LoggedIn => format!("login {}", seen.actor.user.as_deref().unwrap()),
        What::LoggedOut => {
            let extras: Vec<_> = seen
                .extras
                .iter()
                .map(|(name, value)| {
                    format!("{}={value}", name.as_str().trim_start_matches("vnd.postbell."))
                })
                .collect();
            format!("logout {} {}", seen.actor.user.as_deref().unwrap(), extras.join(" "))
        }
        What::Missed { reason, .. } => format!("{owner} missed: {reason}"),
        other => format!("{owner} {other:?}"),
    }
}

/// A line of the script's.
pub(crate) fn line(run: char, seq: u64, event: &str) -> String {
    line_of("alice", "imap", run, seq, event)
}

pub(crate) fn line_of(user: &str, service: &str, run: char, seq: u64, event: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let name = run.to_string().repeat(32);
    let pid = std::process::id();
    format!(
        "{{\"v\":1,\"run\":\"{name}\",\"seq\":{seq},\"pid\":{pid},\"time\":{now},\"user\":\"{user}\",\"service\":\"{service}\",\"session\":\"s{run}\",\"rip\":\"127.0.0.1\",\"rport\":5,\"lip\":\"127.0.0.1\",\"lport\":143,\"events\":[{event}]}}\n"
    )
}

pub(crate) fn append(uid: u32) -> String {
    format!(r#"{{"e":"append","box":"INBOX","val":5,"uids":"{uid}","flags":[]}}"#)
}

pub(crate) fn subscribe(name: &str) -> String {
    format!(r#"{{"e":"sub","box":"{name}"}}"#)
}

/// What the exporter posts beside a line.
pub(crate) fn annotation(run: char, seq: u64, reasons: &[&str]) -> Vec<u8> {
    let name = run.to_string().repeat(32);
    let reasons: Vec<_> = reasons.iter().map(|reason| format!("{reason:?}")).collect();
    let reasons = reasons.join(",");
    format!(
        r#"{{"event":"postbell_transaction","fields":{{"postbell_run":"{name}","postbell_seq":{seq},"reason_code":[{reasons}]}}}}"#
    )
    .into_bytes()
}
