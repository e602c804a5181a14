//! The sockets, where nobody hands them over.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::queue::ask_kernel;

/// Why a socket can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("{}: somebody listens there already (is it Cyrus's notifyd, or another postbell?)", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{}: is no socket, and stays", path.display())]
    Other {
        /// Where.
        path: PathBuf,
    },
    /// It can't be made.
    #[error("{}: the socket can't be made", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket for datagrams at `path`, which its owner and its group may write to.
///
/// # Errors
///
/// Where somebody listens there, or it can't be made.
pub fn bind_datagram(path: &Path) -> Result<UnixDatagram, SocketError> {
    let is_taken = || UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_ok();
    bind(path, is_taken, |path| {
        let socket = UnixDatagram::bind(path)?;
        ask_kernel(&socket)?;
        Ok(socket)
    })
}

/// The same for streams.
///
/// # Errors
///
/// Where somebody listens there, or it can't be made.
pub fn bind_stream(path: &Path) -> Result<UnixListener, SocketError> {
    bind(path, || UnixStream::connect(path).is_ok(), |path| UnixListener::bind(path))
}

fn bind<T>(
    path: &Path,
    is_taken: impl Fn() -> bool,
    bind: impl Fn(&Path) -> io::Result<T>,
) -> Result<T, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::Other { path: path.to_owned() });
        }
        Ok(_) if is_taken() => return Err(SocketError::Taken { path: path.to_owned() }),
        // Left by one that died.
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    // Nobody else may write to it in the moment before its mode is set.
    let before = rustix::process::umask(Mode::from(0o117));
    let bound = bind(path);
    rustix::process::umask(before);
    bound.map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["datagram", "stream"] {
            let path = folder.path().join(name);
            let make = || match name {
                "datagram" => bind_datagram(&path).map(|socket| Box::new(socket) as Box<dyn Send>),
                _ => bind_stream(&path).map(|socket| Box::new(socket) as Box<dyn Send>),
            };
            let first = make().unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
            assert!(matches!(make(), Err(SocketError::Taken { .. })));
            drop(first);
            drop(make().unwrap());
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "mine").unwrap();
            assert!(matches!(make(), Err(SocketError::Other { .. })));
        }
    }
}
