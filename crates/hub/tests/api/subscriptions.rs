//! Subscriptions by name: said twice, changed only as known, renewed.

use std::collections::BTreeMap;

use postbell_hub::Reach;
use postbell_testkit::Receiver;
use serde_json::{Value, json};

use crate::policy::until;
use crate::world::{Answer, World};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn body(events: &str) -> String {
    format!(
        r#"{{"name":"phone","events":["{events}"],"sink":{{"kind":"webhook","url":"https://example.org/hook"}}}}"#
    )
}

fn put(world: &World, body: &str, condition: Option<(&str, &str)>) -> Answer {
    let headers: Vec<_> = [JSON].into_iter().chain(condition).collect();
    world.ask("PUT", "/v1/subscriptions/phone", &headers, body.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_put_twice_is_one_and_is_changed_only_as_it_is_known() {
    let world = World::start().await;
    let stale = put(&world, &body("message"), Some(("If-Match", "*")));
    assert_eq!(stale.status, 412, "{}", stale.body);
    let made = put(&world, &body("message"), Some(("If-None-Match", "*")));
    assert_eq!((made.status, made.header("location").is_some()), (201, true), "{}", made.body);
    let first = made.header("etag").unwrap().to_owned();
    assert!(made.json()["sink"]["secret"].is_string());
    let again = put(&world, &body("message"), None);
    assert_eq!((again.status, again.header("etag")), (200, Some(first.as_str())));
    assert_eq!(again.json()["id"], made.json()["id"]);
    assert!(again.json()["sink"]["secret"].is_null(), "a secret is shown once");
    assert_eq!(world.get("/v1/subscriptions/phone").header("etag"), Some(first.as_str()));
    assert_eq!(put(&world, &body("message"), Some(("If-None-Match", "*"))).status, 412);

    let changed = put(&world, &body("flags"), Some(("If-Match", &first)));
    let second = changed.header("etag").unwrap().to_owned();
    assert_eq!((changed.status, &changed.json()["events"][0]), (200, &"flags".into()));
    assert_ne!(first, second);
    for (method, path, body) in [
        ("PUT", "", body("quota")),
        ("DELETE", "", String::new()),
        ("POST", "/pause", String::new()),
        ("POST", "/resume", String::new()),
        ("POST", "/renew", r#"{"expires":"1h"}"#.to_owned()),
        ("POST", "/redrive", r#"{"all":true}"#.to_owned()),
        ("POST", "/rotate", "{}".to_owned()),
        ("POST", "/replay", r#"{"begin":"now"}"#.to_owned()),
    ] {
        let path = format!("/v1/subscriptions/phone{path}");
        let headers = [JSON, ("If-Match", first.as_str())];
        let stale = world.ask(method, &path, &headers, body.as_bytes());
        let problem = stale.json();
        assert_eq!(stale.status, 412, "{method} {path}: {problem}");
        assert_eq!(problem["type"], "urn:postbell:problem:precondition-failed");
        assert!(problem["detail"].as_str().unwrap().starts_with("\"phone\" is not as If-Match"));
    }
    let kept = world.get("/v1/subscriptions/phone");
    assert_eq!((kept.header("etag"), kept.status), (Some(second.as_str()), 200));

    let other = world.ask("PUT", "/v1/subscriptions/other", &[JSON], body("flags").as_bytes());
    let problem = other.json();
    assert_eq!((other.status, &problem["pointer"]), (422, &"/name".into()));
    let removed =
        world.ask("DELETE", "/v1/subscriptions/phone", &[("If-Match", second.as_str())], b"");
    assert_eq!(removed.status, 204);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_renewed_until_a_time_or_for_good() {
    let world = World::start().await;
    put(&world, &body("message"), None);
    let renew = |expires: &str| {
        let body = format!(r#"{{"expires":{expires}}}"#);
        world.ask("POST", "/v1/subscriptions/phone/renew", &[JSON], body.as_bytes())
    };
    let renewed = renew("\"2999-01-01T00:00:00Z\"");
    assert_eq!(
        (renewed.status, &renewed.json()["expires"]),
        (200, &"2999-01-01T00:00:00+00:00".into())
    );
    for (wrong, told) in [
        ("\"soon\"", "\"soon\" is not a time (try 30d, or 2027-01-01T00:00:00Z, or never)"),
        ("\"2020-01-01T00:00:00Z\"", "\"2020-01-01T00:00:00Z\" is past"),
        ("5", "invalid type: integer \"5\", expected a string"),
    ] {
        let problem = renew(wrong).json();
        assert_eq!((&problem["status"], &problem["pointer"]), (&422.into(), &"/expires".into()));
        assert_eq!(problem["detail"], told);
    }
    assert!(renew("\"never\"").json()["expires"].is_null());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r135_r136_a_receiver_of_several_subscriptions_tells_them_apart_by_tags_alone() {
    let receiver = Receiver::start().unwrap();
    let world = World::start_with(|config| config.webhooks.reach = Reach::Loopback).await;
    for (name, tags) in [("home", json!(["home"])), ("both", json!(["office", "büro"]))] {
        let wanted = json!({
            "name": name, "tags": tags, "begin": "now",
            "sink": {"kind": "webhook", "url": receiver.url()},
        });
        let made = world.ask("POST", "/v1/subscriptions", &[JSON], wanted.to_string().as_bytes());
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let mut streams: Vec<_> = ["phone", "desk"]
        .map(|tag| world.stream(&format!("/v1/events?tags={tag}")))
        .into_iter()
        .collect();
    world.accept(1..=3);
    until("all deliveries", || receiver.taken().len() == 6);
    // Dispatched by nothing but what each event carries.
    let mut heard: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for taken in receiver.taken() {
        let body: Value = serde_json::from_str(&taken.body).unwrap();
        let event = &body["data"];
        for tag in event["tags"].as_array().unwrap() {
            let number = event["vnd.postbell.seq"].as_u64().unwrap();
            heard.entry(tag.as_str().unwrap().to_owned()).or_default().push(number);
        }
    }
    for tag in ["home", "office", "büro"] {
        let mut numbers = heard.remove(tag).unwrap_or_default();
        // What is of different users isn't kept in one order.
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3], "{tag}");
    }
    assert!(heard.is_empty(), "{heard:?}");
    for (stream, tag) in streams.iter_mut().zip(["phone", "desk"]) {
        let event: Value = serde_json::from_str(&crate::world::next(stream).data).unwrap();
        assert_eq!(event["tags"], json!([tag]));
    }
    drop(streams);
    world.stop().await;
}
