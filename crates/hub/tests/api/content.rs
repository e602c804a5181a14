//! Content that is too large for its event, by its link.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use postbell_hub::Reach;
use postbell_testkit::Receiver;
use serde_json::Value;

use crate::policy::{message, until};
use crate::source::{maildir, of_maildir, state};
use crate::world::{Answer, World, next};

/// The path of the link in an event.
fn link(world: &World, event: &Value) -> String {
    let url = event["vnd.postbell.contentUrl"].as_str().unwrap_or_else(|| panic!("{event}"));
    let base = format!("http://{}", world.address());
    url.strip_prefix(&base).unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// What a link with something wrong is answered with: the same, whatever it is.
fn assert_nothing(answer: &Answer) {
    assert_eq!(answer.status, 404, "{}", answer.body);
    let wanted = r#""detail":"no such content"}"#;
    assert!(answer.body.ends_with(wanted), "{}", answer.body);
}

const CONTENT: &str = "&parameters=*,messageContent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r44_r45_content_goes_inline_up_to_2048_octets_and_above_that_by_a_link() {
    let world = World::start_with(|config| {
        config.policy.content_max_octets = Some(5_000);
        config.policy.user.content_max_octets = Some(4_000);
    })
    .await;
    let lines = [2_047, 2_048, 2_049, 4_000, 4_001].map(message).join("\n");
    assert_eq!(world.publish("application/x-ndjson", &lines).json()["accepted"], 5);
    let (john, jane) = (world.user("john"), world.user("jane"));
    let told = world.seen_by(&john, CONTENT);
    for (event, octets) in told.iter().zip([2_047, 2_048]) {
        assert_eq!(event["messageContent"].as_str().map(str::len), Some(octets));
        assert!(
            event["vnd.postbell.contentUrl"].is_null()
                && event["vnd.postbell.suppressed"].is_null()
        );
    }
    for (event, octets) in told[2..4].iter().zip([2_049, 4_000]) {
        assert!(event["messageContent"].is_null());
        assert_eq!(event["vnd.postbell.suppressed"]["messageContent"], "size");
        let path = link(&world, event);
        let found = world.as_one(&john, "GET", &path, "");
        assert_eq!(found.header("content-type"), Some("message/rfc822"));
        assert_eq!((found.status, found.body), (200, "x".repeat(octets)));
        // Of another owner, of nobody, changed, and of a link there never was.
        assert_nothing(&world.as_one(&jane, "GET", &path, ""));
        assert_nothing(&world.ask("GET", &path, &[], b""));
        assert_nothing(&world.ask_plainly("GET", &path, &[], b""));
        // One letter of the record's number.
        let at = "/v1/content/".len() + 12;
        let other = |letter| if letter == 'A' { 'B' } else { 'A' };
        let letters = path.chars().enumerate();
        let changed: String = letters
            .map(|(place, letter)| if place == at { other(letter) } else { letter })
            .collect();
        assert_nothing(&world.as_one(&john, "GET", &changed, ""));
        assert_nothing(&world.as_one(&john, "GET", "/v1/content/x", ""));
    }
    // What is too large for a role altogether has no link for it either.
    assert_eq!(told[4]["vnd.postbell.suppressed"]["messageContent"], "size");
    assert!(told[4]["vnd.postbell.contentUrl"].is_null());
    // Nobody who didn't ask for content gets a link to it.
    let plain = serde_json::to_string(&world.seen_by(&john, "")).unwrap();
    assert!(!plain.contains("/v1/content/"), "{plain}");
    // A token that is revoked takes its links with it.
    let path = link(&world, &told[2]);
    assert_eq!(world.ask("DELETE", "/v1/tokens/john", &[], b"").status, 204);
    assert_nothing(&world.as_one(&john, "GET", &path, ""));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_a_webhooks_link_opens_by_itself_until_its_subscription_or_its_time_is_over() {
    let receiver = Receiver::start().unwrap();
    let world = World::start_with(|config| {
        config.policy.content_max_octets = Some(5_000);
        config.policy.content_link_lifetime = Duration::from_secs(1_000);
        config.webhooks.reach = Reach::Loopback;
    })
    .await;
    let token = world.user("john");
    let body = serde_json::json!({
        "name": "phone",
        "parameters": ["*", "messageContent"],
        "sink": {"kind": "webhook", "url": receiver.url()},
    });
    let made = world.as_one(&token, "POST", "/v1/subscriptions", &body.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(world.publish("application/json", &message(3_000)).status, 200);
    until("the delivery", || receiver.taken().len() == 1);
    let delivered: Value = serde_json::from_str(&receiver.taken()[0].body).unwrap();
    let path = link(&world, &delivered["data"]);
    let found = world.ask_plainly("GET", &path, &[], b"");
    assert_eq!((found.status, found.body), (200, "x".repeat(3_000)));
    assert_eq!(world.as_one(&token, "DELETE", "/v1/subscriptions/phone", "").status, 204);
    assert_nothing(&world.ask_plainly("GET", &path, &[], b""));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_a_link_expires() {
    let world = World::start_with(|config| {
        config.policy.content_max_octets = Some(5_000);
        config.policy.content_link_lifetime = Duration::from_secs(1);
    })
    .await;
    assert_eq!(world.publish("application/json", &message(3_000)).status, 200);
    let token = world.user("john");
    let path = link(&world, &world.seen_by(&token, CONTENT)[0]);
    until("the end", || world.as_one(&token, "GET", &path, "").status == 404);
    assert_nothing(&world.as_one(&token, "GET", &path, ""));
    world.stop().await;
}

/// A hub with one content that is larger than what the system takes for a client that doesn't read.
async fn with_large_content(stall: Duration) -> (World, usize) {
    const OCTETS: usize = 6_000_000;
    let world = World::start_with(|config| {
        config.http.max_body = 16_000_000;
        config.http.stall_timeout = stall;
        config.policy.content_max_octets = Some(OCTETS as u64);
        config.policy.user.content_max_octets = Some(OCTETS as u64);
        config.policy.service.content_max_octets = Some(OCTETS as u64);
    })
    .await;
    assert_eq!(world.publish("application/json", &message(OCTETS)).status, 200);
    (world, OCTETS)
}

/// Asks for a content and reads no more than the first line of the answer.
fn unread(world: &World, token: &str, path: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::with_capacity(64, stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    (reader, line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_who_asks_for_one_content_a_thousand_times_holds_few_and_keeps_nobody_waiting() {
    let (world, octets) = with_large_content(Duration::from_secs(300)).await;
    let greedy = world.user("john");
    let modest = world.token(&serde_json::json!({
        "name": "archive", "role": "service", "scope": ["read"], "users": ["john"],
    }));
    let path = link(&world, &world.seen_by(&greedy, CONTENT)[0]);
    let mut open = Vec::new();
    let refused = (0..100).find_map(|_| {
        let (reader, line) = unread(&world, &greedy, &path);
        open.push(reader);
        (!line.contains("200")).then_some(line)
    });
    let refused = refused.expect("there is a limit");
    assert!(refused.contains("429") && open.len() >= 4, "{refused} after {}", open.len());
    let answer = world.as_one(&greedy, "GET", &path, "");
    assert_eq!(answer.json()["type"], "urn:postbell:problem:too-many-fetches");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let path = link(&world, &world.seen_by(&modest, CONTENT)[0]);
    let whole = world.as_one(&modest, "GET", &path, "");
    assert_eq!((whole.status, whole.body.len()), (200, octets));
    // Who goes away gives their place back.
    drop(open);
    let path = link(&world, &world.seen_by(&greedy, CONTENT)[0]);
    until("a place", || world.as_one(&greedy, "GET", &path, "").status == 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_a_client_that_takes_nothing_of_a_content_is_cut_off_and_its_place_is_free() {
    let (world, _) = with_large_content(Duration::from_secs(1)).await;
    let token = world.user("john");
    let path = link(&world, &world.seen_by(&token, CONTENT)[0]);
    let open: Vec<_> = (0..4).map(|_| unread(&world, &token, &path)).collect();
    assert!(open.iter().all(|(_, line)| line.contains("200")));
    until("a place", || world.as_one(&token, "GET", &path, "").status == 200);
    drop(open);
    world.stop().await;
}

/// A message with bare line feeds, as a Maildir has it.
fn deliver(path: &Path, name: &str, lines: usize) -> String {
    let stored = format!("Subject: long\n\n{}", "0123456789\n".repeat(lines));
    std::fs::write(path.join("tmp").join(name), &stored).unwrap();
    std::fs::rename(path.join("tmp").join(name), path.join("new").join(name)).unwrap();
    stored.replace('\n', "\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r23_r45_r119_the_link_serves_the_octets_that_the_source_did_not_read() {
    let mail = tempfile::tempdir().unwrap();
    maildir(mail.path());
    let world = World::start_with(|config| {
        config.sources.insert("mail".to_owned(), of_maildir(mail.path(), "john"));
        config.store.host = "mail.example.org".to_owned();
        config.policy.content_max_octets = Some(100_000);
    })
    .await;
    state(&world, "running").await;
    let mut stream = world.stream(&format!("/v1/events?events=MessageNew{CONTENT}"));
    let whole = deliver(mail.path(), "1.1.host", 1_000);
    let event: Value = serde_json::from_str(&next(&mut stream).data).unwrap();
    assert_eq!(event["messageSize"], whole.len());
    assert_eq!(event["vnd.postbell.contentSuppressed"], "size");
    let path = link(&world, &event);
    assert_eq!(world.get(&path).body, whole);
    // Its flags change, and its name with them.
    let moved = mail.path().join("cur").join("1.1.host:2,S");
    std::fs::rename(mail.path().join("new").join("1.1.host"), &moved).unwrap();
    assert_eq!(world.get(&path).body, whole);
    std::fs::remove_file(moved).unwrap();
    assert_nothing(&world.get(&path));
    let metrics = world.get("/metrics").body;
    let line = r#"postbell_suppressed_total{source="mail",what="messageContent"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    drop(stream);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r45_r161_a_publishers_event_leads_to_no_message_of_the_store() {
    let mail = tempfile::tempdir().unwrap();
    maildir(mail.path());
    let world = World::start_with(|config| {
        config.sources.insert("mail".to_owned(), of_maildir(mail.path(), "john"));
        config.policy.content_max_octets = Some(100_000);
    })
    .await;
    state(&world, "running").await;
    let mut stream = world.stream(&format!("/v1/events?events=MessageNew{CONTENT}"));
    deliver(mail.path(), "1.1.host", 1_000);
    let event: Value = serde_json::from_str(&next(&mut stream).data).unwrap();
    drop(stream);
    // The same message, claimed by somebody who may speak for the hub's own store, and read by them.
    let token = world.token(&serde_json::json!({
        "name": "greedy", "role": "service", "scope": ["publish", "read"],
    }));
    let mut claim = serde_json::json!({
        "event": "MessageAppend", "uri": event["uri"], "mailboxID": event["mailboxID"],
        "timestamp": "2026-08-20T13:34:14+02:00", "user": "john",
        "vnd.postbell.contentSuppressed": "size",
        "vnd.postbell.contentUrl": "https://evil.example/",
        "vnd.postbell.suppressed": {"messageContent": "size"},
    });
    let answer = world.as_one(&token, "POST", "/v1/events", &claim.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let repairs = answer.json()["verdicts"][0]["repairs"].to_string();
    assert!(repairs.contains("contentSuppressed was dropped: only the hub says it"), "{repairs}");
    // Nor by content that is too large for the hub to take.
    claim["messageContent"] = "x".repeat(100_001).into();
    let answer = world.as_one(&token, "POST", "/v1/events", &claim.to_string());
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.body);
    let told = world.seen_by(&token, &format!("{CONTENT}&events=MessageAppend"));
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["vnd.postbell.suppressed"]["messageContent"], "size");
    assert!(told.iter().all(|one| one["vnd.postbell.contentUrl"].is_null()), "{told:?}");
    world.stop().await;
}
