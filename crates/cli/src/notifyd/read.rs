//! The process that reads the sockets, for the one that holds them.

use std::collections::BTreeSet;
use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, anyhow};
use postbell_hub::SourceConfig;
use postbell_sources::Stop;
use postbell_sources::cyrus::{Notifyd, Sockets};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::process::{Pid, Signal};
use tracing::warn;

use super::{NO_DESCRIPTOR, NotifydArgs};
use crate::ending::Ending;

/// Reads the sockets that are this process's standard input and output.
pub(super) fn read(
    source: &SourceConfig,
    parent: i32,
    args: &NotifydArgs,
) -> anyhow::Result<Ending> {
    // Whoever holds the sockets is gone: then they are another's to read. SIGTERM waits here.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("it can't be known when the other process ends")?;
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get()) != Some(parent) {
        return Err(anyhow!("the process that holds the sockets is gone"));
    }
    let sockets = Sockets { datagram: socket(&stdin())?, stream: socket(&stdout())? };
    let (spool, users) = (source.notify_spool.clone(), users(&source.notify_users)?);
    let notifyd = Notifyd { spool, users, began: args.began };
    let stop = Stop::new().context("no file descriptor is left")?;
    notifyd.run_after(sockets, &args.left_open, &stop)?;
    Ok(Ending::Done)
}

/// A socket, if that is what it is.
fn socket(end: &impl AsFd) -> anyhow::Result<Option<UnixDatagram>> {
    match socket_type(end) {
        Ok(SocketType::DGRAM) => {
            Ok(Some(end.as_fd().try_clone_to_owned().context(NO_DESCRIPTOR)?.into()))
        }
        _ => Ok(None),
    }
}

/// The numbers of users; one whose name nobody knows may not send, which is said.
fn users(names: &[String]) -> anyhow::Result<Vec<u32>> {
    let mut uids = BTreeSet::new();
    for name in names {
        if let Ok(uid) = name.parse() {
            uids.insert(uid);
            continue;
        }
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => drop(uids.insert(user.uid.as_raw())),
            Ok(None) => warn!(user = %name, "notify_users: there is no such user on this machine"),
            Err(error) => warn!(user = %name, %error, "notify_users: the user can't be looked up"),
        }
    }
    Ok(uids.into_iter().collect())
}
