//! A hub in a process of its own, that can be killed and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postbell_testkit::http;
use tempfile::TempDir;

/// `postbell serve` on a temporary folder; killed when dropped.
pub(crate) struct Hub {
    folder: TempDir,
    process: Option<Child>,
}

impl Hub {
    /// Starts a hub that watches `mail/%u/Maildir` in its folder.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = CONFIG.replace("@FOLDER@", &folder.path().display().to_string());
        std::fs::create_dir_all(folder.path().join("mail")).unwrap();
        std::fs::write(folder.path().join("postbell.toml"), config).unwrap();
        let mut hub = Self { folder, process: None };
        hub.resume();
        hub
    }

    /// Starts it again, and waits until it is ready.
    pub(crate) fn resume(&mut self) {
        self.resume_with(&[]);
    }

    /// The same, with something in its environment.
    pub(crate) fn resume_with(&mut self, environment: &[(&str, &str)]) {
        // The one before may have left it behind, and its port may be another's by now.
        let _not_there = std::fs::remove_file(address_file(self.folder()));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postbell"))
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begun = Instant::now();
        let is_ready = || {
            let address = address(self.folder.path())?;
            http::get(address, "/readyz", None).ok().filter(|answer| answer.status == 200)
        };
        while is_ready().is_none() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", self.log());
            assert!(begun.elapsed() < PATIENCE, "not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It can only have ended by itself, and then `resume` would have said so.
            let _gone = process.kill();
            process.wait().unwrap();
        }
    }

    /// Waits until it has ended by itself, and gives its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.take().and_then(|mut process| process.wait().unwrap().code())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address(self.folder()).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/token")).unwrap().trim().to_owned()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("postbell.toml")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the hub on `folder` listens, once it does: another port at each start, so that nobody
/// else can have taken it meanwhile.
pub(crate) fn address(folder: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(address_file(folder)).ok()?.trim().parse().ok()
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("data/address")
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
