//! People whose JWTs are to let in no more, whatever their issuer still says of them.

use postbell_testkit::issuer::{Issuer, SigningKey};
use postbell_testkit::tls::{Authority, FAR};
use serde_json::{Value, json};

use crate::authorities::over_tls;
use crate::forms::{FORMS, Key, Reader};
use crate::oidc::{claims, mail, now, trusting};
use crate::world::{Answer, World, wait_until};

const DENIED: &str = "/v1/tokens/denied";

impl World {
    fn deny(&self, whom: &Value) -> Answer {
        let json = [("Content-Type", "application/json")];
        self.ask("POST", DENIED, &json, whom.to_string().as_bytes())
    }

    fn allow(&self, query: &str) -> u16 {
        self.ask("DELETE", &format!("{DENIED}?{query}"), &[], b"").status
    }

    /// The denials there are, without since when.
    fn denied(&self) -> Value {
        let mut denied = self.get(DENIED).json()["denied"].take();
        for one in denied.as_array_mut().unwrap() {
            assert!(one.as_object_mut().unwrap().remove("since").is_some());
        }
        denied
    }

    fn status_of(&self, jwt: &str) -> u16 {
        self.as_one(jwt, "GET", "/v1/subscriptions", "").status
    }

    fn metric(&self, name: &str) -> String {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap().split(' ').nth(1).unwrap().to_owned()
    }
}

/// All of an answer but when it was given.
fn told(answer: &Answer) -> (u16, String, &str) {
    let head = answer.head.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
    (answer.status, head.collect::<Vec<_>>().join("\n"), &answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_a_subject_that_is_denied_is_out_at_once_and_over_restarts_until_they_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let pair = authority.server("issuer", &["localhost"], FAR).unwrap();
    let url = format!("https://localhost:{}", over_tls(&pair, issuer.address()).await);
    issuer.discovery(&url, &format!("{url}/keys"));
    let trust = || {
        let (trust, ca) = (trusting(&url), folder.path().join("ca.pem"));
        |config: &mut postbell_hub::Config| {
            trust(config);
            config.oidc.ca = ca;
        }
    };
    let jwt = |user: &str| key.token(&claims(&issuer, user, &json!({ "iss": &url })));
    let (john, jane) = (jwt("john"), jwt("jane"));
    let world = World::start_with(trust()).await;
    assert_eq!((world.status_of(&john), world.status_of(&jane)), (200, 200));
    // What was opened already, by the JWT and by a ticket that was had with it.
    for form in FORMS {
        let (unused, ticket) = (Key::Ticket(world.ticket(&john)), Key::Ticket(world.ticket(&john)));
        let mut open = [Key::Token(john.clone()), ticket]
            .map(|key| Reader::open(&world, form, &key, "since=0").unwrap());
        let mut other =
            Reader::open(&world, form, &Key::Token(jane.clone()), "since=0&limit=1").unwrap();
        assert_eq!(world.deny(&json!({ "subject": "id-of-john" })).status, 201);
        for reader in &mut open {
            assert_eq!(reader.next(), None, "{form:?}");
            assert!(reader.farewell().is_none_or(|said| said == "1008 the token has ended"));
        }
        assert_eq!(Reader::open(&world, form, &unused, "").err(), Some(401), "{form:?}");
        assert_eq!(world.status_of(&john), 401);
        // Nobody else is.
        assert_eq!(world.publish("application/json", &mail("jane")).status, 200);
        assert!(other.next().unwrap().contains("jane@"));
        assert_eq!((world.status_of(&jane), world.allow("subject=id-of-john")), (200, 204));
        assert_eq!(world.status_of(&john), 200);
    }
    assert_eq!(world.deny(&json!({ "subject": "id-of-john" })).status, 201);
    // A token that is made later is theirs as well.
    let newer = json!({ "iss": &url, "iat": now() + 1, "jti": "another" });
    assert_eq!(world.status_of(&key.token(&claims(&issuer, "john", &newer))), 401);
    let world = World::start_in(world.stop().await, trust()).await;
    assert_eq!((world.status_of(&john), world.status_of(&jane)), (401, 200));
    assert_eq!(world.denied(), json!([{ "issuer": url, "subject": "id-of-john" }]));
    assert_eq!((world.allow("subject=id-of-john"), world.status_of(&john)), (204, 200));
    let world = World::start_in(world.stop().await, trust()).await;
    assert_eq!((world.status_of(&john), world.denied()), (200, json!([])));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_denied_jwt_answers_as_any_that_is_not_good_and_tells_nobody_who_is_denied() {
    let (key, other) = (SigningKey::p256("one"), SigningKey::p256("one"));
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    let ask = |key: &SigningKey, change: Value| {
        let jwt = key.token(&claims(&issuer, "john", &change));
        world.as_one(&jwt, "GET", "/v1/events?follow=false", "")
    };
    let changes = [
        json!({}),
        json!({ "aud": "webmail" }),
        json!({ "exp": now() - 600 }),
        json!({ "preferred_username": null }),
        json!({ "jti": "this one" }),
    ];
    let before = [&key, &other].map(|key| changes.clone().map(|change| ask(key, change)));
    assert_eq!(before[0].each_ref().map(|answer| answer.status), [200, 401, 401, 401, 200]);
    assert_eq!(world.deny(&json!({ "jti": "this one" })).status, 201);
    let by_id = ask(&key, json!({ "jti": "this one" }));
    assert_eq!(told(&by_id), told(&before[0][2]), "as one that has expired");
    assert_eq!(ask(&key, json!({ "jti": "this One" })).status, 200);
    assert_eq!(world.deny(&json!({ "subject": "id-of-john" })).status, 201);
    let by_subject = ask(&key, json!({}));
    assert_eq!(told(&by_subject), told(&before[0][3]), "as one without a user");
    // Whatever is wrong with one besides is told as before: who makes one up learns nothing.
    for (key, before) in [&key, &other].iter().zip(&before) {
        for (change, before) in changes.iter().zip(before).filter(|(_, one)| one.status != 200) {
            assert_eq!(told(&ask(key, change.clone())), told(before), "{change}");
        }
    }
    let counted = ["postbell_http_denied_total", "postbell_denials"].map(|name| world.metric(name));
    assert_eq!(counted, ["2", "2"]);
    // Another issuer's subjects are others.
    let second = Issuer::start([&key]).unwrap();
    let world = World::start_in(world.stop().await, trusting(&second.url())).await;
    assert_eq!(world.status_of(&key.token(&claims(&second, "john", &json!({})))), 200);
    assert_eq!(world.denied()[0]["issuer"], issuer.url());
    assert_eq!((world.allow("jti=this%20one"), world.allow("subject=id-of-john")), (204, 204));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_a_denial_holds_as_long_as_it_says_and_is_an_admins_alone() {
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    let jwt = |user: &str, change: Value| key.token(&claims(&issuer, user, &change));
    let admin = json!({ "realm_access": { "roles": ["postbell-admin"] } });
    let (john, root) = (jwt("john", json!({})), jwt("root", admin));
    let mut soon = jiff::Timestamp::now();
    for (status, until) in [(201, None), (200, Some(std::time::Duration::from_secs(5)))] {
        let until = match until {
            None => "2999-01-01T00:00:00Z".to_owned(),
            Some(wait) => {
                soon = jiff::Timestamp::now() + wait;
                soon.to_string()
            }
        };
        let answer = world.deny(&json!({ "subject": "id-of-john", "until": until }));
        assert_eq!((answer.status, &answer.json()["subject"]), (status, &"id-of-john".into()));
    }
    wait_until(|| world.status_of(&john) == 200).await;
    assert!(jiff::Timestamp::now() >= soon);
    assert_eq!((world.denied(), world.allow("subject=id-of-john")), (json!([]), 404));
    for method in ["GET", "POST", "DELETE"] {
        for token in [&john, &world.user(method)] {
            let path = format!("{DENIED}?subject=id-of-root");
            assert_eq!(world.as_one(token, method, &path, "").status, 403, "{method}");
        }
    }
    let of_root = json!({ "subject": "id-of-root" }).to_string();
    assert_eq!(world.as_one(&root, "POST", DENIED, &of_root).status, 201, "also oneself");
    assert_eq!(
        world.as_one(&root, "DELETE", &format!("{DENIED}?subject=id-of-root"), "").status,
        401
    );
    let world = World::start_in(world.stop().await, |_| {}).await;
    let answer = world.deny(&json!({ "subject": "id-of-john" }));
    assert_eq!(
        (answer.status, answer.json()["detail"].as_str()),
        (409, Some("oidc.issuer is not configured: no JWT lets in"))
    );
    assert_eq!(world.allow("subject=id-of-root"), 204);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_denial_gets_one_line_that_names_what_is_wrong() {
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    let mut lines = Vec::new();
    for whom in [
        json!({}),
        json!({ "subject": "a", "jti": "b" }),
        json!({ "subject": "" }),
        json!({ "jti": "x".repeat(1_025) }),
        json!({ "subject": 4711 }),
        json!({ "sub": "a" }),
        json!({ "subject": "a", "until": "tomorrow" }),
        json!({ "subject": "a", "until": "2001-01-01T00:00:00Z" }),
    ] {
        let answer = world.deny(&whom);
        let problem = answer.json();
        let whom: String = whom.to_string().chars().take(60).collect();
        lines.push(format!(
            "{whom}: {} {} ({})",
            answer.status, problem["detail"], problem["pointer"]
        ));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(world.denied(), json!([]));
    world.stop().await;
}
