//! The stream, followed.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use postbell_hub::{Config, PublicKey, SigningKey};
use serde_json::{Value, json};

use crate::forms::{FORMS, Key, Reader};
use crate::world::{PATIENCE, World, login, next};

fn data(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_is_told_first_and_then_what_comes() {
    let world = World::start().await;
    world.accept(1..=2);
    let mut stream = world.stream("/v1/events?since=1");
    let second = next(&mut stream);
    assert_eq!((second.id.as_str(), second.name.as_str()), ("2", "Login"));
    let told = data(&second.data);
    assert_eq!(told["vnd.postbell.seq"], 2);
    assert_eq!(told.get("vnd.postbell.prevSeq"), None);
    assert_eq!(told["vnd.postbell.eventId"].as_str().unwrap().len(), 26);
    assert_eq!(told["user"], "user2@example.org");
    world.accept([3]);
    let third = data(&next(&mut stream).data);
    assert_eq!(
        (&third["vnd.postbell.seq"], &third["vnd.postbell.prevSeq"]),
        (&3.into(), &2.into())
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r62_r63_a_stream_has_flags_told_in_the_form_it_asks_for_and_never_in_both() {
    let world = World::start().await;
    for (at, (name, flags)) in [
        ("MessageRead", ""),
        ("FlagsSet", r#","flagNames":["\\Deleted"]"#),
        ("FlagsSet", r#","flagNames":["\\Seen"]"#),
    ]
    .into_iter()
    .enumerate()
    {
        let event = format!(
            r#"{{"event":"{name}","uri":"imap://a@mail.example.org/INBOX;UIDVALIDITY=1","timestamp":"2026-08-20T13:34:1{at}+02:00","uidset":"{}"{flags}}}"#,
            at + 1
        );
        assert_eq!(world.publish("application/json", &event).status, 200);
    }
    let told = |query: &str| {
        let path = format!("/v1/events?since=0&follow=false{query}");
        let answer = world.ask("GET", &path, &[("Accept", "application/x-ndjson")], b"");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let names = answer.body.lines().filter(|line| line.starts_with('{')).map(|line| {
            let event = data(line);
            (
                event["vnd.postbell.seq"].as_u64().unwrap(),
                event["event"].as_str().unwrap().to_owned(),
            )
        });
        names.collect::<Vec<_>>()
    };
    let named = |all: &[(u64, &str)]| -> Vec<(u64, String)> {
        all.iter().map(|(seq, name)| (*seq, (*name).to_owned())).collect()
    };
    assert_eq!(told(""), named(&[(1, "MessageRead"), (2, "FlagsSet"), (3, "FlagsSet")]));
    assert_eq!(
        told("&seenForm=flags&deletedForm=simple"),
        named(&[(1, "FlagsSet"), (2, "MessageTrash"), (3, "FlagsSet")])
    );
    // Asked for by the name under which it is told.
    assert_eq!(
        told("&seenForm=simple&events=MessageRead"),
        named(&[(1, "MessageRead"), (3, "MessageRead")])
    );
    let wrong = world.get("/v1/events?seenForm=both");
    assert_eq!(wrong.status, 400);
    let told = data(&wrong.body)["detail"].clone();
    assert_eq!(told, "seenForm: \"both\" is not a form (\"simple\" or \"flags\")");
    world.stop().await;
}

/// RFC 5423, section 7: who changes `user` or `messageContent` on the way has no signature for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r159_r160_a_user_or_content_changed_in_a_travelling_event_does_not_fit_its_signature() {
    let world = World::start_with(|config| config.policy.content_max_octets = Some(1_000)).await;
    world.accept(1..=2);
    let content = "Subject: the offer\r\n\r\nI agree\r\n";
    let message = json!({
        "event": "MessageNew",
        "uri": "imap://john@mail.example.org/INBOX;UIDVALIDITY=7/;UID=3",
        "mailboxID": "imap://john@mail.example.org/INBOX;UIDVALIDITY=7",
        "timestamp": "2026-08-20T13:34:14+02:00",
        "messageSize": content.len(),
        "messageContent": content,
    });
    assert_eq!(world.publish("application/json", &message.to_string()).status, 200);
    let key = SigningKey::load(&world.data()).unwrap();
    let key = key.public();
    let own = Key::Token(world.token.clone());
    let query = "since=0&follow=false&parameters=*,messageContent";
    for form in FORMS {
        let told = |query: &str| -> Vec<String> {
            let mut reader = Reader::open(&world, form, &own, query).unwrap();
            std::iter::from_fn(|| reader.next()).collect()
        };
        let signed = told(&format!("{query}&signed=true"));
        let [first, second, third] = signed.as_slice() else { panic!("{form:?}: {signed:?}") };
        let genuine = [first, second, third].map(|event| key.unseal(event.as_bytes()).unwrap());
        let genuine = genuine.map(|event| serde_json::from_slice::<Value>(&event).unwrap());
        assert_eq!(genuine[0]["user"], "user1@example.org", "{form:?}");
        assert_eq!(genuine[2]["messageContent"], content, "{form:?}");
        for (event, was, is) in [
            (first, "user1@example.org", "user2@example.org"),
            (second, "user2@example.org", "user1@example.org"),
            (third, "I agree", "I don't"),
            // Left out, or in another order: what is signed says what was before it.
            (third, "\"vnd.postbell.prevSeq\":2", "\"vnd.postbell.prevSeq\":1"),
        ] {
            let changed = event.replace(was, is);
            assert_ne!(&changed, event, "{form:?} {was}");
            assert_eq!(key.unseal(changed.as_bytes()), None, "{form:?} {was}");
        }
        let plain = told(query);
        assert!(plain.len() == 3 && plain.iter().all(|event| !event.contains("signature")));
    }
    world.stop().await;
}

/// What an auditing server does with what brokers bring it: each event has to be as the hub signed it,
/// and to name the one before it.
fn audited(key: &PublicKey, brought: &[String]) -> Result<Vec<u64>, &'static str> {
    let mut numbers: Vec<u64> = Vec::new();
    for line in brought {
        let event = key.unseal(line.as_bytes()).ok_or("not as it was signed")?;
        let event: Value = serde_json::from_slice(&event).unwrap();
        if event["vnd.postbell.prevSeq"].as_u64() != numbers.last().copied() {
            return Err("not what comes next");
        }
        numbers.extend(event["vnd.postbell.seq"].as_u64());
    }
    Ok(numbers)
}

/// A broker that passes events on in an envelope of its own.
fn brokered(lines: &[String]) -> Vec<String> {
    let passed_on = |line: &String| {
        let envelope = serde_json::json!({ "topic": "mail", "payload": line }).to_string();
        data(&envelope)["payload"].as_str().unwrap().to_owned()
    };
    lines.iter().map(passed_on).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r166_a_signature_outlives_brokers_and_one_that_cheats_or_repeats_is_found_out() {
    let world = World::start().await;
    world.accept(1..=5);
    let key = SigningKey::load(&world.data()).unwrap();
    let key = key.public();
    let path = "/v1/events?since=0&follow=false&signed=true";
    let answer = world.ask("GET", path, &[("Accept", "application/x-ndjson")], b"");
    let lines = answer.body.lines().filter(|line| line.starts_with('{'));
    let sent: Vec<String> = lines.map(str::to_owned).collect();
    assert_eq!(audited(key, &brokered(&brokered(&sent))), Ok(vec![1, 2, 3, 4, 5]));

    let cheated = |cheat: &dyn Fn(&mut Vec<String>)| {
        let mut brought = brokered(&sent);
        cheat(&mut brought);
        audited(key, &brought)
    };
    let (forged, misplaced) = (Err("not as it was signed"), Err("not what comes next"));
    assert_eq!(cheated(&|all| all[2] = all[2].replace("user3", "user9")), forged);
    assert_eq!(cheated(&|all| all[2] = all[2].replace("prevSeq\":2", "prevSeq\":1")), forged);
    let made_up = |all: &mut Vec<String>| {
        let parts = |line: &str| {
            let (event, signature) = line.split_once("\"vnd.postbell.signature\"").unwrap();
            (event.to_owned(), signature.to_owned())
        };
        let ((event, _), (_, of_another)) = (parts(&all[3]), parts(&all[4]));
        all[3] = format!("{event}\"vnd.postbell.signature\"{of_another}");
    };
    assert_eq!(cheated(&made_up), forged, "another's signature");
    assert_eq!(cheated(&|all| drop(all.remove(2))), misplaced, "left out");
    assert_eq!(cheated(&|all| drop(all.remove(0))), misplaced, "begun later");
    assert_eq!(cheated(&|all| all.insert(3, all[2].clone())), misplaced, "told twice");
    assert_eq!(cheated(&|all| all.push(all[1].clone())), misplaced, "an old one told again");
    assert_eq!(cheated(&|all| all.swap(1, 2)), misplaced, "in another order");
    assert_eq!(cheated(&|all| all.extend(all.clone())), misplaced, "all of it told again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_beginning_it_begins_now() {
    let world = World::start().await;
    world.accept(1..=5);
    let mut stream = world.stream("/v1/events");
    world.accept([6]);
    assert_eq!(next(&mut stream).id, "6");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_event_id_goes_before_since_and_is_the_one_before() {
    let world = World::start().await;
    world.accept(1..=5);
    let headers = [("Last-Event-ID", "3"), ("Accept", "application/x-ndjson")];
    let answer = world.ask("GET", "/v1/events?since=1&follow=false", &headers, b"");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = lines(&answer.body);
    let numbers: Vec<_> = lines
        .iter()
        .map(|told| (told["vnd.postbell.prevSeq"].as_u64(), told["vnd.postbell.seq"].as_u64()))
        .collect();
    assert_eq!(numbers, [(Some(3), Some(4)), (Some(4), Some(5))]);
    world.stop().await;
}

/// The lines of a chunked body, without the chunks' lengths and empty lines.
fn lines(body: &str) -> Vec<Value> {
    body.lines().filter(|line| line.starts_with('{')).map(data).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_after_as_many_as_were_asked_for() {
    let world = World::start().await;
    world.accept(1..=5);
    let headers = [("Accept", "application/x-ndjson")];
    let answer = world.ask("GET", "/v1/events?since=0&limit=2", &headers, b"");
    assert_eq!(lines(&answer.body).len(), 2);
    let answer = world.ask("GET", "/v1/events?since=0&limit=0", &headers, b"");
    assert_eq!(lines(&answer.body).len(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_begin_at_a_time() {
    let world = World::start().await;
    world.accept(1..=2);
    let headers = [("Accept", "application/x-ndjson")];
    let ask = |time: &str| {
        let path = format!("/v1/events?follow=false&sinceTime={time}");
        lines(&world.ask("GET", &path, &headers, b"").body).len()
    };
    assert_eq!(ask("2026-01-01T00:00:00Z"), 2);
    assert_eq!(ask("1969-01-01T00:00:00+01:00"), 2);
    assert_eq!(ask("2999-01-01T00:00:00%2B01:00"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_asked_for_comes_and_prev_seq_skips_the_rest() {
    let world = World::start().await;
    world.accept(1..=9);
    let headers = [("Accept", "application/x-ndjson")];
    let path = "/v1/events?since=0&follow=false&users=user2@example.org,user7@example.org&tags=a,b&parameters=user";
    let told = lines(&world.ask("GET", path, &headers, b"").body);
    let numbers: Vec<_> = told
        .iter()
        .map(|told| (told["vnd.postbell.prevSeq"].as_u64(), told["vnd.postbell.seq"].as_u64()))
        .collect();
    assert_eq!(numbers, [(None, Some(2)), (Some(2), Some(7))]);
    assert_eq!(told[0]["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(told[0].get("vnd.x"), None);
    let answer = world.get("/v1/events?events=MessageGnu");
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("events: ") && answer.body.contains("MessageNew"),
        "{}",
        answer.body
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_may_ask_for_a_condition() {
    let world = World::start().await;
    world.accept(1..=9);
    let headers = [("Accept", "application/x-ndjson")];
    let condition = "user.startsWith(%22user7%22)%20%7C%7C%20int(user)%20%3E%201";
    let path = format!("/v1/events?since=0&follow=false&where={condition}");
    let told = lines(&world.ask("GET", &path, &headers, b"").body);
    let numbers: Vec<_> = told.iter().map(|told| told["vnd.postbell.seq"].as_u64()).collect();
    assert_eq!(numbers, [Some(7)]);
    // Of the others it can't be said: no user's name is a number.
    let metrics = world.get("/metrics").body;
    assert!(metrics.contains("postbell_stream_unclear_total 8"), "{metrics}");
    let answer = world.get("/v1/events?where=userr%20%3D%3D%20%22a%22");
    assert_eq!(answer.status, 400);
    for part in ["where: ", "\\\"userr\\\" is not a parameter", "did you mean"] {
        assert!(answer.body.contains(part), "{part} in {}", answer.body);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_with_a_comma_in_its_name_can_be_asked_for() {
    let world = World::start().await;
    for name in ["Smith,%20John", "Smith", "INBOX"] {
        let body = format!(
            r#"{{"event":"MailboxSubscribe","uri":"imap://a@h/{name}","mailboxID":"imap://a@h/{name}","timestamp":"2026-08-20T11:34:15Z","user":"a"}}"#
        );
        assert_eq!(world.publish("application/json", &body).status, 200);
    }
    let headers = [("Accept", "application/x-ndjson")];
    let numbers = |query: &str| -> Vec<u64> {
        let path = format!("/v1/events?since=0&follow=false&{query}");
        let told = lines(&world.ask("GET", &path, &headers, b"").body);
        told.iter().map(|told| told["vnd.postbell.seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("mailboxes=Smith%5C,%20John"), [1]);
    assert_eq!(numbers("mailboxes=Smith,INBOX"), [2, 3]);
    assert_eq!(numbers("mailboxes=Smith&mailboxes=Smith%5C%2C+John"), [1, 2]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_is_refused_and_a_place_that_is_left_is_free() {
    let world = World::start_with(|config| config.http.max_streams = 1).await;
    let stream = world.stream("/v1/events");
    let answer = world.get("/v1/events");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(world.get("/v1/status").json()["streams"], 1);
    drop(stream);
    world.accept([1]);
    let (freed, mut number) = (Instant::now() + PATIENCE, 1);
    while world.get("/v1/status").json()["streams"] != 0 {
        assert!(Instant::now() < freed);
        // What is written to a client that left is what tells that it left.
        number += 1;
        world.accept([number]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop().await;
}

/// Keeps so little that a few thousand events push out the first.
fn forgetful(config: &mut Config) {
    config.journal.segment_size = 64 * 1024;
    config.journal.retention_size = Some(128 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_told_as_a_gap() {
    let world = World::start_with(forgetful).await;
    let mut number = 0;
    loop {
        world.accept(number..number + 2000);
        number += 2000;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let first = world.get("/v1/status").json()["journal"]["first"].as_u64().unwrap();
        if first > 2 {
            break;
        }
        assert!(number < 400_000, "retention took nothing");
    }
    // Without it, or more may be taken while this is asked for.
    let world = world.restart().await;
    let first = world.get("/v1/status").json()["journal"]["first"].as_u64().unwrap();
    let headers = [("Accept", "application/x-ndjson"), ("Last-Event-ID", "1")];
    let answer = world.ask("GET", "/v1/events?limit=2", &headers, b"");
    let told = lines(&answer.body);
    let gap = &told[0];
    assert_eq!(gap["event"], "vnd.postbell.Gap");
    assert_eq!(gap["uri"], "imap://mail.example.org/");
    assert_eq!(gap["vnd.postbell.gapFrom"], 2);
    let to = gap["vnd.postbell.gapTo"].as_u64().unwrap();
    assert!(to + 1 >= first);
    assert_eq!(gap["vnd.postbell.gapReason"], "retention has dropped them");
    assert_eq!((&gap["vnd.postbell.prevSeq"], &gap["vnd.postbell.seq"]), (&1.into(), &to.into()));
    assert_eq!(told[1]["vnd.postbell.seq"], to + 1);
    assert_eq!(told[1]["vnd.postbell.prevSeq"], to);
    mail_event::json::check(gap.to_string().as_bytes()).unwrap();

    // The same gap told again is the same event.
    let again = world.ask("GET", "/v1/events?limit=1", &headers, b"");
    assert_eq!(lines(&again.body)[0]["vnd.postbell.eventId"], gap["vnd.postbell.eventId"]);

    // From the oldest there is, nothing is missing.
    let answer =
        world.ask("GET", "/v1/events?since=0&limit=1", &[("Accept", "application/x-ndjson")], b"");
    assert_eq!(lines(&answer.body)[0]["event"], "Login");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let world = World::start().await;
    let idle = world.open("/v1/events?since=0", "");
    let mut other = world.stream("/v1/events?since=0");
    for round in 0..8 {
        world.accept(round * 5000..(round + 1) * 5000);
    }
    let mut last = 0;
    while last < 40_000 {
        last = next(&mut other).id.parse().unwrap();
    }
    // And it has lost nothing when it comes to it at last.
    let mut numbers = 0;
    for line in idle.lines().map(Result::unwrap) {
        numbers += u32::from(line.starts_with("id: "));
        if numbers == 40_000 {
            break;
        }
    }
    assert_eq!(numbers, 40_000);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_hub_stops() {
    let world = World::start().await;
    let idle = world.open("/v1/events", "Accept: application/x-ndjson\r\n");
    let begun = Instant::now();
    world.stop().await;
    // After a quarter of a minute whoever doesn't end is cut off.
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(idle.lines().map(Result::unwrap).filter(|line| !line.is_empty()).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_opens_at_once_though_nothing_happens() {
    let world = World::start().await;
    let mut stream = world.open("/v1/events", "");
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "retry: 1000\n");
    assert!(login(1).contains("Login"));
    world.stop().await;
}
