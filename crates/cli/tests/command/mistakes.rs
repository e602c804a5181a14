//! What is said to who used it wrongly, and where it can't be done: one line, naming what is at
//! fault.

use std::os::unix::fs::PermissionsExt;

use crate::run::{run, transcript};

#[test]
fn a_mistake_gets_a_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("data")).unwrap();
    std::fs::write(path.join("data/token"), "abcdefghijklmnopqrstuvwxyz\n").unwrap();
    // Nothing listens on port 1 of any machine that runs tests.
    std::fs::write(path.join("data/address"), "127.0.0.1:1\n").unwrap();
    std::fs::write(path.join("empty"), "\n").unwrap();
    std::fs::write(path.join("bad.toml"), "lisen = 5\ndata = \"\"\n").unwrap();
    let open = path.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::write(open.join("token"), "abcdefghijklmnopqrstuvwxyz\n").unwrap();
    std::fs::set_permissions(open.join("token"), PermissionsExt::from_mode(0o644)).unwrap();
    let mut text = String::new();
    for arguments in [
        &["sevre"][..],
        &["tail", "--evnt", "MessageNew"],
        &["tail", "--since", "yesterday"],
        &["tail", "--since-time", "yesterday"],
        &["tail", "--since", "1", "--since-time", "2h"],
        &["tail", "--limit", "0"],
        &["completions", "tcsh"],
        &["subscriptions", "add", "phone"],
        &["subscriptions", "add", "phone", "--to", "http://h", "--begin", "later"],
        &["validate", "nowhere.ndjson"],
        &["validate", "data"],
        &["validate", "--strict", "--repair"],
        &["config", "check", "nowhere.toml"],
        &["config", "check", "data"],
        &["serve"],
        &["serve", "--config", "nowhere.toml"],
        &["serve", "--config", "bad.toml"],
        &["serve", "--data", "open"],
        &["tail", "--data", "nowhere"],
        &["tail", "--data", "data"],
        &["tail", "--data", "data", "--url", "https://localhost/v1"],
        &["tail", "--data", "data", "--url", "localhost:5423"],
        &["tail", "--data", "data", "--token-file", "empty"],
        &["tail", "--data", "data", "--token-file", "data"],
        &["publish", "--data", "data", "nowhere.ndjson"],
        &["sources", "list", "--config", "bad.toml"],
        &["subscriptions", "remove", "phone", "--data", "data"],
        &["man", "empty"],
        &["doctor", "--config", "bad.toml"],
    ] {
        text.push_str(&transcript(arguments, &run(path, arguments)));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_bad_log_filter_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = crate::run::command(folder.path(), &["serve", "--data", "data"])
        .env("POSTBELL_LOG", "postbell=loud")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("POSTBELL_LOG") && said.contains("loud"), "{said}");
}
