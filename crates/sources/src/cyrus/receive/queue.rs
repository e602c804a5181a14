//! The datagrams that wait in the kernel, looked at before they are taken.

use std::io::{self, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{PassCred, ReceiveTimestampns, SetStruct};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, setsockopt};

/// A socket others send datagrams to.
///
/// Whoever sends blocks while some ten wait (`net.unix.max_dgram_qlen`), with the mailbox locked;
/// and what waits is the kernel's, so that it outlives a reader that dies, as long as somebody
/// holds the socket.
#[derive(Debug)]
pub(super) struct Queue {
    socket: UnixDatagram,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

/// One that waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Queued {
    /// What it says, up to [`DATAGRAM_OCTETS_MAX`].
    pub(super) octets: Vec<u8>,
    /// It says more.
    pub(super) is_cut: bool,
    /// When it was sent, in nanoseconds since 1970, by the kernel's stamp.
    pub(super) ns: u64,
    /// Who sent it.
    pub(super) sender: Sender,
}

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sender {
    /// As the kernel says.
    Named {
        /// The process.
        pid: u32,
        /// The user.
        uid: u32,
    },
    /// Nobody had asked the kernel yet when it was sent.
    Unsaid,
    /// Open files came along, which no notification has; then nothing the kernel says is read.
    Hidden,
}

impl Queue {
    /// Reads from `socket`.
    ///
    /// # Errors
    ///
    /// Where the kernel doesn't stamp datagrams, or can't be asked for more than the first.
    pub(super) fn new(socket: UnixDatagram) -> io::Result<Self> {
        ask_kernel(&socket)?;
        setsockopt(&socket, PeekOffset, &0)?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM_OCTETS_MAX],
            control: nix::cmsg_space!(nix::sys::time::TimeSpec, nix::sys::socket::UnixCredentials),
        })
    }

    /// Looks at what waits, in order, and leaves it there: some of it, if much does.
    pub(super) fn look(&mut self) -> io::Result<Vec<Queued>> {
        // Whoever read before may have left the offset anywhere.
        setsockopt(&self.socket, PeekOffset, &0)?;
        let (mut found, mut octets) = (Vec::new(), 0);
        while found.len() < GROUP_MAX && octets < GROUP_OCTETS {
            let Some(queued) = self.receive(MsgFlags::MSG_PEEK)? else { break };
            octets += queued.octets.len();
            let is_cut = queued.is_cut;
            found.push(queued);
            if is_cut {
                // The next look would find the rest of it.
                break;
            }
        }
        Ok(found)
    }

    /// Refuses whoever sends from now on, whoever else holds the socket; what waits still waits.
    pub(super) fn shut(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Read)
    }

    /// Takes the first that waits, if any does.
    pub(super) fn take(&mut self) -> io::Result<Option<Queued>> {
        self.receive(MsgFlags::empty())
    }

    fn receive(&mut self, how: MsgFlags) -> io::Result<Option<Queued>> {
        let flags = how | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let control = Some(self.control.as_mut_slice());
            let fd = self.socket.as_raw_fd();
            let received = match recvmsg::<UnixAddr>(fd, &mut parts, control, flags) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut ns = None;
            // There is room for these two alone: the kernel closes files that come along, and says
            // that there was more.
            let mut sender = match received.cmsgs() {
                Ok(_) => Sender::Unsaid,
                Err(_) => Sender::Hidden,
            };
            for message in received.cmsgs().into_iter().flatten() {
                match message {
                    ControlMessageOwned::ScmTimestampns(at) => {
                        let seconds = u64::try_from(at.tv_sec()).unwrap_or(0);
                        let nanos = u64::try_from(at.tv_nsec()).unwrap_or(0);
                        ns = Some(seconds * 1_000_000_000 + nanos);
                    }
                    ControlMessageOwned::ScmCredentials(from) => {
                        // A process without a number is none: there were no credentials.
                        if let Some(pid) = u32::try_from(from.pid()).ok().filter(|pid| *pid != 0) {
                            sender = Sender::Named { pid, uid: from.uid() };
                        }
                    }
                    _ => {}
                }
            }
            let (length, is_cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_TRUNC));
            let octets = self.buffer.get(..length).unwrap_or_default().to_vec();
            return Ok(Some(Queued { octets, is_cut, ns: ns.unwrap_or_else(now_ns), sender }));
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Has the kernel note when a datagram is sent, and by whom.
pub(super) fn ask_kernel(socket: &UnixDatagram) -> io::Result<()> {
    setsockopt(socket, ReceiveTimestampns, &true)?;
    setsockopt(socket, PassCred, &true)?;
    Ok(())
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// From which octet of what waits a look begins; it moves on with each.
#[derive(Clone, Copy, Debug)]
struct PeekOffset;

nix::setsockopt_impl!(
    PeekOffset,
    libc::SOL_SOCKET,
    libc::SO_PEEK_OFF,
    libc::c_int,
    SetStruct<'_, libc::c_int>
);

/// The longest datagram read; Cyrus ends at 64 KiB (`NOTIFY_MAXSIZE`).
pub(super) const DATAGRAM_OCTETS_MAX: usize = 64 * 1024 + 1;

/// Datagrams of one group. The kernel holds eleven by itself; an operator may let it hold more.
const GROUP_MAX: usize = 256;

/// Octets of one group, plus one datagram's: what is written with one fsync.
const GROUP_OCTETS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(found: &[Queued]) -> Vec<&str> {
        found.iter().map(|queued| std::str::from_utf8(&queued.octets).unwrap()).collect()
    }

    #[test]
    fn a_look_leaves_all_where_it_is_and_finds_the_same_again() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut queue = Queue::new(ours).unwrap();
        for text in ["one", "two", "two", "four"] {
            theirs.send(text.as_bytes()).unwrap();
        }
        let first = queue.look().unwrap();
        assert_eq!(texts(&first), ["one", "two", "two", "four"]);
        assert_eq!(queue.look().unwrap(), first);
        assert_ne!(first[1], first[2], "two equal datagrams are two");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(first[0].sender, Sender::Named { pid: std::process::id(), uid });
        assert_eq!(queue.take().unwrap().unwrap(), first[0]);
        assert_eq!(queue.look().unwrap(), first[1..]);
        for queued in &first[1..] {
            assert_eq!(&queue.take().unwrap().unwrap(), queued);
        }
        assert_eq!(queue.take().unwrap(), None);
    }

    #[test]
    fn what_waits_in_one_that_is_shut_is_found_and_then_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("datagrams");
        let mut queue = Queue::new(UnixDatagram::bind(&path).unwrap()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        for text in ["one", "", "three"] {
            sender.send_to(text.as_bytes(), &path).unwrap();
        }
        queue.shut().unwrap();
        let refused = sender.send_to(b"four", &path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        let found = queue.look().unwrap();
        assert_eq!(texts(&found), ["one", "", "three"]);
        for queued in &found {
            assert_eq!(&queue.take().unwrap().unwrap(), queued);
        }
        assert!(queue.look().unwrap().is_empty() && queue.take().unwrap().is_none());
    }

    #[test]
    fn files_that_come_along_are_not_taken() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut queue = Queue::new(ours).unwrap();
        let files = [theirs.as_raw_fd()];
        let parts = [io::IoSlice::new(b"x")];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&files)];
        nix::sys::socket::sendmsg::<UnixAddr>(
            theirs.as_raw_fd(),
            &parts,
            &rights,
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        assert_eq!(queue.look().unwrap()[0].sender, Sender::Hidden);
        assert_eq!(queue.take().unwrap().unwrap().sender, Sender::Hidden);
        assert_eq!(open(), before);
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_stands_behind_it_is_found_after() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut queue = Queue::new(ours).unwrap();
        theirs.send(&vec![b'x'; DATAGRAM_OCTETS_MAX + 9]).unwrap();
        theirs.send(b"next").unwrap();
        let found = queue.look().unwrap();
        assert!(found.len() == 1 && found[0].is_cut);
        assert!(queue.take().unwrap().unwrap().is_cut);
        assert_eq!(texts(&queue.look().unwrap()), ["next"]);
    }
}
