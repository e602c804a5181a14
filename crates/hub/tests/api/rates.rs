//! How many events a minute may leave, by role.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::forms::{FORMS, Key, Reader};
use crate::policy::message;
use crate::world::World;

/// A hub whose users may have so many, with messages of John's in its journal.
async fn world(rate: u32, messages: usize) -> World {
    let world =
        World::start_with(|config| config.policy.user.events_per_minute = NonZeroU32::new(rate));
    let world = world.await;
    let lines: Vec<_> = (1..=messages).map(message).collect();
    let answer = world.publish("application/x-ndjson", &lines.join("\n"));
    assert_eq!(answer.json()["accepted"], messages);
    world
}

/// Follows the stream as NDJSON from the journal's beginning on.
fn follow(world: &World, token: &str, query: &str) -> BufReader<TcpStream> {
    let headers = format!("Authorization: Bearer {token}\r\nAccept: application/x-ndjson\r\n");
    world.open_as(&format!("/v1/events?since=0{query}"), &headers)
}

/// The next line; empty at the end.
fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

fn seq(line: &str) -> u64 {
    let event: Value = serde_json::from_str(line).unwrap();
    event["vnd.postbell.seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r43_r157_a_users_stream_has_no_more_events_a_minute_than_they_may_and_an_admins_all_at_once()
 {
    // One each second and a half.
    let world = world(40, 3).await;
    let token = Key::Token(world.user("john"));
    let open = |form, key: &Key| Reader::open(&world, form, key, "since=0&follow=false").unwrap();
    let mut slow = FORMS.map(|form| (Instant::now(), open(form, &token)));
    for (_, stream) in &mut slow {
        assert_eq!(stream.next().as_deref().map(seq), Some(1));
    }
    let admin = Key::Token(world.token.clone());
    for form in FORMS {
        let mut fast = open(form, &admin);
        assert_eq!(std::iter::from_fn(|| fast.next()).count(), 3);
    }
    let of_the_fast = Instant::now();
    for (number, millis) in [(2, 1_500), (3, 3_000)] {
        for (begun, stream) in &mut slow {
            assert_eq!(stream.next().as_deref().map(seq), Some(number));
            let after = begun.elapsed();
            assert!(after >= Duration::from_millis(millis), "{number} came after {after:?}");
        }
    }
    assert!(of_the_fast.elapsed() > Duration::from_millis(10), "they waited for nobody");
    for (_, stream) in &mut slow {
        assert_eq!(stream.next(), None, "behind the last nothing is waited for");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r43_what_a_user_does_not_want_takes_nothing_of_what_they_may_have() {
    let world = world(1, 50).await;
    let token = world.user("john");
    let mut stream = follow(&world, &token, "&follow=false&where=messageSize%20%3D%3D%2050");
    assert_eq!(seq(&line(&mut stream)), 50);
    assert_eq!(line(&mut stream), "");
    // A bound of deliveries is of those as well.
    let mut stream = follow(&world, &token, "&limit=1");
    assert_eq!((seq(&line(&mut stream)), line(&mut stream).as_str()), (1, ""));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r43_a_stream_that_waits_gives_signs_of_life_and_ends_with_its_token() {
    // The second would come after a minute.
    let world = world(1, 2).await;
    let token = world.user("john");
    let begun = Instant::now();
    let mut stream = follow(&world, &token, "");
    assert_eq!(seq(&line(&mut stream)), 1);
    assert_eq!(line(&mut stream), "\n");
    let after = begun.elapsed();
    assert!(after >= Duration::from_secs(15) && after < Duration::from_secs(50), "{after:?}");
    let revoked = world.ask("DELETE", "/v1/tokens/john", &[], b"");
    assert!(revoked.status < 300, "{}", revoked.body);
    assert_eq!(line(&mut stream), "");
    assert!(begun.elapsed() < Duration::from_secs(55), "it ended at once");
    world.stop().await;
}
