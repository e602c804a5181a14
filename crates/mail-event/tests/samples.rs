//! What deployed stores send: each line of `fixtures` is read, or refused with a clear reason.
//!
//! `cyrus.jsonl` comes from Cyrus 3.6 (cut down, and with invented names); `others.jsonl` holds
//! what is told of LBBS, Open-Xchange's Dovecot driver and older Cyrus (requirements R140, R147).
#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

use std::fmt::Write as _;

use mail_event::json;

#[test]
fn r106_r113_r116_r133_r147_what_cyrus_sends_is_read() {
    judge("cyrus", include_str!("fixtures/cyrus.jsonl"), include_str!("fixtures/cyrus.txt"));
}

#[test]
fn r140_r143_r147_what_other_stores_send_is_read() {
    judge("others", include_str!("fixtures/others.jsonl"), include_str!("fixtures/others.txt"));
}

fn judge(name: &str, lines: &str, expected: &str) {
    let mut told = String::new();
    for line in lines.lines() {
        match json::from_slice(line.as_bytes()) {
            Ok(parsed) => {
                let strict = json::to_string(&parsed.event);
                writeln!(told, "{strict}").unwrap();
                for repair in &parsed.repairs {
                    writeln!(told, "    {repair}").unwrap();
                }
                let again = json::from_slice(strict.as_bytes()).unwrap();
                assert_eq!((again.event, again.repairs), (parsed.event, Vec::new()));
            }
            Err(error) => writeln!(told, "refused: {error}").unwrap(),
        }
    }
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        std::fs::write(format!("{folder}/{name}.txt"), &told).unwrap();
        return;
    }
    assert_eq!(told, expected, "see the difference, then run with UPDATE_FIXTURES=1");
}
