//! Programs that the hub runs, while it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use postbell_testkit::{Hub, http};
use serde_json::{Value, json};

use crate::hub::{self, wait_for};

const EVENTS: usize = 45;

/// A program is run for each event, in order per mailbox, and the hub's death in the middle costs
/// no event: what was under way is run again.
#[test]
fn a_hub_killed_in_the_middle_runs_its_command_for_every_event() {
    let mut hub = hub::start_with(
        r#"
[commands.index]
run = ["sh", "-c", 'while [ "$POSTBELL_VND_POSTBELL_SEQ" -gt 20 ] && [ ! -e "$3" ]; do sleep 0.02; done; echo "$POSTBELL_VND_POSTBELL_SEQ $POSTBELL_MAILBOX $1" >> "$2"', "sh", "$(id)", "@FOLDER@/told", "@FOLDER@/go"]
events = ["MessageAppend"]
tags = ["index"]
jobs = 3
"#,
    );
    for count in 0..EVENTS {
        publish(&hub, count);
    }
    let file = hub.folder().join("told");
    wait_for("the first runs", || told(&file).len() > 5);
    hub.kill();
    assert!(told(&file).len() < EVENTS, "it was in the middle");
    std::fs::write(hub.folder().join("go"), "").unwrap();
    hub.resume().unwrap();
    wait_for("a run for each event", || distinct(&told(&file)).len() == EVENTS);
    let mut last = BTreeMap::new();
    for (seq, mailbox) in distinct(&told(&file)) {
        let before = last.insert(mailbox.clone(), seq);
        assert!(before < Some(seq), "{mailbox}: {before:?} before {seq}");
    }
    wait_for("its cursor", || ask(&hub, "index").is_some_and(|shown| shown["lag"] == 0));
    let shown = ask(&hub, "index").unwrap();
    assert_eq!((&shown["state"], &shown["deadLetters"]), (&json!("active"), &json!(0)));
    assert_eq!((&shown["sink"]["kind"], &shown["sink"]["jobs"]), (&json!("command"), &json!(3)));
    let list = subscriptions(&hub, &["list"]);
    assert!(list.contains("index") && list.contains("sh -c"), "{list}");
    let refused = subscriptions(&hub, &["remove", "index", "--yes"]);
    assert!(refused.contains("configuration"), "{refused}");
}

fn publish(hub: &Hub, count: usize) {
    let event = json!({
        "event": "MessageAppend",
        "uri": format!("imap://bob@mail.example.org/Box{};UIDVALIDITY=7/;UID={}", count % 3, count / 3 + 1),
        "timestamp": "2026-11-25T09:30:00.000+01:00",
        "user": "bob",
    });
    let address = hub.address().unwrap();
    let token = hub.token().unwrap();
    let answer = http::post(address, "/v1/events", Some(&token), &event.to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn ask(hub: &Hub, name: &str) -> Option<Value> {
    let answer = hub.get(&format!("/v1/subscriptions/{name}")).ok()?;
    serde_json::from_str(&answer.body).ok()
}

/// What `postbell subscriptions` says, on whichever output.
fn subscriptions(hub: &Hub, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postbell"));
    command.arg("subscriptions").args(arguments).arg("--data").arg(hub.data());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// Each run that has ended, in that order: the record's number and the mailbox.
fn told(file: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let (seq, rest) = line.split_once(' ').unwrap();
        let (mailbox, argument) = rest.split_once(' ').unwrap();
        assert_eq!(argument, "$(id)", "no shell is asked");
        (seq.parse().unwrap(), mailbox.to_owned())
    });
    lines.collect()
}

/// The first run of each.
fn distinct(told: &[(u64, String)]) -> Vec<(u64, String)> {
    let mut seen = std::collections::BTreeSet::new();
    told.iter().filter(|(seq, _)| seen.insert(*seq)).cloned().collect()
}
