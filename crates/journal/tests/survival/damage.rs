//! A journal whose files were cut or changed anywhere never gives less, or other, than was
//! acknowledged without saying so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::rounds;
use postbell_journal::contract::{append, checkpoint_at, entry};
use postbell_journal::{Journal as _, Options, Pair, Seq, SqliteJournal};

/// The files of a journal, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What `kill -9` would have left of a journal with sealed segments, an active one, and
/// write-ahead logs that were not yet moved into their files.
struct Left {
    files: Files,
    checkpoint: Vec<Pair>,
    /// The mark as it was before the last batch was acknowledged.
    mark_before: Vec<u8>,
}

const RECORDS: u64 = 900;
const BEFORE: u64 = 860;
const MARK: &str = "acknowledged";

fn left() -> Left {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_octets: 6 * 1024,
        housekeeping: Duration::from_millis(1),
        ..Options::default()
    };
    let journal = SqliteJournal::open(folder.path(), options).unwrap();
    let mut end = 1;
    let mut mark_before = Vec::new();
    while end <= RECORDS {
        let first = end;
        end += if end == BEFORE + 1 { RECORDS - BEFORE } else { 43.min(BEFORE + 1 - end) };
        mark_before = std::fs::read(folder.path().join(MARK)).unwrap();
        let entries = (first..end).map(|number| entry(number.into())).collect();
        append(&journal, entries, Some(checkpoint_at(end))).unwrap();
    }
    settle(folder.path(), &journal);
    let files = read_files(folder.path());
    assert!(files.len() >= 6 && logs(&files) == 2, "{:?}", files.keys());
    let checkpoint = journal.checkpoint("writer", b"").unwrap();
    assert!(checkpoint.len() > 5, "{checkpoint:?}");
    Left { files, checkpoint, mark_before }
}

/// Waits until the housekeeping has nothing left to do.
fn settle(folder: &Path, journal: &SqliteJournal) {
    // A full segment loses its log while it is sealed; those of the active one and the state stay.
    wait_until("all full segments are sealed", || logs(&read_files(folder)) == 2);
    // Cursors come after that: once this one is durable, the last of them is in the state.
    journal.set_cursor("reader", Some(Seq(500))).unwrap();
    wait_until("the cursor is written", || {
        journal.durable_cursor("reader").unwrap() == Some(Seq(500))
    });
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn logs(files: &Files) -> usize {
    files.keys().filter(|name| name.ends_with("-wal")).count()
}

fn read_files(folder: &Path) -> Files {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths
        .map(|path| (name(&path), path))
        // Who holds the folder, and what SQLite makes anew.
        .filter(|(name, _)| name != "lock" && !name.ends_with("-shm"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap_or_default()))
        .collect()
}

fn laid_out(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, octets) in files {
        std::fs::write(folder.path().join(name), octets).unwrap();
    }
    folder
}

/// What became of opening and reading everything.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Found {
    All,
    Told(String),
}

/// Opens and reads `files`; all that `left` had must be there, or an error must say what isn't.
fn found(left: &Left, files: &Files, what: &str) -> Found {
    let folder = laid_out(files);
    let journal = match SqliteJournal::open(folder.path(), Options::default()) {
        Ok(journal) => journal,
        Err(error) => {
            let text = error.to_string();
            let names_file = ["segment-", "state.db", MARK].iter().any(|name| text.contains(name));
            assert!(names_file, "{what}: names no file: {text}");
            // A header may have been changed into that of a later version.
            let names_record = ["record ", ": format "].iter().any(|name| text.contains(name))
                || !text.contains("segment-");
            assert!(names_record, "{what}: names no record: {text}");
            return Found::Told(text);
        }
    };
    let bounds = journal.bounds();
    assert_eq!((bounds.first.0, bounds.last.0), (1, RECORDS), "{what}: silently less");
    let mut told = None;
    let mut next = 1;
    while next <= RECORDS {
        match journal.read(Seq(next), 1 << 20) {
            Ok(records) => {
                assert!(!records.is_empty(), "{what}: silently nothing at {next}");
                for record in &records {
                    let wanted = entry(next.into());
                    let found = (record.seq.0, record.id, record.body);
                    assert_eq!(found, (next, wanted.id, &*wanted.body), "{what}: another record");
                    next += 1;
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("segment-") && text.contains("record "), "{what}: {text}");
                told = Some(text);
                // Another block may be whole.
                next += 1;
            }
        }
    }
    match journal.checkpoint("writer", b"") {
        Err(error) => told = Some(error.to_string()),
        Ok(kept) => assert_eq!(kept, left.checkpoint, "{what}: another checkpoint"),
    }
    match journal.cursor("reader") {
        Err(error) => told = Some(error.to_string()),
        // Cursors are written lazily: an older one, or none yet, is in order.
        Ok(cursor) => assert!(cursor <= Some(Seq(500)), "{what}: {cursor:?}"),
    }
    told.map_or(Found::All, Found::Told)
}

#[test]
fn what_a_kill_leaves_is_read_whole() {
    let left = left();
    assert_eq!(found(&left, &left.files, "untouched"), Found::All);
}

/// `POSTBELL_DAMAGE_STEP=1` tries every octet.
#[test]
fn a_file_changed_in_any_octet_is_read_whole_or_told() {
    let left = left();
    let step = usize::try_from(rounds("POSTBELL_DAMAGE_STEP", 797)).unwrap();
    let mut told = 0;
    for (name, octets) in &left.files {
        for at in (0..octets.len()).step_by(step.min(octets.len() / 8 + 1)) {
            let mut files = left.files.clone();
            files.get_mut(name).unwrap()[at] ^= 0x5a;
            let what = format!("{name} changed at {at}");
            told += usize::from(found(&left, &files, &what) != Found::All);
        }
    }
    assert!(told > 60, "only {told} were noticed");
}

/// `POSTBELL_DAMAGE_STEP=1` tries every length.
#[test]
fn a_file_cut_anywhere_is_read_whole_or_told() {
    let left = left();
    let step = usize::try_from(rounds("POSTBELL_DAMAGE_STEP", 797)).unwrap();
    let mut told = 0;
    for (name, octets) in &left.files {
        for length in (0..octets.len()).step_by(step.min(octets.len() / 8 + 1)) {
            let mut files = left.files.clone();
            files.get_mut(name).unwrap().truncate(length);
            let what = format!("{name} cut to {length}");
            told += usize::from(found(&left, &files, &what) != Found::All);
        }
        let mut files = left.files.clone();
        files.remove(name);
        told += usize::from(found(&left, &files, &format!("{name} removed")) != Found::All);
    }
    assert!(told > 60, "only {told} were noticed");
}

#[test]
fn a_torn_tail_that_nobody_was_told_of_is_cut_off() {
    let Left { mut files, mark_before, .. } = left();
    files.insert(MARK.to_owned(), mark_before);
    let log = files.keys().find(|name| name.starts_with("segment-") && name.ends_with("-wal"));
    let log = log.unwrap().clone();
    let octets = files[&log].clone();
    let mut shorter = 0;
    for length in (octets.len() - 4200..octets.len()).step_by(97) {
        files.insert(log.clone(), octets[..length].to_vec());
        let folder = laid_out(&files);
        let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
        let last = journal.bounds().last.0;
        assert!(last == RECORDS || last == BEFORE, "cut to {length}: {last}");
        shorter += usize::from(last == BEFORE);
        let kept = journal.checkpoint("writer", b"at").unwrap();
        let at = (last + 1).to_string().into_bytes();
        assert_eq!(kept, [(b"at".to_vec(), at)], "cut to {length}: not with its records");
    }
    assert!(shorter > 10, "the tail was cut off only {shorter} times");
}
