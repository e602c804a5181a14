//! The way of events, as a collector is told of it: a real one listens, and takes OTLP.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use postbell_hub::{CommandConfig, Config, Reach, SourceConfig};
use postbell_sources::publish::frame;
use postbell_testkit::{Nobody, Receiver};
use prost::Message as _;
use serde_json::json;

use crate::policy::{message, until};
use crate::socket::{answer, connect};
use crate::source::{deliver, maildir, state};
use crate::world::{World, login};

/// A span as it was told.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    /// Traces it is linked with.
    links: Vec<Vec<u8>>,
    begun: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    status: i32,
}

impl Span {
    fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// A collector that takes everything, and keeps it.
#[derive(Clone)]
struct Collector {
    url: String,
    posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    async fn start() -> Self {
        let posts = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&posts);
        let take = move |headers: HeaderMap, body: Bytes| {
            kept.lock().unwrap().push((headers, body));
            async { StatusCode::OK }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, posts }
    }

    /// A hub that tells it everything.
    async fn world(&self, change: impl FnOnce(&mut Config)) -> World {
        World::start_with(|config| {
            config.webhooks.reach = Reach::Loopback;
            config.traces.endpoint = self.url.clone();
            change(config);
        })
        .await
    }

    fn spans(&self) -> Vec<Span> {
        let posts = self.posts.lock().unwrap();
        let requests = posts.iter().map(|(_, body)| {
            ExportTraceServiceRequest::decode(body.clone()).expect("OTLP as protobuf")
        });
        let scopes = requests.flat_map(|one| one.resource_spans).flat_map(|one| one.scope_spans);
        let spans = scopes.flat_map(|one| one.spans).map(|span| Span {
            name: span.name,
            trace: span.trace_id,
            id: span.span_id,
            parent: span.parent_span_id,
            links: span.links.into_iter().map(|link| link.trace_id).collect(),
            begun: span.start_time_unix_nano,
            ended: span.end_time_unix_nano,
            attributes: attributes(span.attributes),
            status: span.status.map_or(0, |status| status.code),
        });
        spans.collect()
    }

    /// Waits for so many spans of this name.
    fn wait_for(&self, name: &str, count: usize) -> Vec<Span> {
        let named = || {
            let mut spans = self.spans();
            spans.retain(|span| span.name == name);
            spans
        };
        until(name, || named().len() >= count);
        named()
    }
}

fn attributes(all: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |one: KeyValue| match one.value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => (one.key, text),
        Some(Any::IntValue(number)) => (one.key, number.to_string()),
        other => panic!("{}: {other:?}", one.key),
    };
    all.into_iter().map(text).collect()
}

/// Subscribes a receiver to everything.
fn subscribe(world: &World, url: &str, batch: bool) -> String {
    let mut sink = json!({"kind": "webhook", "url": url});
    if batch {
        sink["batch"] = json!({"maxEvents": 10});
    }
    let body = json!({"name": "phone", "sink": sink}).to_string();
    let made = world.ask("POST", "/v1/subscriptions", &[JSON], body.as_bytes());
    assert_eq!(made.status, 201, "{}", made.body);
    made.json()["id"].as_str().unwrap().to_owned()
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What `/metrics` says of a counter.
fn counted(world: &World, name: &str) -> u64 {
    let text = world.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_and_the_attempts_to_deliver_it_are_one_trace() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().unwrap());
    let world = collector.world(|_| {}).await;
    let id = subscribe(&world, &receiver.url(), false);
    receiver.refuse_one_after(0);
    assert_eq!(world.publish("application/json", &login(1)).json()["accepted"], 1);
    let attempts = collector.wait_for("deliver", 2);
    let spans = collector.spans();
    let only = |name: &str| {
        let mut named = spans.iter().filter(|span| span.name == name);
        let only = named.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(named.next().is_none(), "{name} twice");
        only.clone()
    };
    let (whole, admit, journal) = (only("publish"), only("admit"), only("journal"));
    assert!(whole.parent.is_empty());
    for part in [&admit, &journal, &attempts[0], &attempts[1]] {
        assert_eq!((&part.trace, &part.parent), (&whole.trace, &whole.id), "{part:?}");
        assert!(part.begun <= part.ended, "{part:?}");
    }
    // In the order of an event's way.
    assert!(whole.begun <= admit.begun && admit.ended <= journal.begun);
    assert!(journal.begun <= attempts[0].begun && attempts[0].ended <= attempts[1].begun);
    assert!(admit.ended <= whole.ended && journal.ended <= whole.ended);
    assert_eq!(
        whole.attributes,
        told(&[
            ("postbell.accepted", "1"),
            ("postbell.door", "http"),
            ("postbell.events", "1"),
            ("postbell.rejected", "0"),
            ("postbell.repeated", "0"),
        ])
    );
    let seqs = told(&[("postbell.seq.first", "1"), ("postbell.seq.last", "1")]);
    assert_eq!(journal.attributes, seqs);
    for (attempt, number, outcome, status) in
        [(&attempts[0], "1", "failed", 2), (&attempts[1], "2", "accepted", 0)]
    {
        assert_eq!(
            attempt.attributes,
            told(&[
                ("postbell.attempt", number),
                ("postbell.event", "Login"),
                ("postbell.events", "1"),
                ("postbell.outcome", outcome),
                ("postbell.seq", "1"),
                ("postbell.sink", "webhook"),
                ("postbell.subscription.id", &id),
            ])
        );
        assert_eq!(attempt.status, status);
    }
    until("the counter", || counted(&world, "postbell_spans_told_total") >= 5);
    assert_eq!(counted(&world, "postbell_spans_lost_total"), 0);
    world.stop().await;
}

fn told(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publishers_trace_goes_on_to_the_delivery_and_is_told_as_it_says() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().unwrap());
    // Nothing but what publishers ask for.
    let world = collector.world(|config| config.traces.share = 0.0).await;
    subscribe(&world, &receiver.url(), false);
    let publish = |number, headers: &[(&str, &str)]| {
        let headers = [&[JSON], headers].concat();
        let answer = world.ask("POST", "/v1/events", &headers, login(number).as_bytes());
        assert_eq!(answer.json()["accepted"], 1);
    };
    publish(1, &[]);
    publish(2, &[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]);
    publish(
        3,
        &[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "vendor=opaque"),
        ],
    );
    let attempts = collector.wait_for("deliver", 1);
    until("all deliveries", || receiver.taken().len() == 3);
    world.stop().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 4, "{spans:?}");
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(spans.iter().all(|span| span.trace == trace), "{spans:?}");
    let whole = spans.iter().find(|span| span.name == "publish").unwrap();
    assert_eq!(whole.parent, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((attempts[0].says("postbell.seq"), &attempts[0].parent), ("3", &whole.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_attempt_linked_with_the_traces_of_all_its_events() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().unwrap());
    let world = collector.world(|_| {}).await;
    subscribe(&world, &receiver.url(), true);
    let paused = world.ask("POST", "/v1/subscriptions/phone/pause", &[JSON], b"");
    assert_eq!(paused.status, 200, "{}", paused.body);
    (1..=3).for_each(|number| world.accept([number]));
    let resumed = world.ask("POST", "/v1/subscriptions/phone/resume", &[JSON], b"");
    assert_eq!(resumed.status, 200, "{}", resumed.body);
    until("the deliveries", || counted(&world, LAG) == 0);
    world.stop().await;
    let traces: Vec<_> =
        collector.wait_for("publish", 3).into_iter().map(|span| span.trace).collect();
    let attempts = collector.wait_for("deliver", 1);
    // However many of them went together, each belongs to one attempt.
    let joined =
        attempts.iter().flat_map(|one| [std::slice::from_ref(&one.trace), &*one.links].concat());
    assert_eq!(joined.collect::<Vec<_>>(), traces);
    let events = attempts.iter().map(|one| one.says("postbell.events").parse::<usize>().unwrap());
    assert_eq!(events.sum::<usize>(), 3);
}

const LAG: &str = "postbell_subscription_lag_records{subscription=\"phone\"}";

/// Whatever stands in an event, or leads to where it is sent, is in no octet of what a collector gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_private_is_in_any_octet_that_is_told() {
    let (collector, receiver) = (Collector::start().await, Receiver::start().unwrap());
    let mail = tempfile::tempdir().unwrap();
    let (root, headers) = (mail.path().join("Maildir"), mail.path().join("headers"));
    maildir(&root);
    std::fs::write(&headers, "Authorization: Bearer collectors-key\n").unwrap();
    restrict(&headers);
    let world = collector
        .world(|config| {
            config.policy.content_max_octets = Some(5_000);
            config.policy.envelope = true;
            config.traces.headers_file = headers;
            let source = SourceConfig {
                root,
                user: "owner@example.org".to_owned(),
                ..SourceConfig::default()
            };
            config.sources.insert("mail".to_owned(), source);
            let run = ["sh", "-c", "echo said-by-the-program >&2; exit 3"].map(str::to_owned);
            let command = CommandConfig { run: run.to_vec(), ..CommandConfig::default() };
            config.commands.insert("index".to_owned(), command);
        })
        .await;
    state(&world, "running").await;
    subscribe(&world, &format!("{}?key=receivers-key", receiver.url()), false);
    deliver(&mail.path().join("Maildir"), "1.1.host");
    let made_up = login(7).replace("\"Login\"", "\"vnd.example.JohnsSecret\"");
    let private = message(100).replace("x\"", " Subject: of-the-message\"");
    let named = r#"{"event":"MailboxRename","uri":"imap://john@mail.example.org/of-the-mailbox;UIDVALIDITY=7","timestamp":"2026-08-20T12:00:00+00:00","mailboxID":"imap://john@mail.example.org/of-the-mailbox;UIDVALIDITY=7","oldMailboxID":"imap://john@mail.example.org/before","user":"john"}"#;
    let lines = [made_up.as_str(), &private, named, r#"{"event":"of-no-event"}"#].join("\n");
    let answer_to_all = world.publish("application/x-ndjson", &lines);
    assert_eq!(answer_to_all.json()["accepted"], 3, "{}", answer_to_all.body);
    assert_eq!(world.publish("application/json", r#"{"event":"of-no-event"}"#).status, 422);
    let mut stream = connect(&world);
    let mut frames = Vec::new();
    frame(&mut frames, login(8).as_bytes());
    stream.write_all(&frames).unwrap();
    let taken = answer(&mut stream);
    assert!(taken.starts_with("Accepted("), "{taken}");
    // The program is tried again and again.
    let attempts_of = |sink: &str| {
        let mut spans = collector.spans();
        spans.retain(|one| one.says("postbell.sink") == sink);
        spans
    };
    collector.wait_for("normalise", 1);
    until("all deliveries", || attempts_of("webhook").len() >= 5);
    until("a run", || !attempts_of("command").is_empty());
    let attempts = attempts_of("webhook");
    assert!(attempts.iter().any(|one| one.says("postbell.event") == "other"), "{attempts:?}");
    let data = world.data();
    let token = world.token.clone();
    world.stop().await;
    let posts = collector.posts.lock().unwrap().clone();
    assert!(!posts.is_empty());
    let data = data.to_string_lossy();
    for private in [
        "john",
        "owner",
        "user7",
        "user8",
        "of-the-",
        "of-no-event",
        "JohnsSecret",
        "INBOX",
        "imap",
        "example",
        "192.0.2.7",
        "hello",
        "Hello",
        "Maildir",
        "/hook",
        "receivers-key",
        "127.0.0.1",
        "collectors-key",
        "said-by",
        "Bearer",
        &token,
        &*data,
    ] {
        for (_, body) in &posts {
            let found = body.windows(private.len()).any(|octets| octets == private.as_bytes());
            assert!(!found, "{private:?} in {:?}", String::from_utf8_lossy(body));
        }
    }
    // It is not that nothing came: the key is where it belongs.
    assert!(posts.iter().all(|(headers, _)| headers["authorization"] == "Bearer collectors-key"));
}

fn restrict(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_costs_a_counter_and_nothing_else() {
    let receiver = Receiver::start().unwrap();
    let gone = Nobody::listens().unwrap();
    let world = World::start_with(|config| {
        config.webhooks.reach = Reach::Loopback;
        config.traces.endpoint = format!("http://{}/v1/traces", gone.address());
    })
    .await;
    subscribe(&world, &receiver.url(), false);
    world.accept(1..=10);
    until("the deliveries", || receiver.taken().len() == 10);
    // Three of the way in, and one for each delivery.
    until("the loss", || counted(&world, "postbell_spans_lost_total") >= 13);
    assert_eq!(counted(&world, "postbell_spans_told_total"), 0);
    world.accept(11..=20);
    until("the deliveries", || receiver.taken().len() == 20);
    world.stop().await;
}
