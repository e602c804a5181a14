//! Events handed in over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::world::{PATIENCE, World, login};

fn cloud_event(id: &str, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"imap://mail.example.org/","type":"org.ietf.rfc5423.Login","data":{data}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_taken_in_every_form() {
    let world = World::start().await;
    let bodies = [
        ("application/json", login(1)),
        ("application/json; charset=utf-8", format!(" [{}, {}\n]", login(2), login(3))),
        ("application/x-ndjson", format!("{}\n{}\r\n", login(4), login(5))),
        ("application/cloudevents+json", cloud_event("a", &login(6))),
        ("Application/CloudEvents-Batch+JSON", format!("[{}]", cloud_event("b", &login(7)))),
    ];
    let mut next = 1;
    for (content_type, body) in bodies {
        let answer = world.publish(content_type, &body);
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.body);
        for verdict in answer.json()["verdicts"].as_array().unwrap() {
            assert_eq!((&verdict["verdict"], &verdict["seq"]), (&"accepted".into(), &next.into()));
            assert_eq!(verdict["eventId"].as_str().unwrap().len(), 26);
            next += 1;
        }
    }
    assert_eq!(next, 8);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_good_ones_are_kept_and_each_verdict_says_why() {
    let world = World::start().await;
    let body = [
        login(1),
        String::new(),
        login(2).replace("\"uri\":\"imap://mail.example.org/\",", ""),
        "no JSON".to_owned(),
        login(3).replace("+02:00", "Z"),
        login(1),
        login(4).replace("\"user\":", "\"admin\":\"user4@example.org\",\"user\":"),
        login(5).replace("serverPort", "\u{e9}"),
    ]
    .join("\n");
    let answer = world.publish("application/x-ndjson", &body);
    assert_eq!(answer.status, 200);
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.json()).unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_none_is_good_the_status_says_so() {
    let world = World::start().await;
    let answer = world.publish("application/json", "[{},{}]");
    assert_eq!((answer.status, answer.json()["rejected"].as_u64()), (422, Some(2)));
    let answer = world.publish("application/json", "[]");
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(0)));
    assert_eq!(world.get("/v1/status").json()["journal"]["last"], 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_cloud_event_is_one_record_whatever_is_in_it() {
    let world = World::start().await;
    let first = world.publish("application/cloudevents+json", &cloud_event("a", &login(1)));
    let again = world.publish("application/cloudevents+json", &cloud_event("a", &login(1)));
    let other = world.publish("application/cloudevents+json", &cloud_event("b", &login(1)));
    assert_eq!(first.json()["accepted"], 1);
    assert_eq!(again.json()["repeated"], 1);
    assert_eq!(again.json()["verdicts"][0]["seq"], 1);
    assert_eq!(other.json()["accepted"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_cloud_event_is_told_in_words() {
    let world = World::start().await;
    let good = cloud_event("a", &login(1));
    let said = |body: &str| {
        let answer = world.publish("application/cloudevents-batch+json", body).json();
        let verdicts = answer["verdicts"].as_array().unwrap().iter();
        verdicts.filter_map(|one| one["error"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&format!("[{good},5,[{good}]]")),
        [
            "a CloudEvent is a JSON object, and element 2 of the list is a number",
            "a CloudEvent is a JSON object, and element 3 of the list is a list",
        ]
    );
    assert_eq!(said("\"text\""), ["a CloudEvent is a JSON object, and this is a text"]);
    assert_eq!(said(&good.replace("\"1.0\"", "1.0")), ["specversion: must be \"1.0\""]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_becomes_records_in_order() {
    let world = World::start().await;
    world.accept(1..=20_000);
    let answer = world.get("/v1/events?since=19998&follow=false");
    assert!(answer.body.contains("user19999@") && answer.body.contains("user20000@"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_given_up() {
    let world = World::start_with(|config| {
        config.http.body_timeout = Duration::from_millis(200);
        config.http.max_body = 1000;
    })
    .await;
    let token = &world.token;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n"
    );
    let answer = world.send(format!("{head}Content-Length: 900\r\n\r\n{{").as_bytes());
    assert_eq!((answer.status, &answer.json()["status"]), (408, &408.into()));
    let answer = world.send(format!("{head}Content-Length: 1001\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 413);
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let answer = world.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes());
    assert_eq!(answer.status, 413);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_is_given_up() {
    let world =
        World::start_with(|config| config.http.header_timeout = Duration::from_secs(3)).await;
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(world.get("/healthz").status, 200, "another connection is served meanwhile");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "half a head was taken for one");
    assert_eq!(world.get("/healthz").status, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_events_than_a_body_may_hold_are_refused_whole() {
    let world = World::start().await;
    let many = "1,".repeat(100_000);
    for (content_type, body) in [
        ("application/json", format!("[{many}1]")),
        ("application/cloudevents-batch+json", format!("[{many}1]")),
        ("application/x-ndjson", format!("{}1", many.replace(',', "\n"))),
    ] {
        let answer = world.publish(content_type, &body);
        assert_eq!(answer.status, 413, "{content_type}");
        assert_eq!(answer.json()["detail"], "at most 100000 events");
    }
    let nested = world.publish("application/cloudevents-batch+json", "[[{},{}],{}]").json();
    assert_eq!((&nested["rejected"], &nested["accepted"]), (&2.into(), &0.into()));
    world.stop().await;
}
