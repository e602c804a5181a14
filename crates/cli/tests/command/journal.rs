//! `postbell journal`, on the journal of a hub.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::hub::{Served, event};
use crate::run::{Ended, command, run, transcript};

const VERIFY: &[&str] = &["journal", "verify", "--data", "data"];
const AGAINST: &[&str] =
    &["journal", "verify", "--data", "data", "--checkpoint", "elsewhere/checkpoints"];

/// A hub that signs checkpoints, with some records, stopped.
fn served() -> Served {
    let mut served = Served::start();
    served.stop(Signal::TERM);
    std::fs::create_dir(served.path().join("elsewhere")).unwrap();
    let config = served.path().join("postbell.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let file = served.path().join("elsewhere/checkpoints");
    let text = format!("{text}[journal]\ncheckpoint_file = {file:?}\n");
    std::fs::write(&config, text).unwrap();
    served.resume();
    for uid in 1..=3 {
        assert_eq!(served.publish(&event(uid)).code, 0);
    }
    served.stop(Signal::TERM);
    served
}

/// Asks, and gives the answer as it is the same each time.
fn told(folder: &Path, arguments: &[&str], text: &mut String) -> Ended {
    let mut ended = run(folder, arguments);
    for digits in ended.out.clone().split([' ', '\n']).filter(|word| word.len() == 64) {
        ended.out = ended.out.replace(digits, "[hash]");
    }
    let time = ended.out.lines().find_map(|line| line.split_once("last there is of "));
    if let Some((_, time)) = time {
        ended.out = ended.out.replace(time.to_owned().as_str(), "[time]");
    }
    text.push_str(&transcript(arguments, &ended));
    text.push('\n');
    ended
}

/// Someone who has the disk.
fn alter(journal: &Path, sql: &str) {
    let path = journal.join("segment-0000000001.db");
    let connection = rusqlite::Connection::open(path).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
}

const SPOIL: &str = "UPDATE blocks SET content = x'00' WHERE first = 2";
const CUT: &str = "DELETE FROM blocks WHERE first = 3";
const CHANGE: &str =
    "UPDATE blocks SET chain = (SELECT chain FROM blocks WHERE first = 1) WHERE first = 2";

#[test]
fn r160_a_journal_is_whole_changed_damaged_or_missing_and_each_is_another_exit_code() {
    let served = served();
    let folder = served.path();
    let mut text = String::new();
    assert_eq!(told(folder, VERIFY, &mut text).code, 0);
    assert_eq!(told(folder, AGAINST, &mut text).code, 0);
    let key = run(folder, &["journal", "key", "--data", "data"]);
    assert!(key.out.starts_with("postbell-journal+"), "{key:?}");
    let keyed = [AGAINST, &["--key", key.out.trim()]].concat();
    assert_eq!(run(folder, &keyed).code, 0);
    let json: Value =
        serde_json::from_str(&run(folder, &[AGAINST, &["--json"]].concat()).out).unwrap();
    assert_eq!((&json["last"], &json["chainedFrom"]), (&Value::from(3), &Value::from(1)));

    let kept = std::fs::read(folder.join("data/journal/segment-0000000001.db")).unwrap();
    let journal = folder.join("data/journal");
    let restore = || std::fs::write(journal.join("segment-0000000001.db"), &kept).unwrap();
    alter(&journal, SPOIL);
    assert_eq!(told(folder, VERIFY, &mut text).code, 1);
    restore();
    alter(&journal, CUT);
    assert_eq!(told(folder, VERIFY, &mut text).code, 5);
    restore();
    alter(&journal, CHANGE);
    assert_eq!(told(folder, VERIFY, &mut text).code, 4);
    restore();
    std::fs::write(folder.join("elsewhere/none"), "nothing").unwrap();
    let none = ["journal", "verify", "--data", "data", "--checkpoint", "elsewhere/none"];
    let refused = run(folder, &none);
    assert!(refused.code == 2 && refused.err.contains("holds no checkpoint"), "{refused:?}");
    let nowhere = run(folder, &["journal", "verify", "--data", "nowhere"]);
    assert!(nowhere.code == 3 && nowhere.err.contains("there is no journal"), "{nowhere:?}");
    insta::assert_snapshot!(text.replace(folder.to_str().unwrap(), "[folder]"));
}

#[test]
fn who_may_not_look_is_not_told_that_nothing_is_there() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let served = served();
    let folder = served.path();
    set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    set_permissions(folder.join("data"), Permissions::from_mode(0o000)).unwrap();
    // Root may look into everything.
    let told = |arguments: &[&str]| {
        let mut command = command(folder, arguments);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output();
        output.map(|output| String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let Ok(verified) = told(VERIFY) else {
        // The folder of this build is closed to others.
        set_permissions(folder.join("data"), Permissions::from_mode(0o700)).unwrap();
        return;
    };
    let key = told(&["journal", "key", "--data", "data"]).unwrap();
    let doctor = told(&["doctor", "--data", "data"]).unwrap();
    set_permissions(folder.join("data"), Permissions::from_mode(0o700)).unwrap();
    assert!(verified.contains("data/journal: permission denied (run this as"), "{verified}");
    assert!(key.contains("data/signing.key: permission denied (run this as"), "{key}");
    assert!(doctor.contains("data/lock: permission denied"), "{doctor}");
    assert!(!doctor.contains("no hub on this machine"), "{doctor}");
}

/// A user who has nothing.
const NOBODY: u32 = 65534;

#[test]
fn a_journal_is_verified_beside_the_hub_that_writes_it() {
    let mut served = served();
    served.resume();
    assert_eq!(served.publish(&event(4)).code, 0);
    let ended = run(served.path(), AGAINST);
    assert!(ended.code == 0 && ended.out.contains("records 1 to 4 as written"), "{ended:?}");
}
