//! What becomes of what is said while notifyd is told to end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postbell_sources::cyrus::Porter;

use crate::rig::{Rig, ask, datagram, dlist, flagged, send, wait_until};

/// How many notifications the spool has.
fn notifications(rig: &Rig) -> usize {
    rig.written().matches("FlagsSet").count()
}

/// Says something again and again until it is told to stop or nobody hears it, and gives how often it
/// was heard.
fn speaker(say: impl Fn() -> bool + Send + 'static, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut heard = 0;
        while !stop.load(Ordering::SeqCst) && say() {
            heard += 1;
        }
        heard
    })
}

/// Sends a datagram, if that is let be.
fn is_sent(path: &PathBuf) -> bool {
    match UnixDatagram::unbound().unwrap().send_to(&datagram(&flagged(1)), path) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            false
        }
    }
}

/// Asks over the stream, if that is let be; who is let in is answered.
fn is_asked(path: &PathBuf) -> bool {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            return false;
        }
    };
    stream.write_all(&dlist(&flagged(1))).unwrap();
    assert_eq!(answer(stream), "OK ()\r\n");
    true
}

fn answer(mut stream: UnixStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Says the first part of a notification, and gives what is to follow.
fn half_said(path: &PathBuf, uid: u32) -> (UnixStream, Vec<u8>) {
    let mut octets = dlist(&flagged(uid));
    let rest = octets.split_off(50);
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(&octets).unwrap();
    (stream, rest)
}

/// A stream that somebody else holds on to.
fn handed(rig: &mut Rig) -> (UnixListener, PathBuf) {
    let path = rig.folder().join("handed");
    let listener = UnixListener::bind(&path).unwrap();
    begin_again(rig, &listener);
    (listener, path)
}

/// Another process in the place of the one that ended; gives how many connections that left open.
fn begin_again(rig: &mut Rig, listener: &UnixListener) -> usize {
    let spool = rig.options.spool.clone();
    rig.porter = Porter::start_for(listener.try_clone().unwrap(), &spool).unwrap();
    let left_open = rig.porter.left_open().len();
    rig.start_notifyd();
    left_open
}

#[test]
fn all_that_was_let_in_is_written_down_and_answered_where_the_sockets_go_with_it() {
    let mut rig = Rig::new();
    rig.began = Some(1_000_000_000);
    rig.start_notifyd();
    let never = Arc::new(AtomicBool::new(false));
    let (datagrams, streams) = (rig.datagrams(), rig.streams());
    let speakers: Vec<_> = (0..3)
        .flat_map(|_| {
            let (datagrams, streams) = (datagrams.clone(), streams.clone());
            [
                speaker(move || is_sent(&datagrams), &never),
                speaker(move || is_asked(&streams), &never),
            ]
        })
        .collect();
    wait_until(|| notifications(&rig) > 100);
    rig.end_notifyd();
    let heard: usize = speakers.into_iter().map(|speaker| speaker.join().unwrap()).sum();
    assert_eq!(notifications(&rig), heard);
    assert!(rig.porter.is_over());
}

#[test]
fn nothing_is_lost_and_nobody_refused_where_the_next_one_gets_the_same_sockets() {
    let mut rig = Rig::new();
    let (listener, streams) = handed(&mut rig);
    let stop = Arc::new(AtomicBool::new(false));
    let datagrams = rig.datagrams();
    let speakers: Vec<_> = (0..3)
        .flat_map(|_| {
            let (datagrams, streams) = (datagrams.clone(), streams.clone());
            [
                speaker(move || is_sent(&datagrams), &stop),
                speaker(move || is_asked(&streams), &stop),
            ]
        })
        .collect();
    for _ in 0..20 {
        let before = notifications(&rig);
        wait_until(|| notifications(&rig) > before + 20);
        rig.end_notifyd();
        assert_eq!(begin_again(&mut rig, &listener), 0, "nothing is under way any more");
    }
    stop.store(true, Ordering::SeqCst);
    let heard: usize = speakers.into_iter().map(|speaker| speaker.join().unwrap()).sum();
    wait_until(|| notifications(&rig) >= heard);
    assert_eq!(notifications(&rig), heard);
    assert_eq!(rig.written().matches(r#""lost":"#).count(), 0);
}

#[test]
fn who_is_in_the_middle_of_saying_something_says_it_and_who_comes_then_is_heard_as_well() {
    let mut rig = Rig::new();
    let (listener, path) = handed(&mut rig);
    let (mut half, rest) = half_said(&path, 1);
    assert_eq!(ask(&path, &dlist(&flagged(2))), "OK ()\r\n");
    rig.porter.end(Duration::from_secs(60));
    // By this one or the next.
    let late = {
        let path = path.clone();
        std::thread::spawn(move || ask(&path, &dlist(&flagged(3))))
    };
    // A reader that is killed meanwhile is followed by one that goes on.
    rig.stop_notifyd();
    assert!(!rig.porter.is_over());
    rig.start_notifyd();
    half.write_all(&rest).unwrap();
    assert_eq!(answer(half), "OK ()\r\n");
    rig.join_notifyd();
    assert!(rig.porter.is_over());
    begin_again(&mut rig, &listener);
    assert_eq!(late.join().unwrap(), "OK ()\r\n");
    assert_eq!((notifications(&rig), rig.written().matches(r#""lost":"#).count()), (3, 0));
}

#[test]
fn who_says_nothing_more_is_cut_when_the_time_is_over_and_told_as_lost() {
    let mut rig = Rig::new();
    let (listener, path) = handed(&mut rig);
    let (half, _rest) = half_said(&path, 1);
    assert_eq!(ask(&path, &dlist(&flagged(2))), "OK ()\r\n");
    rig.porter.end(Duration::from_millis(100));
    rig.join_notifyd();
    assert_eq!(begin_again(&mut rig, &listener), 1);
    wait_until(|| rig.written().contains(r#""lost":"#));
    // That it is told is known: the next doesn't tell it again.
    wait_until(|| rig.porter.left_open().is_empty());
    drop(half);
    assert_eq!(notifications(&rig), 1);
}

#[test]
fn where_there_are_datagrams_alone_it_ends_as_well() {
    let mut rig = Rig::new();
    rig.porter = Porter::start_without().unwrap();
    rig.began = Some(1_000_000_000);
    rig.start_notifyd();
    for uid in 1..=5 {
        send(&rig.datagrams(), &datagram(&flagged(uid)));
    }
    rig.end_notifyd();
    assert_eq!(notifications(&rig), 5);
    assert!(!is_sent(&rig.datagrams()));
    // Whoever reads next is told at once.
    rig.start_notifyd();
    rig.join_notifyd();
}
