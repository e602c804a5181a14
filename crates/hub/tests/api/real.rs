//! Users who log in with the password of a real Dovecot.

mod url_auth;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postbell_testkit::{ALICE, Dovecot, password};

use crate::world::{Answer, World};

impl World {
    fn log_in(&self, user: &str, password: &str) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let headers = [("Authorization", basic.as_str())];
        self.ask_plainly("POST", "/v1/login", &headers, b"")
    }

    fn with(&self, token: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.ask_plainly("GET", path, &[("Authorization", bearer.as_str())], b"")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_user_logs_in_with_the_stores_password_and_sees_their_own() {
    let Some(dovecot) = Dovecot::start().unwrap() else { return };
    let world = World::start_with(|config| config.login.imap = Some(dovecot.imap_address())).await;
    let entered = world.log_in(ALICE, &password(ALICE));
    assert_eq!(entered.status, 201, "{}", entered.body);
    let shown = entered.json();
    assert_eq!((&shown["role"], &shown["users"][0]), (&"user".into(), &ALICE.into()));
    assert!(shown["expires"].is_string() && entered.header("cache-control") == Some("no-store"));
    let token = shown["token"].as_str().unwrap();
    assert_eq!(world.with(token, "/v1/events?follow=false").status, 200);
    assert_eq!(world.with(token, "/v1/status").status, 403);
    // A wrong password, somebody who isn't there, and what is no password at all: the same answer.
    let wrong = world.log_in(ALICE, "wrong");
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.body, world.log_in("nobody@example.org", "wrong").body);
    assert_eq!(wrong.body, world.log_in(ALICE, "a\0b").body);
    assert_eq!(wrong.body, world.ask_plainly("POST", "/v1/login", &[], b"").body);
    // Who runs the hub sees and ends such tokens, and nobody else makes one called so.
    assert!(world.get("/v1/tokens").body.contains("\"login-"));
    let json = [("Content-Type", "application/json")];
    let new = br#"{"name":"login-x","role":"admin"}"#;
    assert_eq!(world.ask("POST", "/v1/tokens", &json, new).status, 422);
    let path = format!("/v1/tokens/{}", shown["id"].as_str().unwrap());
    assert_eq!(world.ask("DELETE", &path, &[], b"").status, 204);
    assert_eq!(world.with(token, "/v1/events?follow=false").status, 401);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_guessing_passwords_is_slowed_down_before_the_store_is_asked() {
    let Some(dovecot) = Dovecot::start().unwrap() else { return };
    let world = World::start_with(|config| config.login.imap = Some(dovecot.imap_address())).await;
    // All at once: the store slows each down by seconds.
    let (world, answers) = tokio::task::spawn_blocking(move || {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let guesses: Vec<_> = (0..20)
                .map(|number| {
                    let world = &world;
                    scope.spawn(move || world.log_in(ALICE, &format!("guess{number}")))
                })
                .collect();
            guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
        });
        (world, answers)
    })
    .await
    .unwrap();
    let slowed = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)));
    assert!(slowed >= 8, "{slowed}");
    let answer = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(answer.header("retry-after").is_some());
    let failures = dovecot.whole_log().matches("auth failed").count();
    assert!(failures <= 12, "{failures}");
    // Another user is not kept out by that.
    assert_eq!(world.log_in("bob@example.org", &password("bob@example.org")).status, 201);
    world.stop().await;
}
