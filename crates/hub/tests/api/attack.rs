//! What somebody might try to wear the hub out with: each is answered as documented, takes bounded
//! memory, and keeps nobody else from being served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::world::{PATIENCE, World, login};

/// The most memory this process ever had, in octets.
fn peak_octets() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Runs an attack and says that it took no more memory than this.
fn within(octets: u64, attack: impl FnOnce()) {
    let before = peak_octets();
    attack();
    let taken = peak_octets() - before;
    assert!(taken < octets, "{taken} octets");
}

const MEBIBYTE: u64 = 1 << 20;

fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The status and the type of the problem that a raw request is answered with.
fn told(world: &World, request: &[u8]) -> (u16, String) {
    let answer = world.send(request);
    let kind = answer.json()["type"].as_str().unwrap().to_owned();
    (answer.status, kind.rsplit(':').next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_a_thousand_connections_that_say_nothing_or_little_are_let_go() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let world = World::start_with(|config| {
        config.http.header_timeout = Duration::from_secs(5);
        config.http.max_connections = 1024;
    })
    .await;
    within(64 * MEBIBYTE, || {
        let mut idle: Vec<_> = (0..1000).map(|_| connect(&world)).collect();
        for (number, stream) in idle.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
            // Some begin a head that never ends; the hub may have let go of them already.
            drop(write!(stream, "GET /v1/status HTTP/1.1\r\nX-{number}: "));
        }
        for drip in 0..10 {
            for stream in idle.iter_mut().step_by(100) {
                drop(write!(stream, "{drip}"));
            }
            assert_eq!(world.get("/v1/status").status, 200);
        }
        for stream in &mut idle {
            let mut rest = Vec::new();
            // Closed, with 408 or without a word; by then nothing of it is held any more.
            drop(stream.read_to_end(&mut rest));
            assert!(!rest.starts_with(b"HTTP/1.1 2"));
        }
    });
    assert_eq!(world.get("/v1/status").status, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_bodies_without_end_and_depth_are_refused_before_they_are_held() {
    let world = World::start_with(|config| config.http.max_body = MEBIBYTE).await;
    let bearer = format!("Authorization: Bearer {}\r\nContent-Type: application/json", world.token);
    within(64 * MEBIBYTE, || {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: a\r\n{bearer}\r\nContent-Length: 1099511627776\r\n\r\n"
        );
        assert_eq!(told(&world, head.as_bytes()), (413, "too-large".to_owned()));
        // In chunks, so that nothing says how many there will be.
        let mut stream = connect(&world);
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: a\r\n{bearer}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"10000\r\n", &[b' '; 65536][..], b"\r\n"].concat();
        let sent = (0..10_000).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(sent < 10_000, "all of it was taken");
        for (path, kind) in [("/v1/events", "json"), ("/v1/subscriptions", "json")] {
            for deep in ["[".repeat(500_000), "{\"a\":".repeat(100_000)] {
                let content_type = format!("application/{kind}");
                let headers = [("Content-Type", content_type.as_str())];
                let answer = world.ask("POST", path, &headers, deep.as_bytes());
                assert!((400..500).contains(&answer.status), "{path}: {}", answer.body);
            }
        }
        let nested = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        let event = login(1).replace('}', &format!(",\"vnd.example.deep\":{nested}}}"));
        let answer = world.publish("application/json", &event);
        assert_eq!(answer.json()["verdicts"][0]["verdict"], "rejected", "{}", answer.body);
    });
    world.accept([7]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_conditions_that_would_cost_much_are_refused_as_they_are_read() {
    let world = World::start().await;
    within(32 * MEBIBYTE, || {
        let sum = vec!["messageSize"; 200].join("%2B");
        let parts = vec!["has(user)"; 200].join("%26%26");
        for condition in [
            format!("{sum}%3E1"),
            parts,
            format!("{}true{}", "(".repeat(100), ")".repeat(100)),
            format!("user%3D%3D%22{}%22", "x".repeat(2_000)),
            "%5B1%2C2%2C3%5D.all(x%2Cx%3E0)".to_owned(),
            "%5B1%5D.map(x%2C%5B1%5D.map(y%2Cx%2By))%3D%3D%5B%5D".to_owned(),
            "user.matches(%22(a%2B)%2B%24%22)".to_owned(),
        ] {
            let answer = world.get(&format!("/v1/events?follow=false&where={condition}"));
            assert_eq!(answer.status, 400, "{condition}: {}", answer.body);
            assert!(answer.json()["detail"].as_str().unwrap().starts_with("where: "));
        }
    });
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_one_user_takes_no_more_subscriptions_than_a_user_may_have() {
    let world = World::start().await;
    let user = |name: &str| {
        let new = json!({ "name": name, "role": "user", "users": [name] }).to_string();
        let json = [("Content-Type", "application/json")];
        let made = world.ask("POST", "/v1/tokens", &json, new.as_bytes());
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let (greedy, modest) = (user("greedy"), user("modest"));
    let request = |token: &str, number: u32| {
        let body = format!(
            r#"{{"name":"s{number}","sink":{{"kind":"webhook","url":"https://example.org/{number}"}}}}"#
        );
        let length = body.len();
        format!(
            "POST /v1/subscriptions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    within(128 * MEBIBYTE, || {
        let mut stream = connect(&world);
        let mut made = 0;
        for number in 0..10_000 {
            stream.write_all(request(&greedy, number).as_bytes()).unwrap();
            match next_status(&mut stream) {
                201 => made += 1,
                409 => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(made, 100);
        stream.write_all(request(&modest, 1).as_bytes()).unwrap();
        assert_eq!(next_status(&mut stream), 201);
    });
    world.stop().await;
}

/// The status of the next answer on a connection that is kept; its body is read and dropped.
fn next_status(stream: &mut TcpStream) -> u16 {
    let mut octets = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&octets));
        octets.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&octets).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_guessing_tickets_is_answered_as_guessing_tokens_and_opens_nothing() {
    let world = World::start().await;
    let mut statuses = std::collections::BTreeMap::new();
    within(32 * MEBIBYTE, || {
        for number in 0..200 {
            let path = format!("/v1/events?ticket=postbell_ticket_{number:043}");
            *statuses.entry(world.ask_plainly("GET", &path, &[], b"").status).or_insert(0) += 1;
        }
    });
    assert_eq!(statuses.values().sum::<u32>(), 200);
    assert!(statuses.keys().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses[&429] > 0, "{statuses:?}");
    assert_eq!(world.get("/v1/status").status, 200);
    world.stop().await;
}
