//! Journals written by every version so far open, or are refused with the error named here.

use std::path::Path;

use postbell_journal::contract::{append, checkpoint_at, entry, read_all};
use postbell_journal::{Journal as _, OpenError, Options, Seq, SqliteJournal, Verdict, verify};

/// `fixtures/journal-v…` are never edited.
#[expect(clippy::unwrap_used, reason = "the test fails with it")]
fn copied(version: &str) -> tempfile::TempDir {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version);
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn a_journal_of_format_1_opens_and_goes_on() {
    opens_and_goes_on("journal-v1", 303);
}

#[test]
fn a_journal_of_format_2_opens_and_goes_on() {
    opens_and_goes_on("journal-v2", 363);
    let folder = copied("journal-v2");
    let verified = verify(folder.path(), &[], &mut |_, _| ()).unwrap();
    assert_eq!((verified.findings.len(), verified.chained_from), (0, Some(Seq(1))));
}

#[expect(clippy::unwrap_used, reason = "the test fails with it")]
fn opens_and_goes_on(version: &str, last: u64) {
    let folder = copied(version);
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    let wanted: Vec<_> = (1..=last)
        .map(|number| (number, number.into(), entry(number.into()).body.to_vec()))
        .collect();
    assert_eq!(read_all(&journal), wanted);
    for change in checkpoint_at(last + 1).changes {
        let kept = journal.checkpoint("writer", &change.key).unwrap();
        let found = kept.iter().find(|(key, _)| *key == change.key);
        assert_eq!(found.map(|(_, value)| value), change.value.as_ref());
    }
    assert_eq!(journal.cursor("reader").unwrap(), Some(Seq(last)));
    let told = append(&journal, vec![entry(7), entry(u128::from(last) + 1)], None).unwrap();
    assert_eq!(told.verdicts, [Verdict::Repeated(Seq(7)), Verdict::New(Seq(last + 1))]);
}

#[test]
fn a_file_of_a_format_not_known_is_refused_by_name() {
    for (name, newest) in [("state.db", 1), ("segment-0000000004.db", 2)] {
        let folder = copied("journal-v1");
        let connection = rusqlite::Connection::open(folder.path().join(name)).unwrap();
        connection.pragma_update(None, "user_version", newest + 1).unwrap();
        drop(connection);
        let error = SqliteJournal::open(folder.path(), Options::default()).unwrap_err();
        let OpenError::Version { found, known, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*found, *known), (newest + 1, newest));
        assert!(error.to_string().contains(name), "{error}");
    }
}
