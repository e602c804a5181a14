//! Under which account real mail software runs.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;

/// The account that runs mail software in tests, and so owns the mail.
///
/// Mail software refuses to handle root's mail. Tests run by root step down to `nobody`, the one
/// account every system has; tests run by anybody else stay who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account {
    uid: u32,
    gid: u32,
    stepping_down: bool,
}

impl Account {
    /// The account for this process.
    #[must_use]
    pub fn current() -> Self {
        if is_root() {
            Self { uid: NOBODY, gid: NOBODY, stepping_down: true }
        } else {
            let uid = rustix::process::geteuid().as_raw();
            Self { uid, gid: rustix::process::getegid().as_raw(), stepping_down: false }
        }
    }

    /// Its user id.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Its group id.
    #[must_use]
    pub fn gid(self) -> u32 {
        self.gid
    }

    /// Its name, which some software takes in place of the id.
    ///
    /// # Errors
    /// [`Error::Answer`] where `/etc/passwd` has none.
    pub fn name(self) -> Result<String, Error> {
        name_of(self.uid, "/etc/passwd")
    }

    /// Its group's name.
    ///
    /// # Errors
    /// [`Error::Answer`] where `/etc/group` has none.
    pub fn group_name(self) -> Result<String, Error> {
        name_of(self.gid, "/etc/group")
    }

    /// Has `command` run under this account, without further groups.
    pub fn assume(self, command: &mut Command) {
        if self.stepping_down {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives `path` to this account; not what is in it.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn own(self, path: &Path) -> Result<(), Error> {
        if self.stepping_down {
            let doing = format!("give {} to account {}", path.display(), self.uid);
            chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(doing))?;
        }
        Ok(())
    }

    /// Makes a folder, and its missing parents, that belong to this account.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn make_folder(self, path: &Path) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make_folder(parent)?;
        }
        std::fs::create_dir(path).map_err(Error::io(format!("make {}", path.display())))?;
        self.own(path)
    }
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of an id in a file like `/etc/passwd`.
fn name_of(id: u32, file: &str) -> Result<String, Error> {
    let text = std::fs::read_to_string(file).map_err(Error::io(format!("read {file}")))?;
    let id = id.to_string();
    text.lines()
        .find(|line| line.split(':').nth(2) == Some(&id))
        .and_then(|line| line.split(':').next())
        .map(str::to_owned)
        .ok_or_else(|| Error::Answer { expected: format!("id {id}"), answer: file.to_owned() })
}

/// `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65_534;
