//! Sockets, a spool, an intake that keeps what it is told, and both sides on threads of their own.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postbell_engine::{Observation, What};
use postbell_sources::cyrus::{
    self, Namespace, Notifyd, Options, Porter, Sockets, bind_datagram, bind_stream,
};
use postbell_sources::{Health, Stop};
use postbell_testkit::Imap;
use postbell_testkit::account::Account;

use crate::support::Kept;

type Running = Option<(Stop, JoinHandle<()>)>;

pub(crate) struct Rig {
    pub(crate) kept: Arc<Kept>,
    pub(crate) health: Health,
    pub(crate) options: Options,
    /// When notifyd is told that the sockets were made.
    pub(crate) began: Option<u64>,
    datagram: UnixDatagram,
    pub(crate) porter: Porter,
    notifyd: Running,
    source: Running,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Sockets that somebody holds, and nobody who reads.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let options = Options {
            spool,
            namespace: Namespace { domains: true, ..Namespace::default() },
            envelope: false,
            raw: false,
            server_fqdn: None,
            master: None,
            body_structure: false,
            content_max_octets: None,
        };
        let datagram = bind_datagram(&folder.path().join("datagram")).unwrap();
        let stream = bind_stream(&folder.path().join("stream")).unwrap();
        // A real Cyrus may run under another account than the tests.
        let account = Account::current();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        account.own(&folder.path().join("datagram")).unwrap();
        account.own(&folder.path().join("stream")).unwrap();
        Self {
            kept: Kept::new(),
            health: Health::new(),
            options,
            began: None,
            datagram,
            porter: Porter::start(stream).unwrap(),
            notifyd: None,
            source: None,
            folder,
        }
    }

    pub(crate) fn started() -> Self {
        let mut rig = Self::new();
        rig.start_notifyd();
        rig.start_source();
        rig
    }

    pub(crate) fn start_notifyd(&mut self) {
        let sockets = Sockets {
            datagram: Some(self.datagram.try_clone().unwrap()),
            stream: Some(self.porter.hand().unwrap()),
        };
        let spool = self.options.spool.clone();
        let notifyd = Notifyd { spool, users: vec![Account::current().uid()], began: self.began };
        let stop = Stop::new().unwrap();
        let asked = stop.clone();
        let left_open = self.porter.left_open();
        let thread = std::thread::spawn(move || {
            notifyd.run_after(sockets, &left_open, &asked).unwrap();
        });
        self.notifyd = Some((stop, thread));
    }

    pub(crate) fn start_source(&mut self) {
        let stop = Stop::new().unwrap();
        self.health = Health::new();
        let (kept, health, options) =
            (Arc::clone(&self.kept), self.health.clone(), self.options.clone());
        let asked = stop.clone();
        let thread =
            std::thread::spawn(move || cyrus::run(&options, &*kept, &health, &asked).unwrap());
        self.source = Some((stop, thread));
    }

    pub(crate) fn stop_notifyd(&mut self) {
        end(&mut self.notifyd);
    }

    /// Has notifyd end in order, and waits until it has.
    pub(crate) fn end_notifyd(&mut self) {
        // As long as a loaded machine asks for.
        self.porter.end(Duration::from_secs(60));
        self.join_notifyd();
    }

    /// Waits until notifyd has ended by itself.
    pub(crate) fn join_notifyd(&mut self) {
        let (_, thread) = self.notifyd.take().unwrap();
        thread.join().unwrap();
    }

    /// Throws away what is sent while something is done.
    pub(crate) fn lose<T>(&self, act: impl FnOnce() -> T) -> T {
        assert!(self.notifyd.is_none(), "somebody else reads");
        let socket = self.datagram.try_clone().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut octets = [0; 65_536];
            // What was sent before it was done may wait to be read yet.
            loop {
                let is_done = until.load(Ordering::SeqCst);
                if socket.recv(&mut octets).is_err() && is_done {
                    break;
                }
            }
            socket.set_read_timeout(None).unwrap();
        });
        let outcome = act();
        done.store(true, Ordering::SeqCst);
        thread.join().unwrap();
        outcome
    }

    pub(crate) fn stop_source(&mut self) {
        end(&mut self.source);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn datagrams(&self) -> PathBuf {
        self.folder.path().join("datagram")
    }

    pub(crate) fn streams(&self) -> PathBuf {
        self.folder.path().join("stream")
    }

    /// All lines of the spool.
    pub(crate) fn written(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(&self.options.spool).unwrap() {
            text.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
        }
        text
    }

    /// What is told, once that much is.
    pub(crate) fn hear(&self, count: usize) -> Vec<String> {
        wait_until(|| self.kept.count() >= count);
        self.kept.told().iter().map(shown).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        end(&mut self.notifyd);
        end(&mut self.source);
    }
}

fn end(running: &mut Running) {
    if let Some((stop, thread)) = running.take() {
        stop.set();
        thread.join().unwrap();
    }
}

/// As Cyrus sends it: a socket for each, waiting while there is no room.
pub(crate) fn send(path: &PathBuf, octets: &[u8]) {
    UnixDatagram::unbound().unwrap().send_to(octets, path).unwrap();
}

pub(crate) fn datagram(json: &str) -> Vec<u8> {
    format!("log\0EVENT\0\0\0\0{}\0{json}\0", 0).into_bytes()
}

/// As Cyrus sends it over the stream; gives the answer.
pub(crate) fn ask(path: &PathBuf, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(octets).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The same, by somebody who may have said no more than a part of it.
pub(crate) fn ask_and_end(path: &PathBuf, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    // It may be answered before all of it is sent.
    drop(stream.write_all(octets));
    drop(stream.shutdown(Shutdown::Write));
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    answer
}

pub(crate) fn dlist(json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "NOTIFY %(METHOD log CLASS EVENT PRIORITY NIL USER NIL MAILBOX NIL OPTIONS () MESSAGE {{{length}+}}\r\n{json} FILEPATH NIL)\r\n"
    )
    .into_bytes()
}

/// Flags set on a message.
pub(crate) fn flagged(uid: u32) -> String {
    format!(
        r#"{{"event":"FlagsSet","timestamp":"2026-11-27T07:41:07.884Z","service":"imap","uri":"imap://mail.example.org/user/alice%40example.org;UIDVALIDITY=5","uidset":"{uid}","flagNames":"\\Flagged","pid":7,"user":"alice@example.org"}}"#
    )
}

/// Changes flags of the first message, so many that Cyrus can't tell it in a datagram.
pub(crate) fn change_too_much(rig: &Rig, imap: &mut Imap, mailbox: &str) {
    let keyword = |number: u32| format!("${number:03}{}", "x".repeat(240));
    let keywords: Vec<_> = (0..100).map(keyword).collect();
    imap.select(mailbox).unwrap();
    imap.store("1", "+FLAGS", &keywords.join(" ")).unwrap();
    assert!(!rig.written().contains(&keywords[0]), "it fitted");
}

/// Why something is missed of which there was only a sign.
pub(crate) const UNSAID: &str = "Cyrus told of a change, and not of what, and it can't be found";

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
        What::Delivered { message, .. } => {
            format!("{owner} delivered {} {}", message.mailbox.name, message.uid)
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
        What::FlagsChanged { mailbox, uids, set, cleared, .. } => {
            format!("{owner} flags {} {uids} +({set}) -({cleared})", mailbox.name)
        }
        What::MailboxCreated(mailbox) => format!("{owner} created {}", mailbox.name),
        What::MailboxDeleted(mailbox) => format!("{owner} deleted {}", mailbox.name),
        What::MailboxRenamed { from, to, .. } => {
            format!("{owner} renamed {} {}", from.name, to.name)
        }
        What::Subscribed(mailbox) => format!("{owner} subscribed {}", mailbox.name),
        What::Unsubscribed(mailbox) => format!("{owner} unsubscribed {}", mailbox.name),
        What::Expired { mailbox, uids, .. } => format!("{owner} expired {} {uids}", mailbox.name),
        What::LoggedIn => format!("login {}", seen.actor.user.as_deref().unwrap()),
        What::LoggedOut => format!("logout {}", seen.actor.user.as_deref().unwrap()),
        What::Missed { mailbox: None, reason } => format!("{owner} missed: {reason}"),
        What::Missed { mailbox: Some(mailbox), reason } => {
            format!("{owner} missed {}: {reason}", mailbox.name)
        }
        What::Other { name, .. } => format!("{owner} {}", name.as_str()),
        other => format!("{owner} {other:?}"),
    }
}
