//! JWTs that are denied by the command.

use std::time::{Duration, SystemTime};

use postbell_testkit::issuer::{SigningKey, jwks};
use rustix::process::Signal;
use serde_json::json;

use crate::hub::Served;
use crate::run::{command, run, transcript};

fn jwt(key: &SigningKey, user: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "https://id.example.org", "aud": "postbell", "sub": format!("{user} & sons"),
        "iat": now, "exp": now + 600, "jti": format!("{user}/1"), "preferred_username": user,
    });
    key.token(&claims.to_string())
}

#[test]
fn r162_whoever_is_denied_is_out_also_after_a_restart_and_the_log_names_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::p256("one");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks([&key])).unwrap();
    let oidc = format!(
        "[oidc]\nissuer = \"https://id.example.org\"\naudience = \"postbell\"\n\
         algorithms = [\"ES256\"]\nuser_claim = \"preferred_username\"\njwks_file = {file:?}\n"
    );
    let mut served = Served::start_in(folder, &oidc, &[("RUST_LOG", "debug")]);
    let code_of = |served: &Served, user: &str| {
        let mut tail =
            command(served.path(), &["tail", "--data", "data", "--since", "0", "--no-follow"]);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let output = tail.env("POSTBELL_TOKEN", jwt(&key, user)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // The keys are read beside the start.
            if !said.contains("keys can't be had") || std::time::Instant::now() > deadline {
                return output.status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!((code_of(&served, "john"), code_of(&served, "jane")), (Some(0), Some(0)));
    let mut told = String::new();
    for arguments in [
        &["tokens", "denied"][..],
        &["tokens", "deny", "--subject", "john & sons"],
        &["tokens", "deny", "--jti", "jane/1", "--until", "2999-01-01T00:00:00Z"],
        &["tokens", "deny", "--subject", "x", "--until", "2001-01-01T00:00:00Z"],
        &["tokens", "deny"],
        &["tokens", "deny", "--subject", "x", "--jti", "y"],
        &["tokens", "denied"],
    ] {
        let ended = run(served.path(), &[arguments, &["--data", "data"]].concat());
        told.push_str(&transcript(arguments, &ended));
        told.push('\n');
    }
    assert_eq!((code_of(&served, "john"), code_of(&served, "jane")), (Some(3), Some(3)));
    let (_, log) = served.stop(Signal::TERM);
    assert!(log.contains("its sub is denied") && log.contains("its jti is denied"), "{log}");
    assert!(!log.contains("sons") && !log.contains("jane/1"), "{log}");
    served.resume();
    assert_eq!((code_of(&served, "john"), code_of(&served, "jane")), (Some(3), Some(3)));
    for arguments in [
        &["tokens", "allow", "--subject", "john & sons"][..],
        &["tokens", "allow", "--subject", "john & sons"],
        &["tokens", "allow", "--jti", "jane/1"],
    ] {
        let ended = run(served.path(), &[arguments, &["--data", "data"]].concat());
        told.push_str(&transcript(arguments, &ended));
        told.push('\n');
    }
    assert_eq!((code_of(&served, "john"), code_of(&served, "jane")), (Some(0), Some(0)));
    // As wide as the milliseconds have digits.
    let filters = vec![(r"SINCE +", "SINCE  "), (r"20\d\d-\S+\+00:00 +", "[when]  ")];
    insta::with_settings!({ filters => filters }, {
        insta::assert_snapshot!(told);
    });
}
