//! Where connections come in, until nobody else is to.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tracing::warn;

/// A listening socket, or none.
#[derive(Debug)]
pub(super) struct Entrance {
    listener: Option<UnixListener>,
    whose: Whose,
    is_shut: bool,
}

/// Who holds a listening socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// Only this process: it goes with it.
    Ours,
    /// Another as well, for the process after this one.
    Anothers,
}

impl Entrance {
    /// The one where `listener` listens, from now on without waiting.
    pub(super) fn new(listener: UnixListener, whose: Whose) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: Some(listener), whose, is_shut: false })
    }

    /// One where nobody comes.
    pub(super) fn none() -> Self {
        Self { listener: None, whose: Whose::Ours, is_shut: true }
    }

    /// What to wait for; nothing once it is shut.
    pub(super) fn to_wait_for(&self) -> Option<&UnixListener> {
        self.listener.as_ref().filter(|_| !self.is_shut)
    }

    /// Whether nobody comes any more.
    pub(super) fn is_empty(&self) -> bool {
        self.listener.is_none()
    }

    /// Keeps out who comes from now on. Where another holds the socket, they wait there, with those
    /// who have come and were not let in; else whoever connects is refused from now on, and those who
    /// have come are still to be let in.
    pub(super) fn shut(&mut self) {
        if std::mem::replace(&mut self.is_shut, true) {
            return;
        }
        // It would be shut for the process after this one as well.
        if self.whose == Whose::Anothers {
            self.listener = None;
        }
        if let Some(listener) = &self.listener
            && let Err(error) = shutdown(listener, Shutdown::Read)
        {
            warn!(%error, "the stream can't be shut: who connects now is cut");
        }
    }

    /// The next who has come, if anybody has.
    pub(super) fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        loop {
            return match listener.accept() {
                Ok((stream, _)) => Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || self.is_last(&error) => {
                    self.listener = self.listener.take().filter(|_| !self.is_shut);
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
    }

    /// Whether the kernel says that it is shut, and nobody is left.
    fn is_last(&self, error: &io::Error) -> bool {
        self.is_shut && error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(whose: Whose) -> (tempfile::TempDir, UnixListener, Entrance) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("stream")).unwrap();
        let entrance = Entrance::new(listener.try_clone().unwrap(), whose).unwrap();
        (folder, listener, entrance)
    }

    #[test]
    fn who_has_come_is_let_in_where_the_socket_goes_with_us_and_nobody_else() {
        let (folder, _listener, mut entrance) = connected(Whose::Ours);
        let connect = || UnixStream::connect(folder.path().join("stream"));
        let _come = [connect().unwrap(), connect().unwrap()];
        entrance.shut();
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        for _ in 0..2 {
            assert!(!entrance.is_empty());
            assert!(entrance.accept().unwrap().is_some());
        }
        assert!(entrance.accept().unwrap().is_none() && entrance.is_empty());
    }

    #[test]
    fn who_has_come_waits_for_the_next_where_another_holds_the_socket() {
        let (folder, listener, mut entrance) = connected(Whose::Anothers);
        let connect = || UnixStream::connect(folder.path().join("stream"));
        let _before = connect().unwrap();
        entrance.shut();
        let _after = connect().unwrap();
        assert!(entrance.is_empty() && entrance.accept().unwrap().is_none());
        let mut next = Entrance::new(listener, Whose::Anothers).unwrap();
        assert!(next.accept().unwrap().is_some() && next.accept().unwrap().is_some());
        assert!(next.accept().unwrap().is_none() && !next.is_empty());
    }
}
