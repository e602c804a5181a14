//! The journal passes its contract, and what is special to this provider.

use std::time::Duration;

use postbell_journal::contract::{append, checkpoint_at, entry, read_all, run};
use postbell_journal::{Journal as _, Options, Retention, Seq, SqliteJournal};

#[expect(clippy::unwrap_used, reason = "the test fails with it")]
fn open(folder: &std::path::Path) -> SqliteJournal {
    SqliteJournal::open(folder, Options::default()).unwrap()
}

#[test]
fn the_sqlite_journal_passes_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    run(|| open(folder.path()));
}

#[test]
fn the_contract_holds_across_many_small_segments() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_octets: 8 * 1024, ..Options::default() };
    run(|| SqliteJournal::open(folder.path(), options.clone()).unwrap());
}

#[test]
fn durable_of_a_cursor_is_what_was_written_and_not_what_was_set() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { housekeeping: Duration::from_secs(3600), ..Options::default() };
    let open = || SqliteJournal::open(folder.path(), options.clone()).unwrap();
    let journal = open();
    journal.set_cursor("reader", Some(Seq(9))).unwrap();
    let (cursor, durable) = (journal.cursor("reader"), journal.durable_cursor("reader"));
    assert_eq!((cursor.unwrap(), durable.unwrap()), (Some(Seq(9)), None));
    drop(journal);
    let journal = open();
    journal.set_cursor("reader", Some(Seq(3))).unwrap();
    let (cursor, durable) = (journal.cursor("reader"), journal.durable_cursor("reader"));
    assert_eq!((cursor.unwrap(), durable.unwrap()), (Some(Seq(3)), Some(Seq(9))), "moved back");
}

#[test]
fn what_a_crash_left_in_the_states_log_is_in_its_file_once_the_journal_is_open() {
    let (folder, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options { housekeeping: Duration::from_millis(1), ..Options::default() };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    journal.set_cursor("reader", Some(Seq(9))).unwrap();
    while journal.durable_cursor("reader").unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        // What SQLite makes anew from the log.
        if !path.to_string_lossy().ends_with("-shm") {
            std::fs::copy(&path, left.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let alone = |name: &str| {
        let file = left.path().join(name);
        std::fs::copy(left.path().join("state.db"), &file).unwrap();
        let file = rusqlite::Connection::open(file).unwrap();
        file.query_row("SELECT count(*) FROM cursors", [], |row| row.get::<_, u64>(0)).unwrap()
    };
    assert_eq!(alone("before"), 0, "it is in the log");
    let options = Options { housekeeping: Duration::from_secs(3600), ..Options::default() };
    let journal = SqliteJournal::open(left.path(), options).unwrap();
    assert_eq!((alone("after"), journal.durable_cursor("reader").unwrap()), (1, Some(Seq(9))));
}

#[test]
fn as_many_keys_are_counted_as_there_are_while_segments_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_octets: 8 * 1024, ..Options::default() };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    for end in 1..=200 {
        let entries = (end * 30..end * 30 + 30).map(|number| entry(u128::from(number)));
        append(&journal, entries.collect(), Some(checkpoint_at(end))).unwrap();
        let kept = journal.checkpoint("writer", b"").unwrap();
        assert_eq!(journal.checkpoint_keys("writer").unwrap(), kept.len() as u64, "{end}");
    }
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let segments = files.filter(|name| name.to_string_lossy().starts_with("segment-")).count();
    assert!(segments > 5, "{segments}");
}

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let refused = SqliteJournal::open(folder.path(), Options::default()).unwrap_err().to_string();
    assert!(refused.contains(&std::process::id().to_string()), "{refused}");
    journal.close();
}

#[test]
fn retention_drops_whole_segments_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_octets: 16 * 1024,
        retention: Retention { age: None, octets: Some(64 * 1024) },
        housekeeping: Duration::from_millis(20),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    for batch in 0..200_u128 {
        append(&journal, (batch * 100..batch * 100 + 100).map(entry).collect(), None).unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // Until it has all it may have, it goes on dropping under whoever reads.
    while journal.stats().octets > 64 * 1024 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a segment takes once it is sealed may be more than was estimated, and then it drops more.
    journal.close();
    let bounds = journal.bounds();
    assert!(bounds.first > Seq(1) && bounds.last == Seq(20_000), "{bounds:?}");
    let error = journal.read(Seq(1), 1000).unwrap_err().to_string();
    assert!(error.contains("no longer kept"), "{error}");
    assert_eq!(read_all(&journal).len() as u64, bounds.last.0 - bounds.first.0 + 1);
}

#[test]
fn a_quiet_journal_forgets_what_is_too_old_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // Written by one that forgets nothing, so that nothing is too old before it was seen.
    let journal = open(folder.path());
    append(&journal, (1..=10).map(entry).collect(), None).unwrap();
    assert_eq!(journal.bounds().first, Seq(1));
    journal.close();
    let options = Options {
        retention: Retention { age: Some(Duration::from_millis(300)), octets: None },
        housekeeping: Duration::from_millis(10),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while journal.bounds().first != Seq(11) && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let bounds = journal.bounds();
    assert_eq!((bounds.first, bounds.last), (Seq(11), Seq(10)), "nothing is kept");
    assert_eq!(journal.first_since(0).unwrap(), Seq(11));
    journal.close();
    let journal = open(folder.path());
    append(&journal, vec![entry(11)], None).unwrap();
    assert_eq!(read_all(&journal).len(), 1);
    assert_eq!(journal.bounds().last, Seq(11), "numbers go on");
}

#[test]
fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { segment_octets: 8 * 1024, ..Options::default() };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    for batch in 0..20_u128 {
        append(&journal, (batch * 30..batch * 30 + 30).map(entry).collect(), None).unwrap();
    }
    journal.set_cursor("reader", Some(Seq(1))).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        // One may have been sealed, and its log be gone, since the folder was read.
        let Ok(about) = std::fs::metadata(&path) else { continue };
        assert_eq!(about.permissions().mode() & 0o077, 0, "{}", path.display());
        files += 1;
    }
    assert!(files > 5, "{files}");
}
