//! A Cyrus that tells `postbell notifyd`.

use postbell_testkit::cyrus::{Form, Notified};
use postbell_testkit::{Error, Hub, Imap};

use super::{Bench, Server};

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
    pub(crate) fn of_cyrus(form: Form) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        let hub = Hub::new(env!("CARGO_BIN_EXE_postbell"))?;
        let Some(server) = Notified::start(&hub, room.path(), form)? else { return Ok(None) };
        server.ask(&hub, room.path())?;
        let spool = room.path().join("spool");
        Self::begin(server, hub, spool, room).map(Some)
    }
}
