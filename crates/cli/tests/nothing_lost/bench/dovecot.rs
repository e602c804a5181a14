//! A Dovecot with all that postbell uses of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postbell_testkit::{
    Dovecot, Error, Hub, Imap, MASTER, Notify, Options, free_address, password, private_file,
};
use tempfile::TempDir;

use super::{Bench, Server};

/// Whether Dovecot's exporter reaches the hub.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Exporter {
    /// It posts to the hub.
    Heard,
    /// It posts to where nobody listens, and the hub has no secret to know it by.
    Away,
}

impl Server for Dovecot {
    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.imap(user)
    }

    fn log(&self) -> String {
        self.log()
    }
}

impl Bench<Dovecot> {
    /// `None` where there is no Dovecot to be had.
    pub(crate) fn start(exporter: Exporter) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let spool = room.path().join("spool");
        Self::start_with(exporter, spool, room)
    }

    /// The same with the spool elsewhere.
    pub(crate) fn start_on(disk: &Path) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        Self::start_with(Exporter::Heard, disk.join("spool"), room)
    }

    fn start_with(
        exporter: Exporter,
        spool: PathBuf,
        room: TempDir,
    ) -> Result<Option<Self>, Error> {
        let hub = Hub::new(env!("CARGO_BIN_EXE_postbell"))?;
        // The same again when it comes back.
        let port = free_address()?.port();
        let url = match exporter {
            Exporter::Heard => {
                private_file(&hub.data().join("dovecot-mail.secret"), SECRET)?;
                Some(format!("http://127.0.0.1:{port}/v1/dovecot/mail/{SECRET}"))
            }
            Exporter::Away => None,
        };
        let notify = Notify { exporter: url, ..Notify::into_spool(&spool) };
        let Some(dovecot) = Dovecot::start_with(Options::whole(notify))? else { return Ok(None) };
        private_file(&room.path().join("master"), &password(MASTER))?;
        hub.configure(
            &CONFIG
                .replace("@PORT@", &port.to_string())
                .replace("@SPOOL@", &spool.display().to_string())
                .replace("@IMAP@", &dovecot.imap_address().to_string())
                .replace("@MASTER@", MASTER)
                .replace("@PASSWORD@", &room.path().join("master").display().to_string()),
        )?;
        Self::begin(dovecot, hub, spool, room).map(Some)
    }
}

const SECRET: &str = "5423542354235423542354235423542354235423542354235423542354235423";

const CONFIG: &str = r#"
data = "@FOLDER@/data"
listen = "127.0.0.1:@PORT@"

[store]
host = "mail.example.org"

[sources.mail]
kind = "dovecot"
spool = "@SPOOL@"
separator = "/"
annotation_window = "2s"
shared = ["shared/%u/"]
master_address = "@IMAP@"
master_user = "@MASTER@"
master_password_file = "@PASSWORD@"
"#;
