//! Whether somebody takes what Cyrus says.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use postbell_hub::SourceConfig;

use super::super::{Report, checks};
use crate::setup::cyrus::render::unit;

/// Who takes what Cyrus says, and where.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiver {
    /// Whether somebody writes to the spool.
    is_read: bool,
    sockets: Vec<Socket>,
}

/// Where Cyrus sends to.
#[derive(Clone, Debug)]
struct Socket {
    path: PathBuf,
    state: Held,
    mode: u32,
    owner: u32,
    /// Users that are to send, and whether each may.
    senders: Vec<(String, bool)>,
}

/// Whether anybody holds a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    Yes,
    /// It is there, and nobody does.
    No,
    /// There is nothing.
    Missing,
    /// There is something else.
    Other,
    /// This user may not ask.
    Unknown,
}

impl Receiver {
    /// Looks at it.
    pub(super) fn look(source: &SourceConfig) -> Self {
        let sockets = [(&source.notify_socket, false), (&source.notify_stream, true)];
        let sockets = sockets.into_iter().filter(|(path, _)| !path.as_os_str().is_empty());
        Self {
            is_read: checks::is_locked(&source.notify_spool),
            sockets: sockets
                .map(|(path, is_stream)| Socket::look(path, is_stream, &source.notify_users))
                .collect(),
        }
    }
}

impl Socket {
    fn look(path: &Path, is_stream: bool, users: &[String]) -> Self {
        let nothing =
            |state| Self { path: path.to_owned(), state, mode: 0, owner: 0, senders: Vec::new() };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_socket() => meta,
            Ok(_) => return nothing(Held::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return nothing(Held::Missing);
            }
            Err(_) => return nothing(Held::Unknown),
        };
        let asked = match is_stream {
            true => UnixStream::connect(path).map(drop),
            false => UnixDatagram::unbound().and_then(|one| one.connect(path)),
        };
        let state = match asked.map_err(|error| error.kind()) {
            Ok(()) => Held::Yes,
            Err(io::ErrorKind::ConnectionRefused) => Held::No,
            Err(_) => Held::Unknown,
        };
        let senders = users.iter().map(|user| (user.clone(), may_write(&meta, user))).collect();
        Self {
            mode: meta.permissions().mode() & 0o777,
            owner: meta.uid(),
            senders,
            ..nothing(state)
        }
    }
}

/// Whether a user may write to what has that owner and these rights.
fn may_write(meta: &fs::Metadata, user: &str) -> bool {
    let found = match user.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(user),
    };
    let Ok(Some(user)) = found else { return false };
    let mode = meta.permissions().mode();
    let is_in = || {
        let group = Group::from_gid(Gid::from_raw(meta.gid())).ok().flatten();
        user.gid.as_raw() == meta.gid() || group.is_some_and(|group| group.mem.contains(&user.name))
    };
    user.uid.is_root()
        || (user.uid.as_raw() == meta.uid() && mode & 0o200 != 0)
        || (mode & 0o020 != 0 && is_in())
        || mode & 0o002 != 0
}

/// Whether somebody does, and whether Cyrus can reach them.
pub(super) fn judge(name: &str, receiver: &Receiver, report: &mut Report) {
    let check = format!("receiver of {name}");
    let start = format!(
        "start it: systemctl start {} {}, or postbell notifyd --source {name}; its log says why it ended",
        unit(name, "socket"),
        unit(name, "service")
    );
    let is_held = receiver.sockets.iter().any(|socket| socket.state == Held::Yes);
    if !receiver.is_read {
        let what = if is_held {
            "its socket is held, so that Cyrus stands still when a few events wait"
        } else {
            "what Cyrus says is lost"
        };
        let detail = format!("postbell notifyd is not running: {what}");
        return report.wrong(&check, detail, &start);
    }
    for socket in &receiver.sockets {
        let path = socket.path.display();
        let same = "postbell notifyd runs: systemd's unit, notify_socket or notify_stream, and Cyrus's notifysocket must name one place";
        match socket.state {
            Held::Missing | Held::No => {
                let detail = format!("{path}: nobody listens there, and what Cyrus says is lost");
                return report.wrong(&check, detail, same);
            }
            Held::Other => {
                return report.wrong(&check, format!("{path}: is no socket"), "move it away");
            }
            Held::Unknown => {
                let detail = format!("{path}: this user may not ask whether anybody listens");
                return report.notice(&check, detail, "run this as root");
            }
            Held::Yes => {}
        }
        if let Some((user, _)) = socket.senders.iter().find(|(_, may)| !may) {
            let detail = format!(
                "{path}: mode {:o} of account {}: {user} can't send there",
                socket.mode, socket.owner
            );
            let remedy = format!(
                "SocketUser={user} in systemd's unit; without one: postbell notifyd has to run in a group of {user}'s"
            );
            return report.wrong(&check, detail, &remedy);
        }
    }
    let shown: Vec<String> = receiver
        .sockets
        .iter()
        .map(|socket| format!("{} (mode {:o})", socket.path.display(), socket.mode))
        .collect();
    report.right(&check, format!("reads {}", shown.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::told;
    use super::*;

    #[test]
    fn a_receiver_that_is_missing_or_out_of_reach_is_named() {
        let mut text = String::new();
        let socket = |state, may| Socket {
            path: "/run/postbell/cyrus/notify".into(),
            state,
            mode: 0o600,
            owner: 990,
            senders: vec![("cyrus".to_owned(), may)],
        };
        for (case, is_read, state, may) in [
            ("right", true, Held::Yes, true),
            ("held and not read", false, Held::Yes, true),
            ("nothing at all", false, Held::Missing, false),
            ("elsewhere", true, Held::No, true),
            ("no socket", true, Held::Other, true),
            ("unknown", true, Held::Unknown, true),
            ("mode", true, Held::Yes, false),
        ] {
            let receiver = Receiver { is_read, sockets: vec![socket(state, may)] };
            told(|report| judge("cyrus", &receiver, report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_socket_is_looked_at_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let me = nix::unistd::geteuid().to_string();
        let look = || Socket::look(&path, false, std::slice::from_ref(&me)).state;
        assert_eq!(look(), Held::Missing);
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(look(), Held::Yes);
        assert!(Socket::look(&path, false, std::slice::from_ref(&me)).senders[0].1);
        drop(socket);
        assert_eq!(look(), Held::No);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(look(), Held::Other);
    }
}
