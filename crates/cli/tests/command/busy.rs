//! A hub that can't take everything at once, played by a few lines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use crate::run::command;

const EVENT: &str = "{\"event\":\"vnd.example.Tick\",\"uri\":\"imap://h\",\"timestamp\":\"2026-11-25T09:30:00+01:00\"}\n";

/// Answers each request with what `answer` makes of its number and its count of events.
fn play(answer: impl Fn(usize, usize) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let events = take(&stream);
            (&stream).write_all(answer(number, events).as_bytes()).unwrap();
        }
    });
    address
}

/// Reads a request and counts the lines of its body.
fn take(stream: &TcpStream) -> usize {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body.iter().filter(|byte| **byte == b'\n').count()
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn accepted(events: usize) -> String {
    let verdicts = vec!["{\"verdict\":\"accepted\"}"; events].join(",");
    http("200 OK", "", &format!("{{\"verdicts\":[{verdicts}]}}"))
}

/// Publishes `events` events and gives exit code and what was said.
fn publish(hub: SocketAddr, events: usize) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events"), EVENT.repeat(events)).unwrap();
    let url = format!("http://{hub}");
    let output = command(folder.path(), &["publish", "--url", &url, "events"])
        .env("POSTBELL_TOKEN", "a-token-for-nobody")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_hub_that_takes_nothing_now_is_waited_for() {
    let hub = play(|number, events| match number {
        0 => http(
            "503 Service Unavailable",
            "retry-after: 1\r\n",
            "{\"detail\":\"the journal's disk is full: /data/journal\"}",
        ),
        _ => accepted(events),
    });
    let (code, said) = publish(hub, 2);
    assert_eq!(
        said,
        "the journal's disk is full: /data/journal; trying again until the hub takes events\n\
         the hub takes events again\nevents: 2 accepted\n"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn what_is_too_much_at_once_is_sent_in_pieces() {
    let hub = play(|_, events| match events {
        1 => accepted(events),
        _ => http("413 Payload Too Large", "", "{\"detail\":\"at most 200 octets\"}"),
    });
    assert_eq!(publish(hub, 5), (Some(0), "events: 5 accepted\n".to_owned()));
}

#[test]
fn an_answer_with_too_few_verdicts_is_not_taken_for_a_yes() {
    let hub = play(|_, events| accepted(events - 1));
    let (code, said) = publish(hub, 3);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("2 verdicts for 3 events"), "{said}");
}
