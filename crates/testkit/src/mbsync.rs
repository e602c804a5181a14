//! isync's `mbsync`: a Maildir kept equal to an IMAP account.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::account::Account;
use crate::delivery::make_maildir;
use crate::process;
use crate::{Dovecot, Error, Server, Tree, password};

/// A Maildir that mirrors one user's account on a [`Dovecot`], both ways.
#[derive(Debug)]
pub struct Mbsync {
    tree: Tree,
    folder: TempDir,
    server: SocketAddr,
    user: String,
}

impl Mbsync {
    /// Prepares an empty Maildir to mirror the account of `user`.
    ///
    /// `None`, after a loud line, where it can't be had.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it can't be had under CI.
    pub fn prepare(dovecot: &Dovecot, user: &str) -> Result<Option<Self>, Error> {
        let Some(tree) = Server::Isync.tree()? else { return Ok(None) };
        let folder = process::workspace("mbsync")?;
        let tree = tree.within_reach(folder.path())?;
        let server = dovecot.imap_address();
        let mbsync = Self { tree, folder, server, user: user.to_owned() };
        make_maildir(&mbsync.maildir())?;
        Account::current().make_folder(&mbsync.folder.path().join("state"))?;
        mbsync.write_config()?;
        Ok(Some(mbsync))
    }

    /// The Maildir.
    #[must_use]
    pub fn maildir(&self) -> PathBuf {
        self.mail().join("alice/Maildir")
    }

    /// The folder of all users: `<mail>/<user>/Maildir`.
    #[must_use]
    pub fn mail(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// Makes both sides equal, once.
    ///
    /// # Errors
    /// [`Error::Failed`] with what it printed.
    pub fn run(&self) -> Result<String, Error> {
        let mut command = process::program(&self.tree, "usr/bin/mbsync", self.folder.path())?;
        command.arg("-c").arg(self.config()).args(["-V", "all"]);
        process::run(&mut command, b"")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("mbsyncrc")
    }

    fn write_config(&self) -> Result<(), Error> {
        let Self { user, .. } = self;
        let (host, port) = (self.server.ip(), self.server.port());
        let (password, maildir) = (password(user), self.maildir().display().to_string());
        let state = self.folder.path().join("state").display().to_string();
        let text = format!(
            "IMAPAccount there\nHost {host}\nPort {port}\nUser {user}\nPass {password}\n\
             SSLType None\nAuthMechs LOGIN\n\n\
             IMAPStore there\nAccount there\n\n\
             MaildirStore here\nInbox {maildir}\nSubFolders Maildir++\n\n\
             Channel all\nFar :there:\nNear :here:\nPatterns *\nCreate Both\nExpunge Both\n\
             SyncState {state}/\n"
        );
        let path = self.config();
        std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        Account::current().own(&path)
    }
}
