//! What the porter and the reader say to each other, over a socket between the two.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, send, sendmsg,
};

/// Hands over a connection, when it was accepted, and whether what comes over it is taken here.
pub(super) fn hand_over(
    end: &UnixDatagram,
    stream: BorrowedFd<'_>,
    ns: u64,
    is_taken: bool,
) -> Result<(), Errno> {
    let files = [stream];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let kind = if is_taken { TAKEN } else { CONNECTION };
    let octets = [kind, &ns.to_be_bytes()].concat();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(end, &[IoSlice::new(&octets)], &mut control, flags)?;
    Ok(())
}

/// Says something to the reader, of the connection that was accepted then, if it is of one.
pub(super) fn say(end: &UnixDatagram, kind: &[u8], ns: u64, what: &[u8]) -> Result<(), Errno> {
    let octets = [kind, &ns.to_be_bytes(), what].concat();
    send(end, &octets, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
}

/// Whether a connection can't be handed over because nobody holds the other end any more.
pub(super) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE)
}

/// What comes from the porter.
#[derive(Debug)]
pub(super) enum Came {
    /// A connection.
    Connection {
        stream: UnixStream,
        /// When it was accepted.
        ns: u64,
        /// Whether what comes over it is taken by the porter; then it follows in parts.
        is_taken: bool,
    },
    /// More of what was taken; nothing where no more comes.
    Part {
        /// Of the connection that was accepted then.
        ns: u64,
        octets: Vec<u8>,
    },
    /// Nobody is waited for any more: the reader is to end.
    End,
}

/// The next that the porter has for us; nothing while there is none.
///
/// # Errors
///
/// Where there is no file descriptor for a connection, or too few would be left to write down what
/// it says: it waits on.
pub(super) fn receive(end: BorrowedFd<'_>) -> Result<Option<Came>, Errno> {
    let mut octets = vec![0; 1 + 8 + PART_OCTETS];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // Taken without a descriptor for it, it would be closed.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(end, &mut [IoSliceMut::new(&mut octets)], &mut control, flags) {
        Ok(message) => message,
        Err(Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error),
    };
    let took = || recv(end, &mut [0; 1], RecvFlags::DONTWAIT).map(drop);
    let octets = octets.get(..message.bytes).unwrap_or_default();
    let (kind, rest) = octets.split_at_checked(1).unwrap_or_default();
    let Some((ns, rest)) = rest.split_first_chunk() else {
        took()?;
        return Ok(None);
    };
    let ns = u64::from_be_bytes(*ns);
    if kind == PART {
        took()?;
        return Ok(Some(Came::Part { ns, octets: rest.to_vec() }));
    }
    if kind == END {
        took()?;
        return Ok(Some(Came::End));
    }
    let is_taken = kind == TAKEN;
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = files.next().ok_or(Errno::MFILE)?;
    // The spool's file and its folder.
    let _spare =
        [rustix::io::fcntl_dupfd_cloexec(end, 0)?, rustix::io::fcntl_dupfd_cloexec(end, 0)?];
    took()?;
    Ok(Some(Came::Connection { stream: UnixStream::from(file), ns, is_taken }))
}

/// Tells the other side what to answer whom, which may be nothing; says whether that was possible.
pub(super) fn tell(end: BorrowedFd<'_>, ns: u64, answer: &[u8]) -> bool {
    let octets = [&ns.to_be_bytes()[..], answer].concat();
    send(end, &octets, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
}

/// How what comes from the porter begins.
const CONNECTION: &[u8] = b"c";
const TAKEN: &[u8] = b"t";
pub(super) const PART: &[u8] = b"p";
pub(super) const END: &[u8] = b"e";

/// In the place of an answer: what comes is to be taken.
pub(super) const TAKE: &[u8] = b"take";

/// The same of nobody: what was left open is told.
pub(super) const TOLD: &[u8] = b"told";

/// How much is taken at once, and passed on.
pub(super) const PART_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn only_a_reader_that_is_not_there_any_more_is_gone() {
        let (stream, _cyrus) = UnixStream::pair().unwrap();
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        assert_eq!(hand_over(&ours, stream.as_fd(), 1, false), Ok(()));
        drop(theirs);
        // The kernel says it in another way the second time.
        for _ in 0..2 {
            assert!(is_gone(hand_over(&ours, stream.as_fd(), 1, false).unwrap_err()));
        }
        for passes in [Errno::NOBUFS, Errno::NOMEM, Errno::TOOMANYREFS, Errno::MFILE, Errno::INTR] {
            assert!(!is_gone(passes), "{passes}");
        }
    }
}
