//! What the operator is told while private things pass.

use std::path::Path;

use postbell_testkit::{Hub, http};
use serde_json::{Value, json};

use crate::hub::{self, wait_for};

/// Mail, what users call their subscriptions and ask for in them, where these lead and every secret
/// are in no line of the log, which is JSON where that is asked for; and what went wrong is.
#[test]
fn r158_nothing_private_is_in_any_line_of_the_log() {
    let hub = hub::start_with(
        r#"
[policy]
content_max_octets = "5KiB"
envelope = true
[policy.user]
envelope = true
[log]
format = "json"
level = "debug"
"#,
    );
    let maildir = hub::maildir(&hub, "bob");
    let admin = hub.token().unwrap();
    let post = |path: &str, token: &str, body: &Value| {
        let answer = http::post(hub.address().unwrap(), path, Some(token), &body.to_string());
        answer.unwrap()
    };
    let made = post("/v1/tokens", &admin, &json!({"name": "p", "role": "user", "users": ["bob"]}));
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let users = made["token"].as_str().unwrap();
    // Nobody takes anything there.
    let subscription = json!({
        "name": "of-bobs-choosing",
        "where": "user == 'of-the-condition' || true",
        "parameters": ["*", "messageContent", "envelope"],
        "sink": {"kind": "webhook", "url": "http://127.0.0.1:9/of-the-hook?key=receivers-key"},
    });
    let subscribed = post("/v1/subscriptions", users, &subscription);
    assert_eq!(subscribed.status, 201, "{}", subscribed.body);
    let subscribed: Value = serde_json::from_str(&subscribed.body).unwrap();
    deliver(&maildir);
    let told = || hub.get("/v1/events?follow=false&since=0").unwrap().body;
    wait_for("the delivery", || told().contains("MessageNew"));
    let event = json!({
        "event": "MessageNew",
        "uri": "imap://bob@mail.example.org/INBOX;UIDVALIDITY=7/;UID=5",
        "mailboxID": "imap://bob@mail.example.org/INBOX;UIDVALIDITY=7",
        "timestamp": "2026-11-25T09:30:00.000+01:00",
        "messageSize": 38,
        "messageContent": "Subject: of-the-message\r\n\r\nof-the-body",
        "envelope": "MAIL FROM:<of-the-sender@example.org>\r\nRCPT TO:<bob@example.org>\r\n",
    });
    let taken = post("/v1/events", &admin, &event);
    assert_eq!(taken.status, 200, "{}", taken.body);
    let refused = json!({"event": "Login", "of-no-parameter": "of-the-message"});
    assert_eq!(post("/v1/events", &admin, &refused).status, 422);
    assert_eq!(post("/v1/events", "postbell_of-a-guess", &event).status, 401);
    let failed = || lines(&hub).into_iter().filter(|line| line["message"] == FAILED);
    wait_for("two failures", || failed().count() >= 2);
    let whose = subscribed["id"].as_str().unwrap();
    assert!(failed().all(|line| line["subscription"] == whose), "{}", hub.log());
    let secret = subscribed["secret"].as_str().unwrap_or("whsec_");
    for private in
        ["of-", "receivers-key", "@example.org", "messageContent", &admin, users, secret, "whsec_"]
    {
        let found = hub.log().lines().find(|line| line.contains(private)).map(str::to_owned);
        assert_eq!(found, None, "{private:?}");
    }
}

/// What the log says of an attempt that isn't the last.
const FAILED: &str = "an attempt failed";

/// Every line, as JSON, but for the one on standard output that says where it listens.
fn lines(hub: &Hub) -> Vec<Value> {
    let log = hub.log();
    // The last may be half there.
    let whole = log.rfind('\n').map_or("", |end| log.get(..end).unwrap_or_default());
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    whole.lines().filter(|line| !line.starts_with("postbell ")).map(read).collect()
}

fn deliver(maildir: &Path) {
    let text = "From: of-the-sender@example.org\r\nSubject: of-the-message\r\n\r\nof-the-body\r\n";
    std::fs::write(maildir.join("tmp/1.1.host"), text).unwrap();
    std::fs::rename(maildir.join("tmp/1.1.host"), maildir.join("new/1.1.host")).unwrap();
}
