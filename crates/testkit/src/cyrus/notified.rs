//! A Cyrus that tells postbell.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Cyrus, MASTER, Notify, Options};
use crate::account::Account;
use crate::{Error, Hub, Notifyd, password, private_file};

/// How Cyrus tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A datagram for each event.
    Datagrams,
    /// A connection for each event, which is answered (`dlist:`).
    Streams,
}

/// A Cyrus, and the process in notifyd's place that takes what it says.
#[derive(Debug)]
pub struct Notified {
    /// The server.
    pub cyrus: Cyrus,
    /// What takes its notifications.
    pub notifyd: Notifyd,
    /// The hub's configuration.
    config: String,
}

impl Notified {
    /// Starts both for `hub`, which is configured to follow them as its source `mail`, with socket
    /// and spool in `room`; the hub itself isn't started. `None` as for [`Cyrus::start`].
    ///
    /// # Errors
    /// As [`Notifyd::start`] and [`Cyrus::start`].
    pub fn start(hub: &Hub, room: &Path, form: Form) -> Result<Option<Self>, Error> {
        Self::start_by(hub, room, form, |socket| Notifyd::start(hub, socket))
    }

    /// The same with sockets that are handed over, as by systemd: for datagrams and for streams, the
    /// one Cyrus sends to at `notify` in `room`.
    ///
    /// # Errors
    /// As [`Notifyd::handed`] and [`Cyrus::start`].
    pub fn handed(
        hub: &Hub,
        room: &Path,
        form: Form,
        sockets: &[OwnedFd; 2],
    ) -> Result<Option<Self>, Error> {
        Self::start_by(hub, room, form, |socket| {
            Account::current().own(socket)?;
            Notifyd::handed(hub, sockets)
        })
    }

    fn start_by(
        hub: &Hub,
        room: &Path,
        form: Form,
        start: impl FnOnce(&Path) -> Result<Notifyd, Error>,
    ) -> Result<Option<Self>, Error> {
        // Cyrus may be of another account.
        std::fs::set_permissions(room, PermissionsExt::from_mode(0o755))
            .map_err(Error::io("open up a folder"))?;
        let socket = room.join("notify");
        let path = socket.display().to_string();
        let (datagrams, streams, notify) = match form {
            Form::Datagrams => (&*path, "", Notify::Datagrams(socket.clone())),
            Form::Streams => ("", &*path, Notify::Streams(socket.clone())),
        };
        let config = CONFIG
            .replace("@SPOOL@", &room.join("spool").display().to_string())
            .replace("@DATAGRAMS@", datagrams)
            .replace("@STREAMS@", streams)
            .replace("@UID@", &Account::current().uid().to_string());
        hub.configure(&config)?;
        let notifyd = start(&socket)?;
        let cyrus = Cyrus::start_with(Options::telling(notify))?;
        Ok(cyrus.map(|cyrus| Self { cyrus, notifyd, config }))
    }

    /// Has the hub ask the server as [`MASTER`] from its next start on, with the password in `room`.
    ///
    /// # Errors
    /// [`Error::Io`] where its files can't be written.
    pub fn ask(&self, hub: &Hub, room: &Path) -> Result<(), Error> {
        let key = room.join("master");
        private_file(&key, &password(MASTER))?;
        let address = self.cyrus.imap_address();
        let key = key.display();
        hub.configure(&format!(
            "{}master_address = \"{address}\"\nmaster_user = \"{MASTER}\"\nmaster_password_file = \"{key}\"\n",
            self.config
        ))
    }

    /// Has the hub's configuration have further tables from its next start on, and ask nobody.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be written.
    pub fn configure(&self, hub: &Hub, tables: &str) -> Result<(), Error> {
        hub.configure(&format!("{}{tables}", self.config))
    }
}

const CONFIG: &str = r#"
data = "@FOLDER@/data"
listen = "127.0.0.1:0"

[store]
host = "mail.example.org"

[sources.mail]
kind = "cyrus"
notify_spool = "@SPOOL@"
notify_socket = "@DATAGRAMS@"
notify_stream = "@STREAMS@"
notify_users = ["@UID@"]
virtdomains = "userid"
"#;
