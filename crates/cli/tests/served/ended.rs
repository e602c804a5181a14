//! `postbell notifyd` is told to end while notifications come in.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use postbell_testkit::{EndedBy, Notifyd};

use crate::cyrus::{SOURCE, list};
use crate::hub::{self, Hub, wait_for};

/// Sockets that somebody else holds on to, and where the stream is.
fn handed(hub: &Hub) -> ([OwnedFd; 2], PathBuf) {
    let datagrams = UnixDatagram::bind(hub.folder().join("datagrams")).unwrap();
    let path = hub.folder().join("stream");
    let stream = UnixListener::bind(&path).unwrap();
    ([datagrams.into(), stream.into()], path)
}

fn flagged(uid: u32) -> String {
    format!(
        r#"{{"event":"FlagsSet","uri":"imap://h/user/alice;UIDVALIDITY=5","uidset":"{uid}","flagNames":"x"}}"#
    )
}

/// Says the first part of a notification, and gives what is to follow.
fn half_said(path: &Path, uid: u32) -> (UnixStream, String) {
    let mut octets = list(&flagged(uid));
    let rest = octets.split_off(50);
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(octets.as_bytes()).unwrap();
    (stream, rest)
}

fn answer(mut stream: UnixStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(path: &Path, uid: u32) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(list(&flagged(uid)).as_bytes()).unwrap();
    answer(stream)
}

/// How many changes of flags, and how many gaps of notifications that were lost, are told.
fn told(hub: &Hub) -> (usize, usize) {
    let told = hub.get("/v1/events?since=0&follow=false").unwrap().body;
    (
        told.matches(r#""event":"FlagsSet""#).count(),
        told.matches("could not be written down").count(),
    )
}

#[test]
fn who_is_saying_something_when_it_is_told_to_end_is_answered_and_no_gap_is_told() {
    let hub = hub::start_with(SOURCE);
    let (sockets, path) = handed(&hub);
    let mut uid = 0;
    for how in EndedBy::ALL {
        let mut notifyd = Notifyd::handed(&hub, &sockets).unwrap();
        let so_far = notifyd.log().len();
        let (mut half, rest) = half_said(&path, uid + 1);
        assert_eq!(ask(&path, uid + 2), "OK ()\r\n");
        notifyd.tell_to_end(how).unwrap();
        wait_for("it to hear it", || notifyd.log().split_at(so_far).1.contains("told to end"));
        half.write_all(rest.as_bytes()).unwrap();
        assert_eq!(answer(half), "OK ()\r\n", "{how:?}");
        assert_eq!(notifyd.wait_for_end().unwrap().code(), Some(0), "{}", notifyd.log());
        uid += 2;
        // So did the process that reads.
        assert!(!notifyd.log().contains("that reads ended"), "{how:?}: {}", notifyd.log());
    }
    let _next = Notifyd::handed(&hub, &sockets).unwrap();
    assert_eq!(ask(&path, uid + 1), "OK ()\r\n");
    wait_for("all to be told", || told(&hub).0 > uid as usize);
    assert_eq!(told(&hub), (uid as usize + 1, 0));
}

#[test]
fn who_says_nothing_more_when_it_is_told_to_end_is_told_as_lost_and_a_second_signal_ends_it() {
    let hub = hub::start_with(SOURCE);
    let (sockets, path) = handed(&hub);
    let mut notifyd = Notifyd::handed(&hub, &sockets).unwrap();
    let _half = half_said(&path, 1);
    assert_eq!(ask(&path, 2), "OK ()\r\n");
    notifyd.tell_to_end(EndedBy::Mixed).unwrap();
    wait_for("it to hear it", || notifyd.log().contains("told to end"));
    // It may have ended because the time was over.
    drop(notifyd.tell_to_end(EndedBy::Mixed));
    let status = notifyd.wait_for_end().unwrap();
    let log = notifyd.log();
    let wanted = if log.contains("are cut") { 0 } else { 3 };
    assert_eq!(status.code(), Some(wanted), "{log}");
    let mut notifyd = Notifyd::handed(&hub, &sockets).unwrap();
    let _half = half_said(&path, 3);
    assert_eq!(ask(&path, 4), "OK ()\r\n");
    notifyd.tell_to_end(EndedBy::Mixed).unwrap();
    assert_eq!(notifyd.wait_for_end().unwrap().code(), Some(0), "{}", notifyd.log());
    let _next = Notifyd::handed(&hub, &sockets).unwrap();
    wait_for("both to be told as lost", || told(&hub) == (2, 2));
}

#[test]
fn what_was_let_in_is_told_where_the_sockets_end_with_it() {
    let both = format!("{SOURCE}notify_stream = \"@FOLDER@/stream\"\n");
    let hub = hub::start_with(&both);
    let (datagrams, stream) = (hub.folder().join("notify"), hub.folder().join("stream"));
    let mut all = 0;
    for how in EndedBy::ALL {
        let mut notifyd = Notifyd::start(&hub, &datagrams).unwrap();
        let speakers: Vec<_> = (0..3)
            .flat_map(|_| [speaker(&datagrams, is_sent), speaker(&stream, is_asked)])
            .collect();
        wait_for("some to be told", || told(&hub).0 > all + 100);
        notifyd.tell_to_end(how).unwrap();
        all += speakers.into_iter().map(|speaker| speaker.join().unwrap()).sum::<usize>();
        assert_eq!(notifyd.wait_for_end().unwrap().code(), Some(0), "{}", notifyd.log());
        wait_for("all to be told", || told(&hub).0 >= all);
        assert_eq!(told(&hub), (all, 0));
    }
}

/// Says something until nobody hears it any more, and gives how often it was heard.
fn speaker(path: &Path, say: fn(&Path) -> bool) -> JoinHandle<usize> {
    let path = path.to_owned();
    thread::spawn(move || std::iter::from_fn(|| say(&path).then_some(())).count())
}

fn is_sent(path: &Path) -> bool {
    let octets = format!("log\0EVENT\0\0\0\0{}\0{}\0", 0, flagged(1));
    UnixDatagram::unbound().unwrap().send_to(octets.as_bytes(), path).is_ok()
}

/// Who is let in is answered.
fn is_asked(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path) else { return false };
    stream.write_all(list(&flagged(1)).as_bytes()).unwrap();
    assert_eq!(answer(stream), "OK ()\r\n");
    true
}
