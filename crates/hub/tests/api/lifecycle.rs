//! Starting, stopping, starting again.

use std::os::unix::fs::PermissionsExt as _;

use postbell_hub::{Config, Hub};

use crate::world::{World, login, next};

fn config(world: &World) -> Config {
    Config { data: world.data(), listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_token_and_memory_of_repeats_survive_a_restart() {
    let world = World::start().await;
    world.accept(1..=3);
    let token = world.token.clone();
    let world = world.restart().await;
    assert_eq!(world.token, token);
    let again = world.publish("application/json", &login(2)).json();
    assert_eq!((&again["repeated"], &again["verdicts"][0]["seq"]), (&1.into(), &2.into()));
    let new = world.publish("application/json", &login(4)).json();
    assert_eq!(new["verdicts"][0]["seq"], 4);
    let mut stream = world.stream("/v1/events?since=0");
    let ids: Vec<_> = (0..4).map(|_| next(&mut stream).id).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    drop(stream);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_hub_on_the_folder_is_refused_and_told_who_has_it() {
    let world = World::start().await;
    let error = Hub::start(config(&world)).await.unwrap_err().to_string();
    let process = std::process::id().to_string();
    assert!(error.contains("held by process") && error.contains(&process), "{error}");
    // And the first goes on, its socket too.
    assert!(world.socket().exists());
    world.accept([1]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config =
        Config { data: folder.path().join("data"), listen: world.address(), ..Config::default() };
    let error = Hub::start(config.clone()).await.unwrap_err().to_string();
    assert_eq!(error, format!("listen: {} can't be listened on", world.address()));
    let open = Config { listen: "0.0.0.0:0".parse().unwrap(), ..config };
    let error = Hub::start(open).await.unwrap_err().to_string();
    assert!(error.starts_with("listen: \"0.0.0.0:0\" is not a loopback address"), "{error}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_where_the_socket_belongs_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("publish.sock"), "a letter").unwrap();
    let config =
        Config { data: data.clone(), listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let error = Hub::start(config).await.unwrap_err().to_string();
    assert!(
        error.starts_with("publish.socket: /")
            && error.ends_with("publish.sock: the publishers' socket can't be made"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(data.join("publish.sock")).unwrap(), "a letter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_folder_is_for_its_owner_only() {
    let world = World::start().await;
    for (name, mode) in [("", 0o700), ("token", 0o600), ("hub.db", 0o600), ("journal", 0o700)] {
        let path = world.data().join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_a_socket_has_none() {
    let world = World::start_with(|config| config.publish.socket = "".into()).await;
    assert!(!world.socket().exists());
    world.stop().await;
}
