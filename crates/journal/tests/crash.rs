//! A writer killed at any moment loses nothing it was told is durable.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use postbell_journal::contract::read_all;
use postbell_journal::{Journal as _, Options, SqliteJournal};

/// How many times the writer is killed; `scripts/crash-test N` asks for more.
fn rounds() -> u64 {
    std::env::var("POSTBELL_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn every_acknowledged_record_survives_kill_9_once_and_in_order() {
    let writer = writer();
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 1_u128;
    let mut first = 1_u128;
    for seed in 1..=rounds() {
        let mut child = Command::new(&writer)
            .arg(folder.path())
            .arg(seed.to_string())
            .arg(first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || lines.lines().map_while(Result::ok).last());
        std::thread::sleep(Duration::from_micros(20_000 + seed * 7919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = reading.join().unwrap() {
            acknowledged = last.trim().parse().unwrap_or(acknowledged);
        }
        let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
        let last = journal.bounds().last.0;
        assert!(u128::from(last) + 1 >= acknowledged, "seed {seed}: {last} of {acknowledged}");
        let kept = journal.checkpoint("writer", b"at").unwrap();
        let at =
            kept.first().map_or("1".to_owned(), |(_, v)| String::from_utf8(v.clone()).unwrap());
        assert_eq!(at, (last + 1).to_string(), "seed {seed}: the checkpoint fits its records");
        let bounds = journal.bounds();
        let tail = journal.read(postbell_journal::Seq(bounds.last.0.max(1)), 1).unwrap();
        assert!(
            tail.is_empty() == (bounds.last.0 == 0),
            "seed {seed}: the last record can be read"
        );
        journal.close();
        first = u128::from(last) + 1;
    }
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    let all = read_all(&journal);
    assert!(!all.is_empty(), "the writer wrote something");
    for (at, (seq, id, _)) in all.iter().enumerate() {
        assert_eq!((*seq, *id), (at as u64 + 1, at as u128 + 1), "once and in order");
    }
}

/// Built by cargo beside the tests.
fn writer() -> std::path::PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/crash_writer");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}
