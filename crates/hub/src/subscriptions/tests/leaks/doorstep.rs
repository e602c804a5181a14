//! A receiver that can be asked at any moment to take in whatever has reached it by then.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where requests arrive. What was sent before [`Doorstep::take_in`] was heard once that returns, so
/// that what is heard later was sent later, however busy the machine is.
pub(super) struct Doorstep {
    listener: TcpListener,
    /// Who came first stands first.
    callers: Vec<Caller>,
    hear: Box<Hear>,
}

/// Hears a request's body and gives its answer.
type Hear = dyn FnMut(&[u8]) -> Answer + Send;

/// Whether a request is taken, and how long that is thought about.
pub(super) struct Answer {
    pub(super) is_taken: bool,
    pub(super) pause: Duration,
}

struct Caller {
    stream: TcpStream,
    octets: Vec<u8>,
    answers: VecDeque<(Instant, &'static [u8])>,
    is_gone: bool,
}

impl Doorstep {
    /// Listens until it is dropped, within the runtime; and where.
    pub(super) fn open(
        hear: impl FnMut(&[u8]) -> Answer + Send + 'static,
    ) -> (Arc<Mutex<Self>>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let doorstep = Self { listener, callers: Vec::new(), hear: Box::new(hear) };
        let doorstep = Arc::new(Mutex::new(doorstep));
        let open = Arc::downgrade(&doorstep);
        tokio::spawn(async move {
            while let Some(doorstep) = open.upgrade() {
                doorstep.lock().unwrap().take_in();
                drop(doorstep);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        (doorstep, url)
    }

    /// Hears whatever has come, and answers what is due.
    pub(super) fn take_in(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let (octets, answers) = (Vec::new(), VecDeque::new());
            self.callers.push(Caller { stream, octets, answers, is_gone: false });
        }
        for caller in &mut self.callers {
            caller.read();
            while let Some(body) = caller.next() {
                let Answer { is_taken, pause } = (self.hear)(&body);
                let answer = if is_taken { TAKEN } else { BUSY };
                caller.answers.push_back((Instant::now() + pause, answer));
            }
            caller.answer();
        }
        self.callers.retain(|caller| !caller.is_gone);
    }
}

impl Caller {
    fn read(&mut self) {
        let mut some = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut some) {
                Ok(0) => self.is_gone = true,
                Ok(octets) => {
                    self.octets.extend_from_slice(&some[..octets]);
                    continue;
                }
                Err(error) => self.is_gone |= error.kind() != ErrorKind::WouldBlock,
            }
            return;
        }
    }

    /// The body of the next request, once it is there as a whole.
    fn next(&mut self) -> Option<Vec<u8>> {
        let head = self.octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.octets[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
        let end = head + length.trim().parse::<usize>().unwrap();
        let body = self.octets.get(head..end)?.to_vec();
        self.octets.drain(..end);
        Some(body)
    }

    fn answer(&mut self) {
        let now = Instant::now();
        while let Some((_, answer)) = self.answers.pop_front_if(|(at, _)| *at <= now) {
            self.is_gone |= self.stream.write_all(answer).is_err();
        }
    }
}

impl fmt::Debug for Doorstep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorstep").field("callers", &self.callers.len()).finish_non_exhaustive()
    }
}

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
