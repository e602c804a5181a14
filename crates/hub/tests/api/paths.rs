//! Who may ask what, and how a mistake is told.

use serde_json::Value;

use crate::world::{World, login};

/// A value for each path that has a name in it.
fn filled(path: &str) -> String {
    path.replace("{name}", "nobody")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_described_path_answers_with_the_token_and_only_with_it() {
    let world = World::start().await;
    let document = world.get("/v1/openapi.json").json();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            seen += 1;
            let (path, method) = (filled(path), method.to_uppercase());
            let open = path == "/healthz" || path == "/readyz";
            let plain = world.ask_plainly(&method, &path, &[], b"");
            if open {
                assert_eq!(plain.status, 200, "{method} {path}");
                continue;
            }
            if path.starts_with("/v1/dovecot/") || path.starts_with("/v1/content/") {
                // The path itself holds the secret.
                assert_eq!(plain.status, 404, "{method} {path}");
                continue;
            }
            assert_eq!(plain.status, 401, "{method} {path}");
            if path == "/v1/login" {
                // Where no store is asked, nothing opens it.
                continue;
            }
            let path =
                if path == "/v1/events" { format!("{path}?follow=false&since=0") } else { path };
            let path =
                if method == "POST" { path.replace("?follow=false&since=0", "") } else { path };
            let headers = [("Content-Type", "application/json")];
            let answer = world.ask(&method, &path, &headers, b"");
            let described = &operation["responses"][answer.status.to_string()];
            assert!(described.is_object(), "{method} {path}: {} is not described", answer.status);
            assert!(answer.status != 405 && answer.status != 401, "{method} {path}");
        }
    }
    assert_eq!(seen, 32);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_answered_like_none() {
    let world = World::start().await;
    let none = world.ask_plainly("GET", "/v1/status", &[], b"");
    let wrong = "x".repeat(world.token.len());
    for value in [
        format!("Bearer {wrong}"),
        format!("Basic {}", world.token),
        world.token.clone(),
        "Bearer".to_owned(),
        format!("Bearer {} ", wrong),
    ] {
        let answer = world.ask_plainly("GET", "/v1/status", &[("Authorization", &value)], b"");
        assert_eq!((answer.status, &answer.body), (none.status, &none.body), "{value}");
    }
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"postbell\""));
    // Paths that aren't there can't be told from those that are.
    assert_eq!(world.ask_plainly("GET", "/v1/nothing", &[], b"").body, none.body);
    let lower = format!("bearer {}", world.token);
    let answer = world.ask_plainly("GET", "/v1/status", &[("Authorization", &lower)], b"");
    assert_eq!(answer.status, 200);
    let metrics = world.get("/metrics").body;
    assert!(metrics.contains("postbell_http_unauthorised_total 7"), "{metrics}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_gets_one_line_that_names_it() {
    let world = World::start_with(|config| config.http.max_body = 4096).await;
    world.accept(1..=3);
    let json = [("Content-Type", "application/json")];
    let ndjson = [("Content-Type", "application/x-ndjson")];
    let long = "x".repeat(5000);
    let asked: [Asked<'_>; 49] = [
        ("GET", "/v1/nothing", &[], b""),
        ("GET", "/", &[], b""),
        ("PUT", "/v1/events", &json, b"{}"),
        ("DELETE", "/v1/subscriptions", &[], b""),
        ("POST", "/v1/status", &json, b""),
        ("GET", "/v1/events", &[("Accept", "text/html")], b""),
        ("GET", "/v1/events?sinse=1", &[], b""),
        ("GET", "/v1/events?since=x", &[], b""),
        ("GET", "/v1/events?since=-1", &[], b""),
        ("GET", "/v1/events?since=99", &[], b""),
        ("GET", "/v1/events?since=1&since=2", &[], b""),
        ("GET", "/v1/events?sinceTime=yesterday", &[], b""),
        ("GET", "/v1/events?follow=maybe", &[], b""),
        ("GET", "/v1/events?limit=", &[], b""),
        ("GET", "/v1/events?users=", &[], b""),
        ("GET", "/v1/events?mailboxes=,", &[], b""),
        ("GET", "/v1/events", &[("Last-Event-ID", "x")], b""),
        ("GET", "/v1/events", &[("Last-Event-ID", "4")], b""),
        ("POST", "/v1/events?x=1", &json, b"{}"),
        ("POST", "/v1/events", &[], b"{}"),
        ("POST", "/v1/events", &[("Content-Type", "text/plain")], b"{}"),
        ("POST", "/v1/events", &json, b""),
        ("POST", "/v1/events", &json, b"[{},"),
        ("POST", "/v1/events", &[("Content-Type", "application/cloudevents+json")], b"[x"),
        ("POST", "/v1/events", &ndjson, long.as_bytes()),
        ("POST", "/v1/events", &[json[0], ("Content-Encoding", "gzip")], b"\x1f\x8b"),
        ("POST", "/v1/subscriptions", &[json[0], ("Content-Encoding", "br")], b"{}"),
        ("GET", "/v1/events?mailboxes=%ff", &[], b""),
        ("GET", "/v1/events?%ff=a", &[], b""),
        ("GET", "/v1/subscriptions?x=1", &[], b""),
        ("GET", "/v1/subscriptions/phone?x", &[], b""),
        ("POST", "/v1/subscriptions/phone/pause?x=1", &json, b""),
        ("GET", "/v1/sources?x=1", &[], b""),
        ("GET", "/v1/sources/publish?x=1", &[], b""),
        ("GET", "/v1/status?x=1", &[], b""),
        ("GET", "/v1/openapi.json?x=1", &[], b""),
        ("GET", "/metrics?x=1", &[], b""),
        ("GET", "/v1/sources/nobody", &[], b""),
        ("GET", "/v1/sources/%ff", &[], b""),
        ("GET", "/v1/subscriptions/nobody", &[], b""),
        ("GET", "/v1/subscriptions/%ff", &[], b""),
        ("POST", "/v1/subscriptions", &[("Content-Type", "text/plain")], b"{}"),
        ("POST", "/v1/subscriptions", &json, b"{"),
        ("POST", "/v1/subscriptions", &json, b"[\"phone\"]"),
        ("POST", "/v1/tokens", &json, br#"{"name":"denied","role":"admin"}"#),
        ("GET", "/v1/tokens/denied?x=1", &[], b""),
        ("DELETE", "/v1/tokens/denied", &[], b""),
        ("DELETE", "/v1/tokens/denied?subject=a&jti=b", &[], b""),
        ("DELETE", "/v1/tokens/denied?subject=a", &[], b""),
    ];
    let mut told = String::new();
    for (method, path, headers, body) in asked {
        let answer = world.ask(method, path, headers, body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status);
        let line = format!("{method} {path} {headers:?}: {} {}", answer.status, words(&problem));
        assert!(!line.contains('\n'));
        told.push_str(&line);
        told.push('\n');
    }
    insta::assert_snapshot!(told);
    world.stop().await;
}

/// Method, path, headers, body.
type Asked<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

fn words(problem: &Value) -> String {
    let mut words = format!(
        "{}: {}",
        problem["title"].as_str().unwrap(),
        problem["detail"].as_str().unwrap_or_default()
    );
    if let Some(pointer) = problem["pointer"].as_str() {
        words.push_str(&format!(" (at {pointer})"));
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_says_which_methods_it_has() {
    let world = World::start().await;
    let answer = world.ask("PATCH", "/v1/subscriptions/x", &[], b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, PUT, DELETE")));
    let answer = world.ask("HEAD", "/v1/status", &[], b"");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_count_what_happened() {
    let world = World::start().await;
    world.accept(1..=3);
    world.publish("application/json", &login(1));
    world.publish("application/json", "{}");
    let status = world.get("/v1/status").json();
    assert_eq!(status["journal"]["last"], 3);
    assert_eq!(status["journal"]["state"], "accepting");
    assert_eq!(status["store"]["host"], crate::world::HOST);
    let source = world.get("/v1/sources/publish").json();
    assert_eq!((&source["observations"], &source["skipped"]), (&4.into(), &1.into()));
    assert_eq!(source["state"], "running");
    let metrics = world.get("/metrics").body;
    for line in [
        "postbell_events_total{source=\"publish\",event=\"Login\"} 3",
        "postbell_events_repeated_total{source=\"publish\"} 1",
        "postbell_events_rejected_total{source=\"publish\"} 1",
        "postbell_journal_seq 3",
        "postbell_journal_accepting 1",
        "# TYPE postbell_journal_commit_seconds histogram",
    ] {
        assert!(metrics.contains(line), "{line} not in\n{metrics}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_hub_tells_every_metric_of_the_page_and_no_other() {
    let world = World::start().await;
    world.accept(1..=3);
    let json = [("Content-Type", "application/json")];
    let phone = br#"{"name":"phone","sink":{"kind":"webhook","url":"https://example.org/hook"}}"#;
    assert_eq!(world.ask("POST", "/v1/subscriptions", &json, phone).status, 201);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut wanted: Vec<_> = page
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some(format!("# TYPE {name} {}", rest.split(' ').next()?))
        })
        .collect();
    let metrics = world.get("/metrics").body;
    let mut told: Vec<_> = metrics.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    wanted.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, wanted);
    for line in metrics.lines().filter(|line| line.starts_with("# HELP ")) {
        assert!(line.split(' ').count() > 3, "{line}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_subscription_gets_one_line_that_names_what_is_wrong() {
    let world = World::start().await;
    let good = r#"{"name":"phone","sink":{"kind":"webhook","url":"https://example.org/hook"}}"#;
    let mut told = String::new();
    for (from, to) in [
        ("\"name\":\"phone\"", "\"nmae\":\"phone\""),
        ("\"name\":\"phone\"", "\"name\":\"a phone\""),
        ("\"name\":\"phone\"", "\"name\":5"),
        ("\"sink\":", "\"events\":[\"flags\",\"MessageGnu\"],\"sink\":"),
        ("\"sink\":", "\"events\":\"flags\",\"sink\":"),
        ("\"sink\":", "\"parameters\":[\"subject\"],\"sink\":"),
        ("\"sink\":", "\"parameters\":[\"messageContent\"],\"sink\":"),
        ("\"sink\":", "\"users\":[\"\"],\"sink\":"),
        ("\"sink\":", "\"begin\":\"later\",\"sink\":"),
        ("\"sink\":", "\"begin\":{\"time\":\"noon\"},\"sink\":"),
        ("\"sink\":", "\"begin\":{\"seq\":-1},\"sink\":"),
        ("\"sink\":", "\"begin\":{\"seq\":1,\"time\":\"noon\"},\"sink\":"),
        ("webhook", "pigeon"),
        ("https:", "ftp:"),
        ("example.org", "127.0.0.1"),
        ("/hook\"", "/hook\",\"secret\":\"12345\""),
        (",\"sink\":{\"kind\":\"webhook\",\"url\":\"https://example.org/hook\"}", ""),
    ] {
        let body = good.replace(from, to);
        assert_ne!(body, good);
        let headers = [("Content-Type", "application/json")];
        let answer = world.ask("POST", "/v1/subscriptions", &headers, body.as_bytes());
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        told.push_str(&format!("{to}\n    {}\n", words(&answer.json())));
    }
    insta::assert_snapshot!(told);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_made_held_let_go_on_and_forgotten() {
    let world = World::start().await;
    let headers = [("Content-Type", "application/json")];
    let body = br#"{"name":"phone","sink":{"kind":"webhook","url":"https://example.org/hook"}}"#;
    let made = world.ask("POST", "/v1/subscriptions", &headers, body);
    assert_eq!(made.status, 201);
    let place = made.header("location").unwrap().to_owned();
    assert!(made.json()["sink"]["secret"].as_str().unwrap().starts_with("whsec_"));
    assert!(!world.get(&place).body.contains("whsec_"));
    assert_eq!(world.ask("POST", "/v1/subscriptions", &headers, body).status, 409);
    assert_eq!(world.get("/v1/subscriptions").json()["subscriptions"][0]["name"], "phone");
    for (what, state) in [("pause", "paused"), ("resume", "unverified")] {
        let answer = world.ask("POST", &format!("{place}/{what}"), &[], b"");
        assert_eq!(answer.json()["state"], state);
        assert_eq!(world.get("/v1/subscriptions/phone").json()["state"], state);
    }
    assert_eq!(world.get(&format!("{place}/dead-letters?limit=x")).status, 400);
    assert_eq!(world.ask("DELETE", "/v1/subscriptions/phone", &[], b"").status, 204);
    assert_eq!(world.get(&place).status, 404);
    assert_eq!(world.get("/v1/status").json()["subscriptions"], 0);
    world.stop().await;
}
