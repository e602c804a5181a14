//! What a stream says where there is nothing to say, and who doesn't answer it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use postbell_testkit::http;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

use super::*;
use crate::{Config, Hub};

/// A hub whose streams may be silent for so long.
async fn hub(heartbeat: Duration) -> (Hub, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config {
        data: folder.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    };
    config.store.host = "mail.example.org".to_owned();
    (Hub::start_beating(config, heartbeat).await.unwrap(), folder)
}

fn publish(hub: &Hub) {
    let login = r#"{"event":"Login","uri":"imap://mail.example.org/","timestamp":"2026-08-20T13:34:14+02:00","user":"john","service":"imap","serverDomain":"mail.example.org","serverPort":993,"clientIP":"192.0.2.7","clientPort":51234}"#;
    let token = Some(hub.token().reveal());
    let answer = http::post(hub.local_addr(), "/v1/events", token, login).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn connect(hub: &Hub) -> TcpStream {
    let socket = TcpStream::connect(hub.local_addr()).unwrap();
    // Less than where nobody set another heartbeat.
    socket.set_read_timeout(Some(HEARTBEAT - Duration::from_secs(1))).unwrap();
    socket
}

/// Asks for the stream, and reads the head of its answer.
fn ask(hub: &Hub, query: &str, headers: &str) -> BufReader<TcpStream> {
    let mut socket = connect(hub);
    let token = hub.token().reveal();
    let head = format!(
        "GET /v1/events?{query} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(socket);
    while line(&mut reader) != "\r\n" {}
    reader
}

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    assert!(reader.read_line(&mut line).unwrap() > 0, "it ended");
    line
}

const NDJSON: &str = "Accept: application/x-ndjson\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_which_nothing_happens_says_that_it_lives() {
    let (hub, _folder) = hub(Duration::from_millis(100)).await;
    let mut sse = ask(&hub, "", "");
    let lines: Vec<_> = (0..6).map(|_| line(&mut sse)).collect();
    assert_eq!(lines, ["retry: 1000\n", "\n", ":\n", "\n", ":\n", "\n"]);
    let mut ndjson = ask(&hub, "", NDJSON);
    assert_eq!([line(&mut ndjson), line(&mut ndjson)], ["\n", "\n"]);
    publish(&hub);
    let event = std::iter::from_fn(|| Some(line(&mut ndjson))).find(|line| line != "\n");
    assert!(event.unwrap().starts_with("{\"event\":\"Login\""));
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_reads_what_it_does_not_want_says_that_it_lives() {
    // Over at once, so that it has to be said after each look at the journal.
    let (hub, _folder) = hub(Duration::ZERO).await;
    publish(&hub);
    let query = "since=0&follow=false&where=user%20%3D%3D%20%22jane%22";
    let mut said = String::new();
    ask(&hub, query, NDJSON).read_to_string(&mut said).unwrap();
    assert_eq!(said, "\n");
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_answers_its_pings_lives_on() {
    // Enough for who answers, also on a loaded machine.
    let (hub, _folder) = hub(Duration::from_millis(500)).await;
    let url = format!("ws://{}/v1/events", hub.local_addr());
    let mut request = url.into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", hub.token().reveal())).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tungstenite::client(request, connect(&hub)).unwrap();
    for _ in 0..6 {
        assert_eq!(socket.read().unwrap(), Message::Ping(Bytes::new()));
    }
    publish(&hub);
    let heard = std::iter::from_fn(|| Some(socket.read().unwrap())).find(|said| !said.is_ping());
    assert!(heard.unwrap().to_text().unwrap().contains("Login"));
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_a_websocket_that_answers_no_ping_is_told_so_and_cut_off() {
    let (hub, _folder) = hub(Duration::from_millis(200)).await;
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut socket = connect(&hub);
    let token = hub.token().reveal();
    let head = format!(
        "GET /v1/events HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(socket);
    while line(&mut reader) != "\r\n" {}
    let mut frames = Vec::new();
    loop {
        let mut begin = [0; 2];
        reader.read_exact(&mut begin).unwrap();
        let mut said = vec![0; begin[1].into()];
        reader.read_exact(&mut said).unwrap();
        frames.push((begin[0], said));
        if begin[0] != PING {
            break;
        }
    }
    let (close, said) = frames.pop().unwrap();
    assert_eq!((close, &said[..2]), (CLOSE, &1008_u16.to_be_bytes()[..]));
    assert_eq!(&said[2..], b"no ping was answered");
    // Three quarters of a minute before the first of which nothing was heard counts.
    assert_eq!((frames.len(), HEARTBEAT * 3), (3, Duration::from_secs(45)));
    drop(reader);
    hub.shutdown().await;
}

/// The first octet of a ping that comes whole.
const PING: u8 = 0x89;

/// The same of a farewell.
const CLOSE: u8 = 0x88;
