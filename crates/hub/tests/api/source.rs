//! A Maildir's and a Dovecot's events, all the way to a stream.

use std::path::Path;
use std::time::Instant;

use postbell_hub::{SourceConfig, SourceKind};
use serde_json::Value;

use crate::world::{PATIENCE, World, next};

pub(crate) fn maildir(path: &Path) {
    for folder in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(path.join(folder)).unwrap();
    }
}

fn deliver(path: &Path, name: &str) {
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
        let source = SourceConfig {
            root: mail.path().to_owned(),
            user: "john@example.org".to_owned(),
            ..SourceConfig::default()
        };
        config.sources.insert("mail".to_owned(), source);
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
