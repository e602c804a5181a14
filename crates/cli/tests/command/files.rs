//! Commands that need no hub: events and configurations in files, completions and man pages.

use crate::run::{feed, run, transcript};

const EVENTS: &str = r#"{"event":"MessageNew","uri":"imap://john@mail.example.org/INBOX;UIDVALIDITY=1/;UID=6","timestamp":"2026-11-25T09:30:00.000+01:00","messageSize":976}

{"event":"MessageExpunge","uri":"imap://john@mail.example.org/INBOX;UIDVALIDITY=1","timestamp":"2026-11-25T09:30:00+01:00"}
{"event":"MessageRead","uri":"imap://john@mail.example.org/INBOX;UIDVALIDITY=1","uidset":"7,3:5","timestamp":"2026-11-25T08:30:00Z"}
{"event":"FlagsSet","uri":"imap://h/A;UIDVALIDITY=1","uidset":"1","timestamp":"yesterday","flagNames":["\\Seen"]}
nonsense
{
"#;

#[test]
fn validate_names_line_parameter_and_rule() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.ndjson"), EVENTS).unwrap();
    let mut text = String::new();
    for arguments in [
        &["validate", "events.ndjson"][..],
        &["validate", "--strict", "events.ndjson"],
        &["validate", "--json", "events.ndjson"],
        &["validate", "--repair", "events.ndjson"],
    ] {
        text.push_str(&transcript(arguments, &run(folder.path(), arguments)));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_repair_prints_is_strict() {
    let folder = tempfile::tempdir().unwrap();
    let repaired = feed(folder.path(), &["validate", "--repair"], EVENTS.as_bytes());
    let again = feed(folder.path(), &["validate", "--strict"], repaired.out.as_bytes());
    assert_eq!((again.code, again.err.as_str()), (0, "stdin: 2 events, 0 wrong\n"), "{repaired:?}");
}

#[test]
fn a_configuration_is_checked_line_by_line_and_printed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "data = 5\nlisen = \"127.0.0.1:1\"\n[log]\nlevel = \"loud\"\n";
    std::fs::write(folder.path().join("bad.toml"), bad).unwrap();
    std::fs::write(folder.path().join("good.toml"), "[sources.mail]\nroot = \"/m/%u\"\n").unwrap();
    let mut text = String::new();
    for arguments in [&["config", "check", "bad.toml"][..], &["config", "check", "good.toml"]] {
        text.push_str(&transcript(arguments, &run(folder.path(), arguments)));
    }
    insta::assert_snapshot!(text);
    let printed = run(folder.path(), &["config", "print", "--config", "good.toml"]);
    assert_eq!(printed.code, 0);
    std::fs::write(folder.path().join("printed.toml"), &printed.out).unwrap();
    let again = run(folder.path(), &["config", "print", "--config", "printed.toml"]);
    assert_eq!(again.out, printed.out);
    let piped = feed(folder.path(), &["config", "check", "-"], printed.out.as_bytes());
    assert_eq!((piped.code, piped.err.as_str()), (0, "stdin: right (1 source)\n"));
}

#[test]
fn a_subscription_is_explained_or_what_is_wrong_with_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "phone.json",
            r#"{"name": "phone", "events": ["message"], "users": ["john"], "mailboxes": ["INBOX", "Lists/%"], "where": "messageSize > 5", "sink": {"kind": "webhook", "url": "https://h/"}}"#,
        ),
        ("unknown.json", r#"{"wher": "true"}"#),
        ("kind.json", r#"{"events": "message"}"#),
        ("wrong.json", r#"{"where": "messagesize > 5"}"#),
        ("private.json", r#"{"parameters": ["*", "envelope"]}"#),
        (
            "chosen.json",
            r#"{"events": ["message", "flags"], "parametersOf": {"MessageNew": ["*", "envelope"], "flags": ["flagNames"]}}"#,
        ),
        ("unchosen.json", r#"{"events": ["message"], "parametersOf": {"Login": []}}"#),
        ("listless.json", r#"{"parametersOf": {"Login": "uri"}}"#),
        (
            "refused.json",
            r#"{"name":"a b","events":["MessageGnu"],"expires":"soon","begin":{"seq":-1},"sink":{"kind":"webhook","url":"http://10.0.0.1/","batch":{"maxEvents":100000}}}"#,
        ),
        ("pigeon.json", r#"{"name":"a","sink":{"kind":"pigeon","url":"http://10.0.0.1/"}}"#),
        ("open.toml", "[policy]\nenvelope = true\n"),
        ("broken.json", "{"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut text = String::new();
    for arguments in [
        &["subscriptions", "explain", "phone.json"][..],
        &["subscriptions", "explain", "phone.json", "--json"],
        &["subscriptions", "explain", "unknown.json"],
        &["subscriptions", "explain", "kind.json"],
        &["subscriptions", "explain", "wrong.json"],
        &["subscriptions", "explain", "private.json"],
        &["subscriptions", "explain", "private.json", "--config", "open.toml"],
        &["subscriptions", "explain", "chosen.json"],
        &["subscriptions", "explain", "chosen.json", "--config", "open.toml"],
        &["subscriptions", "explain", "unchosen.json"],
        &["subscriptions", "explain", "listless.json"],
        &["subscriptions", "explain", "refused.json"],
        &["subscriptions", "explain", "pigeon.json"],
        &["subscriptions", "explain", "broken.json"],
        &["subscriptions", "explain", "absent.json"],
    ] {
        text.push_str(&transcript(arguments, &run(folder.path(), arguments)));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn completions_and_man_pages_are_made() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(folder.path(), &["completions", shell]);
        assert!(ended.code == 0 && ended.out.contains("dead-letters"), "{shell}");
    }
    assert_eq!(run(folder.path(), &["man", "pages"]).code, 0);
    let page = folder.path().join("pages/postbell-subscriptions-add.1");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("hooks.example.org"), "{page}");
}

#[test]
fn a_reader_that_has_gone_ends_a_command_well() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let mut child = crate::run::command(folder.path(), &["config", "print"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_reader_that_has_gone_changes_no_verdict() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.ndjson"), "{}\n".repeat(10_000)).unwrap();
    let mut child = crate::run::command(folder.path(), &["validate", "bad.ndjson"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert_eq!(said, "bad.ndjson: 10000 events, 10000 wrong\n");
}
