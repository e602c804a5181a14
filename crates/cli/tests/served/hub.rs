//! A hub that watches Maildirs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use postbell_testkit::Hub;
use serde_json::Value;

/// A hub that watches `mail/%u/Maildir` in its folder.
pub(crate) fn start() -> Hub {
    start_with("")
}

/// The same with more in its configuration.
pub(crate) fn start_with(more: &str) -> Hub {
    let mut hub = Hub::new(env!("CARGO_BIN_EXE_postbell")).unwrap();
    std::fs::create_dir_all(hub.folder().join("mail")).unwrap();
    hub.configure(&format!("{CONFIG}{more}")).unwrap();
    hub.resume().unwrap();
    hub
}

/// The first user's Maildir, once it is followed.
pub(crate) fn maildir(hub: &Hub, user: &str) -> PathBuf {
    let maildir = hub.folder().join("mail").join(user).join("Maildir");
    for place in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(place)).unwrap();
    }
    wait_for("the Maildir to be followed", || {
        let body = hub.get("/v1/sources/mail").map(|answer| answer.body).unwrap_or_default();
        serde_json::from_str::<Value>(&body).is_ok_and(|source| source["users"] == 1)
    });
    maildir
}

/// What makes system calls fail, to be preloaded into a hub; made in this folder.
pub(crate) fn faults(folder: &Path) -> String {
    let library = folder.join("faults.so").display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../journal/tests/survival/faults.c");
    let made = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-shared", "-fPIC", "-O1", "-o", &library, source, "-ldl"])
        .status();
    // SQLite was just compiled with it.
    assert!(made.is_ok_and(|status| status.success()), "no C compiler: {source}");
    library
}

/// Asks again until it is so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
data = "@FOLDER@/data"
listen = "127.0.0.1:0"

[store]
host = "mail.example.org"

[webhooks]
reach = "loopback"

[sources.mail]
kind = "maildir"
root = "@FOLDER@/mail/%u/Maildir"
"#;
