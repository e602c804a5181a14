//! Events that go together.

use std::collections::HashMap;

use super::shared::{Acl, sharing};
use super::*;
use crate::subscriptions::batch::Batching;

/// A request as a receiver saw it, with the answer it got.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: String,
    headers: HeaderMap,
    pub(super) body: Bytes,
    /// Mailbox, number and number before of each event.
    pub(super) events: Vec<(String, u64, Option<u64>)>,
    pub(super) fine: bool,
}

impl Request {
    pub(super) fn seqs(&self) -> Vec<u64> {
        self.events.iter().map(|(_, seq, _)| *seq).collect()
    }
}

#[derive(Clone)]
pub(super) struct Receiver {
    url: String,
    taken: Arc<StdMutex<Vec<Request>>>,
}

impl Receiver {
    /// Listens, and answers as `answer` says of the events' numbers.
    pub(super) async fn start(
        answer: impl Fn(&[u64]) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let taken = Arc::new(StdMutex::new(Vec::new()));
        let keep = Arc::clone(&taken);
        let hook = move |headers: HeaderMap, body: Bytes| {
            let (answer, keep) = (answer.clone(), Arc::clone(&keep));
            async move {
                let all: Vec<Value> = serde_json::from_slice(&body).unwrap();
                let event = |event: &Value| {
                    let data = &event["data"];
                    assert_eq!(event["id"], data["vnd.postbell.eventId"]);
                    let uri = data["uri"].as_str().unwrap();
                    (
                        uri.rsplit('/').next().unwrap().to_owned(),
                        data["vnd.postbell.seq"].as_u64().unwrap(),
                        data["vnd.postbell.prevSeq"].as_u64(),
                    )
                };
                let events: Vec<_> = all.iter().map(event).collect();
                let seqs: Vec<_> = events.iter().map(|(_, seq, _)| *seq).collect();
                let response = answer(&seqs);
                let fine = response.status().is_success();
                let id = headers["webhook-id"].to_str().unwrap().to_owned();
                keep.lock().unwrap().push(Request { id, headers, body, events, fine });
                response
            }
        };
        Self { url: served(routing::post(hook)).await, taken }
    }

    pub(super) fn taken(&self) -> Vec<Request> {
        self.taken.lock().unwrap().clone()
    }

    fn accepted(&self) -> Vec<Request> {
        self.taken().into_iter().filter(|one| one.fine).collect()
    }

    /// Waits until so many requests came.
    pub(super) async fn wait_for(&self, count: usize) {
        for _ in 0..3_000 {
            if self.taken().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("only {:?} came", self.taken());
    }
}

pub(super) fn batched(name: &str, receiver: &Receiver, batch: Batching) -> NewSubscription {
    let sink = NewSink::Webhook {
        url: receiver.url.clone(),
        signature: Signature::V1,
        secret: None,
        verify: None,
        batch: Some(batch),
        client_certificate: None,
    };
    NewSubscription { sink, ..wanted(name, "") }
}

pub(super) fn up_to(max_events: u32, max_delay: &str) -> Batching {
    Batching { max_events, max_delay: max_delay.to_owned(), ..Batching::default() }
}

/// Whatever stood under one id is the same each time, and in no request is anything twice.
pub(super) fn assert_frozen(taken: &[Request]) {
    let mut of: HashMap<&str, Vec<u64>> = HashMap::new();
    for request in taken {
        let seqs = request.seqs();
        assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
        assert_eq!(*of.entry(&request.id).or_insert_with(|| seqs.clone()), seqs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r164_events_go_together_up_to_a_number_in_order_and_signed_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let new = batched("phone", &receiver, up_to(4, "60s"));
    let made = bench.subscriptions.create(new, &bench.admin).await.unwrap();
    for at in 0..14 {
        bench.append(["A", "B", "C"][at % 3]);
    }
    receiver.wait_for(3).await;
    let shown = bench.wait_until("phone", |shown| shown.cursor == 12).await;
    assert_eq!((shown.attempts, shown.lag), (3, 2), "the rest waits for others");
    let taken = receiver.taken();
    let events: Vec<_> = taken.iter().flat_map(|one| one.events.clone()).collect();
    for mailbox in ["A", "B", "C"] {
        let seqs: Vec<_> = events.iter().filter(|one| one.0 == mailbox).map(|one| one.1).collect();
        assert_eq!(seqs.len(), 4);
        assert!(seqs.is_sorted(), "{seqs:?}");
    }
    let links: BTreeMap<_, _> = events.iter().map(|(_, seq, before)| (*seq, *before)).collect();
    assert!(links.iter().all(|(seq, before)| *before == seq.checked_sub(1).filter(|it| *it > 0)));
    assert_frozen(&taken);
    let ShownSink::Webhook { secret: Some(secret), batch: Some(_), .. } = made.sink else {
        panic!("{:?}", made.sink)
    };
    let secret = Secret::parse(&secret).unwrap();
    for request in &taken {
        assert!(request.events.len() <= 4);
        assert_eq!(request.headers["content-type"], "application/cloudevents-batch+json");
        let at = request.headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
        let signature = secret.sign(&request.id, at, &request.body);
        assert_eq!(request.headers["webhook-signature"], signature.as_str());
    }
    let figures = &bench.subscriptions.figures()[0];
    assert_eq!((figures.accepted, figures.batches), (12, 3), "events count, and requests too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_long_enough_goes_though_nothing_came_to_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let new = batched("phone", &receiver, up_to(100, "200ms"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    bench.append("A");
    bench.append("B");
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let seqs: Vec<_> = receiver.taken().iter().flat_map(Request::seqs).collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_looks_like_this() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let new = batched("phone", &receiver, up_to(2, "60s"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    bench.append("A");
    bench.append("B");
    receiver.wait_for(1).await;
    let request = receiver.taken().remove(0);
    let mut text = String::new();
    for (name, value) in &request.headers {
        let value = match name.as_str() {
            "host" | "content-length" | "webhook-id" | "webhook-timestamp"
            | "webhook-signature" => "…",
            _ => value.to_str().unwrap(),
        };
        text.push_str(&format!("{name}: {value}\n"));
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    insta::assert_snapshot!(format!("{text}\n{body:#}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_failed_comes_again_as_it_was_over_restarts_too() {
    let folder = tempfile::tempdir().unwrap();
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fine = Arc::clone(&mended);
    let receiver = Receiver::start(move |seqs| {
        let fails = seqs.contains(&2) && !fine.load(Ordering::SeqCst);
        if fails { busy() } else { ok() }
    })
    .await;
    let bench = Bench::open_with(folder.path(), Options::default(), &[10; 6_000]).await;
    // Long enough for those that are to go together, on a loaded machine too.
    let new = batched("phone", &receiver, up_to(3, "5s"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    for mailbox in ["A", "B", "C"] {
        bench.append(mailbox);
    }
    receiver.wait_for(2).await;
    for mailbox in ["A", "D", "E", "D"] {
        bench.append(mailbox);
    }
    // D and E go on beside what fails.
    for _ in 0..3_000 {
        if receiver.accepted().iter().flat_map(Request::seqs).count() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.shown("phone").cursor, 0);
    bench.close().await;
    let bench = Bench::open_with(folder.path(), Options::default(), &[10; 6_000]).await;
    let before = receiver.taken().len();
    bench.append("A");
    receiver.wait_for(before + 3).await;
    mended.store(true, Ordering::SeqCst);
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let taken = receiver.taken();
    assert_frozen(&taken);
    let failed: std::collections::BTreeSet<_> =
        taken.iter().filter(|one| !one.fine).map(|one| (one.id.clone(), one.seqs())).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    // Each event went with the same others each time.
    let mut of: HashMap<u64, &str> = HashMap::new();
    for request in &taken {
        for seq in request.seqs() {
            assert_eq!(*of.entry(seq).or_insert(&request.id), request.id, "{seq}");
        }
    }
    assert_eq!(of.len(), 8);
    let a: Vec<_> = receiver.accepted().iter().flat_map(|one| one.events.clone()).collect();
    let a: Vec<_> = a.iter().filter(|one| one.0 == "A").map(|one| one.1).collect();
    assert!(a.is_sorted(), "{a:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_given_up_is_a_dead_letter_and_comes_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[]).await;
    let receiver = Receiver::start(|seqs| match seqs {
        [_] if *seqs != [2] => ok(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    })
    .await;
    let new = batched("phone", &receiver, up_to(3, "60s"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    for mailbox in ["A", "B", "A"] {
        bench.append(mailbox);
    }
    bench.wait_until("phone", |shown| shown.dead_letters == 3 && shown.lag == 0).await;
    let letters = bench.subscriptions.dead_letters(&bench.admin, "phone", 9).unwrap().unwrap();
    assert_eq!(letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(letters.iter().all(|one| one.reason == "400 Bad Request (to a batch of 3)"));
    let all = Redrive { all: true, ..Redrive::default() };
    bench.subscriptions.redrive(&bench.admin, "phone", all).await.unwrap();
    bench.wait_until("phone", |shown| (shown.dead_letters, shown.redriving) == (1, 0)).await;
    let accepted: Vec<_> = receiver.accepted().iter().flat_map(|one| one.events.clone()).collect();
    let links: Vec<_> = accepted.iter().map(|(_, seq, before)| (*seq, *before)).collect();
    assert_eq!(links, [(1, None), (3, Some(2))]);
    let letters = bench.subscriptions.dead_letters(&bench.admin, "phone", 9).unwrap().unwrap();
    assert_eq!((letters[0].seq, letters[0].reason.as_str()), (2, "400 Bad Request"));
    assert_frozen(&receiver.taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_has_more_octets_than_asked_for_unless_one_event_does() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let batch = Batching { max_octets: 4_000, ..up_to(100, "20ms") };
    bench.subscriptions.create(batched("phone", &receiver, batch), &bench.admin).await.unwrap();
    for at in 0..30 {
        bench.append_padded(["A", "B", "C"][at % 3], if at == 7 { 5_000 } else { 200 });
    }
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let taken = receiver.taken();
    assert_frozen(&taken);
    for request in &taken {
        let (octets, seqs) = (request.body.len(), request.seqs());
        assert!(octets <= 4_000 || seqs == [8], "{octets} octets: {seqs:?}");
    }
    let mut seqs: Vec<_> = taken.iter().flat_map(Request::seqs).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_may_not_be_delivered_any_more_is_left_out_and_that_is_another_batch() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[10; 6_000]).await;
    let receiver = Receiver::start(|seqs| if seqs.contains(&2) { busy() } else { ok() }).await;
    let new = batched("phone", &receiver, up_to(3, "60s"));
    bench.subscriptions.create(new.clone(), &bench.admin).await.unwrap();
    for mailbox in ["A", "B", "A"] {
        bench.append(mailbox);
    }
    receiver.wait_for(2).await;
    let new = NewSubscription { mailboxes: vec!["A".to_owned()], ..new };
    bench.subscriptions.apply(new, &bench.admin).await.unwrap();
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let taken = receiver.taken();
    assert_frozen(&taken);
    let last = taken.last().unwrap();
    assert_eq!((last.seqs(), last.fine), (vec![1, 3], true));
    assert!(taken.iter().filter(|one| !one.fine).all(|one| one.id != last.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_frozen_batch_goes_without_what_is_shared_no_more_and_is_another_one() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["First", "Plans", "Kept", "Last"]);
    let (bench, _watching) = sharing(folder.path(), &[10; 6_000], &acl).await;
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fine = Arc::clone(&mended);
    let receiver =
        Receiver::start(move |_| if fine.load(Ordering::SeqCst) { ok() } else { busy() }).await;
    let (bob, _) = bench.user("b1", "bob");
    let new = batched("phone", &receiver, up_to(4, "60s"));
    let new = NewSubscription { events: vec!["FlagsSet".to_owned()], ..new };
    let id = bench.subscriptions.create(new, &bob).await.unwrap().id;
    for mailbox in ["First", "Plans", "Kept", "Last"] {
        bench.comes("ann", mailbox);
    }
    receiver.wait_for(2).await;
    acl.gives("bob", "ann", &["First", "Kept", "Last"]);
    let lost = bench.rights_change("ann", "Plans");
    // It is looked at in the middle of the attempts.
    let is_without = |one: &Request| one.events.iter().all(|(mailbox, ..)| mailbox != "Plans");
    while !receiver.taken().iter().any(is_without) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mended.store(true, Ordering::SeqCst);
    bench.wait_until(&id, |shown| shown.cursor >= lost - 1).await;
    let taken = receiver.taken();
    assert_frozen(&taken);
    let first = taken.iter().position(is_without).unwrap();
    let (before, after) = taken.split_at(first);
    assert!(!before.is_empty() && after.iter().all(is_without));
    assert!(after.iter().all(|one| one.id == after[0].id && one.body == after[0].body));
    assert!(before.iter().all(|one| one.id != after[0].id));
    let mailboxes: Vec<_> = after[0].events.iter().map(|(mailbox, ..)| &**mailbox).collect();
    assert_eq!((mailboxes, after[0].seqs()), (vec!["First", "", "Kept", "Last"], vec![1, 2, 3, 4]));
    assert!(!String::from_utf8_lossy(&after[0].body).contains("Plans"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_ones_own_goes_into_no_batch_with_what_is_shared_and_waits_for_none_of_it() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[10; 6_000], &acl).await;
    let receiver = Receiver::start(|_| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let new = batched("phone", &receiver, up_to(4, "3s"));
    let new = NewSubscription { events: vec!["FlagsSet".to_owned()], ..new };
    let id = bench.subscriptions.create(new, &bob).await.unwrap().id;
    bench.comes("ann", "Plans");
    bench.wait_until(&id, |shown| shown.lag == 0).await;
    acl.goes_away();
    bench.rights_change("ann", "Plans");
    for _ in 0..2 {
        bench.comes("ann", "Plans");
        bench.comes("bob", "A");
    }
    receiver.wait_for(2).await;
    assert_eq!(receiver.taken()[1].seqs(), [4, 6]);
    acl.gives("bob", "ann", &["Plans"]);
    receiver.wait_for(3).await;
    assert_eq!(receiver.taken()[2].seqs(), [3, 5]);
    bench.wait_until(&id, |shown| shown.lag == 0).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_is_in_a_batch_as_it_would_be_alone() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[10; 500], &acl).await;
    let receiver = Receiver::start(|_| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let new = batched("phone", &receiver, up_to(2, "60s"));
    bench.subscriptions.create(new, &bob).await.unwrap();
    let reads = bench.sharing.of(bob.principal());
    while !reads.known().has("ann", "Plans") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 1..=2 {
        bench.append_event(&format!(
            r#"{{"event":"FlagsSet","uri":"imap://bob@h/A","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"{number}","vnd.example.from":"imap://ann@h/Plans"}}"#,
        ));
    }
    receiver.wait_for(1).await;
    let told = String::from_utf8(receiver.taken()[0].body.to_vec()).unwrap();
    assert!(!told.contains("Plans"), "nobody has settled that it may be told: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_batch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let fine = Batching::default();
    for (batch, told) in [
        (
            Batching { max_events: 1, ..fine.clone() },
            "/sink/batch/maxEvents: 1 is not from 2 to 500 (webhooks.batch_events)",
        ),
        (
            Batching { max_events: 501, ..fine.clone() },
            "/sink/batch/maxEvents: 501 is not from 2 to 500 (webhooks.batch_events)",
        ),
        (
            Batching { max_octets: 5, ..fine.clone() },
            "/sink/batch/maxOctets: 5 is not from 1024 to 1048576 (webhooks.batch_octets)",
        ),
        (
            Batching { max_delay: "2m".to_owned(), ..fine },
            "/sink/batch/maxDelay: \"2m\" is no time up to a minute (try 1s)",
        ),
    ] {
        let made = bench.subscriptions.create(batched("phone", &receiver, batch), &bench.admin);
        let Err(CreateError::Invalid { pointer, message }) = made.await else {
            panic!("it was made")
        };
        assert_eq!(format!("{pointer}: {message}"), told);
    }
}
