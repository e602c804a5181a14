//! A Maildir's and a Dovecot's events, all the way to a stream.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use postbell_hub::{Group, Record, SourceConfig, SourceKind};
use postbell_sources::publish::frame;
use postbell_testkit::Opened;
use serde_json::Value;

use crate::world::{PATIENCE, World, login, next};

pub(crate) fn maildir(path: &Path) {
    for folder in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(path.join(folder)).unwrap();
    }
}

/// The source of a user's Maildir.
pub(crate) fn of_maildir(path: &Path, user: &str) -> SourceConfig {
    SourceConfig { root: path.to_owned(), user: user.to_owned(), ..SourceConfig::default() }
}

pub(crate) fn deliver(path: &Path, name: &str) {
    let written = path.join("tmp").join(name);
    std::fs::write(&written, "Subject: hello\n\nHello.\n").unwrap();
    std::fs::rename(written, path.join("new").join(name)).unwrap();
}

/// Waits until the source says it does this.
pub(crate) async fn state(world: &World, state: &str) -> Value {
    shown(world, |shown| shown["state"] == state).await
}

/// Waits until the source is shown like this.
async fn shown(world: &World, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let shown = world.get("/v1/sources/mail").json();
        if is_so(&shown) {
            return shown;
        }
        assert!(Instant::now() < until, "{shown}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_into_a_maildir_comes_out_of_the_stream() {
    let mail = tempfile::tempdir().unwrap();
    maildir(mail.path());
    let world = World::start_with(|config| {
        config.sources.insert("mail".to_owned(), of_maildir(mail.path(), "john@example.org"));
        config.store.host = "mail.example.org".to_owned();
    })
    .await;
    state(&world, "running").await;
    let mut stream = world.stream("/v1/events?events=MessageNew");
    deliver(mail.path(), "1.1.host");
    let event = next(&mut stream);
    assert_eq!(event.name, "MessageNew");
    let told: Value = serde_json::from_str(&event.data).unwrap();
    let uri = told["uri"].as_str().unwrap();
    assert!(uri.starts_with("imap://john%40example.org@mail.example.org/INBOX;"), "{uri}");
    assert_eq!(told["vnd.postbell.eventId"].as_str().unwrap().len(), 26);
    // The stream may be faster than the source, which hears after it that its event is durable.
    let is_acknowledged = |shown: &Value| shown["checkpoint"]["seq"] == told["vnd.postbell.seq"];
    let checkpoint = shown(&world, is_acknowledged).await["checkpoint"].take();
    // The source's own record, the mailbox and its message.
    assert_eq!(checkpoint["keys"], 3, "{checkpoint}");
    assert!(checkpoint["ageSeconds"].as_u64().is_some_and(|age| age < 60), "{checkpoint}");
    let all = world.get("/v1/sources").json();
    assert_eq!(all["sources"][0]["checkpoint"]["keys"], 3, "{all}");
    assert_eq!(world.get("/v1/sources/publish").json().get("checkpoint"), None);
    drop(stream);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_run_says_why_and_takes_nothing_else_down() {
    let world = World::start_with(|config| {
        // Neither a pattern nor a user: the configuration file would have refused it.
        let source = SourceConfig { root: "/nowhere".into(), ..SourceConfig::default() };
        config.sources.insert("mail".to_owned(), source);
    })
    .await;
    let shown = state(&world, "failed").await;
    assert!(shown["lastError"].as_str().unwrap().contains("/nowhere"), "{shown}");
    world.accept([1]);
    world.stop().await;
}

/// A line as the script in Dovecot writes it.
fn line(seq: u64, uid: u32) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let run = "a".repeat(32);
    format!(
        r#"{{"v":1,"run":"{run}","seq":{seq},"pid":7,"time":{now},"user":"john","service":"lmtp","session":"s","events":[{{"e":"new","box":"INBOX","val":5,"uids":"{uid}","flags":[]}}],"status":{{"INBOX":{{"val":5,"messages":{uid},"uidnext":{}}}}}}}"#,
        uid + 1
    ) + "\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_what_dovecot_writes_and_exports_comes_out_of_the_stream() {
    let spool = tempfile::tempdir().unwrap();
    let world = World::start_with(|config| {
        let source = SourceConfig {
            kind: SourceKind::Dovecot,
            spool: spool.path().to_owned(),
            annotation_window: PATIENCE.min(std::time::Duration::from_secs(2)),
            ..SourceConfig::default()
        };
        config.sources.insert("mail".to_owned(), source);
        config.policy.envelope = true;
    })
    .await;
    assert_eq!(state(&world, "running").await["kind"], "dovecot");
    let mut stream = world.stream("/v1/events?events=MessageNew&parameters=envelope,messages");

    let secret = std::fs::read_to_string(world.data().join("dovecot-mail.secret")).unwrap();
    let run = "a".repeat(32);
    let body = format!(
        r#"{{"event":"postbell_transaction","fields":{{"postbell_run":"{run}","postbell_seq":1,"mail_from":"a@example.org","rcpt_to":"john@example.org"}}}}"#
    );
    let post = |source: &str, secret: &str, body: &str| {
        let path = format!("/v1/dovecot/{source}/{secret}");
        world.ask_plainly("POST", &path, &[], body.as_bytes()).status
    };
    assert_eq!(post("mail", &"0".repeat(64), &body), 404);
    assert_eq!(post("other", secret.trim(), &body), 404);
    assert_eq!(post("mail", secret.trim(), "{"), 400);
    assert_eq!(post("mail", secret.trim(), &"x".repeat(300_000)), 413);
    assert_eq!(post("mail", secret.trim(), &body), 204);

    use std::os::unix::fs::MetadataExt as _;
    let uid = spool.path().metadata().unwrap().uid();
    std::fs::write(spool.path().join(format!("{uid}.ndjson")), line(1, 7)).unwrap();
    let event = next(&mut stream);
    let told: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(told["messages"], 7, "{told}");
    assert!(told["envelope"].as_str().unwrap().contains("a@example.org"), "{told}");
    drop(stream);
    world.stop().await;
}

/// Waits until nothing is wanted any more.
async fn nothing_is_wanted(world: &World) {
    let until = Instant::now() + PATIENCE;
    while world.get("/v1/demand").json()["events"] != serde_json::json!([]) {
        assert!(Instant::now() < until, "something is wanted still");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r21_r23_r24_only_what_somebody_wants_is_read_and_recorded() {
    let mail = tempfile::tempdir().unwrap();
    maildir(mail.path());
    let world = World::start_with(|config| {
        config.sources.insert("mail".to_owned(), of_maildir(mail.path(), "john"));
        config.policy.content_max_octets = Some(2_048);
        config.policy.record = Record::Wanted;
        config.policy.record_linger = std::time::Duration::ZERO;
    })
    .await;
    state(&world, "running").await;
    nothing_is_wanted(&world).await;
    let mut opened = Opened::watch(&mail.path().join("new")).unwrap();
    deliver(mail.path(), "1.1.host");
    counted(&world, r#"postbell_unwanted_total{source="mail",group="message"} 1"#).await;
    assert!(opened.names().unwrap().is_empty(), "nobody wants the event");

    let path = "/v1/events?events=MessageNew";
    let mut plain = world.stream(path);
    // "Subject: hello", an empty line and "Hello.", with LF and with CRLF.
    deliver(mail.path(), "2.2.host,S=23,W=26");
    assert!(next(&mut plain).data.contains("\"messageSize\":26"));
    assert!(opened.names().unwrap().is_empty(), "its name tells all that is wanted");
    deliver(mail.path(), "3.3.host");
    assert!(next(&mut plain).data.contains("\"messageSize\":26"));
    assert_eq!(opened.names().unwrap(), ["3.3.host"], "its octets are counted");
    let mut whole = world.stream(&format!("{path}&parameters=*,messageContent"));
    deliver(mail.path(), "4.4.host,S=23,W=26");
    assert!(next(&mut whole).data.contains("Hello."));
    assert_eq!(opened.names().unwrap(), ["4.4.host,S=23,W=26"]);
    drop((plain, whole));

    let all = "?since=0&follow=false&parameters=*,messageContent";
    let ndjson = [("Accept", "application/x-ndjson")];
    let told = world.ask("GET", &format!("/v1/events{all}"), &ndjson, b"").body;
    // Without the chunks' lengths.
    let lines = told.lines().filter(|line| line.starts_with('{'));
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let new: Vec<_> = told.iter().filter(|event| event["event"] == "MessageNew").collect();
    // Content that nobody asked for at the time is not even in the journal.
    let has_content: Vec<_> = new.iter().map(|event| event["messageContent"].is_string()).collect();
    assert_eq!(has_content, [false, false, true], "nobody wanted the first");
    // What can't be in the journal it says itself, but not to users: others' wishes are not theirs.
    assert!(told.iter().any(|event| event["event"] == "vnd.postbell.Recording"
        && event["vnd.postbell.recorded"] == serde_json::json!(["MessageNew"])));
    let john = world.user("john");
    let seen = world.seen_by(&john, "");
    assert!(seen.iter().all(|event| event["event"] == "MessageNew"), "{seen:?}");
    world.stop().await;
}

/// Waits until a metric is told so.
async fn counted(world: &World, line: &str) {
    crate::world::wait_until(|| world.get("/metrics").body.contains(line)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r21_r22_what_is_switched_off_is_counted_as_that_and_no_message_is_opened_for_it() {
    for record in [Record::Everything, Record::Wanted] {
        let mail = tempfile::tempdir().unwrap();
        maildir(mail.path());
        let world = World::start_with(|config| {
            config.sources.insert("mail".to_owned(), of_maildir(mail.path(), "john"));
            config.policy.content_max_octets = Some(2_048);
            config.policy.body_structure = true;
            config.policy.groups_off = vec![Group::Message];
            config.policy.record = record;
            config.policy.record_linger = std::time::Duration::ZERO;
        })
        .await;
        state(&world, "running").await;
        let mut stream = world.stream("/v1/events?events=message,flags");
        let mut opened = Opened::watch(&mail.path().join("new")).unwrap();
        deliver(mail.path(), "1.1.host");
        counted(&world, r#"postbell_suppressed_total{source="mail",what="message"} 1"#).await;
        assert!(opened.names().unwrap().is_empty());
        std::fs::rename(mail.path().join("new/1.1.host"), mail.path().join("cur/1.1.host:2,S"))
            .unwrap();
        assert_eq!(next(&mut stream).name, "MessageRead", "other groups are told");

        let mut publisher = crate::socket::connect(&world);
        let mut frames = Vec::new();
        for event in [NEW.to_owned(), login(1)] {
            frame(&mut frames, event.as_bytes());
        }
        publisher.write_all(&frames).unwrap();
        let why = "event: events of the group message are switched off (policy.groups_off)";
        assert_eq!(crate::socket::answer(&mut publisher), format!("Rejected({why:?})"));
        assert!(crate::socket::answer(&mut publisher).starts_with("Accepted("));
        let posted = world.publish("application/json", NEW);
        assert_eq!(
            (posted.status, posted.json()["verdicts"][0]["error"].as_str()),
            (422, Some(why))
        );

        let told = world.get("/metrics").body;
        for line in [
            r#"postbell_suppressed_total{source="publish",what="message"} 2"#,
            r#"postbell_events_rejected_total{source="publish"} 2"#,
            r#"postbell_suppressed_total{source="mail",what="flags"} 0"#,
            r#"postbell_unwanted_total{source="mail",group="message"} 0"#,
            r#"postbell_unwanted_total{source="mail",group="flags"} 0"#,
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        drop(stream);
        world.stop().await;
    }
}

/// As a publisher says that a message came.
const NEW: &str = r#"{"event":"MessageNew","uri":"imap://a@h/INBOX;UIDVALIDITY=1/;UID=1","timestamp":"2026-08-20T13:34:14+02:00","messageSize":5}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r23_parameters_that_policy_keeps_out_are_counted_for_publishers_too() {
    let world = World::start().await;
    let private = r#","messageContent":"12345","envelope":"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n"}"#;
    let event = NEW.replace('}', private);
    let mut publisher = crate::socket::connect(&world);
    let mut frames = Vec::new();
    frame(&mut frames, event.as_bytes());
    publisher.write_all(&frames).unwrap();
    assert!(crate::socket::answer(&mut publisher).starts_with("Accepted("));
    let told = world.get("/metrics").body;
    for (what, count) in [("messageContent", 1), ("envelope", 1), ("bodyStructure", 0)] {
        let line =
            format!(r#"postbell_suppressed_total{{source="publish",what="{what}"}} {count}"#);
        assert!(told.contains(&line), "{line}: {told}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r24_what_a_stream_wants_is_written_while_the_hub_is_away() {
    let spool = tempfile::tempdir().unwrap();
    let world = World::start_with(|config| {
        let source = SourceConfig {
            kind: SourceKind::Dovecot,
            spool: spool.path().to_owned(),
            ..SourceConfig::default()
        };
        config.sources.insert("mail".to_owned(), source);
        config.policy.record = Record::Wanted;
        config.policy.record_linger = std::time::Duration::ZERO;
    })
    .await;
    nothing_is_wanted(&world).await;
    let stream = world.stream("/v1/events?events=FlagsSet");
    world.stop().await;
    // It was let go of by the hub, and not by whoever follows it.
    let demand = std::fs::read_to_string(spool.path().join("demand")).unwrap();
    assert_eq!(demand, "postbell-demand 1\nFlagsSet\nend\n");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wanted_is_not_told_again_to_whoever_knows_it() {
    let world = World::start().await;
    let first = world.get("/v1/demand");
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = world.ask("GET", "/v1/demand", &[("If-None-Match", tag.trim())], b"");
    assert_eq!((again.status, &*again.body), (304, ""));
    let other = world.ask("GET", "/v1/demand", &[("If-None-Match", "\"abc\"")], b"");
    assert_eq!((other.status, other.body), (200, first.body));
    world.stop().await;
}
