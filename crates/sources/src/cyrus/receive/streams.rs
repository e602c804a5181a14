//! Notifications over streams: one connection each, answered when it is durable.
//!
//! What came is looked at and left there until it is answered, so that another reader finds it
//! whole; only what the kernel has no room for at once has to be taken before.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{RecvFlags, recv};
use tracing::warn;

use super::super::dlist;
use super::super::record::{NOTIFICATION_OCTETS_MAX, Received, Record};
use super::porter::{self, KEPT_MAX};

/// Connections that are open.
#[derive(Debug)]
pub(super) struct Streams {
    door: UnixDatagram,
    open: Vec<Connection>,
    /// There was no file descriptor for who waits at the door.
    is_starved: bool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    pid: u32,
    /// When it was accepted: a moment no other has.
    ns: u64,
    octets: Vec<u8>,
    /// Whether they were taken, and not only looked at.
    is_taken: bool,
    began: Instant,
    /// How often it was looked whether all is there.
    looks: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Reading,
    /// All is there, and not answered yet.
    Whole,
    /// It has an answer, which is still to be told.
    Answered(&'static [u8]),
    Over,
}

/// What happened on the connections.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What is to be written down, and answered by [`Streams::answer`].
    pub(super) records: Vec<Record>,
    /// What was turned away, for the log.
    pub(super) refused: Vec<String>,
}

impl Streams {
    /// Gets connections from a [`Porter`](super::Porter) over `door`.
    pub(super) fn new(door: UnixDatagram) -> Self {
        Self { door, open: Vec::new(), is_starved: false }
    }

    /// What to wait for.
    pub(super) fn ends(&self) -> Vec<BorrowedFd<'_>> {
        let has_room = self.open.len() < KEPT_MAX && !self.is_starved;
        let door = has_room.then(|| self.door.as_fd());
        let reading = self.open.iter().filter(|one| one.state == State::Reading);
        door.into_iter().chain(reading.map(|one| one.stream.as_fd())).collect()
    }

    /// Whether any connection is open, or can't be taken over now, so that time matters.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty() || self.is_starved
    }

    /// Takes over who came, and reads what is there; `is_permitted` says which users may.
    pub(super) fn hear(&mut self, is_permitted: impl Fn(u32) -> bool) -> Heard {
        let mut heard = Heard::default();
        self.take_over(&is_permitted, &mut heard);
        for connection in &mut self.open {
            let Connection { ns, pid, .. } = *connection;
            if let Some(why) = connection.read() {
                // Cyrus waits for an answer, and goes on when it has one.
                connection.state = State::Answered(dlist::NO);
                heard.refused.push(why.clone());
                heard.records.push(Record { ns, pid, what: Received::Refused(why) });
            }
            if connection.state == State::Whole {
                let what = Received::Stream(connection.octets.clone());
                heard.records.push(Record { ns, pid, what });
            }
        }
        heard
    }

    /// Answers those whose notification [`Streams::hear`] gave.
    pub(super) fn answer(&mut self, answer: &'static [u8]) {
        let door = self.door.as_fd();
        for connection in &mut self.open {
            if connection.state == State::Whole {
                connection.state = State::Answered(answer);
            }
            if let State::Answered(answer) = connection.state
                && porter::tell(door, connection.ns, answer)
            {
                connection.state = State::Over;
            }
        }
        let before = self.open.len();
        self.open.retain(|one| one.state != State::Over);
        // Each had a descriptor.
        self.is_starved &= self.open.len() == before;
    }

    fn take_over(&mut self, is_permitted: impl Fn(u32) -> bool, heard: &mut Heard) {
        let was_starved = std::mem::take(&mut self.is_starved);
        while self.open.len() < KEPT_MAX {
            let (stream, ns) = match porter::receive(self.door.as_fd()) {
                Ok(Some(came)) => came,
                Ok(None) => return,
                Err(error) => {
                    if !was_starved {
                        warn!(%error, "a connection of Cyrus's can't be taken over");
                    }
                    self.is_starved = true;
                    return;
                }
            };
            // The kernel names the process 0 where it can't be seen from here.
            let peer = getsockopt(&stream, PeerCredentials);
            let mut connection = Connection {
                stream,
                pid: peer.map_or(0, |peer| u32::try_from(peer.pid()).unwrap_or(0)),
                ns,
                octets: Vec::new(),
                is_taken: false,
                began: Instant::now(),
                looks: 0,
                state: State::Reading,
            };
            let refused = match peer.map(|peer| peer.uid()) {
                Ok(uid) if is_permitted(uid) => None,
                Ok(uid) => Some(format!("a connection of uid {uid}, who is not permitted")),
                // Whose it is, nobody knows: so nobody says that they may.
                Err(error) => Some(format!("a connection of whoever it may be: {error}")),
            };
            if let Some(why) = refused {
                heard.refused.push(why);
                connection.state = State::Answered(dlist::NO);
            }
            self.open.push(connection);
        }
    }
}

impl Connection {
    /// Reads what is there; gives why it won't be read on.
    fn read(&mut self) -> Option<String> {
        if self.state != State::Reading {
            return None;
        }
        let before = self.octets.len();
        let is_over = match self.look() {
            Ok(is_over) => is_over,
            Err(error) => return Some(format!("a connection that broke: {:?}", error.kind())),
        };
        if self.octets.len() > NOTIFICATION_OCTETS_MAX {
            return Some(format!("a notification of more than {NOTIFICATION_OCTETS_MAX} octets"));
        }
        if self.octets.len() != before && self.octets.ends_with(b"\n") {
            self.looks += 1;
            match dlist::length(&self.octets) {
                Ok(Some(length)) if length == self.octets.len() => {
                    self.state = State::Whole;
                    return None;
                }
                Ok(Some(_)) => return Some("more than one notification".to_owned()),
                Ok(None) if self.looks < LOOKS_MAX => {}
                Ok(None) => return Some("a notification in too many pieces".to_owned()),
                Err(error) => return Some(error.to_string()),
            }
        }
        if is_over && self.octets.is_empty() {
            self.state = State::Answered(b"");
            return None;
        }
        if is_over {
            return Some("a notification that ends within itself".to_owned());
        }
        // The rest may wait until there is room for it.
        let is_full = self.octets.len() >= LOOK_OCTETS || self.began.elapsed() > LOOK_LIMIT;
        if is_full && !self.is_taken {
            self.is_taken = true;
            self.octets.clear();
            return self.read();
        }
        (self.began.elapsed() > PATIENCE).then(|| "a notification that takes too long".to_owned())
    }

    /// Gets what came, all of it anew while nothing is taken; says whether that was the end.
    fn look(&mut self) -> io::Result<bool> {
        let mut part = vec![0; LOOK_OCTETS];
        let how = if self.is_taken { RecvFlags::empty() } else { RecvFlags::PEEK };
        loop {
            let count = match recv(&self.stream, &mut part[..], how | RecvFlags::DONTWAIT) {
                Ok((_, count)) => count,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let came = part.get(..count).unwrap_or_default();
            if !self.is_taken {
                self.octets.clear();
                self.octets.extend_from_slice(came);
                return Ok(count == 0);
            }
            self.octets.extend_from_slice(came);
            if count == 0 || self.octets.len() > NOTIFICATION_OCTETS_MAX {
                return Ok(count == 0);
            }
        }
    }
}

/// How much is looked at, or taken, at once: what the kernel always has room for.
const LOOK_OCTETS: usize = 64 * 1024;

/// How long more is waited for without taking what came: the kernel has less room for small pieces.
const LOOK_LIMIT: Duration = Duration::from_millis(100);

/// How often it is looked whether a notification is all there: it is read anew each time.
const LOOKS_MAX: usize = 256;

/// How long a notification may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn whoever_the_kernel_does_not_name_is_refused_and_answered() {
        let (porters, door) = UnixDatagram::pair().unwrap();
        let mut streams = Streams::new(door);
        // Of what is no socket it says nothing.
        let nobodys = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        porter::hand_over(&porters, nobodys.as_fd(), 7).unwrap();
        let heard = streams.hear(|_| true);
        assert!(heard.records.is_empty());
        assert_eq!(heard.refused.len(), 1, "{heard:?}");
        assert!(heard.refused[0].starts_with("a connection of whoever it may be: "), "{heard:?}");
        streams.answer(dlist::OK);
        let mut answer = [0; 100];
        let length = porters.recv(&mut answer).unwrap();
        assert_eq!(answer[..length], [&7_u64.to_be_bytes()[..], dlist::NO].concat());
        assert!(!streams.is_busy(), "it is let go of");
    }
}
