//! `postbell notifyd` and the hub are killed and stopped while notifications come in.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postbell_testkit::Notifyd;
use serde_json::Value;

use crate::hub::{self, Hub, wait_for};

#[test]
fn killed_a_hundred_times_notifyd_loses_and_repeats_no_datagram() {
    killed_a_hundred_times(SOURCE, send, 4_000);
}

#[test]
fn killed_a_hundred_times_notifyd_answers_each_stream_and_repeats_nothing() {
    killed_a_hundred_times(&over_streams(), ask, 1_000);
}

fn over_streams() -> String {
    SOURCE.replace("notify_socket =", "notify_socket = \"\"\nnotify_stream =")
}

/// Three clients say `each` notifications while the reader is killed.
fn killed_a_hundred_times(source: &str, say: Say, each: u32) {
    let hub = hub::start_with(source);
    let notifyd = Notifyd::start(&hub, &socket(&hub)).unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..CLIENTS)
        .map(|client| sending(socket(&hub), say, client, each, Arc::clone(&enough)))
        .collect();
    let (mut kills, mut seen) = (0_u64, 0);
    while kills < KILLS && !senders.iter().all(thread::JoinHandle::is_finished) {
        // Killed once it got somewhere, and at another point of its work each time.
        let now = written(&hub);
        if now == seen {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        thread::sleep(Duration::from_micros(kills * 7919 % 9000));
        kills += u64::from(notifyd.kill_reader());
        enough.store(kills >= KILLS_LEAST, Ordering::SeqCst);
        seen = now;
    }
    let sent: u32 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    let told = wait_for_all(&hub, sent);
    assert!(kills >= KILLS_LEAST, "{kills} kills");
    assert_eq!(told.len(), sent as usize, "each is told once");
}

#[test]
fn a_stopped_hub_and_a_stopped_reader_hold_nobody_up() {
    let hub = hub::start_with(SOURCE);
    let notifyd = Notifyd::start(&hub, &socket(&hub)).unwrap();
    hub.hold().unwrap();
    sender(socket(&hub), send, 0, 4_000).join().unwrap();
    wait_for("a reader to be stopped", || notifyd.hold_reader());
    sender(socket(&hub), send, 1, 4_000).join().unwrap();
    sender(socket(&hub), send, 2, 4_000).join().unwrap();
    hub.release().unwrap();
    assert_eq!(wait_for_all(&hub, 12_000).len(), 12_000);
}

#[test]
fn a_connection_that_the_reader_has_no_descriptor_for_is_answered_when_it_has() {
    let hub = hub::start_with(&over_streams());
    let notifyd = Notifyd::start(&hub, &socket(&hub)).unwrap();
    // It reads.
    sender(socket(&hub), ask, 0, 1).join().unwrap();
    // Those that it waits with, and no more.
    assert!(notifyd.limit_reader(Some(4)));
    let waiting = sender(socket(&hub), ask, 1, 1);
    wait_for("it to be short of them", || notifyd.log().contains("can't be taken over"));
    assert!(notifyd.limit_reader(None));
    wait_for("the answer", || waiting.is_finished());
    waiting.join().unwrap();
    assert_eq!(wait_for_all(&hub, 2).len(), 2);
}

#[test]
fn tail_shows_what_cyrus_said_beside_what_is_told_where_that_is_kept() {
    let said = r#"{"event":"MessageRead","uri":"imap://h/user/alice;UIDVALIDITY=5","uidset":"3","user":"","vnd.cmu.envelope":"private"}"#;
    for (kept, came) in [("", "came (not kept)"), ("notify_raw = true\n", &*format!("came {said}"))]
    {
        let hub = hub::start_with(&format!("{SOURCE}{kept}"));
        let _notifyd = Notifyd::start(&hub, &socket(&hub)).unwrap();
        send(&socket(&hub), said);
        wait_for("the event", || !tail(&hub, &[]).is_empty());
        let text = tail(&hub, &["--raw"]);
        let [line, shown, told, changed @ ..] = &text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert!(line.contains("MessageRead"), "{text}");
        assert_eq!(shown.trim_start(), came);
        assert!(told.contains(r#""uri":"imap://alice@"#) && !told.contains("private"), "{text}");
        let wanted = ["  changed user: empty, left out"];
        assert_eq!(changed, if kept.is_empty() { &wanted[1..] } else { &wanted[..] });
        // Nobody gets it who doesn't ask.
        assert!(!tail(&hub, &["--json"]).contains("vnd.postbell.raw"));
    }
}

/// Octets in the spool.
fn written(hub: &Hub) -> u64 {
    let Ok(spool) = std::fs::read_dir(hub.folder().join("spool")) else { return 0 };
    spool.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

fn socket(hub: &Hub) -> PathBuf {
    hub.folder().join("notify")
}

/// Says something to notifyd.
type Say = fn(&Path, &str);

/// Sends as Cyrus does: a socket for each, waiting while there is no room.
fn send(path: &Path, json: &str) {
    let octets = format!("log\0EVENT\0\0\0\0{}\0{json}\0", 0);
    UnixDatagram::unbound().unwrap().send_to(octets.as_bytes(), path).unwrap();
}

/// Connects as Cyrus does with `dlist:`, and waits for the answer.
fn ask(path: &Path, json: &str) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(list(json).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "OK ()\r\n");
}

/// What Cyrus says over a stream.
pub(crate) fn list(json: &str) -> String {
    let length = json.len();
    format!(
        "NOTIFY %(METHOD log CLASS EVENT PRIORITY NIL USER NIL MAILBOX NIL OPTIONS () MESSAGE {{{length}+}}\r\n{json} FILEPATH NIL)\r\n"
    )
}

fn sender(path: PathBuf, say: Say, client: u32, each: u32) -> thread::JoinHandle<u32> {
    sending(path, say, client, each, Arc::new(AtomicBool::new(true)))
}

/// Says `each` notifications, and goes on until it is enough; gives how many it said.
fn sending(
    path: PathBuf,
    say: Say,
    client: u32,
    each: u32,
    enough: Arc<AtomicBool>,
) -> thread::JoinHandle<u32> {
    thread::spawn(move || {
        let mut said = 0;
        while said < each || !enough.load(Ordering::SeqCst) {
            said += 1;
            // No timestamp and no MODSEQ: nothing in them tells two of one client apart but the
            // UID, and of each UID there are two.
            let uid = said.div_ceil(2);
            say(
                &path,
                &format!(
                    r#"{{"event":"FlagsSet","service":"imap","uri":"imap://h/user/client{client};UIDVALIDITY=5","uidset":"{uid}","flagNames":"x","pid":7,"user":"client{client}"}}"#
                ),
            );
        }
        said
    })
}

/// Every event that was told, once all are; by their ids.
fn wait_for_all(hub: &Hub, wanted: u32) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    wait_for("every notification to be told", || {
        told = ids(hub);
        told.len() >= wanted as usize
    });
    // What would be told twice is on its way by then: the journal has what the spool has.
    wait_for("the spool to be read", || {
        let source = hub.get("/v1/sources/cyrus").unwrap();
        serde_json::from_str::<Value>(&source.body).unwrap()["unread"] == 0
    });
    let counted = ids(hub);
    assert_eq!(counted.len(), told.len());
    counted
}

fn ids(hub: &Hub) -> BTreeSet<String> {
    let text = tail(hub, &["--json"]);
    let id = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["event"] == "FlagsSet")
            .then(|| event["vnd.postbell.eventId"].as_str().unwrap().to_owned())
    };
    let ids: Vec<_> = text.lines().filter_map(id).collect();
    let distinct: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), distinct.len(), "no event is in the journal twice");
    distinct
}

/// All there is, as `postbell tail` shows it.
fn tail(hub: &Hub, how: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_postbell"))
        .args(["tail", "--since", "0", "--no-follow"])
        .args(how)
        .arg("--data")
        .arg(hub.folder().join("data"))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Clients that write at once.
const CLIENTS: u32 = 3;

/// How often the reader is killed, unless all is sent before.
const KILLS: u64 = 100;

/// How often it is at least.
const KILLS_LEAST: u64 = 20;

/// What the hub is told of a Cyrus.
pub(crate) const SOURCE: &str = r#"
[sources.cyrus]
kind = "cyrus"
notify_spool = "@FOLDER@/spool"
notify_socket = "@FOLDER@/notify"
"#;
