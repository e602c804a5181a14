//! The README's commands, run as they stand.

use std::process::Command;

use crate::hub;

/// The shell blocks of the README's part `heading`.
fn blocks(heading: &str) -> Vec<String> {
    let readme = include_str!("../../../../README.md");
    let part = readme.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    part.split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// Runs `script` as a shell would.
fn run(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn curl_alone_can_publish_stream_and_subscribe() {
    let hub = hub::start();
    let ours = |block: &String| {
        block
            .replace("127.0.0.1:5423", &hub.address().unwrap().to_string())
            .replace("/var/lib/postbell", &hub.folder().join("data").display().to_string())
    };
    let blocks: Vec<String> = blocks("With curl alone").iter().map(ours).collect();
    let [access, publish, stream, subscribe] = &blocks[..] else { panic!("{blocks:#?}") };

    let published = run(&format!("{access}{publish}"));
    assert!(published.contains(r#""accepted":1"#), "{published}");
    // It never ends by itself.
    let bound = "curl() { command curl --max-time 3 \"$@\"; }\n";
    let streamed = run(&format!("{bound}{access}{stream}"));
    assert!(streamed.contains("id: 1\nevent: MessageNew\ndata: {"), "{streamed}");
    let subscribed = run(&format!("{access}{subscribe}"));
    assert!(subscribed.contains(r#""secret":"whsec_"#), "{subscribed}");
    let shown = subscribed.rsplit_once("\"name\":\"new-mail\"").map(|(_, after)| after);
    assert!(shown.is_some_and(|shown| !shown.contains("whsec_")), "shown once: {subscribed}");
}

#[test]
fn the_readmes_configuration_is_right() {
    let readme = include_str!("../../../../README.md");
    let config = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postbell.toml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_postbell"))
        .args(["config", "check"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
