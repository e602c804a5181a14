//! The journal passes its contract, and what is special to this provider.

use postbell_journal::contract::{append, entry, read_all, run};
use postbell_journal::{Journal as _, Options, Retention, Seq, SqliteJournal};

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
        housekeeping: std::time::Duration::from_millis(20),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    for batch in 0..200_u128 {
        append(&journal, (batch * 100..batch * 100 + 100).map(entry).collect(), None).unwrap();
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while journal.bounds().first == Seq(1) && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let bounds = journal.bounds();
    assert!(bounds.first > Seq(1) && bounds.last == Seq(20_000), "{bounds:?}");
    let error = journal.read(Seq(1), 1000).unwrap_err().to_string();
    assert!(error.contains("no longer kept"), "{error}");
    assert_eq!(read_all(&journal).len() as u64, bounds.last.0 - bounds.first.0 + 1);
}

#[test]
fn a_journal_cut_or_corrupted_anywhere_never_gives_wrong_records() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, (1..=300).map(entry).collect(), None).unwrap();
    let good = read_all(&journal);
    journal.close();
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name != "lock") && path.is_file())
        .collect();
    let spoiled = tempfile::tempdir().unwrap();
    for file in &files {
        let octets = std::fs::read(file).unwrap();
        for at in (0..octets.len()).step_by(octets.len() / 40 + 1) {
            for kind in ["cut", "flip"] {
                let place = spoiled.path().join("journal");
                std::fs::create_dir_all(&place).unwrap();
                for other in &files {
                    std::fs::copy(other, place.join(other.file_name().unwrap())).unwrap();
                }
                let mut bad = octets.clone();
                if kind == "cut" {
                    bad.truncate(at)
                } else {
                    bad[at] ^= 0x5a
                }
                std::fs::write(place.join(file.file_name().unwrap()), bad).unwrap();
                never_wrong(&place, &good, &format!("{} {kind} at {at}", file.display()));
                std::fs::remove_dir_all(&place).unwrap();
            }
        }
    }
}

/// Opens, and either is refused with the file's name, or reads a prefix that ends in an error,
/// or everything.
fn never_wrong(place: &std::path::Path, good: &[(u64, u128, Vec<u8>)], what: &str) {
    let journal = match SqliteJournal::open(place, Options::default()) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(error.to_string().contains("journal"), "{what}: {error}");
            return;
        }
    };
    let mut next = Seq(1);
    let mut read = Vec::new();
    loop {
        match journal.read(next, 1_000_000) {
            Ok(records) if records.is_empty() => {
                assert_eq!(read.len(), good.len(), "{what}: silently less");
                break;
            }
            Ok(records) => {
                for record in &records {
                    read.push((record.seq.0, record.id.0, record.body.to_vec()));
                    next = Seq(record.seq.0 + 1);
                }
            }
            Err(error) => {
                assert!(error.to_string().contains("record"), "{what}: {error}");
                break;
            }
        }
    }
    assert!(good.starts_with(&read), "{what}: wrong records");
}
