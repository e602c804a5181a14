//! Delivery agents that put one message into a Maildir.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::account::Account;
use crate::process;
use crate::{Error, Server, Tree};

/// A delivery agent with a home folder and a Maildir in it.
#[derive(Debug)]
pub struct Agent {
    server: Server,
    tree: Tree,
    folder: TempDir,
}

impl Agent {
    /// Courier's maildrop.
    ///
    /// `None`, after a loud line, where it can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it can't be had under CI.
    pub fn maildrop() -> Result<Option<Self>, Error> {
        Self::prepare(Server::Maildrop)
    }

    /// procmail.
    ///
    /// `None`, after a loud line, where it can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it can't be had under CI.
    pub fn procmail() -> Result<Option<Self>, Error> {
        Self::prepare(Server::Procmail)
    }

    fn prepare(server: Server) -> Result<Option<Self>, Error> {
        let Some(tree) = server.tree()? else { return Ok(None) };
        let folder = process::workspace(server.as_str())?;
        let tree = tree.within_reach(folder.path())?;
        let agent = Self { server, tree, folder };
        make_maildir(&agent.maildir())?;
        agent.write_rules()?;
        Ok(Some(agent))
    }

    /// The Maildir it delivers into.
    #[must_use]
    pub fn maildir(&self) -> PathBuf {
        self.mail().join("alice/Maildir")
    }

    /// The folder of all users: `<mail>/<user>/Maildir`.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// Delivers one message.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the agent printed.
    pub fn deliver(&self, message: &[u8]) -> Result<(), Error> {
        let mut command = self.command()?;
        process::run(&mut command, message).map(drop)
    }

    /// Where the agent's rules are.
    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    fn command(&self) -> Result<Command, Error> {
        let program = format!("usr/bin/{}", self.server.as_str());
        let mut command = process::program(&self.tree, &program, self.folder.path())?;
        command.arg(self.rules());
        Ok(command)
    }

    fn write_rules(&self) -> Result<(), Error> {
        let maildir = self.maildir().display().to_string();
        let text = match self.server {
            Server::Maildrop => format!("to \"{maildir}\"\n"),
            // The last slash makes it a Maildir.
            _ => format!("DEFAULT={maildir}/\nORGMAIL=/dev/null\n"),
        };
        let path = self.rules();
        let doing = format!("write {}", path.display());
        std::fs::write(&path, text).map_err(Error::io(&doing))?;
        // An agent trusts only rules that nobody else may write.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(Error::io(doing))?;
        Account::current().own(&path)
    }
}

/// Makes an empty Maildir that mail software may write to.
pub(crate) fn make_maildir(path: &Path) -> Result<(), Error> {
    let account = Account::current();
    account.make_folder(path)?;
    for part in ["cur", "new", "tmp"] {
        account.make_folder(&path.join(part))?;
    }
    Ok(())
}
