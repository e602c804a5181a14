//! Somebody in notifyd's place, for tests that want to see what Cyrus says.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Error;

/// Takes whatever Cyrus sends, at once, and keeps it; ends when dropped.
///
/// Cyrus holds a mailbox locked while it waits for whoever reads, so this never waits for the test.
#[derive(Debug)]
pub struct Listener {
    heard: Receiver<Vec<u8>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Reads datagrams at `path`, which everybody may send to.
    ///
    /// # Errors
    /// [`Error::Io`] where that can't be.
    pub fn datagrams(path: &Path) -> Result<Self, Error> {
        let doing = || Error::io(format!("listen at {}", path.display()));
        let socket = UnixDatagram::bind(path).map_err(doing())?;
        socket.set_read_timeout(Some(POLL)).map_err(doing())?;
        open_up(path)?;
        Ok(Self::start(move |heard, ending| {
            let mut buffer = vec![0; DATAGRAM_MAX];
            while !ending.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if heard.send(datagram).is_err() {
                    return;
                }
            }
        }))
    }

    /// Accepts connections at `path`, which everybody may make, and answers `OK` to the command on
    /// each. What is heard is the whole command, its line end included.
    ///
    /// # Errors
    /// [`Error::Io`] where that can't be.
    pub fn streams(path: &Path) -> Result<Self, Error> {
        let doing = || Error::io(format!("listen at {}", path.display()));
        let socket = UnixListener::bind(path).map_err(doing())?;
        socket.set_nonblocking(true).map_err(doing())?;
        open_up(path)?;
        Ok(Self::start(move |heard, ending| {
            while !ending.load(Ordering::Relaxed) {
                match socket.accept() {
                    Ok((stream, _)) => {
                        if let Some(command) = answered(stream)
                            && heard.send(command).is_err()
                        {
                            return;
                        }
                    }
                    Err(_) => std::thread::sleep(POLL),
                }
            }
        }))
    }

    fn start(work: impl FnOnce(&Sender<Vec<u8>>, &AtomicBool) + Send + 'static) -> Self {
        let (sender, heard) = channel();
        let ending = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ending);
        let thread = std::thread::spawn(move || work(&sender, &flag));
        Self { heard, ending, thread: Some(thread) }
    }

    /// What came next, as it came; nothing where nothing comes for so long.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        self.heard.recv_timeout(patience).ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ended = thread.join();
        }
    }
}

/// Reads a command with its literals and answers it; nothing where the connection breaks.
fn answered(mut stream: UnixStream) -> Option<Vec<u8>> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut command = Vec::new();
    {
        let mut reader = BufReader::new(&stream);
        loop {
            if reader.read_until(b'\n', &mut command).ok()? == 0 {
                return None;
            }
            let Some(length) = literal_length(&command) else { break };
            let begun = command.len();
            command.resize(begun.checked_add(length)?, 0);
            reader.read_exact(command.get_mut(begun..)?).ok()?;
        }
    }
    stream.write_all(b"OK ()\r\n").ok()?;
    Some(command)
}

/// The length of the literal that a line announces at its end (`{344+}`).
fn literal_length(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"+}\r\n")?;
    let open = text.iter().rposition(|&octet| octet == b'{')?;
    let length = std::str::from_utf8(text.get(open + 1..)?).ok()?.parse().ok()?;
    (length <= LITERAL_MAX).then_some(length)
}

/// Cyrus is another account than a test that root runs.
fn open_up(path: &Path) -> Result<(), Error> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .map_err(Error::io(format!("open up {}", path.display())))
}

/// How soon the end is seen.
const POLL: Duration = Duration::from_millis(5);
/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Above Cyrus' own limit of 65,536 octets.
const DATAGRAM_MAX: usize = 128 * 1024;
/// Far above any event.
const LITERAL_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_a_line_announces_a_literal() {
        assert_eq!(literal_length(b"NOTIFY %(MESSAGE {344+}\r\n"), Some(344));
        assert_eq!(literal_length(b"{344+} FILEPATH NIL)\r\n"), None);
    }
}
