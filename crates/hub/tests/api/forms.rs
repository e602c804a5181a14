//! What holds for a stream in whatever form it is sent, and however it was opened.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::world::{PATIENCE, World, login, wait_until};

/// A stream's form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Sse,
    Ndjson,
    WebSocket,
}

pub(crate) const FORMS: [Form; 3] = [Form::Sse, Form::Ndjson, Form::WebSocket];

/// What opens it.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Token(String),
    Ticket(String),
}

/// A stream being read.
pub(crate) enum Reader {
    Lines(BufReader<TcpStream>),
    Messages(Box<WebSocket<TcpStream>>, Option<String>),
}

/// The status of what is no stream.
pub(crate) type Refused = u16;

impl Reader {
    pub(crate) fn open(world: &World, form: Form, key: &Key, query: &str) -> Result<Self, Refused> {
        Self::open_with(world, form, key, query, &[])
    }

    fn open_with(
        world: &World,
        form: Form,
        key: &Key,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Refused> {
        let mut socket = TcpStream::connect(world.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut path = format!("/v1/events?{query}");
        let mut all: Vec<(&'static str, String)> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        match key {
            Key::Token(token) => all.push(("authorization", format!("Bearer {token}"))),
            Key::Ticket(ticket) => path.push_str(&format!("&ticket={ticket}")),
        }
        if form == Form::WebSocket {
            let url = format!("ws://{}{path}", world.address());
            let mut request = url.into_client_request().unwrap();
            for (name, value) in all {
                request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
            }
            return match tungstenite::client(request, socket) {
                Ok((socket, _)) => Ok(Self::Messages(Box::new(socket), None)),
                Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                    Err(answer.status().as_u16())
                }
                Err(error) => panic!("{error}"),
            };
        }
        let accept = if form == Form::Sse { "text/event-stream" } else { "application/x-ndjson" };
        let mut head = format!("GET {path} HTTP/1.0\r\nAccept: {accept}\r\n");
        for (name, value) in all {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(socket);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        let status: u16 = status.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 200 {
            return Err(status);
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Ok(Self::Lines(reader))
    }

    /// The text of the next delivery; none where the stream has ended.
    pub(crate) fn next(&mut self) -> Option<String> {
        match self {
            Self::Lines(reader) => loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() == 0 {
                    return None;
                }
                let json = line.strip_prefix("data: ").unwrap_or(&line).trim_end();
                if json.starts_with('{') {
                    return Some(json.to_owned());
                }
            },
            Self::Messages(socket, farewell) => loop {
                match socket.read() {
                    Ok(Message::Text(text)) => return Some(text.to_string()),
                    Ok(Message::Close(frame)) => {
                        *farewell = frame
                            .map(|frame| format!("{} {}", u16::from(frame.code), frame.reason));
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            },
        }
    }

    /// The numbers of all deliveries to come, each with the one before it.
    fn numbers(&mut self) -> Vec<(Option<u64>, u64)> {
        std::iter::from_fn(|| self.next()).map(|text| numbers(&text)).collect()
    }

    /// The numbers of all deliveries to come, and what is said at the end.
    fn rest(&mut self) -> (Vec<u64>, Option<String>) {
        let (mut seen, mut last) = (Vec::new(), None);
        match self {
            // Cut off or ended: what was read before counts.
            Self::Lines(reader) => {
                for line in reader.lines().map_while(Result::ok) {
                    let text = line.strip_prefix("data: ").unwrap_or(&line);
                    if let Some(comment) = text.strip_prefix(": ") {
                        last = Some(comment.to_owned());
                    } else if text.starts_with('{') {
                        let told: Value = serde_json::from_str(text).unwrap();
                        seen.extend(told["vnd.postbell.seq"].as_u64());
                        last = told["detail"].as_str().map(str::to_owned);
                    }
                }
            }
            Self::Messages(..) => {
                seen.extend(self.numbers().into_iter().map(|(_, seq)| seq));
                last = self.farewell().map(str::to_owned);
            }
        }
        (seen, last)
    }

    /// How a WebSocket was closed.
    pub(crate) fn farewell(&self) -> Option<&str> {
        match self {
            Self::Lines(_) => None,
            Self::Messages(_, farewell) => farewell.as_deref(),
        }
    }
}

fn numbers(text: &str) -> (Option<u64>, u64) {
    let told: Value = serde_json::from_str(text).unwrap();
    (told["vnd.postbell.prevSeq"].as_u64(), told["vnd.postbell.seq"].as_u64().unwrap())
}

impl World {
    fn own(&self) -> Key {
        Key::Token(self.token.clone())
    }

    /// A ticket of a token's.
    pub(crate) fn ticket(&self, token: &str) -> String {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = self.ask_plainly("POST", "/v1/tickets", &headers, b"");
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.json()["ticket"].as_str().unwrap().to_owned()
    }

    fn reader_of(&self, name: &str) -> String {
        let new = json!({ "name": name, "role": "service", "scope": ["read"] }).to_string();
        let json = [("Content-Type", "application/json")];
        let made = self.ask("POST", "/v1/tokens", &json, new.as_bytes());
        made.json()["token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_tells_the_same_first_what_was_and_then_what_comes() {
    let world = World::start().await;
    world.accept(1..=3);
    let mut told = Vec::new();
    for form in FORMS {
        let key = Key::Ticket(world.ticket(&world.token));
        let by_token = Reader::open(&world, form, &world.own(), "since=1&limit=4").unwrap();
        let by_ticket = Reader::open(&world, form, &key, "since=1&limit=4").unwrap();
        told.extend([(form, by_token, Vec::new()), (form, by_ticket, Vec::new())]);
    }
    for (_, reader, seen) in &mut told {
        seen.extend([reader.next().unwrap(), reader.next().unwrap()]);
    }
    world.accept(4..=6);
    for (form, reader, seen) in &mut told {
        seen.extend(std::iter::from_fn(|| reader.next()));
        let all: Vec<_> = seen.iter().map(|text| numbers(text)).collect();
        assert_eq!(all, [(None, 2), (Some(2), 3), (Some(3), 4), (Some(4), 5)], "{form:?}");
        if *form == Form::WebSocket {
            assert_eq!(reader.farewell(), Some("1000 done"));
        }
    }
    let first = &told[0].2;
    assert!(told.iter().all(|(_, _, seen)| seen == first));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_every_form_who_comes_back_goes_on_where_they_were() {
    let world = World::start().await;
    world.accept(1..=5);
    for form in FORMS {
        let open = |query: &str, headers: &[(&'static str, &str)]| {
            Reader::open_with(&world, form, &world.own(), query, headers).unwrap().numbers()
        };
        let last = [("last-event-id", "3")];
        assert_eq!(open("follow=false", &last), [(Some(3), 4), (Some(4), 5)], "{form:?}");
        assert_eq!(open("follow=false&since=4", &[]), [(None, 5)]);
        assert_eq!(open("follow=false", &[]), []);
        assert_eq!(open("since=0&users=user2@example.org,user4@example.org&limit=2", &[]).len(), 2);
        for (query, status) in [("since=6", 400), ("sinse=1", 400), ("where=x%20%3D", 400)] {
            let refused = Reader::open(&world, form, &world.own(), query).err();
            assert_eq!(refused, Some(status), "{form:?} {query}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_every_form_ends_with_the_token_it_was_opened_by_or_whose_ticket_did() {
    let world = World::start().await;
    for form in FORMS {
        let token = world.reader_of("reader");
        let ticket = Key::Ticket(world.ticket(&token));
        let unused = Key::Ticket(world.ticket(&token));
        let key = Key::Token(token);
        let mut open =
            [key.clone(), ticket].map(|key| Reader::open(&world, form, &key, "since=0").unwrap());
        assert_eq!(world.ask("DELETE", "/v1/tokens/reader", &[], b"").status, 204);
        for reader in &mut open {
            assert_eq!(reader.next(), None, "{form:?}");
            if form == Form::WebSocket {
                assert_eq!(reader.farewell(), Some("1008 the token has ended"));
            }
        }
        for key in [key, unused] {
            assert_eq!(Reader::open(&world, form, &key, "").err(), Some(401), "{form:?}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_ends_when_the_hub_stops() {
    let world = World::start().await;
    let mut open = FORMS.map(|form| Reader::open(&world, form, &world.own(), "since=0").unwrap());
    let stopping = tokio::spawn(world.stop());
    for reader in &mut open {
        assert_eq!(reader.next(), None);
    }
    assert_eq!(open[2].farewell(), Some("1001 the hub stops: come back"));
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_ticket_that_was_used_or_never_was_answers_as_no_token_at_all() {
    let world = World::start().await;
    world.accept(1..=1);
    let none = world.ask_plainly("GET", "/v1/events", &[], b"");
    assert_eq!(none.status, 401);
    let used = world.ticket(&world.token);
    let ask = |query: &str| {
        world.ask_plainly("GET", &format!("/v1/events?follow=false&{query}"), &[], b"")
    };
    assert_eq!(ask(&format!("ticket={used}")).status, 200);
    let other = World::start().await;
    let foreign = other.ticket(&other.token);
    let fresh = world.ticket(&world.token);
    for query in [
        format!("ticket={used}"),
        format!("ticket={foreign}"),
        "ticket=".to_owned(),
        format!("ticket={}", world.token),
        format!("ticket={fresh}&ticket={fresh}"),
        format!("ticket={}x", fresh),
    ] {
        let answer = ask(&query);
        assert_eq!((answer.status, &answer.body), (401, &none.body), "{query}");
    }
    // None of that used it up; and it opens nothing but a stream.
    for path in ["/v1/status", "/v1/subscriptions", "/v1/tickets"] {
        let answer = world.ask_plainly("GET", &format!("{path}?ticket={fresh}"), &[], b"");
        assert_eq!(answer.status, 401, "{path}");
    }
    let as_token = [("Authorization", format!("Bearer {fresh}"))];
    let as_token = as_token.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(world.ask_plainly("GET", "/v1/events", &as_token, b"").status, 401);
    assert_eq!(ask(&format!("ticket={fresh}")).status, 200);
    // Who may not read gets none.
    let new = json!({ "name": "p", "role": "service", "scope": ["publish"] }).to_string();
    let json = [("Content-Type", "application/json")];
    let made = world.ask("POST", "/v1/tokens", &json, new.as_bytes()).json();
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(world.ask_plainly("POST", "/v1/tickets", &headers, b"").status, 403);
    other.stop().await;
    world.stop().await;
}

/// Publishes 600 events that are more than the system holds for a connection.
pub(crate) fn publish_more_than_fits(world: &World) {
    let large = "x".repeat(60_000);
    for batch in 0..6 {
        let lines: Vec<_> = (0..100)
            .map(|number| {
                let event = login(batch * 100 + number);
                format!("{},\"vnd.example.large\":\"{large}\"}}", event.strip_suffix('}').unwrap())
            })
            .collect();
        let answer = world.publish("application/x-ndjson", &lines.join("\n"));
        assert_eq!(answer.json()["accepted"], 100, "{}", answer.body.get(..300).unwrap_or(""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_in_every_form_who_takes_nothing_is_told_the_number_and_cut_off() {
    let world = World::start_with(|config| {
        // Enough for whoever reads, also on a loaded machine.
        config.http.stall_timeout = std::time::Duration::from_secs(5);
    })
    .await;
    publish_more_than_fits(&world);
    let query = "since=0&parameters=*";
    let open = |form| Reader::open(&world, form, &world.own(), query).unwrap();
    let mut slow = FORMS.map(open);
    // Neither reads one what it is told then.
    let never = FORMS.map(open);
    let is_cut = || world.get("/metrics").body.contains("postbell_stream_slow_total 6\n");
    wait_until(is_cut).await;
    // All at once: there are seconds for it.
    let told = std::thread::scope(|scope| {
        let reading = slow.each_mut().map(|reader| scope.spawn(|| reader.rest()));
        reading.map(|reading| reading.join().unwrap())
    });
    for (form, (seen, said)) in FORMS.into_iter().zip(told) {
        let last = *seen.last().unwrap();
        assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "{form:?}");
        assert!(last < 600, "{form:?}: {last}");
        let code = if form == Form::WebSocket { "1013 " } else { "" };
        let said = said.unwrap();
        assert_eq!(said, format!("{code}too slow: come back; last sent: {last}"), "{form:?}");
        // And whoever comes back misses nothing.
        let query = format!("since={last}&follow=false");
        let rest = Reader::open(&world, form, &world.own(), &query).unwrap().rest();
        assert_eq!(
            rest,
            ((last + 1..=600).collect(), (form == Form::WebSocket).then(|| "1000 done".to_owned()))
        );
    }
    // Nothing is held for those who don't, and nobody is counted twice.
    wait_until(|| world.get("/v1/status").json()["streams"] == 0).await;
    assert!(is_cut());
    drop(never);
    world.stop().await;
}

/// Whoever asked for all there is must not take it for the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_as_too_slow_sees_that_it_is_not_the_end() {
    let world = World::start_with(|config| {
        config.http.stall_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    publish_more_than_fits(&world);
    let mut socket = TcpStream::connect(world.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /v1/events?since=0&follow=false&parameters=* HTTP/1.1\r\nHost: hub\r\n\
         Accept: application/x-ndjson\r\nAuthorization: Bearer {}\r\n\r\n",
        world.token
    );
    socket.write_all(head.as_bytes()).unwrap();
    wait_until(|| world.get("/metrics").body.contains("postbell_stream_slow_total 1\n")).await;
    let mut octets = Vec::new();
    socket.read_to_end(&mut octets).unwrap();
    let text = String::from_utf8(octets).unwrap();
    let (_, problem) = text.rsplit_once("{\"type\":").expect("a problem");
    assert!(text.contains("transfer-encoding: chunked\r\n"));
    // The chunk's end, and no last chunk.
    assert!(problem.ends_with("}\n\r\n") && problem.contains(":too-slow\""), "{problem}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_a_websocket_takes_nothing_but_pings() {
    let world = World::start().await;
    let open = || match Reader::open(&world, Form::WebSocket, &world.own(), "").unwrap() {
        Reader::Messages(socket, _) => socket,
        Reader::Lines(_) => panic!("no WebSocket"),
    };
    let mut lively = open();
    lively.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(lively.read().unwrap(), Message::Pong("are you there".into()));
    for message in
        [Message::text("{}"), Message::binary(vec![0; 16]), Message::binary(vec![0; 1 << 20])]
    {
        let mut socket = open();
        // Cut off in the middle, or told why: nothing of it is kept either way.
        drop(socket.send(message));
        let mut reader = Reader::Messages(socket, None);
        assert_eq!(reader.next(), None);
        let told = reader.farewell();
        assert!(told.is_none_or(|told| told.starts_with("1003 ")), "{told:?}");
    }
    lively.send(Message::Ping("still".into())).unwrap();
    assert_eq!(lively.read().unwrap(), Message::Pong("still".into()));
    drop(lively);
    // Answers that nobody reads are not kept without end.
    let mut flooding = open();
    let sent = (0..1_000).take_while(|_| flooding.send(Message::Ping("x".into())).is_ok()).count();
    let answers = std::iter::from_fn(|| flooding.read().ok().filter(Message::is_pong)).count();
    assert!(answers < 100, "{answers} answers to {sent} pings");
    let none = || world.get("/v1/status").json()["streams"] == 0;
    wait_until(none).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_only_pages_of_named_origins_may_ask_and_read() {
    let world = World::start_with(|config| {
        config.http.allowed_origins = vec!["https://app.example.org".to_owned()];
    })
    .await;
    let own = format!("http://{}", world.address());
    let host = world.address().to_string();
    for (origin, may) in [
        ("https://app.example.org", true),
        (own.as_str(), true),
        ("https://evil.example", false),
        ("https://app.example.org.evil.example", false),
        ("null", false),
    ] {
        let headers = [("origin", origin), ("host", host.as_str())];
        let opened =
            Reader::open_with(&world, Form::WebSocket, &world.own(), "follow=false", &headers);
        assert_eq!(opened.err(), (!may).then_some(403), "{origin}");
        let named = (origin == "https://app.example.org").then_some(origin);
        let headers = [("Origin", origin), ("Accept", "text/event-stream")];
        let answer = world.ask("GET", "/v1/events?follow=false", &headers, b"");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), named);
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        for path in ["/v1/tickets", "/v1/events", "/v1/nothing"] {
            let answer = world.ask_plainly("OPTIONS", path, &headers, b"");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("access-control-allow-origin"), named, "{path}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        let headers = [("Origin", origin), ("Content-Type", "application/json")];
        let answer = world.ask("POST", "/v1/events", &headers, login(1).as_bytes());
        assert_eq!(answer.header("access-control-allow-origin"), named, "{}", answer.head);
    }
    world.stop().await;
    let world = World::start().await;
    let headers = [("Origin", "https://app.example.org")];
    let answer = world.ask("GET", "/v1/status", &headers, b"");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_like_a_websocket_is_told_what_is_wrong() {
    let world = World::start().await;
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let asked: [(&str, &[(&str, &str)]); 3] = [
        ("Connection", &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key]),
        (
            "Sec-WebSocket-Version",
            &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "8")],
        ),
        (
            "Sec-WebSocket-Key",
            &[
                ("Connection", "keep-alive, Upgrade"),
                ("Upgrade", "WebSocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "short"),
            ],
        ),
    ];
    for (named, headers) in asked {
        let answer = world.ask("GET", "/v1/events", headers, b"");
        assert_eq!(answer.status, 400, "{named}: {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(named), "{}", answer.body);
    }
    // The example of RFC 6455, section 1.3.
    let right =
        [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key];
    let answer = world.ask("GET", "/v1/events?follow=false", &right, b"");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    world.stop().await;
}
