//! Cyrus's own tool: what it reads in a configuration.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, anyhow};

use super::super::spool::Account;

/// `cyr_info`, and under whose account it runs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// Where it is.
    pub(super) cyr_info: PathBuf,
    /// The server's, which it insists on; `None` where this process is that or may be no other.
    pub(super) account: Option<Account>,
}

/// The program that was named, or that which is where packages put it.
pub(super) fn cyr_info(named: Option<&Path>) -> PathBuf {
    let usual = || FOLDERS.into_iter().map(|folder| Path::new(folder).join(NAME));
    named
        .map(Path::to_owned)
        .or_else(|| usual().find(|path| path.is_file()))
        .unwrap_or_else(|| PathBuf::from(NAME))
}

impl Programs {
    /// The version, such as `3.6.1-Debian-3.6.1-4+deb12u5`.
    pub(super) fn version(&self, main: &Path) -> anyhow::Result<String> {
        let text = self.ask(main, "version")?;
        Ok(text.trim().trim_start_matches("cyrus-imapd ").to_owned())
    }

    /// Every setting as it takes effect.
    ///
    /// # Errors
    ///
    /// What Cyrus says is wrong with them.
    pub(super) fn settings(&self, main: &Path) -> anyhow::Result<BTreeMap<String, String>> {
        let text = self.ask(main, "conf-all")?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    fn ask(&self, main: &Path, what: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.cyr_info);
        command.arg("-C").arg(main).arg(what).stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        let output = command.output().with_context(|| {
            format!("{} (say with --cyr-info where it is)", self.cyr_info.display())
        })?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(anyhow!("{}: {}", main.display(), complaint(&output))),
        }
    }
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) if line.contains("must run as the Cyrus user") => {
            "Cyrus's tool insists on its own account (run this as root)".to_owned()
        }
        Some(line) => line.trim().to_owned(),
        None => output.status.to_string(),
    }
}

const NAME: &str = "cyr_info";

/// Debian, Fedora, Cyrus's own.
const FOLDERS: [&str; 4] =
    ["/usr/lib/cyrus/bin", "/usr/libexec/cyrus-imapd", "/usr/lib/cyrus-imapd", "/usr/cyrus/bin"];
