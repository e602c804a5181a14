//! A Maildir's events, all the way to a stream.

use std::path::Path;
use std::time::Instant;

use postbell_hub::SourceConfig;
use serde_json::Value;

use crate::world::{PATIENCE, World, next};

fn maildir(path: &Path) {
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
async fn state(world: &World, state: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let shown = world.get("/v1/sources/mail").json();
        if shown["state"] == state {
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
