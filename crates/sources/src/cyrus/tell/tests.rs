//! What a real Cyrus sent, and what is made of it.

use std::fmt::Write as _;
use std::path::Path;

use jiff::tz::TimeZone;
use mail_event::json;
use postbell_engine::{Memory as EngineMemory, Policy, Store, normalise};
use serde::Deserialize;

use super::super::Options;
use super::super::entry::{Content, Entry};
use super::super::namespace::Namespace;
use super::super::notification;
use super::super::record::{Received, Record};
use super::{Memory, Teller, Whence};
use crate::spool::Said as _;

/// A line of a fixture.
#[derive(Deserialize)]
struct Step {
    step: String,
    raw: Option<String>,
}

fn options(of_samples: bool) -> Options {
    let namespace = match of_samples {
        true => Namespace { alternative: false, ..Namespace::default() },
        false => {
            Namespace { domains: true, user_prefix: "shared".to_owned(), ..Namespace::default() }
        }
    };
    Options {
        spool: "/none".into(),
        namespace,
        envelope: false,
        raw: false,
        server_fqdn: None,
        master: None,
        body_structure: false,
        content_max_octets: None,
    }
}

fn entry(ns: u64, raw: &str) -> Entry {
    let what = Received::Datagram(raw.as_bytes().to_vec());
    let mut line = Vec::new();
    Record { ns, pid: 1, what }.write(&mut line);
    Entry::read(&line).unwrap()
}

/// Everything a file of notifications leads to, in the order it came.
fn play(path: &Path, policy: &Policy) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let steps = text.lines().map(|line| serde_json::from_str::<Step>(line).unwrap());
    let options = options(path.ends_with("samples.jsonl"));
    let teller = Teller { options: &options, zone: TimeZone::UTC };
    let mut memory = Memory::restore([const { Vec::new() }; 4]);
    let mut engine = EngineMemory::default();
    let store = Store::new("mail.example.org", None).unwrap();
    let mut out = String::new();
    for (at, Step { step, raw }) in (1_795_571_019_000_000_000_u64..).zip(steps) {
        let Some(raw) = raw else {
            writeln!(out, "{step}\n  nothing was said").unwrap();
            continue;
        };
        let entry = entry(at, &raw);
        let Content::Notification(said) = entry.what else { panic!("{step}: {:?}", entry.what) };
        let json = raw.split('\0').find(|part| part.starts_with('{')).unwrap();
        writeln!(out, "{step}\n  < {json}").unwrap();
        match teller.tell(&mut memory, &said, entry.whence) {
            Err(why) => writeln!(out, "  untold: {why}").unwrap(),
            Ok(told) => {
                let mut count = 0;
                for seen in told {
                    let meaning = normalise(&mut engine, &store, policy, "cyrus", seen);
                    assert_eq!(meaning.refused, [], "{step}");
                    for one in meaning.events {
                        count += 1;
                        let text = json::to_string(&one.event);
                        assert!(json::check(text.as_bytes()).is_ok(), "{text}");
                        writeln!(out, "  > {text}").unwrap();
                    }
                }
                if count == 0 {
                    writeln!(out, "  nothing is told").unwrap();
                }
            }
        }
        for repair in &said.repairs {
            writeln!(out, "  ~ {repair}").unwrap();
        }
    }
    out
}

#[test]
fn where_it_is_asked_for_an_event_keeps_what_was_said_and_what_was_changed_of_it() {
    let raw = r#"{"event":"MessageRead","uri":"imap://h/user/alice;UIDVALIDITY=5","uidset":"3","user":"","timestamp":"2026-11-25T01:43:43.929Z"}"#;
    let said = notification::parse(raw.as_bytes()).unwrap();
    let whence =
        Whence { identity: [0; 32], received: "2026-11-25T01:43:44+00:00".parse().unwrap() };
    let extras = |raw| {
        let options = Options { raw, ..options(false) };
        let mut memory = Memory::restore([const { Vec::new() }; 4]);
        let told = Teller::new(&options).tell(&mut memory, &said, whence).unwrap();
        let extras = told.flat_map(|seen| seen.extras);
        extras.map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(extras(false), []);
    let [(name, kept), (changed, repairs)] = &extras(true)[..] else { panic!("two") };
    assert_eq!((&**name, &**changed), ("vnd.postbell.raw", "vnd.postbell.repairs"));
    assert_eq!(serde_json::from_str::<String>(kept).unwrap(), raw);
    assert_eq!(repairs, r#"["timestamp: written strictly","user: empty, left out"]"#);
}

#[test]
fn what_a_real_cyrus_sent_becomes_events_as_the_rfc_has_them() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/cyrus"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "jsonl") {
            continue;
        }
        count += 1;
        let name = path.file_stem().unwrap().to_str().unwrap();
        insta::assert_snapshot!(name, play(&path, &Policy::default()));
    }
    assert!(count >= 16, "{count}");
}
