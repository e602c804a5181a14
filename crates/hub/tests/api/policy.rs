//! What the operator lets leave, by role.

use std::time::{Duration, Instant};

use postbell_hub::{Config, Reach, RoleConfig};
use postbell_testkit::Receiver;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World};

/// A message of so many octets, in John's mailbox.
pub(crate) fn message(octets: usize) -> String {
    json!({
        "event": "MessageNew",
        "uri": format!("imap://john@mail.example.org/INBOX;UIDVALIDITY=7/;UID={octets}"),
        "mailboxID": "imap://john@mail.example.org/INBOX;UIDVALIDITY=7",
        "timestamp": "2026-08-20T13:34:14+02:00",
        "messageSize": octets,
        "messageContent": "x".repeat(octets),
        "envelope": "MAIL FROM:<jane@example.org>\r\nRCPT TO:<john@example.org>\r\n",
    })
    .to_string()
}

/// Content of up to 100,000 octets is made, and up to 2,048 leave for users.
fn opened(config: &mut Config) {
    config.policy.content_max_octets = Some(100_000);
    config.policy.content_inline_octets = 100_000;
    config.policy.envelope = true;
    config.policy.user.content_max_octets = Some(2_048);
    config.policy.user.envelope = false;
    config.webhooks.reach = Reach::Loopback;
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} didn't come in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r43_r44_each_role_gets_what_policy_lets_it_and_the_rest_is_named() {
    let world = World::start_with(opened).await;
    let lines = [message(2_048), message(2_049)].join("\n");
    assert_eq!(world.publish("application/x-ndjson", &lines).json()["accepted"], 2);
    let token = world.user("john");
    let told = world.seen_by(&token, "&parameters=*,messageContent");
    assert_eq!(told[0]["messageContent"].as_str().map(str::len), Some(2_048));
    assert_eq!(told[0]["vnd.postbell.suppressed"], Value::Null);
    assert_eq!(told[1]["messageContent"], Value::Null);
    assert_eq!(told[1]["vnd.postbell.suppressed"], json!({"messageContent": "size"}));
    // What they may not have they can't find out by asking either.
    let probe = "&where=has(messageContent)%26%26messageContent.startsWith(%22x%22)";
    assert_eq!(world.seen_by(&token, probe).len(), 1);
    for refused in ["&parameters=envelope", "&where=has(envelope)"] {
        let answer = world.as_one(&token, "GET", &format!("/v1/events?follow=false{refused}"), "");
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("policy.user.envelope"), "{}", answer.body);
    }
    // Whoever runs the hub gets all that is made.
    let all = world.get("/v1/events?since=0&follow=false&parameters=*,messageContent,envelope");
    assert!(all.body.contains(&"x".repeat(2_049)) && all.body.contains("RCPT TO"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r43_a_ceiling_that_was_lowered_holds_for_the_subscriptions_there_are() {
    let receiver = Receiver::start().unwrap();
    let world = World::start_with(|config| {
        opened(config);
        config.policy.user = RoleConfig::default();
    })
    .await;
    let token = world.user("john");
    let body = json!({
        "name": "phone",
        "parameters": ["*", "messageContent", "envelope"],
        "sink": {"kind": "webhook", "url": receiver.url()},
    });
    let made = world.as_one(&token, "POST", "/v1/subscriptions", &body.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(world.publish("application/json", &message(2_049)).status, 200);
    until("the first delivery", || receiver.taken().len() == 1);
    let world = World::start_in(world.stop().await, opened).await;
    assert_eq!(world.publish("application/json", &message(2_050)).status, 200);
    until("the second delivery", || receiver.taken().len() == 2);
    let data = |at: usize| -> Value {
        let body: Value = serde_json::from_str(&receiver.taken()[at].body).unwrap();
        body["data"].clone()
    };
    assert_eq!(data(0)["messageContent"].as_str().map(str::len), Some(2_049));
    assert!(data(0)["envelope"].is_string() && data(0)["vnd.postbell.suppressed"].is_null());
    let held = json!({"envelope": "policy", "messageContent": "size"});
    assert_eq!(data(1)["vnd.postbell.suppressed"], held);
    assert!(data(1)["messageContent"].is_null() && data(1)["envelope"].is_null());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_r165_nobody_takes_more_subscriptions_and_streams_than_their_role_may() {
    let world = World::start_with(|config| {
        config.policy.user.subscriptions = 3;
        config.policy.user.streams = 2;
    })
    .await;
    let (token, other) = (world.user("john"), world.user("jane"));
    let subscribe = |token: &str, number: usize| {
        let body = json!({
            "name": format!("s{number}"),
            "sink": {"kind": "webhook", "url": "https://example.org/hook"},
        });
        world.as_one(token, "POST", "/v1/subscriptions", &body.to_string())
    };
    for number in 0..10 {
        let answer = subscribe(&token, number);
        assert_eq!(answer.status, if number < 3 { 201 } else { 409 }, "{}", answer.body);
        if number >= 3 {
            assert_eq!(answer.json()["type"], "urn:postbell:problem:too-many-subscriptions");
        }
    }
    assert_eq!(subscribe(&other, 0).status, 201);
    let headers = format!("Authorization: Bearer {token}\r\n");
    let follow = || world.open_as("/v1/events", &headers);
    let (first, second) = (follow(), follow());
    let third = world.as_one(&token, "GET", "/v1/events", "");
    assert_eq!(third.status, 429, "{}", third.body);
    assert_eq!(third.json()["type"], "urn:postbell:problem:too-many-streams");
    drop(first);
    // That a client has gone is noticed when something is sent to it.
    until("a place", || {
        world.publish("application/json", &login_of_john());
        world.as_one(&token, "GET", "/v1/events?since=0&follow=false", "").status == 200
    });
    assert_eq!(world.as_one(&other, "GET", "/v1/events?follow=false", "").status, 200);
    drop(second);
    world.stop().await;
}

/// Another one each time, since the same is a record once.
fn login_of_john() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let time = format!("2026-08-20T13:34:14.{number:06}+02:00");
    format!(
        r#"{{"event":"Login","uri":"imap://mail.example.org/","timestamp":"{time}","user":"john","serverDomain":"mail.example.org","serverPort":993}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r62_r63_two_subscriptions_are_told_one_change_each_in_its_own_form() {
    let receivers = [Receiver::start().unwrap(), Receiver::start().unwrap()];
    let world = World::start_with(|config| config.webhooks.reach = Reach::Loopback).await;
    for (receiver, form) in receivers.iter().zip(["flags", "simple"]) {
        let body = json!({
            "name": form,
            "events": ["FlagsSet", "MessageRead"],
            "flagForms": {"seen": form},
            "sink": {"kind": "webhook", "url": receiver.url()},
        });
        let json = [("Content-Type", "application/json")];
        let made = world.ask("POST", "/v1/subscriptions", &json, body.to_string().as_bytes());
        assert_eq!((made.status, &made.json()["flagForms"]["seen"]), (201, &form.into()));
    }
    let mailbox = "imap://john@mail.example.org/INBOX;UIDVALIDITY=7";
    let read = json!({
        "event": "MessageRead", "uri": mailbox, "mailboxID": mailbox, "uidset": "1:3",
        "timestamp": "2026-08-20T13:34:14+02:00", "user": "john",
    });
    assert_eq!(world.publish("application/json", &read.to_string()).status, 200);
    until("both deliveries", || receivers.iter().all(|one| one.taken().len() == 1));
    for (receiver, name) in receivers.iter().zip(["FlagsSet", "MessageRead"]) {
        let told: Value = serde_json::from_str(&receiver.taken()[0].body).unwrap();
        assert_eq!(told["type"], format!("org.ietf.rfc5423.{name}"));
        assert_eq!(told["data"]["event"], name);
        let flags = if name == "FlagsSet" { json!(["\\Seen"]) } else { Value::Null };
        assert_eq!(told["data"]["flagNames"], flags);
    }
    world.stop().await;
}

/// A message that came, and flags that were set.
fn new_and_flags() -> [String; 2] {
    let mailbox = "imap://john@mail.example.org/INBOX;UIDVALIDITY=7";
    let flags = json!({
        "event": "FlagsSet", "uri": mailbox, "mailboxID": mailbox, "uidset": "1:3", "flagNames": ["x"],
        "timestamp": "2026-08-20T13:34:14+02:00", "user": "john",
        "vnd.example.size": 5,
    });
    [message(5), flags.to_string()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r42_two_subscriptions_and_a_stream_have_other_parameters_of_the_same_events() {
    let receivers = [Receiver::start().unwrap(), Receiver::start().unwrap()];
    let world = World::start_with(|config| {
        opened(config);
        config.webhooks.reach = Reach::Loopback;
    })
    .await;
    let choices = [
        json!({"MessageNew": ["messageSize", "envelope"], "flags": ["uri"]}),
        json!({"message": ["uri"], "FlagsSet": []}),
    ];
    for ((receiver, name), lists) in receivers.iter().zip(["one", "other"]).zip(&choices) {
        let body = json!({
            "name": name,
            "parametersOf": lists,
            "sink": {"kind": "webhook", "url": receiver.url()},
        });
        let json = [("Content-Type", "application/json")];
        let made = world.ask("POST", "/v1/subscriptions", &json, body.to_string().as_bytes());
        assert_eq!((made.status, &made.json()["parametersOf"]), (201, lists));
    }
    for event in new_and_flags() {
        assert_eq!(world.publish("application/json", &event).status, 200);
    }
    until("all deliveries", || receivers.iter().all(|one| one.taken().len() == 2));
    let optional = ["messageSize", "envelope", "user", "vnd.example.size"];
    let found = |event: &Value| {
        let found = optional.into_iter().filter(|name| event.get(name).is_some());
        found.collect::<Vec<_>>()
    };
    let wanted = [[&["messageSize", "envelope"][..], &[]], [&[], &["user", "vnd.example.size"]]];
    for (receiver, wanted) in receivers.iter().zip(wanted) {
        let taken = receiver.taken().into_iter();
        let taken = taken.map(|one| serde_json::from_str::<Value>(&one.body).unwrap());
        let told: Vec<_> = taken.map(|one| one["data"].clone()).collect();
        for (name, wanted) in ["MessageNew", "FlagsSet"].into_iter().zip(wanted) {
            let event = told.iter().find(|event| event["event"] == name).unwrap();
            assert_eq!(found(event), wanted, "{name}");
        }
    }
    let path = "/v1/events?since=0&follow=false&parameters.MessageNew=messageSize&parameters.MessageNew=envelope&parameters.flags=uri";
    let stream = world.ask("GET", path, &[("Accept", "application/x-ndjson")], b"");
    // Between the lines stand the lengths of chunks.
    let lines = stream.body.lines().filter(|line| line.starts_with('{'));
    let told: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = told.iter().map(found).collect();
    assert_eq!(found, [&["messageSize", "envelope"][..], &[]]);
    for (query, detail) in [
        (
            "parameters.MessageGnu=uri",
            "parameters.MessageGnu: \"MessageGnu\" is not an event or a group (did you mean \"MessageNew\"?)",
        ),
        (
            "parameters.Login=uidSet",
            "parameters.Login: \"uidSet\" is not a parameter (did you mean \"uidset\"?)",
        ),
        (
            "parameters.Login=bodyStructure",
            "parameters.Login: \"bodyStructure\" is private, and the policy lets none leave (policy.body_structure)",
        ),
        (
            "events=message&parameters.Login=uri",
            "parameters.Login: \"Login\" is not among the events asked for",
        ),
        ("parameters.Login=", "parameters.Login: names nothing"),
    ] {
        let answer = world.ask("GET", &format!("/v1/events?follow=false&{query}"), &[], b"");
        assert_eq!((answer.status, &answer.json()["detail"]), (400, &detail.into()));
    }
    world.stop().await;
}
