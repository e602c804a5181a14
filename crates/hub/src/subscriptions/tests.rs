//! Subscriptions against real receivers on loopback.

mod commands;

use std::path::Path;
use std::sync::Mutex as StdMutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use postbell_engine::{FlagForms, ParametersOf, Selection, Stores, admit};
use postbell_journal::{Batch, Entry as JournalEntry, Options, RecordId, Retention, SqliteJournal};
use serde_json::Value;

use super::*;
use crate::access::NewToken;
use crate::token::{Token, fill_random};

mod batches;
mod certificates;
mod disabled;
mod frozen;
mod leaks;
mod life;
mod octets;
mod rates;
mod ready;
mod redrive;
mod shared;
mod verify;

/// A delivery as a receiver saw it, with the answer it got.
#[derive(Clone, Debug)]
struct Taken {
    mailbox: String,
    seq: u64,
    prev_seq: Option<u64>,
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
    fine: bool,
}

#[derive(Clone)]
struct Receiver {
    url: String,
    taken: Arc<StdMutex<Vec<Taken>>>,
}

impl Receiver {
    /// Listens, and answers as `answer` says of the mailbox and the number of requests before.
    async fn start(
        answer: impl Fn(&str, usize) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let taken = Arc::new(StdMutex::new(Vec::<Taken>::new()));
        let keep = Arc::clone(&taken);
        let hook = move |headers: HeaderMap, body: Bytes| {
            let (answer, keep) = (answer.clone(), Arc::clone(&keep));
            async move {
                let event: Value = serde_json::from_slice(&body).unwrap();
                let data = &event["data"];
                let uri = data["uri"].as_str().unwrap().to_owned();
                let mailbox = uri.rsplit('/').next().unwrap().to_owned();
                let before = keep.lock().unwrap().len();
                let response = answer(&mailbox, before);
                keep.lock().unwrap().push(Taken {
                    mailbox,
                    seq: data["vnd.postbell.seq"].as_u64().unwrap(),
                    prev_seq: data["vnd.postbell.prevSeq"].as_u64(),
                    headers,
                    body,
                    at: Instant::now(),
                    fine: response.status().is_success(),
                });
                if response.headers().contains_key(HANG) {
                    std::future::pending::<()>().await;
                }
                response
            }
        };
        Self { url: served(routing::post(hook)).await, taken }
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits until `count` deliveries were taken.
    async fn wait_for(&self, count: usize) -> Vec<Taken> {
        for _ in 0..3_000 {
            let taken: Vec<_> = self.taken().into_iter().filter(|one| one.fine).collect();
            if taken.len() >= count {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let came: Vec<_> = self.taken().iter().map(|one| (one.seq, one.fine)).collect();
        panic!("only {came:?} came");
    }
}

/// How long an attempt may take: what hangs costs this much.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Far below that, and far above what a loaded machine needs.
const SOON: Duration = Duration::from_secs(30);

struct Bench {
    journal: Arc<SqliteJournal>,
    subscriptions: Subscriptions,
    tokens: Arc<Tokens>,
    sharing: Sharing,
    admin: Arc<Grant>,
}

impl Bench {
    async fn open(folder: &Path) -> Self {
        Self::open_with(folder, Options::default(), &[20, 20]).await
    }

    async fn open_with(folder: &Path, options: Options, pauses_millis: &[u64]) -> Self {
        Self::open_as(folder, options, pauses_millis, &BTreeMap::new()).await
    }

    async fn open_running(folder: &Path, commands: &BTreeMap<String, CommandConfig>) -> Self {
        Self::open_as(folder, Options::default(), &[20, 20], commands).await
    }

    async fn open_as(
        folder: &Path,
        options: Options,
        pauses_millis: &[u64],
        commands: &BTreeMap<String, CommandConfig>,
    ) -> Self {
        let none = |_: &Feed, _: &Arc<StateDb>| Sharing::default();
        Self::open_sharing(folder, options, pauses_millis, commands, none).await
    }

    async fn open_sharing(
        folder: &Path,
        options: Options,
        pauses_millis: &[u64],
        commands: &BTreeMap<String, CommandConfig>,
        sharing: impl FnOnce(&Feed, &Arc<StateDb>) -> Sharing,
    ) -> Self {
        let policy = Policy::default();
        Self::open_whole(folder, options, pauses_millis, commands, sharing, policy).await
    }

    async fn open_under(folder: &Path, policy: Policy, pauses_millis: &[u64]) -> Self {
        let none = |_: &Feed, _: &Arc<StateDb>| Sharing::default();
        let (options, commands) = (Options::default(), BTreeMap::new());
        Self::open_whole(folder, options, pauses_millis, &commands, none, policy).await
    }

    async fn open_whole(
        folder: &Path,
        options: Options,
        pauses_millis: &[u64],
        commands: &BTreeMap<String, CommandConfig>,
        sharing: impl FnOnce(&Feed, &Arc<StateDb>) -> Sharing,
        policy: Policy,
    ) -> Self {
        let journal = Arc::new(SqliteJournal::open(folder.join("journal"), options).unwrap());
        let db = Arc::new(StateDb::open(&folder.join("hub.db")).unwrap());
        let pauses: Vec<_> = pauses_millis.iter().copied().map(Duration::from_millis).collect();
        let file = Token::load_or_make(&folder.join("token")).unwrap();
        let tokens = Arc::new(Tokens::open(file, Arc::clone(&db), "h").unwrap());
        let admin = Arc::clone(tokens.admin());
        let links = Links::load_or_make(&folder.join("content.key"), "", Duration::from_secs(60));
        let links = links.unwrap();
        let feed = Feed::new(Arc::clone(&journal) as _);
        let sharing = sharing(&feed, &db);
        let subscriptions = Subscriptions::open_with(
            db,
            (Arc::clone(&tokens), sharing.clone()),
            (feed, Demands::everything(Arc::clone(&journal) as _)),
            (policy, Arc::new(links), Traces::default()),
            Store::new("imap.example.org", None).unwrap(),
            (
                WebhooksConfig {
                    reach: crate::Reach::Loopback,
                    timeout: TIMEOUT,
                    lanes: 4,
                    ..WebhooksConfig::default()
                },
                Tls::new().unwrap(),
                Arc::new(certificates::in_folder(folder)),
            ),
            commands,
            (Schedule::new(pauses.clone()), Schedule::new(pauses)),
        );
        Self { journal, subscriptions: subscriptions.await.unwrap(), tokens, sharing, admin }
    }

    /// Ends the worker and the journal, as the hub does.
    async fn close(self) {
        self.subscriptions.shutdown().await;
        self.journal.close();
    }

    fn append(&self, mailbox: &str) {
        self.append_padded(mailbox, 0);
    }

    fn append_padded(&self, mailbox: &str, octets: usize) {
        let pad = random_hex(octets);
        self.append_event(&format!(
            r#"{{"event":"FlagsSet","uri":"imap://a@h/{mailbox}","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"{}","vnd.example.pad":"{pad}"}}"#,
            self.journal.stats().records + 1
        ));
    }

    fn append_event(&self, json: &str) {
        let admitted =
            admit(&Policy::default(), "t", &Stores::any(), json.as_bytes(), None).unwrap();
        let entry = JournalEntry {
            id: RecordId(admitted.id.as_u128()),
            head: admitted.keys.to_head(),
            body: json.to_owned().into(),
        };
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        use postbell_journal::Journal as _;
        let done = Box::new(move |result| tell.send(result).unwrap_or_default());
        self.journal.append(Batch { entries: vec![entry], checkpoint: None }, done);
        told.recv().unwrap().unwrap();
    }

    async fn create(&self, name: &str, receiver: &Receiver) -> Shown {
        self.subscriptions.create(wanted(name, &receiver.url), &self.admin).await.unwrap()
    }

    fn shown(&self, name: &str) -> Shown {
        self.subscriptions.find(&self.admin, name).unwrap()
    }

    async fn wait_until(&self, name: &str, what: impl Fn(&Shown) -> bool) -> Shown {
        for _ in 0..3_000 {
            let shown = self.shown(name);
            if what(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.shown(name));
    }
}

/// Serves a hook until the runtime ends; where.
async fn served(hook: MethodRouter) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", hook);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn random_hex(octets: usize) -> String {
    let mut bytes = vec![0; octets / 2];
    fill_random(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wanted(name: &str, url: &str) -> NewSubscription {
    let (url, signature) = (url.to_owned(), Signature::V1);
    let sink = NewSink::Webhook {
        url,
        signature,
        secret: None,
        verify: None,
        batch: None,
        client_certificate: None,
    };
    NewSubscription {
        name: name.to_owned(),
        events: vec![],
        users: vec![],
        mailboxes: vec![],
        condition: None,
        parameters: vec![],
        parameters_of: None,
        tags: vec![],
        flag_forms: FlagForms::default(),
        begin: Begin::Now,
        expires: None,
        sink,
    }
}

fn ok() -> Response {
    StatusCode::OK.into_response()
}

fn busy() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// No answer at all.
fn hang() -> Response {
    (StatusCode::ACCEPTED, [(HANG, "1")]).into_response()
}

const HANG: &str = "x-hang";

fn seqs(taken: &[Taken], mailbox: &str) -> Vec<u64> {
    taken.iter().filter(|one| one.mailbox == mailbox).map(|one| one.seq).collect()
}

/// Each delivery names the one before it, and the first none.
fn assert_chain(taken: &[Taken]) {
    let mut links: Vec<_> = taken.iter().map(|one| (one.seq, one.prev_seq)).collect();
    links.sort_unstable();
    links.dedup();
    let mut before = None;
    for (seq, prev_seq) in links {
        assert_eq!(prev_seq, before, "before {seq}");
        before = Some(seq);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_mailbox_delays_only_itself_and_each_stays_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[30; 3_000]).await;
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fine = Arc::clone(&mended);
    let receiver = Receiver::start(move |mailbox, _| {
        if mailbox == "Bad" && !fine.load(Ordering::SeqCst) { busy() } else { ok() }
    })
    .await;
    bench.create("phone", &receiver).await;
    for _ in 0..20 {
        bench.append("Good");
        bench.append("Bad");
    }
    let good: Vec<u64> = (0..20).map(|at| at * 2 + 1).collect();
    assert_eq!(seqs(&receiver.wait_for(20).await, "Good"), good);
    assert_eq!(bench.shown("phone").cursor, 1, "the cursor waits for the first not done");
    assert_eq!(bench.shown("phone").last_error.as_deref(), Some("503 Service Unavailable"));
    mended.store(true, Ordering::SeqCst);
    let taken = receiver.wait_for(40).await;
    let bad: Vec<u64> = good.iter().map(|seq| seq + 1).collect();
    assert_eq!(seqs(&taken, "Bad"), bad);
    assert_chain(&taken);
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.last_delivered, shown.last_error), (40, Some(40), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_condition_is_unclear_is_counted_and_loses_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let condition = Some("10 / (int(uidset) - 3) > -10 && uidset != \"5\"".to_owned());
    let new = NewSubscription { condition: condition.clone(), ..wanted("phone", &receiver.url) };
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    for _ in 0..6 {
        bench.append("A");
    }
    let taken = receiver.wait_for(3).await;
    assert_eq!(seqs(&taken, "A"), [1, 4, 6], "2 is false, 3 unclear, 5 false");
    assert_chain(&taken);
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.unclear, shown.last_unclear.as_deref()), (1, Some("it divides by zero")));
    assert_eq!(bench.subscriptions.figures()[0].unclear, 1);
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.shown("phone").condition, condition, "it outlives a restart");
    bench.append("A");
    let taken = receiver.wait_for(4).await;
    assert_eq!((taken[3].seq, taken[3].prev_seq), (7, Some(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_asked_for_is_kept_and_each_attempt_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, before| match before {
        0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        _ => ok(),
    })
    .await;
    let made = bench.create("phone", &receiver).await;
    bench.append("INBOX");
    receiver.wait_for(1).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 2);
    let pause = taken[1].at - taken[0].at;
    assert!(pause >= Duration::from_millis(990), "{pause:?}");

    let ShownSink::Webhook { secret, .. } = made.sink else { panic!() };
    let secret = Secret::parse(&secret.unwrap()).unwrap();
    for one in &taken {
        let header = |name: &str| one.headers[name].to_str().unwrap().to_owned();
        let at = header("webhook-timestamp").parse().unwrap();
        let signature = secret.sign(&header("webhook-id"), at, &one.body);
        assert_eq!(header("webhook-signature"), signature);
    }
    let ids: Vec<_> = taken.iter().map(|one| &one.headers["webhook-id"]).collect();
    assert_eq!(ids[0], ids[1], "a repeat is recognisable");
    let ShownSink::Webhook { secret, .. } = bench.shown("phone").sink else { panic!() };
    assert_eq!(secret, None, "a secret is shown once");
}

#[tokio::test(flavor = "multi_thread")]
async fn r164_a_secret_is_replaced_while_deliveries_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let first = secret_of(bench.create("phone", &receiver).await);
    bench.append("INBOX");
    receiver.wait_for(1).await;
    // Its answer too: what is under way when the worker ends comes again.
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let rotated = bench
        .subscriptions
        .rotate(&bench.admin, "phone", Rotation::default())
        .await
        .unwrap()
        .unwrap();
    let ShownSink::Webhook { previous_until: Some(_), .. } = &rotated.sink else {
        panic!("{rotated:?}")
    };
    let second = secret_of(rotated);
    // A restart changes nothing.
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    bench.append("INBOX");
    receiver.wait_for(2).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let pair = Secret::pair([7; 32]);
    let at_once = Rotation { secret: Some(pair.reveal()), overlap_seconds: Some(0) };
    let rotated =
        bench.subscriptions.rotate(&bench.admin, "phone", at_once).await.unwrap().unwrap();
    let ShownSink::Webhook { secret: None, public_key, previous_until: None, .. } = rotated.sink
    else {
        panic!("a private key is not shown")
    };
    assert_eq!(public_key, pair.public());
    bench.append("INBOX");
    let taken = receiver.wait_for(3).await;
    for (one, secrets) in taken.iter().zip([&[&first][..], &[&second, &first], &[&pair]]) {
        let header = |name: &str| one.headers[name].to_str().unwrap().to_owned();
        let at = header("webhook-timestamp").parse().unwrap();
        let signed = secrets.iter().map(|secret| secret.sign(&header("webhook-id"), at, &one.body));
        assert_eq!(header("webhook-signature"), signed.collect::<Vec<_>>().join(" "));
    }
    let long = Rotation { overlap_seconds: Some(1 << 40), ..Rotation::default() };
    let refused = bench.subscriptions.rotate(&bench.admin, "phone", long).await.unwrap_err();
    assert_eq!(refused.to_string(), "at most 2592000 seconds");
    assert!(
        bench
            .subscriptions
            .rotate(&bench.admin, "nobody", Rotation::default())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_is_delivered_anew_and_a_backlog_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    bench.create("phone", &receiver).await;
    for _ in 0..3 {
        bench.append("INBOX");
    }
    receiver.wait_for(3).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let replay = |begin| bench.subscriptions.replay(&bench.admin, "phone", begin);
    assert_eq!(replay(Begin::Seq(2)).await.unwrap().unwrap().begin, Begin::Seq(2));
    let taken = receiver.wait_for(5).await;
    let came: Vec<_> = taken.iter().map(|one| (one.seq, one.prev_seq)).collect();
    assert_eq!(came[3..], [(2, None), (3, Some(2))], "as to one that is new");
    let ids: Vec<_> = taken.iter().map(|one| &one.headers["webhook-id"]).collect();
    assert_eq!(ids[1..3], ids[3..], "a repeat is recognisable");

    // One that is held is held from there.
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    bench.append("INBOX");
    let shown = replay(Begin::Now).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.cursor, shown.lag), (SubscriptionState::Paused, 4, 0));
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    bench.append("INBOX");
    let taken = receiver.wait_for(6).await;
    assert_eq!((taken[5].seq, taken[5].prev_seq), (5, None));
    let early =
        bench.subscriptions.replay(&bench.admin, "phone", Begin::Seq(99)).await.unwrap_err();
    assert_eq!(early.to_string(), "there is no record 99 yet; the newest is 5");
}

fn secret_of(shown: Shown) -> Secret {
    let ShownSink::Webhook { secret, .. } = shown.sink else { panic!() };
    Secret::parse(&secret.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_ends_it_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver =
        Receiver::start(
            |_, before| if before == 0 { StatusCode::GONE.into_response() } else { ok() },
        )
        .await;
    bench.create("phone", &receiver).await;
    bench.append("INBOX");
    bench.append("INBOX");
    let shown = bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
    assert_eq!(shown.detail.as_deref(), Some("the receiver answered 410 Gone"));
    assert_eq!((shown.cursor, shown.lag), (0, 2));
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.shown("phone").state, SubscriptionState::Ended);
    assert_eq!(receiver.taken().len(), 1);
    let resumed = bench.subscriptions.resume(&bench.admin, "phone").await.unwrap().unwrap();
    assert_eq!((resumed.state, resumed.detail), (SubscriptionState::Active, None));
    assert_eq!(seqs(&receiver.wait_for(2).await, "INBOX"), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_keeps_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| ok()).await;
    let mut all = 0;
    for round in 0..4 {
        let bench = Bench::open(folder.path()).await;
        if round == 0 {
            let mut new = wanted("phone", &receiver.url);
            new.mailboxes = vec!["A".to_owned(), "B".to_owned()];
            bench.subscriptions.create(new, &bench.admin).await.unwrap();
        }
        for _ in 0..5 {
            bench.append("A");
            bench.append("Other");
            bench.append("B");
        }
        all += 10;
        // Once it ends with everything delivered, once in the middle of it.
        if round % 2 == 0 {
            receiver.wait_for(all).await;
        }
        bench.close().await;
    }
    let bench = Bench::open(folder.path()).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let taken = receiver.taken();
    assert_chain(&taken);
    let mut told: Vec<_> = taken.iter().map(|one| one.seq).collect();
    told.sort_unstable();
    told.dedup();
    let wanted: Vec<u64> = (1..=60).filter(|seq| seq % 3 != 2).collect();
    assert_eq!(told, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_two_cursors_does_not_break_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| ok()).await;
    let bench = Bench::open(folder.path()).await;
    let id = bench.create("phone", &receiver).await.id;
    for _ in 0..6 {
        bench.append("A");
    }
    receiver.wait_for(6).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    bench.subscriptions.shutdown().await;
    use postbell_journal::Journal as _;
    // As if only the first of the three had reached the disk.
    bench.journal.set_cursor(&format!("{id}/told"), Some(Seq(2))).unwrap();
    bench.journal.set_cursor(&format!("{id}/known"), Some(Seq(2))).unwrap();
    bench.journal.close();
    let bench = Bench::open(folder.path()).await;
    bench.append("A");
    let taken = receiver.wait_for(7).await;
    assert_eq!((taken[6].seq, taken[6].prev_seq), (7, Some(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_while_it_is_paused_and_everything_after() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let id = bench.create("phone", &receiver).await.id;
    bench.append("A");
    receiver.wait_for(1).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let paused = bench.subscriptions.pause(&bench.admin, &id).await.unwrap().unwrap();
    assert_eq!(paused.state, SubscriptionState::Paused);
    bench.append("A");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.taken().len(), 1);
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.taken().len(), 1, "a restart doesn't wake it");
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    assert_eq!(seqs(&receiver.wait_for(2).await, "A"), [1, 2]);
    let removed = bench.subscriptions.remove(&bench.admin, "phone").await.unwrap().unwrap();
    assert_eq!(removed.id, id);
    bench.append("A");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.taken().len(), 2);
    assert_eq!(bench.subscriptions.list(&bench.admin), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_receiver_delays_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    bench.subscriptions.create(wanted("hanging", &url), &bench.admin).await.unwrap();
    let receiver = Receiver::start(|_, _| ok()).await;
    bench.create("phone", &receiver).await;
    for at in 0..200 {
        bench.append(if at % 2 == 0 { "A" } else { "B" });
    }
    receiver.wait_for(200).await;
    assert_eq!(bench.shown("hanging").cursor, 0);
    let began = Instant::now();
    bench.subscriptions.remove(&bench.admin, "hanging").await.unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_to_the_end_of_the_schedule_is_buried_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|mailbox, _| if mailbox == "Bad" { busy() } else { ok() }).await;
    bench.create("phone", &receiver).await;
    bench.append("Bad");
    bench.append("Good");
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.dead_letters, shown.attempts), (2, 1, 4));
    let letters = bench.subscriptions.dead_letters(&bench.admin, "phone", 10).unwrap().unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].seq, letters[0].attempts), (1, 3));
    assert_eq!(letters[0].reason, "503 Service Unavailable");
    assert_eq!(letters[0].event_id.len(), 26);
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.shown("phone").dead_letters, 1);
    assert!(bench.subscriptions.dead_letters(&bench.admin, "nobody", 10).unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_database_that_takes_nothing_stalls_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[300]).await;
    bench.append("Bad");
    for _ in 0..20 {
        bench.append("Good");
    }
    // The bad one is given up after a third of a second, the good ones begin after a whole.
    let receiver = Receiver::start(|mailbox, before| match (mailbox, before) {
        ("Bad", _) => busy(),
        (_, 0 | 1) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        _ => ok(),
    })
    .await;
    let new = NewSubscription { begin: Begin::Seq(1), ..wanted("phone", &receiver.url) };
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    // As good as a full disk: nothing can be written for a while.
    let other = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let taken = receiver.wait_for(20).await;
    assert_eq!(seqs(&taken, "Good"), (2..=21).collect::<Vec<_>>());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let shown = bench.wait_until("phone", |shown| shown.attempts == 23).await;
    assert_eq!((shown.cursor, shown.dead_letters), (0, 0), "what isn't kept isn't done");
    other.execute_batch("ROLLBACK").unwrap();
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.dead_letters, shown.detail), (21, 1, None));
    bench.append("Good");
    let taken = receiver.wait_for(21).await;
    assert_eq!((taken[20].seq, taken[20].prev_seq), (22, Some(21)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_but_not_kept_comes_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[]).await;
    let receiver = Receiver::start(|mailbox, _| if mailbox == "Bad" { busy() } else { ok() }).await;
    let id = bench.create("phone", &receiver).await.id;
    bench.append("Good");
    receiver.wait_for(1).await;
    let other = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    bench.append("Bad");
    bench.wait_until("phone", |shown| shown.attempts == 2).await;
    use postbell_journal::Journal as _;
    bench.subscriptions.shutdown().await;
    assert_eq!(bench.journal.cursor(&id).unwrap(), Some(Seq(1)));
    assert_eq!(bench.journal.cursor(&format!("{id}/told")).unwrap(), Some(Seq(1)));
    other.execute_batch("ROLLBACK").unwrap();
    bench.journal.close();
    let bench = Bench::open_with(folder.path(), Options::default(), &[]).await;
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.dead_letters), (2, 1));
    bench.append("Good");
    let taken = receiver.wait_for(2).await;
    assert_eq!((taken[1].seq, taken[1].prev_seq), (3, Some(2)));
}

/// A subscription that delivered ten records and hangs at the eleventh; its id.
async fn ten_done(bench: &Bench) -> (String, Receiver) {
    let receiver =
        Receiver::start(|mailbox, _| if mailbox == "Hang" { hang() } else { ok() }).await;
    for at in 1..=16 {
        bench.append(if at == 11 { "Hang" } else { "A" });
    }
    let new = NewSubscription { begin: Begin::Seq(1), ..wanted("phone", &receiver.url) };
    let id = bench.subscriptions.create(new, &bench.admin).await.unwrap().id;
    bench.wait_until("phone", |shown| shown.last_delivered == Some(16)).await;
    (id, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_shown_is_the_one_reached_while_deliveries_are_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let _hanging = ten_done(&bench).await;
    let shown = bench.wait_until("phone", |shown| shown.cursor == 10).await;
    assert_eq!(shown.lag, 6);
    let mut figures = bench.subscriptions.figures();
    assert!(figures[0].lag_seconds > 0.0, "{figures:?}");
    figures[0].lag_seconds = 0.0;
    let told = SubscriptionFigures {
        name: "phone".to_owned(),
        matched: 16,
        accepted: 15,
        lag: 6,
        next: 11,
        ..SubscriptionFigures::default()
    };
    assert_eq!(figures, [told]);
    bench.append("A");
    assert_eq!(bench.subscriptions.figures()[0].lag, 7, "also while it is stuck");
    bench.subscriptions.remove(&bench.admin, "phone").await.unwrap();
    assert_eq!((bench.subscriptions.figures(), bench.subscriptions.count()), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_in_the_middle_of_deliveries_keeps_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (id, receiver) = ten_done(&bench).await;
    bench.close().await;
    receiver.taken.lock().unwrap().clear();
    use postbell_journal::Journal as _;
    let journal = SqliteJournal::open(folder.path().join("journal"), Options::default()).unwrap();
    assert_eq!(journal.cursor(&id).unwrap(), Some(Seq(10)));
    journal.close();
    drop(journal);
    let bench = Bench::open(folder.path()).await;
    assert_eq!(seqs(&receiver.wait_for(6).await, "A"), [12, 13, 14, 15, 16]);
    bench.subscriptions.remove(&bench.admin, "phone").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_nobody_can_stop_any_more_keeps_the_cursor_as_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (id, _receiver) = ten_done(&bench).await;
    let entry = bench.subscriptions.entry(&bench.admin, "phone").unwrap();
    let Running { stop, task } = locked(&entry.running).take().unwrap();
    drop(stop);
    task.await.unwrap();
    use postbell_journal::Journal as _;
    assert_eq!(bench.journal.cursor(&id).unwrap(), Some(Seq(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_whose_receivers_are_away_stop_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[60_000]).await;
    // One has nothing to deliver, and its receiver has gone.
    let receiver = Receiver::start(|_, _| ok()).await;
    bench.create("idle", &receiver).await;
    bench.append("A");
    receiver.wait_for(1).await;
    bench.wait_until("idle", |shown| shown.lag == 0).await;
    // One is refused a connection, and waits for its next attempt.
    bench
        .subscriptions
        .create(wanted("refused", "http://127.0.0.1:1/"), &bench.admin)
        .await
        .unwrap();
    // One waits for a connection: nobody takes what queues up, and then there is no more room.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    let soon = Duration::from_millis(50);
    while let Ok(one) = tokio::time::timeout(soon, tokio::net::TcpStream::connect(address)).await {
        queued.push(one.unwrap());
    }
    let url = format!("http://{address}/");
    bench.subscriptions.create(wanted("connecting", &url), &bench.admin).await.unwrap();
    bench.append("A");
    bench.wait_until("refused", |shown| shown.attempts == 1).await;
    tokio::time::sleep(soon).await;
    let began = Instant::now();
    bench.close().await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// As [`wanted`], of one user's mailboxes.
fn wanted_of(user: &str, name: &str, url: &str) -> NewSubscription {
    NewSubscription { users: vec![user.to_owned()], ..wanted(name, url) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nothing_concerns_gets_on_and_is_not_written_for_each_record() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let others = wanted_of("nobody", "others", &receiver.url);
    let id = bench.subscriptions.create(others, &bench.admin).await.unwrap().id;
    bench.create("all", &receiver).await;
    for _ in 0..20 {
        bench.append("A");
    }
    receiver.wait_for(20).await;
    let shown = bench.wait_until("others", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.attempts, shown.last_delivered), (20, 0, None));
    let journal = Arc::clone(&bench.journal);
    use postbell_journal::Journal as _;
    assert_eq!(journal.cursor(&id).unwrap(), None, "nothing was delivered");
    bench.subscriptions.shutdown().await;
    assert_eq!(journal.cursor(&id).unwrap(), Some(Seq(20)), "who stops says where");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_and_go_while_events_flow_miss_nothing() {
    const EVENTS: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let bench = Arc::new(Bench::open(folder.path()).await);
    let receivers = [Receiver::start(|_, _| ok()).await, Receiver::start(|_, _| ok()).await];
    bench.create("steady", &receivers[0]).await;
    bench.create("moved", &receivers[1]).await;
    let writer = {
        let bench = Arc::clone(&bench);
        tokio::task::spawn_blocking(move || (0..EVENTS).for_each(|_| bench.append("A")))
    };
    for round in 0..10 {
        bench.subscriptions.pause(&bench.admin, "moved").await.unwrap();
        let other = wanted("other", &receivers[1].url);
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        bench.subscriptions.create(other, &bench.admin).await.unwrap();
        bench.subscriptions.resume(&bench.admin, "moved").await.unwrap();
        bench.subscriptions.remove(&bench.admin, "other").await.unwrap();
    }
    writer.await.unwrap();
    for name in ["steady", "moved"] {
        let shown = bench.wait_until(name, |shown| shown.lag == 0).await;
        assert_eq!(shown.last_delivered, Some(EVENTS), "{name}");
    }
    let steady: Vec<_> = receivers[0].taken().iter().map(|one| (one.seq, one.prev_seq)).collect();
    let chain = (1..=EVENTS).map(|seq| (seq, Some(seq - 1).filter(|before| *before > 0)));
    assert!(steady.into_iter().eq(chain), "each once, in order, and none held up");
    let moved: std::collections::BTreeSet<_> =
        receivers[1].taken().iter().map(|one| one.seq).collect();
    assert!(moved.into_iter().eq(1..=EVENTS));
    Arc::try_unwrap(bench).ok().unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_its_receiver_has_closed_is_closed_soon_though_nothing_is_delivered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    bench.subscriptions.create(wanted("phone", &url), &bench.admin).await.unwrap();
    bench.append("A");
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 64 * 1024];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    stream.shutdown().await.unwrap();
    let closed = tokio::time::timeout(worker::SWEEP * 2, stream.read(&mut request)).await;
    assert_eq!(closed.unwrap().unwrap(), 0);
}

// On one thread, so that what its tasks log is heard.
#[tokio::test]
async fn a_person_is_warned_of_a_receiver_that_wants_nothing_any_more() {
    // Heard on all threads; the others' subscriptions have other names.
    let logged = postbell_testkit::Logged::listen();
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| StatusCode::GONE.into_response()).await;
    bench.create("weary", &receiver).await;
    bench.append("A");
    bench.wait_until("weary", |shown| shown.state == SubscriptionState::Ended).await;
    let warnings = logged.warnings();
    assert!(warnings.iter().any(|text| text.contains("weary")), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_told_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_octets: 64 * 1024,
        retention: Retention { age: None, octets: Some(256 * 1024) },
        housekeeping: Duration::from_millis(20),
        ..Options::default()
    };
    let bench = Bench::open_with(folder.path(), options, &[]).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    bench.create("phone", &receiver).await;
    bench.append("A");
    receiver.wait_for(1).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    for _ in 0..60 {
        bench.append_padded("A", 32 * 1024);
    }
    use postbell_journal::Journal as _;
    for _ in 0..3_000 {
        if bench.journal.bounds().first.0 > 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bench.journal.bounds().first.0 > 2, "retention took nothing");
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let mut taken = receiver.taken();
    assert_chain(&taken);
    taken.sort_by_key(|one| one.seq);
    // Retention may have gone on since, and then there is more than one gap; but every number is
    // either delivered or told to be missing.
    let mut next = 2;
    let mut gaps = 0;
    for one in &taken[1..] {
        let body: Value = serde_json::from_slice(&one.body).unwrap();
        if body["type"] == "org.ietf.rfc5423.vnd.postbell.Gap" {
            gaps += 1;
            assert_eq!(body["data"]["vnd.postbell.gapFrom"], next);
            assert_eq!(body["data"]["vnd.postbell.gapTo"], one.seq);
        } else {
            assert_eq!(one.seq, next);
        }
        next = one.seq + 1;
    }
    assert!(gaps > 0 && next == 62, "{gaps} gaps, and {next} comes next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_where_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    for _ in 0..5 {
        bench.append("A");
    }
    for (name, begin, first) in [
        ("oldest", Begin::Seq(0), 1),
        ("third", Begin::Seq(3), 3),
        ("time", Begin::Time("2020-01-01T00:00:00Z".to_owned()), 1),
        ("next", Begin::Seq(6), 6),
        ("now", Begin::Now, 6),
    ] {
        let receiver = Receiver::start(|_, _| ok()).await;
        let new = NewSubscription { begin, ..wanted(name, &receiver.url) };
        bench.subscriptions.create(new, &bench.admin).await.unwrap();
        if first == 6 {
            assert_eq!(bench.shown(name).cursor, 5);
        } else {
            let taken = receiver.wait_for(6 - first).await;
            assert_eq!(seqs(&taken, "A")[0], u64::try_from(first).unwrap(), "{name}");
            assert_eq!(taken[0].prev_seq, None, "{name}");
        }
    }
}

fn by_event(event: &str, list: &[&str]) -> Option<ParametersOf> {
    let list = list.iter().map(|&name| name.to_owned()).collect();
    Some([(event.to_owned(), list)].into_iter().collect())
}

#[test]
fn r42_a_row_from_before_lists_by_event_is_read_and_with_one_the_entity_tag_is_another() {
    let before = r#"{"selection":{"events":[],"users":[],"mailboxes":[],"parameters":["uri"],"tags":[]},"begin":"now","start":0,"url":"https://example.org/","secret":"whsec_x","state":"active","created":""}"#;
    let mut kept: Kept = serde_json::from_str(before).unwrap();
    assert_eq!((kept.selection.parameters_of.as_ref(), kept.body().as_str()), (None, before));
    let mut tags = vec![kept.etag("sub_1")];
    for list in [&["uri"][..], &[]] {
        kept.selection.parameters_of = by_event("MessageNew", list);
        assert_eq!(serde_json::from_str::<Kept>(&kept.body()).unwrap(), kept);
        tags.push(kept.etag("sub_1"));
    }
    tags.dedup();
    assert_eq!(tags.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_subscription_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let fine = || wanted("phone", "https://example.org/hook");
    let secret = || Some("hunter2".to_owned());
    let cases = [
        ("/name", NewSubscription { name: "a b".to_owned(), ..fine() }),
        ("/name", NewSubscription { name: "sub_x".to_owned(), ..fine() }),
        ("/name", NewSubscription { name: "..".to_owned(), ..fine() }),
        ("/events/0", NewSubscription { events: vec!["MessageGnu".to_owned()], ..fine() }),
        ("/where", NewSubscription { condition: Some("size > 5".to_owned()), ..fine() }),
        ("/tags/0", NewSubscription { tags: vec!["a,b".to_owned()], ..fine() }),
        ("/parameters/0", NewSubscription { parameters: vec!["envelope".to_owned()], ..fine() }),
        (
            "/parametersOf/MessageNew/1",
            NewSubscription { parameters_of: by_event("MessageNew", &["*", "envelope"]), ..fine() },
        ),
        (
            "/parametersOf/FlagsSet",
            NewSubscription {
                events: vec!["message".to_owned()],
                parameters_of: by_event("FlagsSet", &["uri"]),
                ..fine()
            },
        ),
        ("/begin/seq", NewSubscription { begin: Begin::Seq(7), ..fine() }),
        ("/begin/time", NewSubscription { begin: Begin::Time("soon".to_owned()), ..fine() }),
        ("/sink/url", wanted("phone", "https://10.0.0.1/")),
        ("/sink/url", wanted("phone", "gopher://example.org/")),
        (
            "/sink/secret",
            NewSubscription {
                sink: NewSink::Webhook {
                    url: "https://example.org/".to_owned(),
                    signature: Signature::V1,
                    secret: secret(),
                    verify: None,
                    batch: None,
                    client_certificate: None,
                },
                ..fine()
            },
        ),
    ];
    let mut told = String::new();
    for (wanted, new) in cases {
        match bench.subscriptions.create(new, &bench.admin).await {
            Err(CreateError::Invalid { pointer, message }) => {
                assert_eq!(pointer, wanted, "{message}");
                told.push_str(&format!("{pointer}: {message}\n"));
            }
            other => panic!("{wanted}: {other:?}"),
        }
    }
    insta::assert_snapshot!(told);
    bench.subscriptions.create(fine(), &bench.admin).await.unwrap();
    let again = bench.subscriptions.create(fine(), &bench.admin).await;
    assert!(matches!(again, Err(CreateError::NameTaken(name)) if name == "phone"));
}

#[test]
fn a_subscription_is_written_as_the_page_says() {
    let text =
        r#"{"name":"phone","begin":{"seq":17},"sink":{"kind":"webhook","url":"https://x/"}}"#;
    let new: NewSubscription = serde_json::from_str(text).unwrap();
    assert_eq!(new.begin, Begin::Seq(17));
    for bad in [
        r#"{"name":"phone","begins":"now","sink":{"kind":"webhook","url":"https://x/"}}"#,
        r#"{"name":"phone","sink":{"kind":"webhook","url":"https://x/","token":"x"}}"#,
        r#"{"name":"phone","sink":{"kind":"carrier pigeon"}}"#,
        r#"{"name":"phone","begin":"later","sink":{"kind":"webhook","url":"https://x/"}}"#,
    ] {
        assert!(serde_json::from_str::<NewSubscription>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_kept_secret_prints_as_dots() {
    let kept = Kept {
        selection: Selection::default(),
        begin: Begin::Now,
        start: 0,
        begun_anew: 0,
        losses: 0,
        url: "https://example.org/t0ken".to_owned(),
        secret: "whsec_t0ken".to_owned(),
        previous: None,
        state: SubscriptionState::Active,
        detail: None,
        created: String::new(),
        owner: None,
        expires_unix_millis: None,
        handshake: None,
        batch: None,
        client_certificate: None,
        failing_since_unix_millis: None,
        command: None,
    };
    assert!(!format!("{kept:?}").contains("t0ken"));
    let secret = Some("whsec_t0ken".to_owned());
    assert!(!format!("{:?}", Rotation { secret, ..Rotation::default() }).contains("t0ken"));
    assert!(kept.body().contains("t0ken"));
}

impl Bench {
    /// A user's token, and its id.
    fn user(&self, name: &str, user: &str) -> (Arc<Grant>, String) {
        let new: NewToken = serde_json::from_value(
            serde_json::json!({ "name": name, "role": "user", "users": [user] }),
        )
        .unwrap();
        let id = self.tokens.create(new).unwrap().id;
        (self.tokens.grant(&id).unwrap(), id)
    }

    async fn make(&self, name: &str, receiver: &Receiver, grant: &Grant) -> Shown {
        self.subscriptions.create(wanted(name, &receiver.url), grant).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_users_subscription_delivers_their_own_until_their_token_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (mine, others) = (Receiver::start(|_, _| ok()).await, Receiver::start(|_, _| ok()).await);
    let (owner, token) = bench.user("a1", "a");
    let (stranger, _) = bench.user("b1", "b");
    let id = bench.make("phone", &mine, &owner).await.id;
    // Names of others' can't be told from those that are free.
    let other = bench.make("phone", &others, &stranger).await.id;
    bench.append("INBOX");
    mine.wait_for(1).await;
    // Its answer too: what is under way when the token ends comes again.
    bench.wait_until(&id, |shown| shown.cursor == 1).await;

    let all = &bench.subscriptions;
    assert_eq!(all.list(&owner).len(), 1);
    assert_eq!(all.list(&bench.admin).len(), 2);
    assert_eq!(all.find(&stranger, &id), None);
    assert_eq!(all.pause(&stranger, &id).await.unwrap(), None);
    assert_eq!(all.remove(&stranger, &id).await.unwrap(), None);
    assert_eq!(all.find(&stranger, "phone").unwrap().id, other);

    bench.tokens.revoke(&token).unwrap();
    bench.append("INBOX");
    let ended = bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
    assert!(ended.detail.unwrap().contains("token"), "{:?}", ended.state);
    bench.append("INBOX");
    // Whoever runs the hub lends no token, and the user has another one.
    all.resume(&bench.admin, &id).await.unwrap();
    assert!(all.find(&bench.admin, &id).unwrap().detail.is_some());
    assert_eq!(mine.taken().len(), 1);
    let (again, _) = bench.user("a2", "a");
    all.resume(&again, &id).await.unwrap();
    assert_eq!(seqs(&mine.wait_for(3).await, "INBOX"), [1, 2, 3]);
    assert_eq!(others.taken().len(), 0);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_is_under_way_or_to_be_tried_again_is_dropped_with_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|mailbox, _| match mailbox {
        "Slow" => hang(),
        _ => busy(),
    });
    let receiver = receiver.await;
    let (owner, token) = bench.user("a1", "a");
    let id = bench.make("phone", &receiver, &owner).await.id;
    bench.append("Slow");
    bench.append("Failing");
    while receiver.taken().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    bench.tokens.revoke(&token).unwrap();
    bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
    assert!(begun.elapsed() < SOON);
    let count = receiver.taken().len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(receiver.taken().len(), count);
    bench.close().await;
}
