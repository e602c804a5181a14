//! A hub in a folder of its own, and a client that sends what it is told to, octet for octet.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use postbell_hub::{Config, Hub};
use postbell_testkit::http::{EventStream, ServerSent};
use serde_json::Value;

/// The hub's own store, of which most events here are.
pub(crate) const HOST: &str = "mail.example.org";

/// A running hub and its folder.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) token: String,
    folder: tempfile::TempDir,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            data: folder.path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        config.store.host = HOST.to_owned();
        change(&mut config);
        let hub = Hub::start(config).await.unwrap();
        let token = hub.token().reveal().to_owned();
        Self { hub, token, folder }
    }

    /// Stops the hub and starts another on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let folder = self.stop().await;
        Self::start_in(folder, |_| {}).await
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.hub.shutdown().await;
        self.folder
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.hub.local_addr()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data().join("publish.sock")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn publish(&self, content_type: &str, body: &str) -> Answer {
        self.ask("POST", "/v1/events", &[("Content-Type", content_type)], body.as_bytes())
    }

    /// Publishes events as NDJSON, all of which must become records.
    pub(crate) fn accept(&self, numbers: impl IntoIterator<Item = u32>) {
        let lines: Vec<_> = numbers.into_iter().map(login).collect();
        let answer = self.publish("application/x-ndjson", &lines.join("\n"));
        assert_eq!(
            (answer.status, answer.json()["accepted"].as_u64()),
            (200, Some(lines.len() as u64))
        );
    }

    /// Asks with the token.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let token = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", token.as_str())];
        all.extend_from_slice(headers);
        self.ask_plainly(method, path, &all, body)
    }

    /// Asks with nothing but the headers given.
    pub(crate) fn ask_plainly(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send(&[head.as_bytes(), b"\r\n", body].concat())
    }

    /// Sends a request as it is and reads the answer to its end.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be answered before all of it is sent, and the rest refused.
        drop(stream.write_all(request));
        read_answer(&mut stream, &request[..4] == b"HEAD")
    }

    /// Follows the stream as server-sent events.
    pub(crate) fn stream(&self, path: &str) -> EventStream {
        EventStream::open(self.address(), path, &self.token).unwrap()
    }

    /// Opens a stream and leaves it to the test to read it.
    pub(crate) fn open(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        self.open_as(path, &format!("Authorization: Bearer {}\r\n{headers}", self.token))
    }

    /// The same with nothing but the headers given.
    pub(crate) fn open_as(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        reader
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let wanted = format!("{}: ", name.to_ascii_lowercase());
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&wanted))?;
        line.get(wanted.len()..)
    }
}

/// Reads an answer: by its length, or to the end of the connection.
fn read_answer(stream: &mut TcpStream, head_only: bool) -> Answer {
    let mut octets = Vec::new();
    let mut piece = [0; 65536];
    let whole = |octets: &[u8]| {
        let at = octets.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&octets[..at]).into_owned();
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        })?;
        (head_only || octets.len() >= at + 4 + length).then_some(())
    };
    while whole(&octets).is_none() {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => octets.extend_from_slice(&piece[..length]),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&octets)),
        }
    }
    let text = String::from_utf8_lossy(&octets).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// The next event of a stream.
pub(crate) fn next(stream: &mut EventStream) -> ServerSent {
    stream.next(PATIENCE).unwrap().expect("an event in time")
}

/// An event like no other with another number.
pub(crate) fn login(number: u32) -> String {
    format!(
        r#"{{"event":"Login","uri":"imap://mail.example.org/","timestamp":"2026-08-20T13:34:14+02:00","user":"user{number}@example.org","service":"imap","serverDomain":"mail.example.org","serverPort":993,"clientIP":"192.0.2.7","clientPort":51234}}"#
    )
}

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
pub(crate) async fn wait_until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
