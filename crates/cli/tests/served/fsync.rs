//! A disk that fails under a running hub.

use postbell_testkit::http;
use serde_json::Value;

use crate::hub;

/// What was acknowledged before the fsync that failed is there afterwards, nothing is acknowledged
/// after it, and everybody is told why.
#[test]
fn a_failed_fsync_is_told_to_everybody_and_ends_the_hub_without_a_loss() {
    let mut hub = hub::start();
    hub.kill();
    let library = hub::faults(hub.folder());
    let journal = hub.folder().join("data/journal").display().to_string();
    hub.resume_with(&[
        ("LD_PRELOAD", &library),
        ("FAULT_FOLDER", &journal),
        ("FAULT", "eio"),
        ("FAULT_CALLS", "sync"),
        ("FAULT_AT", "60"),
    ])
    .unwrap();
    let (address, token) = (hub.address().unwrap(), hub.token().unwrap());
    let publish_at = |address, number: u32| {
        let event = format!(
            r#"{{"event":"MailboxSubscribe","uri":"imap://a@h/{number}","mailboxID":"imap://a@h/{number}","timestamp":"2026-08-20T11:34:15Z","user":"a"}}"#
        );
        http::post(address, "/v1/events", Some(&token), &event).unwrap()
    };
    let publish = |number| publish_at(address, number);
    let mut acknowledged = 0;
    let refused = loop {
        let answer = publish(acknowledged + 1);
        if answer.status != 200 {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 1000, "no fsync failed");
    };
    assert!(acknowledged > 10, "{acknowledged}");
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("the journal has stopped: "), "{}", refused.body);
    let ready = http::get(address, "/readyz", None).unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.starts_with("the journal has stopped: "), "{}", ready.body);
    assert!(!ready.body.contains("os error"), "{}", ready.body);
    assert_eq!(publish(5000).status, 503, "one fsync that works proves nothing");
    assert_eq!(hub.ended(), Some(3));
    let log = hub.log();
    assert_eq!(log.matches("until the hub is started again").count(), 1, "{log}");

    hub.resume().unwrap();
    let address = hub.address().unwrap();
    let told = http::get(address, "/v1/status", Some(&token)).unwrap();
    let status: Value = serde_json::from_str(&told.body).unwrap();
    let last = status["journal"]["last"].as_u64().unwrap();
    // The one that was refused may be there as well: it was written, and nobody knew.
    assert!((acknowledged.into()..=u64::from(acknowledged) + 1).contains(&last), "{last}");
    let answer = publish_at(address, acknowledged);
    assert!(answer.body.contains(r#""repeated":1"#), "{}", answer.body);
    assert_eq!(publish_at(address, 5000).status, 200);
}
