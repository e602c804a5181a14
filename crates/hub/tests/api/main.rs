//! A whole hub in a temporary folder, asked over HTTP and the publishers' socket.

mod world;

use world::{World, login, next};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_starts_answers_and_stops() {
    let world = World::start().await;
    assert_eq!(world.get("/healthz").status, 200);
    let answer = world.publish("application/json", &login(1));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut stream = world.stream("/v1/events?since=0");
    let event = next(&mut stream);
    assert_eq!((event.id.as_str(), event.name.as_str()), ("1", "Login"));
    drop(stream);
    world.stop().await;
}
