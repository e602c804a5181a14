//! A Cyrus that tells `postbell notifyd`.

use std::os::unix::fs::PermissionsExt;

use postbell_testkit::account::Account;
use postbell_testkit::cyrus::{Cyrus, Notify, Options};
use postbell_testkit::{Error, Hub, Imap, Notifyd};

use super::{Bench, Server};

/// A Cyrus and what takes its notifications.
pub(crate) struct Notified {
    cyrus: Cyrus,
    pub(crate) notifyd: Notifyd,
}

impl Server for Notified {
    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap(user)
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.notifyd.log(), self.cyrus.log())
    }
}

impl Bench<Notified> {
    /// `None` where there is no Cyrus to be had.
    pub(crate) fn of_cyrus() -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (socket, spool) = (room.path().join("notify"), room.path().join("spool"));
        let hub = Hub::new(env!("CARGO_BIN_EXE_postbell"))?;
        hub.configure(
            &CONFIG
                .replace("@SOCKET@", &socket.display().to_string())
                .replace("@SPOOL@", &spool.display().to_string())
                .replace("@UID@", &Account::current().uid().to_string()),
        )?;
        let notifyd = Notifyd::start(&hub, &socket)?;
        let cyrus = Cyrus::start_with(Options::telling(Notify::Datagrams(socket)))?;
        let Some(cyrus) = cyrus else { return Ok(None) };
        Self::begin(Notified { cyrus, notifyd }, hub, spool, room).map(Some)
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
notify_socket = "@SOCKET@"
notify_users = ["@UID@"]
virtdomains = "userid"
"#;
