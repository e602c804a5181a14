//! Notifications over streams: one connection each, answered when it is durable.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::super::dlist;
use super::super::record::{NOTIFICATION_OCTETS_MAX, Received, Record};
use super::queue::now_ns;

/// Connections that are open.
#[derive(Debug)]
pub(super) struct Streams {
    listener: UnixListener,
    open: Vec<Connection>,
    last_ns: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    pid: u32,
    octets: Vec<u8>,
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
    /// Listens on `listener`.
    ///
    /// # Errors
    ///
    /// Where it can't be asked without waiting.
    pub(super) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, open: Vec::new(), last_ns: 0 })
    }

    /// What to wait for.
    pub(super) fn ends(&self) -> Vec<BorrowedFd<'_>> {
        let listener = (self.open.len() < CONNECTIONS_MAX).then(|| self.listener.as_fd());
        listener.into_iter().chain(self.open.iter().map(|one| one.stream.as_fd())).collect()
    }

    /// Whether any connection is open, so that time matters.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// Accepts who came, and reads what is there; `is_permitted` says which users may.
    pub(super) fn hear(&mut self, is_permitted: impl Fn(u32) -> bool) -> Heard {
        let mut heard = Heard::default();
        self.accept(&is_permitted, &mut heard);
        for connection in &mut self.open {
            if let Some(why) = connection.read() {
                connection.state = State::Over;
                // Cyrus waits for an answer, and goes on when it has one.
                drop(connection.stream.write_all(dlist::NO));
                heard.refused.push(why.clone());
                heard.records.push(Record {
                    ns: stamp(&mut self.last_ns),
                    pid: connection.pid,
                    what: Received::Refused(why),
                });
            }
            if connection.state == State::Whole {
                heard.records.push(Record {
                    ns: stamp(&mut self.last_ns),
                    pid: connection.pid,
                    what: Received::Stream(connection.octets.clone()),
                });
            }
        }
        self.open.retain(|one| one.state != State::Over);
        heard
    }

    /// Answers those whose notification [`Streams::hear`] gave.
    pub(super) fn answer(&mut self, answer: &[u8]) {
        for connection in self.open.iter_mut().filter(|one| one.state == State::Whole) {
            // Who doesn't wait for the answer doesn't want it.
            drop(connection.stream.write_all(answer));
            connection.state = State::Over;
        }
        self.open.retain(|one| one.state != State::Over);
    }

    fn accept(&mut self, is_permitted: impl Fn(u32) -> bool, heard: &mut Heard) {
        while self.open.len() < CONNECTIONS_MAX {
            // That nobody is there, and any other failure, is met again by the next look.
            let Ok((mut stream, _)) = self.listener.accept() else { return };
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else { continue };
            let uid = peer.uid.as_raw();
            if !is_permitted(uid) {
                heard.refused.push(format!("a connection of uid {uid}, who is not permitted"));
                drop(stream.write_all(dlist::NO));
                continue;
            }
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.open.push(Connection {
                stream,
                pid: u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0),
                octets: Vec::new(),
                began: Instant::now(),
                looks: 0,
                state: State::Reading,
            });
        }
    }
}

impl Connection {
    /// Reads what is there; gives why it won't be read on.
    fn read(&mut self) -> Option<String> {
        if self.state != State::Reading {
            return None;
        }
        let mut part = vec![0; PART_OCTETS];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) if self.octets.is_empty() => {
                    self.state = State::Over;
                    return None;
                }
                Ok(0) => return Some("a notification that ends within itself".to_owned()),
                Ok(count) => {
                    self.octets.extend_from_slice(part.get(..count).unwrap_or_default());
                    if self.octets.len() > NOTIFICATION_OCTETS_MAX {
                        return Some(format!(
                            "a notification of more than {NOTIFICATION_OCTETS_MAX} octets"
                        ));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(format!("a connection that broke: {:?}", error.kind())),
            }
        }
        if self.octets.ends_with(b"\n") {
            self.looks += 1;
            match dlist::length(&self.octets) {
                Ok(Some(length)) if length == self.octets.len() => self.state = State::Whole,
                Ok(Some(_)) => return Some("more than one notification".to_owned()),
                Ok(None) if self.looks < LOOKS_MAX => {}
                Ok(None) => return Some("a notification in too many pieces".to_owned()),
                Err(error) => return Some(error.to_string()),
            }
        }
        let is_late = self.state == State::Reading && self.began.elapsed() > PATIENCE;
        is_late.then(|| "a notification that takes too long".to_owned())
    }
}

/// A moment no other notification has.
fn stamp(last_ns: &mut u64) -> u64 {
    *last_ns = now_ns().max(last_ns.saturating_add(1));
    *last_ns
}

/// Connections open at once; more wait in the kernel. Each of Cyrus's processes has one.
const CONNECTIONS_MAX: usize = 256;

/// How much is read at once.
const PART_OCTETS: usize = 64 * 1024;

/// How often it is looked whether a notification is all there: it is read anew each time.
const LOOKS_MAX: usize = 256;

/// How long a notification may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
