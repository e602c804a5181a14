//! Notifications over streams: one connection each, answered when it is durable.
//!
//! What came is looked at and left there until it is answered, so that another reader finds it
//! whole; what the kernel has no room for at once is taken before by the porter, who keeps it.

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
use super::wire::{self, Came};

/// Connections that are open.
#[derive(Debug)]
pub(super) struct Streams {
    door: UnixDatagram,
    open: Vec<Connection>,
    /// There was no file descriptor for who waits at the door.
    is_starved: bool,
    /// The porter has said that nobody is waited for any more.
    is_over: bool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    pid: u32,
    /// When it was accepted: a moment no other has.
    ns: u64,
    octets: Vec<u8>,
    /// How many of them there were when it was looked last whether all is there.
    looked_at: usize,
    /// Whether the porter takes them, and passes them on; else they are only looked at.
    is_taken: bool,
    /// Whether no more come.
    is_over: bool,
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
        Self { door, open: Vec::new(), is_starved: false, is_over: false }
    }

    /// What to wait for.
    pub(super) fn ends(&self) -> Vec<BorrowedFd<'_>> {
        let door = (!self.is_starved).then(|| self.door.as_fd());
        let looking = |one: &&Connection| one.state == State::Reading && !one.is_taken;
        let reading = self.open.iter().filter(looking);
        door.into_iter().chain(reading.map(|one| one.stream.as_fd())).collect()
    }

    /// Whether any connection is open, or can't be taken over now, so that time matters.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty() || self.is_starved
    }

    /// Whether the reader is to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes over who came, and reads what is there; `is_permitted` says which users may.
    pub(super) fn hear(&mut self, is_permitted: impl Fn(u32) -> bool) -> Heard {
        let mut heard = Heard::default();
        self.take_over(&is_permitted, &mut heard);
        for connection in &mut self.open {
            let Connection { ns, pid, .. } = *connection;
            if let Some(why) = connection.read(self.door.as_fd()) {
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
                && wire::tell(door, connection.ns, answer)
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
        loop {
            match wire::receive(self.door.as_fd()) {
                Ok(Some(Came::Connection { stream, ns, is_taken })) => {
                    let (connection, refused) =
                        Connection::begin(stream, ns, is_taken, &is_permitted);
                    heard.refused.extend(refused);
                    self.open.push(connection);
                }
                Ok(Some(Came::Part { ns, octets })) => {
                    let mut open = self.open.iter_mut();
                    // One that has an answer needs no more.
                    open.find(|one| one.ns == ns).into_iter().for_each(|one| one.add(&octets));
                }
                Ok(Some(Came::End)) => self.is_over = true,
                Ok(None) => return,
                Err(error) => {
                    if !was_starved {
                        warn!(%error, "a connection of Cyrus's can't be taken over");
                    }
                    self.is_starved = true;
                    return;
                }
            }
        }
    }
}

impl Connection {
    /// One that was handed over, and why it is refused, if it is.
    fn begin(
        stream: UnixStream,
        ns: u64,
        is_taken: bool,
        is_permitted: impl Fn(u32) -> bool,
    ) -> (Self, Option<String>) {
        // The kernel names the process 0 where it can't be seen from here.
        let peer = getsockopt(&stream, PeerCredentials);
        let refused = match peer.map(|peer| peer.uid()) {
            Ok(uid) if is_permitted(uid) => None,
            Ok(uid) => Some(format!("a connection of uid {uid}, who is not permitted")),
            // Whose it is, nobody knows: so nobody says that they may.
            Err(error) => Some(format!("a connection of whoever it may be: {error}")),
        };
        let connection = Self {
            stream,
            pid: peer.map_or(0, |peer| u32::try_from(peer.pid()).unwrap_or(0)),
            ns,
            octets: Vec::new(),
            looked_at: 0,
            is_taken,
            is_over: false,
            began: Instant::now(),
            looks: 0,
            state: if refused.is_some() { State::Answered(dlist::NO) } else { State::Reading },
        };
        (connection, refused)
    }

    /// Adds what the porter has taken; nothing where no more comes.
    fn add(&mut self, part: &[u8]) {
        self.is_over |= part.is_empty();
        // More than it may be is refused, however much more it is.
        if self.octets.len() <= NOTIFICATION_OCTETS_MAX {
            self.octets.extend_from_slice(part);
        }
    }

    /// Looks at what is there; gives why it won't be read on. What there is no more room for behind
    /// it, the porter is asked over `door` to take.
    fn read(&mut self, door: BorrowedFd<'_>) -> Option<String> {
        if self.state != State::Reading {
            return None;
        }
        if !self.is_taken
            && let Err(error) = self.look()
        {
            return Some(format!("a connection that broke: {:?}", error.kind()));
        }
        if self.octets.len() > NOTIFICATION_OCTETS_MAX {
            return Some(format!("a notification of more than {NOTIFICATION_OCTETS_MAX} octets"));
        }
        let has_more =
            std::mem::replace(&mut self.looked_at, self.octets.len()) != self.octets.len();
        if has_more && self.octets.ends_with(b"\n") {
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
        if self.is_over && self.octets.is_empty() {
            self.state = State::Answered(b"");
            return None;
        }
        if self.is_over {
            return Some("a notification that ends within itself".to_owned());
        }
        // The rest may wait until there is room for it.
        let is_full = self.octets.len() >= LOOK_OCTETS || self.began.elapsed() > LOOK_LIMIT;
        if is_full && !self.is_taken && wire::tell(door, self.ns, wire::TAKE) {
            self.is_taken = true;
            // All of it comes from there.
            self.octets.clear();
        }
        (self.began.elapsed() > PATIENCE).then(|| "a notification that takes too long".to_owned())
    }

    /// Gets what came, all of it anew.
    fn look(&mut self) -> io::Result<()> {
        let mut part = vec![0; LOOK_OCTETS];
        loop {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            match recv(&self.stream, &mut part[..], flags) {
                Ok((_, count)) => {
                    self.is_over = count == 0;
                    part.truncate(count);
                    self.octets = part;
                    return Ok(());
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How much is looked at at once: what the kernel always has room for.
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
        wire::hand_over(&porters, nobodys.as_fd(), 7, false).unwrap();
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
