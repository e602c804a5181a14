//! Where the unpacked mail software is.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, account};

/// Mail software that `scripts/fetch-servers` knows to bring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Server {
    /// The IMAP, POP3, LMTP and JMAP server that sends events by itself.
    Cyrus,
    /// The IMAP and LMTP server.
    Dovecot,
    /// `mbsync`, which copies mailboxes both ways.
    Isync,
    /// A delivery agent.
    Maildrop,
    /// An older delivery agent.
    Procmail,
}

impl Server {
    /// Its name, as `scripts/fetch-servers` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cyrus => "cyrus",
            Self::Dovecot => "dovecot",
            Self::Isync => "isync",
            Self::Maildrop => "maildrop",
            Self::Procmail => "procmail",
        }
    }

    /// Its unpacked packages, fetched if need be.
    ///
    /// `None`, after a loud line, where they can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where they can't be had and `CI` is set, and where a run that was to
    /// go without real servers (`POSTBELL_SERVERS=none`) comes here all the same.
    pub fn tree(self) -> Result<Option<Tree>, Error> {
        if std::env::var_os("POSTBELL_SERVERS").is_some_and(|value| value == "none") {
            let output = "a test that starts a real server is not in .config/nextest.toml's filter";
            return Err(Error::Unavailable { server: self.as_str(), output: output.to_owned() });
        }
        // Always asked: the script knows whether a tree is whole, and waits for one being made.
        let output = Command::new("bash")
            .arg(repository().join("scripts/fetch-servers"))
            .arg(self.as_str())
            .output()
            .map_err(Error::io("run scripts/fetch-servers"))?;
        if output.status.success() {
            return Ok(Some(Tree { root: folder().join(self.as_str()) }));
        }
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        absent(self.as_str(), printed)
    }
}

/// Says loudly that a test goes without `what`, or fails where it may not.
pub(crate) fn absent<T>(what: &'static str, output: String) -> Result<Option<T>, Error> {
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        return Err(Error::Unavailable { server: what, output });
    }
    say(&format!("==> SKIPPED, because {what} is not to be had:\n{output}"));
    note(what)?;
    Ok(None)
}

/// Leaves a line where `scripts/test` counts them: a runner hides what a passed test prints.
fn note(what: &str) -> Result<(), Error> {
    let Some(list) = std::env::var_os("POSTBELL_SKIPPED").map(PathBuf::from) else { return Ok(()) };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&list)
        .map_err(Error::io(format!("open {}", list.display())))?;
    file.write_all(format!("{test}: no {what}\n").as_bytes())
        .map_err(Error::io(format!("write to {}", list.display())))
}

/// One server's unpacked packages.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Its topmost folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The same tree where every account can reach it.
    ///
    /// A build folder may lie below a folder that only its owner may enter, and root's tests run
    /// mail software as somebody else.
    pub(crate) fn within_reach(&self, folder: &Path) -> Result<Self, Error> {
        if !account::is_root() {
            return Ok(self.clone());
        }
        let root = folder.join("software");
        // Links cost nothing; another file system wants copies.
        for how in ["-al", "-a"] {
            let output = Command::new("cp")
                .arg(how)
                .arg(&self.root)
                .arg(&root)
                .output()
                .map_err(Error::io("run cp"))?;
            if output.status.success() {
                return Ok(Self { root });
            }
            if root.exists() {
                std::fs::remove_dir_all(&root)
                    .map_err(Error::io(format!("remove {}", root.display())))?;
            }
        }
        Err(Error::Missing { path: root })
    }

    /// `LD_LIBRARY_PATH` for its programs.
    pub(crate) fn library_path(&self) -> Result<OsString, Error> {
        let list = self.path(".libraries");
        let text = std::fs::read_to_string(&list)
            .map_err(Error::io(format!("read {}", list.display())))?;
        let folders = text.lines().map(|folder| self.root.join(folder));
        std::env::join_paths(folders).map_err(|_| Error::Missing { path: list })
    }
}

/// Where `scripts/fetch-servers` puts things.
fn folder() -> PathBuf {
    std::env::var_os("POSTBELL_SERVERS")
        .map_or_else(|| repository().join("target/servers"), PathBuf::from)
}

/// The checkout's topmost folder.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn say(text: &str) {
    eprintln!("{text}");
}
