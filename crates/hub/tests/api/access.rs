//! Who gets what: tokens, roles, and that nobody learns of anybody else.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use postbell_testkit::Nobody;
use serde_json::{Value, json};

use crate::world::{Answer, PATIENCE, World};

impl World {
    /// Makes a token and gives it.
    pub(crate) fn token(&self, new: &Value) -> String {
        let json = [("Content-Type", "application/json")];
        let made = self.ask("POST", "/v1/tokens", &json, new.to_string().as_bytes());
        assert_eq!(made.status, 201, "{}", made.body);
        made.json()["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn user(&self, name: &str) -> String {
        self.token(&json!({ "name": name, "role": "user", "users": [name] }))
    }

    /// Asks with another token than the file's.
    pub(crate) fn as_one(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        if path.starts_with("/v1/events") {
            headers.push(("Accept", "application/x-ndjson"));
        }
        self.ask_plainly(method, path, &headers, body.as_bytes())
    }

    /// All of the journal that a token may see.
    pub(crate) fn seen_by(&self, token: &str, query: &str) -> Vec<Value> {
        let answer =
            self.as_one(token, "GET", &format!("/v1/events?since=0&follow=false{query}"), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let lines = answer.body.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const SUBSCRIPTION: &str =
    r#"{"name":"phone","sink":{"kind":"webhook","url":"https://example.org/hook"}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_token_is_shown_once_listed_and_revoked() {
    let world = World::start().await;
    let token = world.user("john");
    let listed = world.get("/v1/tokens");
    assert!(!listed.body.contains(&token) && !listed.body.contains("hash"), "{}", listed.body);
    let one = &listed.json()["tokens"][0];
    assert_eq!((&one["name"], &one["role"]), (&"john".into(), &"user".into()));
    assert_eq!(one["scope"], json!(["read", "subscribe"]));
    assert_eq!(world.as_one(&token, "GET", "/v1/subscriptions", "").status, 200);
    let world = world.restart().await;
    assert_eq!(world.as_one(&token, "GET", "/v1/subscriptions", "").status, 200);
    assert!(world.get("/v1/tokens").json()["tokens"][0]["lastUsed"].is_string());
    assert_eq!(world.ask("DELETE", "/v1/tokens/john", &[], b"").status, 204);
    assert_eq!(world.ask("DELETE", "/v1/tokens/john", &[], b"").status, 404);
    let none = world.ask_plainly("GET", "/v1/subscriptions", &[], b"");
    let revoked = world.as_one(&token, "GET", "/v1/subscriptions", "");
    assert_eq!((revoked.status, revoked.body), (none.status, none.body));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_token_does_what_it_is_for_and_nothing_else() {
    let world = World::start().await;
    let service =
        |name: &str| world.token(&json!({ "name": name, "role": "service", "scope": [name] }));
    let tokens = [
        ("publish", service("publish")),
        ("read", service("read")),
        ("subscribe", service("subscribe")),
        ("monitor", service("monitor")),
        ("user", world.user("john")),
    ];
    let event = crate::world::login(1);
    let asked = [
        ("POST", "/v1/events", event.as_str(), "publish"),
        ("GET", "/v1/events?follow=false", "", "read user"),
        ("GET", "/v1/subscriptions", "", "subscribe user"),
        ("POST", "/v1/subscriptions/x/pause", "{}", "subscribe user"),
        ("GET", "/v1/subscriptions/x/dead-letters", "", "subscribe user"),
        ("GET", "/v1/status", "", "monitor"),
        ("GET", "/v1/sources", "", "monitor"),
        ("GET", "/metrics", "", "monitor"),
        ("GET", "/v1/tokens", "", ""),
        ("POST", "/v1/tokens", "{}", ""),
        ("DELETE", "/v1/tokens/user", "", ""),
        ("GET", "/v1/openapi.json", "", "publish read subscribe monitor user"),
    ];
    for (name, token) in &tokens {
        for (method, path, body, who) in asked {
            let answer = world.as_one(token, method, path, body);
            let may = who.split(' ').any(|one| one == *name);
            assert_eq!(answer.status != 403, may, "{name} {method} {path}: {}", answer.body);
            assert_ne!(answer.status, 401);
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_guessing_is_answered_with_a_pause_and_locks_nobody_out() {
    let world = World::start().await;
    let mut answers = BTreeSet::new();
    let mut last = None;
    for number in 0..60 {
        let guess = format!("postbell_{number:043}");
        let answer = world.as_one(&guess, "GET", "/v1/events", "");
        answers.insert(answer.status);
        last = Some(answer);
    }
    assert_eq!(answers, BTreeSet::from([401, 429]));
    let last = last.unwrap();
    assert_eq!(last.json()["type"], "urn:postbell:problem:too-many-guesses");
    assert!(last.header("retry-after").is_some());
    assert_eq!(world.get("/v1/status").status, 200);
    world.stop().await;
}

/// How guesses are answered that come with what a proxy adds to each.
fn guesses(world: &World, forwarded: impl Fn(u32) -> String) -> BTreeSet<u16> {
    let guess = |number| {
        let token = format!("Bearer postbell_{number:043}");
        let from = forwarded(number);
        let headers = [("Authorization", token.as_str()), ("X-Forwarded-For", from.as_str())];
        world.ask_plainly("GET", "/v1/events", &headers, b"").status
    };
    (0..60).map(guess).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_behind_a_proxy_that_was_named_each_client_has_guesses_of_its_own() {
    let world =
        World::start_with(|config| config.http.trusted_proxies = vec!["127.0.0.1".to_owned()])
            .await;
    // Each from another address: no one of them guesses too often.
    let each = guesses(&world, |number| format!("198.51.100.{number}"));
    assert_eq!(each, BTreeSet::from([401]));
    // One that makes up another address each time is held to its own.
    let one = guesses(&world, |number| format!("203.0.113.{number}, 192.0.2.7"));
    assert_eq!(one, BTreeSet::from([401, 429]));
    assert!(guesses(&world, |_| "192.0.2.7".to_owned()).contains(&429));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_what_nobody_trusted_says_of_whom_a_request_is_from_counts_for_nothing() {
    let world =
        World::start_with(|config| config.http.trusted_proxies = vec!["192.0.2.1".to_owned()])
            .await;
    let all = guesses(&world, |number| format!("198.51.100.{number}"));
    assert_eq!(all, BTreeSet::from([401, 429]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_others_subscriptions_answer_as_those_that_are_not_there() {
    let world = World::start().await;
    let (john, jane) = (world.user("john"), world.user("jane"));
    let made = world.as_one(&john, "POST", "/v1/subscriptions", SUBSCRIPTION);
    assert_eq!(made.status, 201);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let paths = [
        ("GET", "/v1/subscriptions/NAME", ""),
        ("DELETE", "/v1/subscriptions/NAME", ""),
        ("POST", "/v1/subscriptions/NAME/pause", "{}"),
        ("POST", "/v1/subscriptions/NAME/resume", "{}"),
        ("GET", "/v1/subscriptions/NAME/dead-letters", ""),
    ];
    let missing = format!("sub_{}", "0".repeat(id.len() - 4));
    for (method, path, body) in paths {
        for (foreign, absent) in [("phone", "tablet"), (id.as_str(), missing.as_str())] {
            let foreign_answer = world.as_one(&jane, method, &path.replace("NAME", foreign), body);
            let absent_answer = world.as_one(&jane, method, &path.replace("NAME", absent), body);
            assert_eq!(foreign_answer.status, 404, "{path}");
            let body = absent_answer.body.replace(absent, foreign);
            assert_eq!(foreign_answer.body, body);
        }
    }
    assert_eq!(world.as_one(&jane, "GET", "/v1/subscriptions", "").body, r#"{"subscriptions":[]}"#);
    assert_eq!(world.as_one(&jane, "POST", "/v1/subscriptions", SUBSCRIPTION).status, 201);
    assert_eq!(world.as_one(&jane, "POST", "/v1/subscriptions", SUBSCRIPTION).status, 409);
    let world = world.restart().await;
    let kept = world.as_one(&john, "GET", "/v1/subscriptions/phone", "").json();
    assert_eq!((&kept["id"], &kept["name"]), (&id.into(), &"phone".into()));
    assert_eq!(world.get("/v1/subscriptions").json()["subscriptions"].as_array().unwrap().len(), 2);
    world.stop().await;
}

/// Whoever runs the hub sees everybody's, and does nothing to one that only happens to be called so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_whoever_runs_the_hub_means_their_own_by_a_name_and_others_by_their_ids() {
    let world = World::start().await;
    let (john, jane) = (world.user("john"), world.user("jane"));
    for token in [&john, &jane] {
        assert_eq!(world.as_one(token, "POST", "/v1/subscriptions", SUBSCRIPTION).status, 201);
    }
    for (method, path) in [
        ("GET", "/v1/subscriptions/phone"),
        ("POST", "/v1/subscriptions/phone/pause"),
        ("DELETE", "/v1/subscriptions/phone"),
    ] {
        let answer = world.ask(method, path, &[("Content-Type", "application/json")], b"");
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    let all = world.get("/v1/subscriptions").json()["subscriptions"].clone();
    let owners: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["owner"]).collect();
    assert_eq!(owners, ["john", "jane"]);
    let path = format!("/v1/subscriptions/{}", all[0]["id"].as_str().unwrap());
    assert_eq!(world.ask("DELETE", &path, &[], b"").status, 204);
    assert_eq!(world.as_one(&john, "GET", "/v1/subscriptions/phone", "").status, 404);
    assert_eq!(world.as_one(&jane, "GET", "/v1/subscriptions/phone", "").status, 200);
    // Their own is what the name means, as soon as there is one.
    let json = [("Content-Type", "application/json")];
    let own = world.ask("POST", "/v1/subscriptions", &json, SUBSCRIPTION.as_bytes());
    assert_eq!(own.status, 201, "{}", own.body);
    assert!(world.get("/v1/subscriptions/phone").json()["owner"].is_null());
    assert_eq!(world.ask("DELETE", "/v1/subscriptions/phone", &[], b"").status, 204);
    assert_eq!(world.ask("DELETE", "/v1/subscriptions/phone", &[], b"").status, 404);
    assert_eq!(world.as_one(&jane, "GET", "/v1/subscriptions/phone", "").status, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_an_open_stream_is_closed_when_its_token_ends() {
    let world = World::start().await;
    for name in ["john", "short"] {
        let token = match name {
            "short" => world.token(&json!({
                "name": name, "role": "user", "users": ["john"],
                "expires": jiff_in(Duration::from_secs(5)),
            })),
            _ => world.user(name),
        };
        let bearer = format!("Bearer {token}");
        let mut stream = std::net::TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /v1/events HTTP/1.0\r\nAuthorization: {bearer}\r\nAccept: application/x-ndjson\r\n\r\n"
        );
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.0 200");
        if name == "john" {
            assert_eq!(world.ask("DELETE", "/v1/tokens/john", &[], b"").status, 204);
        }
        // Its end, and not that of our patience.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(world.as_one(&token, "GET", "/v1/subscriptions", "").status, 401);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_publisher_does_not_use_up_the_ids_of_anothers_events() {
    let world = World::start().await;
    let publisher = |name: &str, host: &str| {
        world.token(&json!({
            "name": name, "role": "service", "scope": ["publish"], "stores": [host],
        }))
    };
    let (first, second) = (publisher("first", "a.example"), publisher("second", "b.example"));
    let hand_in = |world: &World, token: &str, host: &str, own: bool| {
        let mut event = json!({
            "event": "Login", "uri": format!("imap://{host}/"),
            "timestamp": "2026-08-20T13:34:14+02:00", "user": "john", "serverDomain": host,
            "serverPort": 993,
        });
        let mut kind = "application/json";
        if own {
            event["vnd.postbell.eventId"] = "01ARZ3NDEKTSV4RRFFQ69G5FAV".into();
        } else {
            kind = "application/cloudevents+json";
            event = json!({
                "specversion": "1.0", "id": "1042", "source": "/mail", "data": event,
                "type": "org.ietf.rfc5423.Login",
            });
        }
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        let answer =
            world.ask_plainly("POST", "/v1/events", &headers, event.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["verdicts"][0].clone()
    };
    let mut told = Vec::new();
    for own in [true, false] {
        assert_eq!(hand_in(&world, &second, "b.example", own)["verdict"], "accepted");
        let made = hand_in(&world, &first, "a.example", own);
        assert_eq!(made["verdict"], "accepted", "{made}");
        told.push(made);
    }
    // The answer names the id that readers get.
    let admin = world.token.clone();
    let seen = world.seen_by(&admin, "");
    let ids: Vec<_> = seen.iter().map(|one| &one["vnd.postbell.eventId"]).collect();
    assert_eq!([ids[1], ids[3]], [&told[0]["eventId"], &told[1]["eventId"]]);
    // A repeat is one, also after a restart.
    let world = world.restart().await;
    for (own, before) in [true, false].into_iter().zip(&told) {
        let again = hand_in(&world, &first, "a.example", own);
        assert_eq!((&again["verdict"], &again["seq"]), (&"repeated".into(), &before["seq"]));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_two_stores_users_of_one_name_see_nothing_of_each_other() {
    let world = World::start().await;
    let login = |host: &str| {
        format!(
            r#"{{"event":"Login","uri":"imap://{host}/","timestamp":"2026-08-20T13:34:14+02:00","user":"john","serverDomain":"{host}","serverPort":993}}"#
        )
    };
    let hosts = ["mail.example.org", "mail2.example.org"];
    let answer = world.publish("application/x-ndjson", &hosts.map(login).join("\n"));
    assert_eq!(answer.json()["accepted"], 2, "{}", answer.body);
    let (own, other) = (
        world.user("john"),
        world.token(
            &json!({ "name": "john2", "role": "user", "users": ["john"], "stores": [hosts[1]] }),
        ),
    );
    let seen = |token: &str| {
        let told = world.seen_by(token, "");
        told.iter().map(|one| one["serverDomain"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((seen(&own), seen(&other)), (vec![hosts[0].to_owned()], vec![hosts[1].to_owned()]));
    // Both may call a subscription of theirs the same, and neither has the other's.
    for token in [&own, &other] {
        let made = world.as_one(token, "POST", "/v1/subscriptions", SUBSCRIPTION);
        assert_eq!(made.status, 201, "{}", made.body);
        let listed = world.as_one(token, "GET", "/v1/subscriptions", "").json();
        assert_eq!(listed["subscriptions"].as_array().unwrap().len(), 1, "{listed}");
    }
    assert_eq!(world.as_one(&own, "DELETE", "/v1/subscriptions/phone", "").status, 204);
    let world = world.restart().await;
    assert_eq!(world.as_one(&own, "GET", "/v1/subscriptions/phone", "").status, 404);
    assert_eq!(world.as_one(&other, "GET", "/v1/subscriptions/phone", "").status, 200);
    let listed = world.get("/v1/tokens").json();
    assert_eq!(listed["tokens"][0]["stores"], json!([hosts[0]]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r157_one_user_has_one_share_however_their_name_is_spelt() {
    let world = World::start_with(|config| {
        config.policy.user.subscriptions = 2;
        config.policy.user.streams = 1;
    })
    .await;
    let made = ["john", "John", "JOHN"].map(|name| {
        let token = world.user(name);
        let answer = world.as_one(&token, "POST", "/v1/subscriptions", SUBSCRIPTION);
        (answer.status, token)
    });
    assert_eq!(made.each_ref().map(|(status, _)| *status), [201, 201, 409]);
    let [(_, first), (_, second), _] = &made;
    let open = world.open_as("/v1/events", &format!("Authorization: Bearer {first}\r\n"));
    assert_eq!(world.as_one(second, "GET", "/v1/events?follow=false", "").status, 429);
    drop(open);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_publisher_hands_in_what_is_of_its_stores_and_the_rest_is_refused_by_itself() {
    let world = World::start_with(|config| config.store.host = "own.example".to_owned()).await;
    let event = |host: &str, number: u32| {
        format!(
            r#"{{"event":"Login","uri":"imap://{host}/","timestamp":"2026-08-20T13:34:14+02:00","user":"u{number}","serverDomain":"{host}","serverPort":993}}"#
        )
    };
    let token = |name: &str, stores: &Value| {
        let new =
            json!({ "name": name, "role": "service", "scope": ["publish"], "stores": stores });
        world.token(&new)
    };
    let tokens = [
        ("own", token("own", &json!([])), "own.example"),
        ("named", token("named", &json!(["a.example", "B.example"])), "a.example b.example"),
        ("any", token("any", &json!(["*"])), "own.example a.example b.example"),
        ("admin", world.token.clone(), "own.example a.example b.example"),
    ];
    let hosts = ["own.example", "a.example", "b.example"];
    for ((name, token, speaks_for), number) in tokens.iter().zip(0..) {
        let events: Vec<_> = hosts.iter().map(|host| event(host, number)).collect();
        let body = format!("[{}]", events.join(","));
        let batch = world.as_one(token, "POST", "/v1/events", &body).json();
        for (place, (host, lone)) in hosts.iter().zip(&events).enumerate() {
            let may = speaks_for.split(' ').any(|one| one == *host);
            let verdict = &batch["verdicts"][place];
            let expected = if may { "accepted" } else { "rejected" };
            assert_eq!(verdict["verdict"], expected, "{name} {host}: {batch}");
            let answer = world.as_one(token, "POST", "/v1/events", lone);
            assert_eq!(answer.status, if may { 200 } else { 422 }, "{name} {host}");
            if !may {
                assert_eq!(verdict["parameter"], "uri");
                let error = verdict["error"].as_str().unwrap();
                assert!(error.contains(&format!("names the store {host:?}")), "{error}");
            }
        }
    }
    let listed = world.get("/v1/tokens").json();
    assert_eq!(listed["tokens"][0]["stores"], json!(["own.example"]));
    // What was decided at the door of a token is decided there again after a restart.
    let world = world.restart().await;
    let answer = world.as_one(&tokens[1].1, "POST", "/v1/events", &event("other.example", 9));
    assert_eq!(answer.status, 422, "{}", answer.body);
    world.stop().await;
}

fn jiff_in(long: Duration) -> String {
    let at = std::time::SystemTime::now() + long;
    let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// Dice with a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap()
    }
}

const USERS: [&str; 4] = ["ann", "ben", "cleo", "ann%40x"];

/// An event of which every private name says whose it is.
fn made_up(dice: &mut Dice, number: usize) -> (String, Option<usize>) {
    let time = format!("2026-08-20T13:34:14.{number:03}+02:00");
    let (owner, actor) = (dice.roll(USERS.len()), dice.roll(USERS.len()));
    let plain = |user: usize| USERS[user].replace("%40", "@");
    let of = |user: usize| format!("imap://{}@mail.example.org/own-{user}-", USERS[user]);
    match dice.roll(5) {
        0 => (
            format!(
                r#"{{"event":"Login","uri":"imap://mail.example.org/","timestamp":"{time}","user":"{}","serverDomain":"own-{owner}-.example","serverPort":993}}"#,
                plain(owner)
            ),
            Some(owner),
        ),
        1 => (
            format!(
                r#"{{"event":"MailboxSubscribe","uri":"{0}","timestamp":"{time}","mailboxID":"{0}","user":"{1}"}}"#,
                of(owner),
                plain(actor)
            ),
            Some(owner),
        ),
        2 => (
            format!(
                r#"{{"event":"MailboxRename","uri":"{0}a","timestamp":"{time}","mailboxID":"{0}a","oldMailboxID":"{1}b","user":"{2}"}}"#,
                of(owner),
                of(actor),
                plain(owner)
            ),
            (owner == actor).then_some(owner),
        ),
        3 => (
            format!(
                r#"{{"event":"MailboxDelete","uri":"{0}","timestamp":"{time}","mailboxID":"{0}","user":"{1}","vnd.example.from":"{2}"}}"#,
                of(owner),
                plain(owner),
                of(actor)
            ),
            Some(owner),
        ),
        _ => (
            format!(
                r#"{{"event":"vnd.example.Maintenance","uri":"imap://mail.example.org/","timestamp":"{time}","vnd.example.of":"own-{owner}-"}}"#
            ),
            None,
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_whatever_happens_and_whatever_is_asked_a_user_gets_all_of_their_own_and_no_more() {
    let world = World::start().await;
    let mut dice = Dice(5423);
    let made: Vec<_> = (0..600).map(|number| made_up(&mut dice, number)).collect();
    let lines: Vec<_> = made.iter().map(|(line, _)| line.as_str()).collect();
    let answer = world.publish("application/x-ndjson", &lines.join("\n"));
    assert_eq!(answer.json()["accepted"], 600, "{}", answer.body);
    let queries = [
        "",
        "&users=ann,ben,cleo",
        "&users=ben",
        "&parameters=*",
        "&events=MailboxRename,Login",
        "&mailboxes=*",
        "&parameters=oldMailboxID,vnd.example.from",
    ];
    for (user, name) in USERS.iter().enumerate() {
        let name = name.replace("%40", "@");
        let token =
            world.token(&json!({ "name": format!("u{user}"), "role": "user", "users": [name] }));
        for query in queries {
            let told = world.seen_by(&token, query);
            let text = serde_json::to_string(&told).unwrap();
            for other in (0..USERS.len()).filter(|other| *other != user) {
                assert!(!text.contains(&format!("own-{other}-")), "{name} {query}: {text}");
            }
            if query.is_empty() {
                let own = (1_u64..).zip(&made).filter(|(_, (_, of))| *of == Some(user));
                let own: Vec<u64> = own.map(|(seq, _)| seq).collect();
                let seen: Vec<u64> =
                    told.iter().map(|one| one["vnd.postbell.seq"].as_u64().unwrap()).collect();
                assert_eq!(seen, own);
            }
        }
        // Nobody, and somebody who isn't there, answer the same.
        assert_eq!(world.seen_by(&token, "&users=nobody").len(), 0);
    }
    let limited = world.token(
        &json!({ "name": "crm", "role": "service", "scope": ["read"], "users": ["ann", "ben"] }),
    );
    let told = serde_json::to_string(&world.seen_by(&limited, "&parameters=*")).unwrap();
    assert!(told.contains("own-0-") && told.contains("own-1-"));
    assert!(!told.contains("own-2-") && !told.contains("own-3-"));
    let all = world.token(&json!({ "name": "all", "role": "service", "scope": ["read"] }));
    assert_eq!(world.seen_by(&all, "").len(), 600);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_clients_of_an_unnamed_proxy_here_take_no_more_of_the_stores_time_than_one_network() {
    // A store that takes connections, and for ever to answer.
    let store = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = store.local_addr().unwrap();
    let world = World::start_with(|config| config.login.imap = Some(address)).await;
    let log_in = |user: u32, added: &str| {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("u{user}:x"));
        let head = format!(
            "POST /v1/login HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: Basic {basic}\r\n{added}\r\n"
        );
        let mut stream = std::net::TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        stream
    };
    let mut asking = Vec::new();
    for number in 0..8 {
        asking.push((log_in(number, "X-Forwarded-For: 192.0.2.7\r\n"), store.accept().unwrap()));
    }
    for added in ["X-Forwarded-For: 198.51.100.7\r\n", "Forwarded: for=198.51.100.7\r\n"] {
        let mut status = [0; 12];
        log_in(9, added).read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 429", "{added}");
    }
    // This machine's own program asks beside them.
    asking.push((log_in(10, ""), store.accept().unwrap()));
    drop(asking);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_lets_nobody_in_and_says_so() {
    let nobody = Nobody::listens().unwrap();
    let world = World::start_with(|config| config.login.imap = Some(nobody.address())).await;
    // john:secret
    let basic = [("Authorization", "Basic am9objpzZWNyZXQ=")];
    let log_in = || world.ask_plainly("POST", "/v1/login", &basic, b"");
    let answer = log_in();
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
    let statuses: BTreeSet<_> = (0..20).map(|_| log_in().status).collect();
    assert_eq!(statuses, BTreeSet::from([429, 503]));
    world.stop().await;
    // Where nobody can log in, it is no path.
    let world = World::start().await;
    let none = world.ask_plainly("GET", "/v1/nothing", &[], b"");
    let answer = world.ask_plainly("POST", "/v1/login", &basic, b"");
    assert_eq!((answer.status, answer.body), (401, none.body));
    world.stop().await;
}
