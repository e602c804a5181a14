//! A writer killed at any moment loses nothing it was told is durable.

use std::time::Duration;

use postbell_journal::{Options, SqliteJournal, accept_loss};

use crate::support::{Writer, check, check_cursor, drawn, rounds};

/// `scripts/crash-test N` asks for more rounds.
#[test]
fn every_acknowledged_record_survives_kill_9_once_and_in_order() {
    let rounds = rounds("POSTBELL_CRASH_ROUNDS", 60);
    // One journal keeps everything; from the other, segments are dropped all the while.
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut next = [1_u64; 2];
    let (mut acknowledging, mut durable) = (0, 0);
    for seed in 1..=rounds {
        let which = usize::from(seed % 2 == 0);
        let keep_octets = [0, 64 * 1024][which];
        let ahead = 1 + drawn(seed, 8);
        let writer = Writer { seed, first: next[which], batches: u64::MAX, ahead, keep_octets };
        let folder = folders[which].path();
        let running = writer.start(folder, &[]);
        // A third of them while the journal is opened, the others while it is written, up to
        // dozens of segments later.
        if seed % 3 != 0 {
            running.wait_until_begun();
        }
        std::thread::sleep(Duration::from_micros(drawn(seed + rounds, 40_000)));
        let said = running.kill();
        acknowledging += u64::from(said.acknowledged.is_some());
        next[which] = check(folder, next[which], said.acknowledged, &format!("seed {seed}"));
        check_cursor(folder, &said, &format!("seed {seed}"));
        durable += u64::from(said.durable.is_some());
    }
    assert!(durable > 0, "the writer never heard of a durable cursor");
    assert!(acknowledging > rounds / 2, "the writer wrote in only {acknowledging} of {rounds}");
    assert_eq!(check(folders[0].path(), 1, Some(next[0]), "at the end"), next[0]);
    assert_eq!(check(folders[1].path(), 1, Some(next[1]), "at the end"), next[1]);
}

#[test]
fn a_second_process_is_refused_and_told_which_one_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer { seed: 1, first: 1, batches: u64::MAX, ahead: 1, keep_octets: 0 };
    let running = writer.start(folder.path(), &[]);
    running.wait_until_begun();
    let refused = SqliteJournal::open(folder.path(), Options::default()).unwrap_err().to_string();
    let holder = format!("held by process {} crash_writer", running.child.id());
    assert!(refused.contains(&holder), "{refused}");
    assert!(accept_loss(folder.path()).unwrap_err().to_string().contains(&holder));
    // Its death lets go, however it dies.
    let said = running.kill();
    check(folder.path(), 1, said.acknowledged, "after the first");
}
