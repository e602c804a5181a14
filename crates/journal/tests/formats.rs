//! Journals written by every version so far open, or are refused with the error named here.

use std::path::Path;

use postbell_journal::contract::{append, checkpoint_at, entry, read_all};
use postbell_journal::{Journal as _, OpenError, Options, Seq, SqliteJournal, Verdict};

/// `fixtures/journal-v1` is never edited.
#[expect(clippy::unwrap_used, reason = "the test fails with it")]
fn copied() -> tempfile::TempDir {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journal-v1");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn a_journal_of_format_1_opens_and_goes_on() {
    let folder = copied();
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    let wanted: Vec<_> = (1..=303)
        .map(|number| (number, number.into(), entry(number.into()).body.to_vec()))
        .collect();
    assert_eq!(read_all(&journal), wanted);
    for change in checkpoint_at(304).changes {
        let kept = journal.checkpoint("writer", &change.key).unwrap();
        let found = kept.iter().find(|(key, _)| *key == change.key);
        assert_eq!(found.map(|(_, value)| value), change.value.as_ref());
    }
    assert_eq!(journal.cursor("reader").unwrap(), Some(Seq(303)));
    let told = append(&journal, vec![entry(7), entry(304)], None).unwrap();
    assert_eq!(told.verdicts, [Verdict::Repeated(Seq(7)), Verdict::New(Seq(304))]);
}

#[test]
fn a_file_of_a_format_not_known_is_refused_by_name() {
    for name in ["state.db", "segment-0000000004.db"] {
        let folder = copied();
        let connection = rusqlite::Connection::open(folder.path().join(name)).unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
        drop(connection);
        let error = SqliteJournal::open(folder.path(), Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
