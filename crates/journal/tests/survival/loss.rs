//! Going on without what is lost, once a person has said so.

use std::path::Path;

use postbell_journal::contract::{append, checkpoint_at, entry};
use postbell_journal::{
    Journal as _, Options, ReadError, Retention, Seq, SqliteJournal, accept_loss,
};

/// A journal of 900 records in four segments and an empty one.
fn closed(folder: &Path) {
    let options = Options {
        segment_octets: 6 * 1024,
        housekeeping: std::time::Duration::from_millis(1),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder, options).unwrap();
    for first in (1..=900).step_by(30) {
        let entries = (first..first + 30).map(|number| entry(number.into())).collect();
        append(&journal, entries, Some(checkpoint_at(first + 30))).unwrap();
    }
    journal.close();
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "db")).collect();
    found.retain(|path| !path.ends_with("state.db"));
    found.sort();
    // The first is empty: a file alone has more octets than these segments may.
    found.remove(0);
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// Every record is read, or is in a run that is said to be lost. Says how many are lost.
fn told_lost(journal: &SqliteJournal, end: u64) -> u64 {
    let (mut next, mut lost) = (1, 0);
    while next < end {
        match journal.read(Seq(next), 1 << 20) {
            Ok(records) => {
                for record in &records {
                    assert_eq!((record.seq.0, record.body), (next, &*entry(next.into()).body));
                    next += 1;
                }
            }
            Err(ReadError::Lost { from, to }) => {
                assert!((from.0..=to.0).contains(&next));
                lost += to.0 - next + 1;
                next = to.0 + 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    lost
}

#[test]
fn where_nothing_is_lost_nothing_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path());
    let loss = accept_loss(folder.path()).unwrap();
    assert!(loss.records.is_empty() && loss.set_aside.is_empty(), "{loss:?}");
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    assert_eq!((journal.bounds().last, told_lost(&journal, 901)), (Seq(900), 0));
}

#[test]
fn a_lost_segment_is_told_and_no_number_is_given_twice() {
    for which in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        closed(folder.path());
        let segments = segments(folder.path());
        let victim = match which {
            3 => segments.last().unwrap(),
            other => segments.get(other).unwrap(),
        };
        match which {
            1 => std::fs::write(victim, b"something else").unwrap(),
            _ => std::fs::remove_file(victim).unwrap(),
        }
        let refused = SqliteJournal::open(folder.path(), Options::default()).unwrap_err();
        let name = victim.file_name().unwrap().to_str().unwrap();
        assert!(refused.to_string().contains(name), "{refused}");

        let loss = accept_loss(folder.path()).unwrap();
        assert_eq!(loss.records.len(), 1, "{name}: {loss:?}");
        assert_eq!(loss.set_aside.len(), usize::from(which == 1), "{name}: {loss:?}");
        let (from, to) = loss.records[0];
        for _ in 0..2 {
            let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
            assert_eq!(journal.bounds().first, Seq(1), "{name}");
            assert_eq!(told_lost(&journal, 901), to.0 - from.0 + 1, "{name}");
            assert!(journal.first_since(0).is_ok(), "{name}");
            let next = journal.bounds().last.0 + 1;
            assert!(next > 900, "{name}: {next} was given before");
            append(&journal, vec![entry(next.into())], Some(checkpoint_at(next + 1))).unwrap();
            assert_eq!(told_lost(&journal, next + 1), to.0 - from.0 + 1, "{name}");
            journal.close();
        }
    }
}

#[test]
fn a_lost_segment_goes_with_the_others_when_retention_comes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path());
    std::fs::remove_file(segments(folder.path()).get(1).unwrap()).unwrap();
    accept_loss(folder.path()).unwrap();
    let options = Options {
        retention: Retention { age: None, octets: Some(1) },
        housekeeping: std::time::Duration::from_millis(1),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    let begun = std::time::Instant::now();
    while journal.bounds().first < Seq(700) {
        assert!(begun.elapsed().as_secs() < 20, "{:?}", journal.bounds());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    journal.close();
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    assert_eq!(journal.bounds().last, Seq(900));
    assert!(matches!(journal.read(Seq(1), 1), Err(ReadError::Dropped { .. })));
}

#[test]
fn a_lost_mark_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path());
    std::fs::write(folder.path().join("acknowledged"), b"?").unwrap();
    assert!(SqliteJournal::open(folder.path(), Options::default()).is_err());
    let loss = accept_loss(folder.path()).unwrap();
    assert!(loss.records.is_empty(), "{loss:?}");
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    assert_eq!(told_lost(&journal, 901), 0);
}

#[test]
fn a_damaged_block_costs_its_own_records_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path());
    let path = segments(folder.path())[1].clone();
    let connection = rusqlite::Connection::open(&path).unwrap();
    // One whose content was changed, and one that is gone: 30 records each, side by side.
    let first = "(SELECT first FROM blocks ORDER BY first LIMIT 1 OFFSET 2)";
    connection
        .execute_batch(&format!(
            "UPDATE blocks SET content = zeroblob(length(content)) WHERE first = {first};
            DELETE FROM blocks WHERE first = {first} + 30;"
        ))
        .unwrap();
    connection.close().unwrap();
    // Found at opening where it is in the window, and else when it is read.
    let refused = SqliteJournal::open(folder.path(), Options::default()).unwrap_err().to_string();
    assert!(refused.contains("segment-0000000003.db: record 360"), "{refused}");
    let options = Options { window_records: 100, ..Options::default() };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    let told = (1..=900).filter(|seq| journal.read(Seq(*seq), 1).is_err()).count();
    assert_eq!(told, 60, "until it is accepted it is damage");
    journal.close();
    let loss = accept_loss(folder.path()).unwrap();
    let (from, to) = loss.records[0];
    assert_eq!((loss.records.len(), to.0 - from.0 + 1), (1, 60), "{loss:?}");
    // The window ends at the hole, and times are searched over it.
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    assert_eq!(told_lost(&journal, 901), 60);
    assert_eq!(journal.first_since(1).unwrap(), Seq(1));
    assert_eq!(journal.first_since(u64::MAX).unwrap(), Seq(901));
    journal.close();
    assert!(accept_loss(folder.path()).unwrap().records.is_empty(), "it was accepted already");
}
