//! What the documentation says to type, typed.

use std::process::Command;

use crate::world::World;

/// The shell blocks of a page that ask the hub for something and come to an end.
fn blocks(page: &str) -> Vec<String> {
    let path = format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let asks = |block: &&str| block.starts_with("curl ");
    blocks.filter(asks).map(str::to_owned).collect()
}

/// Runs a block as its reader would; says what it printed.
fn run(world: &World, block: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", block])
        .env("HUB", format!("http://{}", world.address()))
        .env("AUTH", format!("authorization: Bearer {}", world.token))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}\n{said}{complained}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_the_api_page_works_and_no_path_is_left_out() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is needed");
        return;
    }
    // Whose JWTs let in is who is denied. Nothing here needs the keys.
    let world = World::start_with(|config| {
        config.oidc.issuer = "https://id.example.org".to_owned();
        config.oidc.audience = "postbell".to_owned();
        config.oidc.jwks_file = config.data.join("jwks.json");
    })
    .await;
    let blocks = blocks("docs/api.md");
    for block in &blocks {
        run(&world, block);
    }
    let all = blocks.concat();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    for path in world.get("/v1/openapi.json").json()["paths"].as_object().unwrap().keys() {
        // Dovecot alone posts there, and only where it is a source; links are made, and not typed;
        // and who logs in does so where a store is asked.
        let is_apart = ["/v1/dovecot/", "/v1/content/", "/v1/login"];
        if is_apart.iter().any(|apart| path.starts_with(apart)) {
            assert!(page.contains(path), "{path} is not in docs/api.md");
            continue;
        }
        let named = path.replace("{name}", "phone").replace("sources/phone", "sources/publish");
        assert!(all.contains(&format!("$HUB{named}")), "{path} is not in docs/api.md");
    }
    assert_eq!(world.get("/v1/status").json()["journal"]["last"], 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_page_says_to_type_works() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is needed");
        return;
    }
    let world = World::start().await;
    let ends = |block: &&String| !block.contains("-sN");
    let said: Vec<_> =
        blocks("README.md").iter().filter(ends).map(|block| run(&world, block)).collect();
    assert!(said[0].contains("\"accepted\":1"), "{}", said[0]);
    assert!(said[1].contains("whsec_") && said[1].contains("new-mail"), "{}", said[1]);
    world.stop().await;
}

#[test]
fn the_example_of_the_publishers_page_is_what_was_said() {
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let said = read(
        "tests/api/snapshots/api__socket__the_example_in_the_documentation_is_what_is_said.snap",
    );
    let page = read("../../docs/publish.md");
    let mut shown = 0;
    for line in page.lines().filter(|line| line.get(4..6) == Some("  ")) {
        let offset =
            line.get(..4).is_some_and(|at| at.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if offset {
            assert!(said.contains(line), "{line}");
            shown += 1;
        }
    }
    assert_eq!(shown, 18);
}
