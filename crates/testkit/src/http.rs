//! Just enough HTTP/1.1 to ask the hub and to follow its stream, independent of what the hub uses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::Error;

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Asks for `path`, with a bearer token where one is given.
///
/// # Errors
/// [`Error::Io`] where the connection breaks, [`Error::Answer`] where it isn't HTTP.
pub fn get(address: SocketAddr, path: &str, token: Option<&str>) -> Result<Answer, Error> {
    request(address, "GET", path, &authorization(token), JSON, "")
}

/// Sends a JSON body to `path`.
///
/// # Errors
/// As [`get`].
pub fn post(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    json: &str,
) -> Result<Answer, Error> {
    request(address, "POST", path, &authorization(token), JSON, json)
}

/// A user's own password (RFC 7617).
#[derive(Clone, Copy, Debug)]
pub struct Basic<'a> {
    /// Who.
    pub user: &'a str,
    /// Known, because this is a test.
    pub password: &'a str,
}

impl Basic<'_> {
    fn authorization(self) -> String {
        let pair = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        format!("Authorization: Basic {pair}\r\n")
    }
}

/// Asks for `path` as `user`.
///
/// # Errors
/// As [`get`].
pub fn get_as(address: SocketAddr, path: &str, user: Basic<'_>) -> Result<Answer, Error> {
    request(address, "GET", path, &user.authorization(), JSON, "")
}

/// Does something to `path` as `user`, with a body of the media type `kind`.
///
/// # Errors
/// As [`get`].
pub fn send_as(
    address: SocketAddr,
    method: &str,
    path: &str,
    user: Basic<'_>,
    kind: &str,
    body: &str,
) -> Result<Answer, Error> {
    request(address, method, path, &user.authorization(), kind, body)
}

fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    authorization: &str,
    kind: &str,
    body: &str,
) -> Result<Answer, Error> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut body = Body::open(address, &format!("{head}{body}"))?;
    let mut text = Vec::new();
    while let Some(piece) = body.piece()? {
        text.extend(piece);
    }
    Ok(Answer { status: body.status, body: String::from_utf8_lossy(&text).into_owned() })
}

/// A followed stream of server-sent events.
#[derive(Debug)]
pub struct EventStream {
    body: Body,
    pending: Vec<u8>,
}

/// One server-sent event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerSent {
    /// Its `id`.
    pub id: String,
    /// Its `event`.
    pub name: String,
    /// Its `data`.
    pub data: String,
}

impl EventStream {
    /// Follows `path`.
    ///
    /// # Errors
    /// [`Error::Answer`] where the answer isn't 200.
    pub fn open(address: SocketAddr, path: &str, token: &str) -> Result<Self, Error> {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\n{}Accept: text/event-stream\r\n\r\n",
            authorization(Some(token))
        );
        let mut body = Body::open(address, &head)?;
        if body.status != 200 {
            let piece = body.piece()?.unwrap_or_default();
            let answer = format!("{} {}", body.status, String::from_utf8_lossy(&piece));
            return Err(Error::Answer { expected: "200".to_owned(), answer });
        }
        Ok(Self { body, pending: Vec::new() })
    }

    /// The next event, or `None` where none came for `patience`. Comments are passed over.
    ///
    /// # Errors
    /// [`Error::Answer`] where the stream ended.
    pub fn next(&mut self, patience: Duration) -> Result<Option<ServerSent>, Error> {
        let until = Instant::now() + patience;
        loop {
            while let Some(at) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..at + 2).collect();
                if let Some(event) = server_sent(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            match self.body.piece_within(left)? {
                Piece::Some(octets) => self.pending.extend(octets),
                Piece::Silence => return Ok(None),
                Piece::End => {
                    let (expected, answer) = ("an event".to_owned(), "the end".to_owned());
                    return Err(Error::Answer { expected, answer });
                }
            }
        }
    }
}

fn server_sent(block: &str) -> Option<ServerSent> {
    let mut event = ServerSent::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut event.id),
            "event" => value.clone_into(&mut event.name),
            "data" => {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    (!event.data.is_empty()).then_some(event)
}

fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// The body of an answer, as it comes.
#[derive(Debug)]
struct Body {
    reader: BufReader<TcpStream>,
    status: u16,
    left: Left,
}

/// What is still to come.
#[derive(Debug)]
enum Left {
    Chunks,
    Octets(usize),
    UntilClosed,
}

enum Piece {
    Some(Vec<u8>),
    Silence,
    End,
}

impl Body {
    fn open(address: SocketAddr, request: &str) -> Result<Self, Error> {
        let doing = || Error::io(format!("ask {address}"));
        let stream = TcpStream::connect(address).map_err(doing())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(doing())?;
        let mut reader = BufReader::new(stream);
        reader.get_mut().write_all(request.as_bytes()).map_err(doing())?;

        let status_line = line(&mut reader)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status else {
            return Err(Error::Answer { expected: "HTTP".to_owned(), answer: status_line });
        };
        let mut left = Left::UntilClosed;
        loop {
            let header = line(&mut reader)?.to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", length)) => {
                    left = Left::Octets(length.parse().unwrap_or(0));
                }
                Some(("transfer-encoding", _)) => left = Left::Chunks,
                Some(_) => {}
                None => return Ok(Self { reader, status, left }),
            }
        }
    }

    fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.piece_within(PATIENCE)? {
            Piece::Some(octets) => Ok(Some(octets)),
            Piece::End => Ok(None),
            Piece::Silence => Err(Error::Answer {
                expected: "a body".to_owned(),
                answer: format!("silence for {} s", PATIENCE.as_secs()),
            }),
        }
    }

    fn piece_within(&mut self, patience: Duration) -> Result<Piece, Error> {
        let doing = || Error::io("read from the hub");
        self.reader.get_ref().set_read_timeout(Some(patience)).map_err(doing())?;
        match self.reader.fill_buf() {
            Ok([]) => return Ok(Piece::End),
            Ok(_) => {}
            Err(error) if is_silence(&error) => return Ok(Piece::Silence),
            Err(error) => return Err(doing()(error)),
        }
        // What has begun comes whole, or the hub has stopped in the middle of it.
        self.reader.get_ref().set_read_timeout(Some(PATIENCE)).map_err(doing())?;
        match self.left {
            Left::UntilClosed => {
                let octets = self.reader.buffer().to_vec();
                self.reader.consume(octets.len());
                Ok(Piece::Some(octets))
            }
            Left::Octets(0) => Ok(Piece::End),
            Left::Octets(length) => {
                self.left = Left::Octets(0);
                self.exactly(length).map(Piece::Some)
            }
            Left::Chunks => self.chunk(),
        }
    }

    fn chunk(&mut self) -> Result<Piece, Error> {
        let size = line(&mut self.reader)?;
        let length = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| Error::Answer { expected: "a chunk".to_owned(), answer: size })?;
        let octets = self.exactly(length)?;
        line(&mut self.reader)?;
        Ok(if length == 0 { Piece::End } else { Piece::Some(octets) })
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut octets = vec![0; length];
        self.reader.read_exact(&mut octets).map_err(Error::io("read from the hub"))?;
        Ok(octets)
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> Result<String, Error> {
    let mut line = String::new();
    reader.read_line(&mut line).map_err(Error::io("read from the hub"))?;
    Ok(line.trim_end().to_owned())
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// The media type of most that is sent.
const JSON: &str = "application/json";

/// A hub that says nothing for so long has stopped; a loaded machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_no_event() {
        assert_eq!(server_sent(": still here\n\n"), None);
    }

    #[test]
    fn an_event_has_its_fields() {
        let event = server_sent("id: 7\nevent: MessageNew\ndata: {}\n\n").unwrap();
        assert_eq!(
            (event.id.as_str(), event.name.as_str(), event.data.as_str()),
            ("7", "MessageNew", "{}")
        );
    }
}
