//! A client that costs next to nothing, so that the bench measures the server.

use anyhow::{Context as _, bail};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One kept-alive HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Wire {
    /// Connects to `address`.
    pub(super) async fn connect(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_OCTETS], filled: 0 })
    }

    /// Sends a whole request.
    pub(super) async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Reads one answer with a `content-length` and gives its status.
    pub(super) async fn answer(&mut self) -> anyhow::Result<u16> {
        self.read(status).await
    }

    /// The same, and which problem it tells of (RFC 9457), where it does.
    pub(super) async fn problem(&mut self) -> anyhow::Result<(u16, Option<String>)> {
        self.read(|answer| Ok((status(answer)?, problem(body(answer))))).await
    }

    /// Reads one answer, and gives its body.
    pub(super) async fn body(&mut self) -> anyhow::Result<Vec<u8>> {
        self.read(|answer| Ok(body(answer).to_vec())).await
    }

    /// Reads one answer, and gives what `take` makes of it.
    async fn read<T>(&mut self, take: fn(&[u8]) -> anyhow::Result<T>) -> anyhow::Result<T> {
        loop {
            let held = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(total) = message_octets(held)? {
                let taken = take(held.get(..total).unwrap_or_default())?;
                self.buffer.copy_within(total..self.filled, 0);
                self.filled -= total;
                return Ok(taken);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let Some(room) = self.buffer.get_mut(self.filled..).filter(|room| !room.is_empty()) else {
            bail!("an answer is longer than {BUFFER_OCTETS} octets");
        };
        let got = self.stream.read(room).await?;
        if got == 0 {
            bail!("the peer closed the connection before it had answered");
        }
        self.filled += got;
        Ok(())
    }
}

/// A whole POST request, ready to be sent again and again.
pub(super) fn post(path: &str, token: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The same with JSON.
pub(super) fn post_json(path: &str, token: &str, body: &str) -> Vec<u8> {
    post(path, token, "application/json", body.as_bytes())
}

/// How long the first message in `held` is, head and body, once it is there whole.
pub(super) fn message_octets(held: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = memmem::find(held, b"\r\n\r\n") else { return Ok(None) };
    let head = held.get(..end).unwrap_or_default();
    let total = end + 4 + content_length(head)?;
    Ok((held.len() >= total).then_some(total))
}

fn status(head: &[u8]) -> anyhow::Result<u16> {
    let digits = head.get(9..12).unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("not an HTTP answer: {:?}", String::from_utf8_lossy(head)))
}

/// What stands behind the head of a whole answer.
fn body(answer: &[u8]) -> &[u8] {
    let end = memmem::find(answer, b"\r\n\r\n").map(|end| end + 4);
    end.and_then(|end| answer.get(end..)).unwrap_or_default()
}

fn problem(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(body.get("type")?.as_str()?.rsplit(':').next()?.to_owned())
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_at_checked("content-length:".len()) else { continue };
        if name.eq_ignore_ascii_case(b"content-length:") {
            let value = std::str::from_utf8(value)?.trim();
            return value.parse().with_context(|| format!("content-length: {value:?}"));
        }
    }
    bail!("an answer without content-length");
}

/// Room for one answer.
const BUFFER_OCTETS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_measured_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1";
        assert_eq!(message_octets(text).unwrap(), Some(text.len() - 8));
        assert_eq!(message_octets(&text[..text.len() - 9]).unwrap(), None);
        assert_eq!(message_octets(&text[..20]).unwrap(), None);
    }

    #[test]
    fn a_problem_is_called_by_the_last_of_its_type() {
        let text = br#"{"type":"urn:postbell:problem:not-found","status":404}"#;
        assert_eq!(problem(text).as_deref(), Some("not-found"));
        assert_eq!(problem(b"{}"), None);
    }

    #[test]
    fn the_length_of_an_answer_is_found_whatever_its_case() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: y";
        assert_eq!(content_length(head).unwrap(), 12);
        assert_eq!(status(head).unwrap(), 200);
        assert!(content_length(b"HTTP/1.1 204 No Content").is_err());
    }
}
