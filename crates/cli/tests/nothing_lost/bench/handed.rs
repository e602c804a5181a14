//! A Cyrus that tells `postbell notifyd`, to which its sockets are handed over.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::{Mutex, MutexGuard};

use nix::sys::socket::{setsockopt, sockopt};
use postbell_testkit::cyrus::{Cyrus, Form, Notified};
use postbell_testkit::{Error, Hub, Imap, Notifyd};

use super::{Bench, Server};

/// Both, and who holds the sockets: this process, as systemd does by the unit.
pub(crate) struct Handed {
    cyrus: Cyrus,
    notifyd: Mutex<Notifyd>,
    sockets: [OwnedFd; 2],
}

impl Handed {
    /// What reads now.
    pub(crate) fn notifyd(&self) -> MutexGuard<'_, Notifyd> {
        self.notifyd.lock().unwrap()
    }

    /// Starts it once more, as systemd does when it has ended.
    pub(crate) fn start_again(&self, hub: &Hub) -> Result<(), Error> {
        *self.notifyd() = Notifyd::handed(hub, &self.sockets)?;
        Ok(())
    }
}

impl Server for Handed {
    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap(user)
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.notifyd().log(), self.cyrus.log())
    }
}

impl Bench<Handed> {
    /// How many notifications are told as lost.
    pub(crate) fn lost(&self) -> u32 {
        let reasons = self.told().into_iter().filter_map(|told| {
            let reason = told.event.vendor("vnd.postbell.gapReason")?.to_string();
            let (count, _) = reason.trim_matches('"').split_once(" notifications of Cyrus's")?;
            count.parse::<u32>().ok()
        });
        reasons.sum()
    }

    /// `None` where there is no Cyrus to be had.
    pub(crate) fn handed(form: Form) -> Result<Option<Self>, Error> {
        let room = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        let hub = Hub::new(env!("CARGO_BIN_EXE_postbell"))?;
        // The one that Cyrus doesn't send to is there as well.
        let (datagrams, streams) = match form {
            Form::Datagrams => ("notify", "stream"),
            Form::Streams => ("datagrams", "notify"),
        };
        let datagrams = UnixDatagram::bind(room.path().join(datagrams)).unwrap();
        // `PassCredentials=` and `Timestamping=` of the unit.
        setsockopt(&datagrams, sockopt::PassCred, &true).unwrap();
        setsockopt(&datagrams, sockopt::ReceiveTimestampns, &true).unwrap();
        let streams = UnixListener::bind(room.path().join(streams)).unwrap();
        let sockets = [datagrams.into(), streams.into()];
        let Some(server) = Notified::handed(&hub, room.path(), form, &sockets)? else {
            return Ok(None);
        };
        server.ask(&hub, room.path())?;
        let Notified { cyrus, notifyd, .. } = server;
        let server = Handed { cyrus, notifyd: Mutex::new(notifyd), sockets };
        let spool = room.path().join("spool");
        Self::begin(server, hub, spool, room).map(Some)
    }
}
