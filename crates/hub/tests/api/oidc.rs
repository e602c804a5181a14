//! JWTs of a real issuer: over HTTP, with keys made for the test.

use std::time::{Duration, Instant, SystemTime};

use postbell_hub::{Config, OidcAlgorithm, OidcConfig, OidcRole, OidcRoleConfig};
use postbell_testkit::issuer::{Issuer, SigningKey, jwks};
use postbell_testkit::tls::{Authority, FAR};
use serde_json::{Value, json};

use crate::authorities::over_tls;
use crate::world::{Answer, World, wait_until};

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn trusting(issuer: &str) -> impl FnOnce(&mut Config) + use<> {
    let oidc = OidcConfig {
        issuer: issuer.to_owned(),
        audience: "postbell".to_owned(),
        algorithms: vec![OidcAlgorithm::ES256, OidcAlgorithm::EdDSA],
        user_claim: "preferred_username".to_owned(),
        roles_claim: "/realm_access/roles".to_owned(),
        roles: vec![
            role("postbell-admin", OidcRole::Admin, &[]),
            role("prometheus", OidcRole::Service, &["monitor"]),
            role("reader", OidcRole::User, &["read"]),
        ],
        ..OidcConfig::default()
    };
    |config| config.oidc = oidc
}

fn role(value: &str, role: OidcRole, scope: &[&str]) -> OidcRoleConfig {
    let scope = scope.iter().map(|&scope| scope.to_owned()).collect();
    OidcRoleConfig { value: value.to_owned(), role, scope, stores: Vec::new() }
}

pub(crate) fn claims(issuer: &Issuer, user: &str, change: &Value) -> String {
    let mut claims = json!({
        "iss": issuer.url(), "sub": format!("id-of-{user}"), "aud": "postbell",
        "exp": now() + 600, "iat": now(), "preferred_username": user,
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    claims.to_string()
}

impl World {
    fn subscriptions(&self, token: &str) -> Answer {
        self.as_one(token, "GET", "/v1/subscriptions", "")
    }
}

pub(crate) fn mail(user: &str) -> String {
    format!(
        r#"{{"event":"MessageNew","uri":"imap://{user}@mail.example.org/INBOX;UIDVALIDITY=7/;UID=1","timestamp":"2026-08-20T13:34:14+02:00","messageSize":5}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_r162_a_jwt_lets_in_whom_its_claims_name() {
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    for user in ["john", "jane"] {
        assert_eq!(world.publish("application/json", &mail(user)).status, 200);
    }
    let token = |user: &str, change: Value| key.token(&claims(&issuer, user, &change));
    let roles = |role: &str| json!({ "realm_access": { "roles": ["x", role] } });
    let john = token("john", json!({}));
    let seen = world.seen_by(&john, "");
    assert_eq!(seen.len(), 1);
    assert!(seen[0]["uri"].as_str().unwrap().contains("john@"));
    let ask = |token: &str, path: &str| world.as_one(token, "GET", path, "").status;
    assert_eq!((ask(&john, "/v1/tokens"), ask(&john, "/metrics")), (403, 403));
    assert_eq!(ask(&token("root", roles("postbell-admin")), "/v1/tokens"), 200);
    let prometheus = token("p", roles("prometheus"));
    assert_eq!((ask(&prometheus, "/metrics"), ask(&prometheus, "/v1/subscriptions")), (200, 403));
    let reader = token("john", roles("reader"));
    assert_eq!((world.seen_by(&reader, "").len(), ask(&reader, "/v1/subscriptions")), (1, 403));
    // What goes on by itself needs a token that the hub keeps; what is a person's already is theirs.
    let made = r#"{"name":"phone","sink":{"kind":"webhook","url":"https://example.org/hook"}}"#;
    let root = token("root", roles("postbell-admin"));
    for jwt in [&john, &root] {
        assert_eq!(world.as_one(jwt, "POST", "/v1/subscriptions", made).status, 403);
        assert_eq!(world.as_one(jwt, "PUT", "/v1/subscriptions/phone", made).status, 403);
    }
    assert_eq!(world.as_one(&world.user("john"), "POST", "/v1/subscriptions", made).status, 201);
    assert_eq!(ask(&john, "/v1/subscriptions/phone"), 200);
    assert_eq!(world.as_one(&john, "POST", "/v1/subscriptions/phone/pause", "").status, 200);
    assert_eq!(world.as_one(&john, "POST", "/v1/subscriptions/phone/resume", "").status, 403);
    assert_eq!(ask(&token("jane", json!({})), "/v1/subscriptions/phone"), 404);
    // The hub's own go on beside.
    assert_eq!(
        (ask(&world.user("jane"), "/v1/subscriptions"), world.get("/v1/tokens").status),
        (200, 200)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_jwt_that_is_not_good_is_told_why_and_opens_nothing() {
    let key = SigningKey::p256("one");
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    let mut told = Vec::new();
    for (what, change) in [
        ("expired", json!({ "exp": now() - 600 })),
        ("for another", json!({ "aud": "webmail" })),
        ("of another", json!({ "iss": "https://id.example.org" })),
        ("not yet", json!({ "nbf": now() + 600 })),
        ("without a user", json!({ "preferred_username": null })),
        ("with no user's name", json!({ "preferred_username": "john\u{0}" })),
    ] {
        let answer = world.subscriptions(&key.token(&claims(&issuer, "john", &change)));
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
        let challenge = answer.header("WWW-Authenticate").unwrap().to_owned();
        assert!(!format!("{challenge}{}", answer.body).contains("john"));
        told.push(format!("{what}: {challenge}\n{}", answer.body));
    }
    insta::assert_snapshot!(told.join("\n"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_keys_are_replaced_while_the_hub_runs_and_made_up_ones_have_nobody_asked() {
    let (first, second) = (SigningKey::ed25519("first"), SigningKey::p256("second"));
    let issuer = Issuer::start([&first]).unwrap();
    issuer.fail();
    let world = World::start_with(trusting(&issuer.url())).await;
    wait_until(|| issuer.asked() > 0).await;
    // Nobody can say whether it is good.
    let john = first.token(&claims(&issuer, "john", &json!({})));
    let answer = world.subscriptions(&john);
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("10")));
    let (asked, began) = (issuer.asked(), Instant::now());
    for number in 0..50 {
        let made_up = SigningKey::ed25519(&format!("made-up-{number}"));
        world.subscriptions(&made_up.token(&claims(&issuer, "john", &json!({}))));
    }
    // Once in ten seconds, however long the fifty took.
    let since = began.elapsed().as_secs() / 10 + 1;
    assert!((issuer.asked() - asked) as u64 <= since);
    world.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks([&first])).unwrap();
    let trust = trusting(&issuer.url());
    let world = World::start_with(|config| {
        trust(config);
        config.oidc.jwks_file = file.clone();
    })
    .await;
    wait_until(|| world.subscriptions(&john).status == 200).await;
    std::fs::write(&file, jwks([&second])).unwrap();
    let newer = second.token(&claims(&issuer, "john", &json!({})));
    // An unknown key has them read anew, once in ten seconds.
    wait_until(|| world.subscriptions(&newer).status == 200).await;
    assert_eq!(world.subscriptions(&john).status, 401);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_an_issuer_is_believed_over_tls_where_its_certificate_is_from_whom_the_operator_names()
{
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    Authority::new(folder.path(), "other").unwrap();
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let pair = authority.server("issuer", &["localhost"], FAR).unwrap();
    let url = format!("https://localhost:{}", over_tls(&pair, issuer.address()).await);
    issuer.discovery(&url, &format!("{url}/keys"));
    let token = key.token(&claims(&issuer, "john", &json!({ "iss": &url })));
    for (ca, status) in [("ca.pem", 200), ("other.pem", 503), ("", 503)] {
        let trust = trusting(&url);
        let world = World::start_with(|config| {
            trust(config);
            config.oidc.ca = if ca.is_empty() { ca.into() } else { folder.path().join(ca) };
        })
        .await;
        assert_eq!(world.subscriptions(&token).status, status, "{ca}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_a_stream_is_closed_when_its_jwt_ends() {
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    let world = World::start_with(trusting(&issuer.url())).await;
    assert_eq!(world.publish("application/json", &mail("john")).status, 200);
    // Clocks are given half a minute, so that it ends in ten seconds.
    let token = key.token(&claims(&issuer, "john", &json!({ "exp": now() - 20 })));
    let headers = format!("Authorization: Bearer {token}\r\nAccept: application/x-ndjson\r\n");
    let mut stream = world.open_as("/v1/events?since=0", &headers);
    let read = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stream, &mut rest).map(|_| rest)
    });
    let read = tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    assert!(read.unwrap().unwrap().contains("john@"));
    assert_eq!(world.subscriptions(&token).status, 401);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_an_issuer_that_calls_itself_otherwise_or_leads_elsewhere_is_not_believed() {
    let key = SigningKey::ed25519("one");
    let issuer = Issuer::start([&key]).unwrap();
    for (name, keys) in [
        ("https://id.example.org".to_owned(), format!("{}/keys", issuer.url())),
        (issuer.url(), "http://192.0.2.1/keys".to_owned()),
        (issuer.url(), "file:///etc/passwd".to_owned()),
    ] {
        issuer.discovery(&name, &keys);
        let world = World::start_with(trusting(&issuer.url())).await;
        let token = key.token(&claims(&issuer, "john", &json!({})));
        assert_eq!(world.subscriptions(&token).status, 503, "{name} {keys}");
        world.stop().await;
    }
}
