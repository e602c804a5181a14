//! The publishers' socket, spoken to octet by octet.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use postbell_hub::Record;
use postbell_sources::publish::{Answer, GREETING, GREETING_2, frame};

use crate::world::{PATIENCE, World, login, next};

/// A publisher that has greeted.
pub(crate) fn connect(world: &World) -> UnixStream {
    greet(world, GREETING)
}

fn greet(world: &World, greeting: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(greeting).unwrap();
    let mut answer = vec![0; greeting.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, greeting);
    stream
}

/// The next answer, in words.
pub(crate) fn answer(stream: &mut UnixStream) -> String {
    let mut octets = vec![0; 4];
    stream.read_exact(&mut octets).unwrap();
    let length = u32::from_be_bytes(octets[..].try_into().unwrap()) as usize;
    octets.resize(4 + length, 0);
    stream.read_exact(&mut octets[4..]).unwrap();
    let (answer, read) = Answer::read(&octets).unwrap().unwrap();
    assert_eq!(read, octets.len());
    format!("{answer:?}")
}

fn ended(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_frame_is_answered_in_order() {
    let world = World::start().await;
    let mut stream = connect(&world);
    let mut frames = Vec::new();
    for event in [login(1), login(2), "{}".to_owned(), login(1), String::new(), login(3)] {
        frame(&mut frames, event.as_bytes());
    }
    stream.write_all(&frames).unwrap();
    let answers: Vec<_> = (0..6).map(|_| answer(&mut stream)).collect();
    assert_eq!(answers[0], "Accepted(1)");
    assert_eq!(answers[1], "Accepted(2)");
    assert_eq!(answers[2], "Rejected(\"event: missing\")");
    assert_eq!(answers[3], "Repeated(1)");
    assert!(answers[4].starts_with("Rejected(\"not a JSON object"), "{}", answers[4]);
    assert_eq!(answers[5], "Accepted(3)");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(ended(&mut stream));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_the_documentation_is_what_is_said() {
    let world = World::start().await;
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let event = br#"{"event":"MailboxCreate","uri":"imap://a@h/B;UIDVALIDITY=7","mailboxID":"imap://a@h/B;UIDVALIDITY=7","timestamp":"2026-08-20T12:00:00+00:00","user":"a"}"#;
    let mut said = GREETING.to_vec();
    frame(&mut said, event);
    frame(&mut said, event);
    frame(&mut said, b"{}");
    stream.write_all(&said).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    insta::assert_snapshot!(format!("publisher\n{}hub\n{}", hex(&said), hex(&heard)));
    world.stop().await;
}

fn hex(octets: &[u8]) -> String {
    let line = |(row, octets): (usize, &[u8])| {
        let hex: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let text: String = octets
            .iter()
            .map(|octet| if (b' '..=b'~').contains(octet) { char::from(*octet) } else { '.' })
            .collect();
        format!("{:04x}  {:<47}  {text}\n", row * 16, hex.join(" "))
    };
    octets.chunks(16).enumerate().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_may_come_one_by_one() {
    let world = World::start().await;
    let mut stream = connect(&world);
    let mut frames = Vec::new();
    frame(&mut frames, login(1).as_bytes());
    for octet in frames {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(answer(&mut stream), "Accepted(1)");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_over_the_limit_ends_the_connection_after_what_was_good() {
    let world = World::start().await;
    let mut stream = connect(&world);
    let mut frames = Vec::new();
    frame(&mut frames, login(1).as_bytes());
    frames.extend_from_slice(&[0xff; 8]);
    stream.write_all(&frames).unwrap();
    assert_eq!(answer(&mut stream), "Accepted(1)");
    assert!(answer(&mut stream).starts_with("Stopped(\"a frame of 4294967295 octets"));
    assert!(ended(&mut stream));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_never_ends_costs_nobody_anything() {
    let world = World::start().await;
    let mut hung: Vec<_> = (0..50).map(|_| connect(&world)).collect();
    for stream in &mut hung {
        stream.write_all(&(16_u32 << 20).to_be_bytes()).unwrap();
        stream.write_all(b"{").unwrap();
    }
    let mut stream = connect(&world);
    let mut frames = Vec::new();
    frame(&mut frames, login(1).as_bytes());
    stream.write_all(&frames).unwrap();
    assert_eq!(answer(&mut stream), "Accepted(1)");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_greet_is_told_and_let_go() {
    let world = World::start().await;
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"postbell-publish 3\n", b"\n"] {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        stream.write_all(greeting).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert_eq!(told, "error expected \"postbell-publish 1\" first\n");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_taken_whole_and_in_order() {
    let world = World::start().await;
    let mut stream = connect(&world);
    let mut writer = stream.try_clone().unwrap();
    let frames = 20_000;
    let writing = std::thread::spawn(move || {
        let mut out = Vec::new();
        for number in 1..=frames {
            frame(&mut out, login(number).as_bytes());
        }
        writer.write_all(&out).unwrap();
    });
    for number in 1..=frames {
        assert_eq!(answer(&mut stream), format!("Accepted({number})"));
    }
    writing.join().unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_passes() {
    let world = World::start_with(|config| config.policy.content_max_octets = Some(20 << 20)).await;
    let mut stream = connect(&world);
    let large = login(1).replace(
        "\"user\":",
        &format!("\"vnd.example.large\":\"{}\",\"user\":", "x".repeat(9 << 20)),
    );
    let mut frames = Vec::new();
    frame(&mut frames, large.as_bytes());
    frame(&mut frames, login(2).as_bytes());
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&frames).unwrap());
    assert_eq!(answer(&mut stream), "Accepted(1)");
    assert_eq!(answer(&mut stream), "Accepted(2)");
    writing.join().unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_for_its_owner_unless_the_operator_lets_others_in() {
    let world = World::start().await;
    assert_eq!(mode(&world), 0o600);
    let socket = world.socket();
    world.stop().await;
    assert!(!socket.exists());
    let world = World::start_with(|config| config.publish.allowed_uids = vec![12345]).await;
    assert_eq!(mode(&world), 0o666);
    world.stop().await;
}

fn mode(world: &World) -> u32 {
    world.socket().metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r24_a_publisher_of_version_2_is_told_what_is_wanted_before_who_wants_it_is_answered() {
    let world = World::start_with(|config| {
        config.policy.record = Record::Wanted;
        config.policy.record_linger = std::time::Duration::ZERO;
    })
    .await;
    let mut stream = greet(&world, GREETING_2);
    // What was wanted for a while after the start may be told before.
    let mut told = answer(&mut stream);
    stream.write_all(&[0; 4]).unwrap();
    while told != r#"Demand("{\"events\":[],\"bodyStructure\":false,\"envelope\":false}")"# {
        told = answer(&mut stream);
        stream.write_all(&[0; 4]).unwrap();
    }
    let nothing = world.get("/v1/demand");
    assert_eq!(nothing.body, r#"{"events":[],"bodyStructure":false,"envelope":false}"#);
    let joining = {
        let (address, token) = (world.hub.local_addr(), world.token.clone());
        std::thread::spawn(move || {
            let path = "/v1/events?events=Login";
            postbell_testkit::http::EventStream::open(address, path, &token).unwrap()
        })
    };
    let wanted = answer(&mut stream);
    assert!(wanted.contains(r#"[\"Login\"]"#), "{wanted}");
    let mut frames = vec![0; 4];
    frame(&mut frames, login(1).as_bytes());
    stream.write_all(&frames).unwrap();
    assert!(answer(&mut stream).starts_with("Accepted("), "an empty frame has no answer");
    let mut heard = joining.join().unwrap();
    let mut events = Vec::new();
    while !events.iter().any(|event| event == "Login") {
        events.push(next(&mut heard).name);
    }
    assert_eq!(events.last().unwrap(), "Login");
    let mut reach = world.get("/v1/sources/publish").json()["demand"].take();
    assert!(reach["ageSeconds"].take().as_u64().is_some_and(|age| age < 600), "{reach}");
    let confirmed = serde_json::json!(
        { "told": true, "ageSeconds": null, "connected": 1, "confirmed": 1 }
    );
    assert_eq!(reach, confirmed);
    let mut recording = world.get("/v1/status").json()["recording"].take();
    assert_eq!(recording["events"].take(), serde_json::json!(["Login"]));
    drop(heard);
    assert!(answer(&mut stream).contains(r#"\"events\":[]"#));
    world.stop().await;
}
