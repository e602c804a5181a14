//! A hub that watches Maildirs.

use std::time::Duration;

pub(crate) use postbell_testkit::Hub;

/// A hub that watches `mail/%u/Maildir` in its folder.
pub(crate) fn start() -> Hub {
    let mut hub = Hub::new(env!("CARGO_BIN_EXE_postbell")).unwrap();
    std::fs::create_dir_all(hub.folder().join("mail")).unwrap();
    hub.configure(CONFIG).unwrap();
    hub.resume().unwrap();
    hub
}

/// Generous, because a loaded machine is no defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
