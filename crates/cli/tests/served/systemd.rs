//! The units for systemd, and a socket that is handed over as systemd does.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use crate::cyrus::{SOURCE, list};
use crate::hub::{self, Hub, wait_for};

#[test]
fn systemd_finds_nothing_amiss_in_the_units() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integrations/cyrus");
    let folder = tempfile::tempdir().unwrap();
    let names = ["postbell-notifyd.service", "postbell-notifyd.socket"];
    for name in names {
        let text = std::fs::read_to_string(units.join(name)).unwrap();
        let text = text.replace("/usr/bin/postbell", env!("CARGO_BIN_EXE_postbell"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .args(names.map(|name| folder.path().join(name)))
        .output();
    // Where there is no systemd nobody uses its units.
    let Ok(verified) = verified else { return };
    let printed = String::from_utf8_lossy(&verified.stderr).into_owned();
    // What it ignores is no failure to it.
    assert!(verified.status.success() && !printed.contains("postbell-notifyd"), "{printed}");
}

/// Whoever holds the socket keeps what waits in it, though all of notifyd is gone.
#[test]
fn what_waits_in_a_socket_that_is_handed_over_outlives_notifyd() {
    let hub = hub::start_with(SOURCE);
    let path = hub.folder().join("held");
    let held = UnixDatagram::bind(&path).unwrap();
    let datagram = |uid: u32| {
        let json = format!(
            r#"{{"event":"FlagsSet","uri":"imap://h/user/alice;UIDVALIDITY=5","uidset":"{uid}","flagNames":"x"}}"#
        );
        format!("log\0EVENT\0\0\0\0{}\0{json}\0", 0).into_bytes()
    };
    let sender = UnixDatagram::unbound().unwrap();
    let send = |uid| sender.send_to(&datagram(uid), &path);
    let told = || hub.get("/v1/events?since=0&follow=false").unwrap().body;
    let has = |uid: u32| told().contains(&format!(r#""uidset":"{uid}""#));
    let first = Notifyd::start(&hub, &held);
    for uid in 1..100 {
        send(uid).unwrap();
    }
    wait_for("the first to be told", || has(99));
    drop(first);
    // As many as there is room for: what the first one told it may not have taken.
    sender.set_nonblocking(true).unwrap();
    let next = (100..200).find(|uid| send(*uid).is_err()).unwrap_or(200);
    sender.set_nonblocking(false).unwrap();
    let _second = Notifyd::start(&hub, &held);
    for uid in next..200 {
        send(uid).unwrap();
    }
    wait_for("the last to be told", || has(199));
    let told = told();
    assert!((1..200).all(has), "{told}");
    assert_eq!(told.matches(r#""event":"#).count(), 199, "no gap, and nothing twice: {told}");
    assert!(!hub.folder().join("notify").exists(), "it made a socket of its own");
}

/// What comes over a connection goes with the process that accepted it: what of it was not written
/// down is told, once, however often all of it is killed.
#[test]
fn what_was_half_said_over_a_stream_when_notifyd_was_killed_is_told_as_lost() {
    let hub = hub::start_with(SOURCE);
    let datagrams = UnixDatagram::bind(hub.folder().join("datagrams")).unwrap();
    let path = hub.folder().join("stream");
    let sockets = [datagrams.into(), UnixListener::bind(&path).unwrap().into()];
    let said = |uid: u32| {
        let json = format!(
            r#"{{"event":"FlagsSet","uri":"imap://h/user/alice;UIDVALIDITY=5","uidset":"{uid}","flagNames":"x"}}"#
        );
        list(&json)
    };
    let ask = |octets: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(octets.as_bytes()).unwrap();
        stream
    };
    let answer = |mut stream: UnixStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let told = || hub.get("/v1/events?since=0&follow=false").unwrap().body;
    let mut notifyd = postbell_testkit::Notifyd::handed(&hub, &sockets).unwrap();
    assert_eq!(answer(ask(&said(1))), "OK ()\r\n");
    let half = ask(said(2).split_at(50).0);
    // Accepted in order, and so noted by then.
    assert_eq!(answer(ask(&said(3))), "OK ()\r\n");
    for uid in 4..7 {
        notifyd.kill();
        notifyd = postbell_testkit::Notifyd::handed(&hub, &sockets).unwrap();
        assert_eq!(answer(ask(&said(uid))), "OK ()\r\n");
    }
    drop(half);
    let last = r#""uidset":"6""#;
    wait_for("the last to be told", || told().contains(last));
    let told = told();
    let gap = "1 notifications of Cyrus's could not be written down";
    assert_eq!(told.matches(gap).count(), 1, "{told}");
    assert_eq!(told.matches(r#""event":"FlagsSet""#).count(), 5, "{told}");
}

/// `postbell notifyd` as systemd starts it; killed with its reader when dropped.
struct Notifyd(Child);

impl Notifyd {
    /// With `held` as the one socket that is handed over: file descriptor 3.
    fn start(hub: &Hub, held: &UnixDatagram) -> Self {
        let held = OwnedFd::from(held.try_clone().unwrap());
        let started = Command::new("sh")
            .arg("-c")
            .arg(r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" notifyd --config "$1""#)
            .arg(env!("CARGO_BIN_EXE_postbell"))
            .arg(hub.config())
            .stdin(held)
            .process_group(0)
            .spawn();
        Self(started.unwrap())
    }
}

impl Drop for Notifyd {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }
}
