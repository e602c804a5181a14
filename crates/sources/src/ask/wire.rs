//! Responses off a socket, one at a time, however hostile the peer.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::AskError;

/// A connection and how long it may take.
#[derive(Debug)]
pub(super) struct Wire {
    reader: Reader<Timed>,
}

impl Wire {
    pub(super) fn connect(address: SocketAddr, patience: Duration) -> Result<Self, AskError> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        let timed = Timed { stream, deadline: Instant::now() + patience };
        Ok(Self { reader: Reader::new(timed) })
    }

    /// Our end.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.reader.buffer.get_ref().stream.local_addr().ok()
    }

    /// From now on, so long at most until everything asked for is there.
    pub(super) fn allow(&mut self, patience: Duration) {
        self.timed().deadline = Instant::now() + patience;
    }

    pub(super) fn send(&mut self, octets: &[u8]) -> Result<(), AskError> {
        let timed = self.timed();
        timed.stream.set_write_timeout(Some(timed.left()?))?;
        timed.stream.write_all(octets)?;
        Ok(())
    }

    /// One response with its literals and its line end.
    pub(super) fn response(&mut self, octets_max: usize) -> Result<Vec<u8>, AskError> {
        self.reader.response(octets_max)
    }

    fn timed(&mut self) -> &mut Timed {
        self.reader.buffer.get_mut()
    }
}

/// A socket that gives up at a moment, and not so long after each octet.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(into)
    }
}

/// Cuts a stream into responses.
#[derive(Debug)]
struct Reader<R> {
    buffer: BufReader<R>,
}

impl<R: Read> Reader<R> {
    fn new(from: R) -> Self {
        Self { buffer: BufReader::new(from) }
    }

    fn response(&mut self, octets_max: usize) -> Result<Vec<u8>, AskError> {
        let mut response = Vec::new();
        loop {
            let begun = response.len();
            let room = octets_max.saturating_sub(begun);
            self.take(room).read_until(b'\n', &mut response)?;
            if !response.ends_with(b"\n") {
                let is_full = response.len() >= octets_max;
                return Err(if is_full { AskError::TooLarge } else { AskError::Closed });
            }
            let line = response.get(begun..).unwrap_or_default();
            let Some(length) = literal_length(line) else { return Ok(response) };
            let room = octets_max.saturating_sub(response.len());
            if length > room {
                return Err(AskError::TooLarge);
            }
            // Room is taken as octets come, not as they are promised.
            let before = response.len();
            self.take(length).read_to_end(&mut response)?;
            if response.len() - before < length {
                return Err(AskError::Closed);
            }
        }
    }

    fn take(&mut self, octets: usize) -> io::Take<&mut BufReader<R>> {
        self.buffer.by_ref().take(u64::try_from(octets).unwrap_or(u64::MAX))
    }
}

/// How long the literal is that begins after this line, if one does.
fn literal_length(line: &[u8]) -> Option<usize> {
    let text = line.strip_suffix(b"}\r\n")?;
    let open = text.iter().rposition(|octet| *octet == b'{')?;
    let digits = std::str::from_utf8(text.get(open + 1..)?).ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    // What no machine can hold is more than there is room for.
    is_number.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(octets: &[u8], octets_max: usize) -> Result<Vec<u8>, AskError> {
        Reader::new(octets).response(octets_max)
    }

    #[test]
    fn a_response_holds_its_literals() {
        let sent = b"* 1 FETCH (BODY[] {5}\r\na\r\nb) UID {1}\r\n7)\r\n* BYE\r\n";
        let mut reader = Reader::new(&sent[..]);
        assert_eq!(reader.response(100).unwrap(), sent[..sent.len() - 7]);
        assert_eq!(reader.response(100).unwrap(), b"* BYE\r\n");
        assert!(matches!(reader.response(100), Err(AskError::Closed)));
    }

    #[test]
    fn r157_what_is_too_large_is_refused_before_it_takes_room() {
        assert!(matches!(read(&[b'x'; 1000], 100), Err(AskError::TooLarge)));
        assert!(matches!(read(b"* {4294967296}\r\n", 100), Err(AskError::TooLarge)));
        assert!(matches!(read(b"* {99999999999999999999999}\r\n", 100), Err(AskError::TooLarge)));
        let many = b"{1}\r\nx".repeat(1000);
        assert!(matches!(read(&many, 100), Err(AskError::TooLarge)));
    }

    #[test]
    fn what_breaks_off_is_no_response() {
        for sent in [&b""[..], b"* OK", b"* {3}\r\nab", b"* {3}\r\nabc"] {
            assert!(matches!(read(sent, 100), Err(AskError::Closed)), "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn r157_no_response_is_larger_than_allowed(
            sent in "([{}+*()\"a\r\n0-9]|\\{[0-9]{1,3}\\}\r\n){0,80}", octets_max in 0_usize..60,
        ) {
            let mut reader = Reader::new(sent.as_bytes());
            let mut read = 0;
            while let Ok(response) = reader.response(octets_max) {
                prop_assert!(response.len() <= octets_max && response.ends_with(b"\n"));
                prop_assert_eq!(&sent.as_bytes()[read..read + response.len()], &response[..]);
                read += response.len();
            }
        }
    }
}
