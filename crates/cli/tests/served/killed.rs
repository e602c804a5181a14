//! The hub is killed again and again while mail comes in, programs publish and a webhook is served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postbell_testkit::{Receiver, http};
use serde_json::{Value, json};

use crate::hub::{self, Hub, wait_for};

/// Whatever was acknowledged is in the journal once and reaches the webhook, in order per
/// mailbox; whatever the store took is told; and the receiver can prove both. So can one that gets
/// events in batches, each of which is the same whenever it comes.
#[test]
fn killed_at_random_nothing_is_lost_and_order_holds() {
    let receiver = Receiver::start().unwrap();
    let together = Receiver::start().unwrap();
    for receiver in [&receiver, &together] {
        receiver.refuse_one_after(100);
    }
    let mut hub = hub::start();
    let maildir = hub::maildir(&hub, "alice");
    subscribe(&hub, "all", json!({"kind": "webhook", "url": receiver.url()}));
    let batch = json!({"maxEvents": 9, "maxDelay": "20ms"});
    subscribe(&hub, "together", json!({"kind": "webhook", "url": together.url(), "batch": batch}));

    let stop = Arc::new(AtomicBool::new(false));
    let publisher = spawn_publisher(&hub, &stop);
    let agent = spawn_agent(&maildir, &stop);
    let mut dice = Dice(seed());
    for _ in 0..rounds() {
        thread::sleep(Duration::from_millis(20 + dice.throw(400)));
        hub.kill();
        thread::sleep(Duration::from_millis(dice.throw(60)));
        hub.resume().unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let published = publisher.join().unwrap();
    let delivered = agent.join().unwrap();
    assert!(published > 0 && delivered > 0, "{published} published, {delivered} delivered");

    let wanted = published + delivered;
    wait_for("every event to reach both webhooks", || {
        [&receiver, &together].into_iter().all(|receiver| {
            taken(receiver).iter().map(|one| one.seq).collect::<BTreeSet<_>>().len() >= wanted
        })
    });
    thread::sleep(Duration::from_millis(500));
    assert_each_once_in_the_journal(&hub, wanted);
    for receiver in [&receiver, &together] {
        let taken = taken(receiver);
        let told = distinct(&taken);
        assert_eq!(told.len(), wanted, "nothing is told that did not happen");
        assert_order_per_mailbox(&taken);
        assert_chain(&told);
    }
    assert_frozen(&together);
}

/// The journal finds no room to write its cursors, for however long, so that a hub that is killed
/// begins far back: what went together goes together again.
#[test]
fn killed_while_no_cursor_can_be_written_every_batch_comes_again_as_it_was() {
    let together = Receiver::start().unwrap();
    let mut hub = hub::start();
    let batch = json!({"maxEvents": 9, "maxDelay": "20ms"});
    subscribe(&hub, "together", json!({"kind": "webhook", "url": together.url(), "batch": batch}));
    hub.kill();
    let library = hub::faults(hub.folder());
    let log = hub.data().join("journal/state.db-wal").display().to_string();
    hub.resume_with(&[
        ("LD_PRELOAD", &library),
        ("FAULT_FOLDER", &log),
        ("FAULT", "enospc"),
        ("FAULT_CALLS", "write"),
        ("FAULT_COUNT", "1000000000"),
    ])
    .unwrap();
    let (address, token) = (hub.address().unwrap(), hub.token().unwrap());
    for count in 0..PUBLISHED {
        let event = published_event(count).to_string();
        assert_eq!(http::post(address, "/v1/events", Some(&token), &event).unwrap().status, 200);
    }
    wait_for("everything to be delivered", || {
        ask(&hub, "/v1/subscriptions/together").is_some_and(|shown| shown["cursor"] == PUBLISHED)
    });
    wait_for("the journal to have tried", || hub.log().contains("no room left on the disk"));
    hub.kill();
    hub.resume().unwrap();
    let came = || {
        let mut came: BTreeMap<u64, usize> = BTreeMap::new();
        taken(&together).iter().for_each(|one| *came.entry(one.seq).or_default() += 1);
        came
    };
    wait_for("everything to come again", || {
        came().values().filter(|times| **times > 1).count() == PUBLISHED
    });
    assert_frozen(&together);
}

/// Published events by mailbox, in order, each tried again until it is acknowledged.
fn spawn_publisher(hub: &Hub, stop: &Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let (folder, token, stop) = (hub.folder().to_owned(), hub.token().unwrap(), Arc::clone(stop));
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            let event = published_event(count).to_string();
            loop {
                let answer = Hub::address_in(&folder).and_then(|address| {
                    http::post(address, "/v1/events", Some(&token), &event).ok()
                });
                if answer.is_some_and(|answer| answer.status == 200) {
                    break;
                }
                // It was killed before it could answer: whether it had taken the event, nobody
                // knows, and asking again must do no harm.
                thread::sleep(Duration::from_millis(5));
            }
            count += 1;
            thread::sleep(Duration::from_millis(2));
        }
        count
    })
}

/// Messages put into the Maildir as a delivery agent does.
fn spawn_agent(maildir: &Path, stop: &Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let (maildir, stop) = (maildir.to_owned(), Arc::clone(stop));
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::SeqCst) {
            let name = format!("1780000000.M{count:06}P1.mail");
            let draft = maildir.join("tmp").join(&name);
            std::fs::write(&draft, format!("Subject: {count}\n\nhello\n")).unwrap();
            std::fs::rename(&draft, maildir.join("new").join(&name)).unwrap();
            count += 1;
            thread::sleep(Duration::from_millis(3));
        }
        count
    })
}

fn published_event(count: usize) -> Value {
    let (mailbox, uid) = (count % 3, count / 3 + 1);
    json!({
        "event": "MessageAppend",
        "uri": format!("imap://bob@mail.example.org/Box{mailbox};UIDVALIDITY=7/;UID={uid}"),
        "timestamp": "2026-11-25T09:30:00.000+01:00",
        "user": "bob",
        "messageSize": count,
    })
}

fn subscribe(hub: &Hub, name: &str, sink: Value) {
    let subscription = json!({"name": name, "begin": {"seq": 1}, "sink": sink});
    let answer = http::post(
        hub.address().unwrap(),
        "/v1/subscriptions",
        Some(&hub.token().unwrap()),
        &subscription.to_string(),
    )
    .unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
}

fn ask(hub: &Hub, path: &str) -> Option<Value> {
    let answer = hub.get(path).ok()?;
    serde_json::from_str(&answer.body).ok()
}

/// A delivery, read.
struct Taken {
    id: String,
    seq: u64,
    previous: Option<u64>,
    uri: String,
}

fn taken(receiver: &Receiver) -> Vec<Taken> {
    receiver.taken().iter().flat_map(|delivery| events(&delivery.body)).collect()
}

/// The events in a request, one or several.
fn events(body: &str) -> Vec<Taken> {
    let all = match serde_json::from_str(body).unwrap() {
        Value::Array(all) => all,
        one => vec![one],
    };
    let read = |one: &Value| {
        let event = &one["data"];
        Taken {
            id: one["id"].as_str().unwrap().to_owned(),
            seq: event["vnd.postbell.seq"].as_u64().unwrap(),
            previous: event["vnd.postbell.prevSeq"].as_u64(),
            uri: event["uri"].as_str().unwrap().to_owned(),
        }
    };
    all.iter().map(read).collect()
}

/// Each batch is of the same events whenever it comes, and each event is in one of them, once.
fn assert_frozen(receiver: &Receiver) {
    let (mut batches, mut of) = (BTreeMap::new(), BTreeMap::new());
    for delivery in receiver.taken() {
        let seqs: Vec<u64> = events(&delivery.body).iter().map(|one| one.seq).collect();
        assert!(seqs.is_sorted_by(|one, next| one < next) && seqs.len() <= 9, "{seqs:?}");
        for seq in &seqs {
            let first = of.entry(*seq).or_insert_with(|| delivery.id.clone());
            assert_eq!(*first, delivery.id, "record {seq} is in two batches");
        }
        let first = batches.entry(delivery.id).or_insert_with(|| seqs.clone());
        assert_eq!(*first, seqs, "a batch has changed");
    }
    assert!(batches.len() < of.len(), "some went together");
}

/// The first of each record, by number.
fn distinct(taken: &[Taken]) -> BTreeMap<u64, &Taken> {
    let mut distinct = BTreeMap::new();
    for one in taken {
        let first = *distinct.entry(one.seq).or_insert(one);
        assert_eq!(first.id, one.id, "a repeat of record {} has another id", one.seq);
    }
    distinct
}

fn assert_each_once_in_the_journal(hub: &Hub, wanted: usize) {
    let answer = hub.get("/v1/events?since=0&follow=false").unwrap();
    let events: Vec<Value> = answer
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let uris: BTreeSet<&str> = events.iter().filter_map(|event| event["uri"].as_str()).collect();
    assert_eq!((events.len(), uris.len()), (wanted, wanted));
    for (event, seq) in events.iter().zip(1..) {
        assert_eq!(event["vnd.postbell.seq"], seq, "numbers are contiguous");
    }
}

/// Leaving repeats out, the UIDs of each mailbox came in order.
fn assert_order_per_mailbox(taken: &[Taken]) {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for one in taken.iter().filter(|one| seen.insert(one.seq)) {
        let (mailbox, uid) = one.uri.rsplit_once("/;UID=").unwrap();
        let uid = uid.parse().unwrap();
        let before = newest.insert(mailbox.to_owned(), uid).unwrap_or(0);
        assert_eq!(uid, before + 1, "{mailbox}");
    }
}

/// Each record names the one before it, so that nothing can be missing in between.
fn assert_chain(told: &BTreeMap<u64, &Taken>) {
    let mut before = None;
    for (seq, one) in told {
        assert_eq!(one.previous, before, "record {seq}");
        before = Some(*seq);
    }
}

/// Events of some dozen batches.
const PUBLISHED: usize = 90;

/// How often it is killed; `POSTBELL_KILL_ROUNDS` asks for more.
fn rounds() -> u32 {
    std::env::var("POSTBELL_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[expect(clippy::print_stdout, reason = "told, so that a failing run can be had again")]
fn seed() -> u64 {
    let seed = std::env::var("POSTBELL_KILL_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("POSTBELL_KILL_SEED={seed}");
    seed
}

/// A linear congruence: enough for moments.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
