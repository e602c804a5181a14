//! What every provider of the journal must do, as a suite that any of them can be put through.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    AppendError, Appended, Batch, Change, Checkpoint, Entry, Journal, RecordId, Seq, Verdict,
};

/// Puts a journal through the suite; `open` opens the same one again after the last is dropped.
///
/// # Panics
///
/// Where the journal breaks the contract; the message says which part.
pub fn run<J: Journal>(open: impl Fn() -> J) {
    let journal = open();
    assert_eq!(journal.bounds().last, Seq(0), "a new journal is empty");
    numbers_are_contiguous_from_one(&journal);
    a_repeat_is_recognised(&journal);
    a_checkpoint_is_stored_with_its_batch(&journal);
    followers_are_told(&journal);
    cursors_move_and_are_forgotten(&journal);
    any_record_can_be_read_from(&journal);
    records_are_found_by_time(&journal);
    assert!(journal.set_cursor("kept", Some(Seq(9))).is_ok(), "a cursor is set");
    let last = journal.bounds().last;
    let before = read_all(&journal);
    drop(journal);
    let journal = open();
    assert_eq!(journal.bounds().last, last, "reopening keeps every record");
    assert_eq!(read_all(&journal), before, "reopening changes no record");
    let kept = journal.checkpoint("suite", b"k").unwrap_or_default();
    assert_eq!(kept, [(b"k2".to_vec(), b"two".to_vec())], "reopening keeps the checkpoint");
    assert_eq!(journal.checkpoint_keys("suite").ok(), Some(2), "reopening keeps their number");
    let cursor = journal.cursor("kept");
    assert!(matches!(cursor, Ok(Some(Seq(9)))), "closing and reopening keeps a cursor");
    let durable = journal.durable_cursor("kept");
    assert!(matches!(durable, Ok(Some(Seq(9)))), "what was kept is durable");
    let again = append(&journal, vec![entry(1)], None);
    assert!(
        matches!(again, Ok(told) if told.verdicts == [Verdict::Repeated(Seq(1))]),
        "the window is kept"
    );
}

/// Appends and waits.
pub fn append(
    journal: &dyn Journal,
    entries: Vec<Entry>,
    checkpoint: Option<Checkpoint>,
) -> Result<Appended, AppendError> {
    let (told, answer) = mpsc::channel();
    journal.append(
        Batch { entries, checkpoint },
        Box::new(move |result| told.send(result).unwrap_or_default()),
    );
    answer.recv_timeout(Duration::from_secs(60)).unwrap_or(Err(AppendError::Closed))
}

/// An entry with a body of its own.
#[must_use]
pub fn entry(number: u128) -> Entry {
    let body = format!("{{\"event\":\"vnd.example.Number\",\"number\":{number}}}");
    Entry { id: RecordId(number), head: [7; 24], body: Bytes::from(body) }
}

/// What a source might remember after record `end - 1`: one key that always changes, and some
/// that come and go.
#[must_use]
pub fn checkpoint_at(end: u64) -> Checkpoint {
    let key = |number: u64| format!("key-{}", number % 16).into_bytes();
    let value = || Some(end.to_string().into_bytes());
    let changes = vec![
        Change { key: b"at".to_vec(), value: value() },
        Change { key: key(end), value: value() },
        Change { key: key(end + 8), value: None },
    ];
    Checkpoint { source: "writer".to_owned(), changes }
}

/// Every record from the first to the last, as number, id and body.
pub fn read_all(journal: &dyn Journal) -> Vec<(u64, u128, Vec<u8>)> {
    let mut all = Vec::new();
    let mut next = journal.bounds().first;
    loop {
        let records = match journal.read(next, 10_000) {
            Ok(records) if records.is_empty() => return all,
            Ok(records) => records,
            Err(error) => {
                assert!(
                    all.is_empty() && journal.bounds().last == Seq(0),
                    "reading failed: {error}"
                );
                return all;
            }
        };
        for record in &records {
            assert_eq!(record.seq, next, "no number is skipped");
            all.push((record.seq.0, record.id.0, record.body.to_vec()));
            next = Seq(next.0 + 1);
        }
    }
}

fn numbers_are_contiguous_from_one(journal: &dyn Journal) {
    let told = append(journal, (1..=600).map(entry).collect(), None);
    let wanted: Vec<_> = (1..=600).map(|seq| Verdict::New(Seq(seq))).collect();
    assert!(matches!(told, Ok(told) if told.verdicts == wanted), "numbers are contiguous from 1");
    let bodies = read_all(journal);
    assert_eq!(bodies.len(), 600, "all that was acknowledged can be read");
    let wanted = (1..=600).map(|number| entry(number).body.to_vec());
    assert!(
        bodies.into_iter().map(|(_, _, body)| body).eq(wanted),
        "bodies come back as they were"
    );
}

fn any_record_can_be_read_from(journal: &dyn Journal) {
    let last = journal.bounds().last.0;
    for from in 1..=last {
        let records = journal.read(Seq(from), 1);
        let first = records.ok().and_then(|records| records.first());
        assert_eq!(first, Some(Seq(from)), "a read begins where it is asked to");
    }
    let behind = journal.read(Seq(last + 1), 1_000);
    assert!(behind.is_ok_and(|records| records.is_empty()), "behind the last there is nothing");
    let little = journal.read(Seq(1), 1_000).map(|records| records.len()).unwrap_or_default();
    assert!((1..100).contains(&little), "a limit of octets is about kept");
    let least = journal.read(Seq(1), 0).map(|records| records.len()).unwrap_or_default();
    assert_eq!(least, 1, "there is always one record");
}

fn records_are_found_by_time(journal: &dyn Journal) {
    let bounds = journal.bounds();
    let since = |unix_millis| journal.first_since(unix_millis).ok();
    assert_eq!(since(0), Some(bounds.first), "all is newer than 1970");
    assert_eq!(since(u64::MAX), Some(Seq(bounds.last.0 + 1)), "nothing is from the far future");
    let first = journal.written_ms(bounds.first).unwrap_or_default();
    let last = journal.written_ms(bounds.last).unwrap_or_default();
    assert!(0 < first && first <= last, "records tell when they were written, in order");
    assert_eq!(since(first), Some(bounds.first), "a record is found by its own time");
    assert!(journal.written_ms(Seq(bounds.last.0 + 1)).is_err(), "what isn't there has no time");
}

fn a_repeat_is_recognised(journal: &dyn Journal) {
    let told = append(journal, vec![entry(5), entry(601), entry(601)], None);
    let wanted = [Verdict::Repeated(Seq(5)), Verdict::New(Seq(601)), Verdict::Repeated(Seq(601))];
    assert!(matches!(told, Ok(told) if told.verdicts == wanted), "repeats are recognised");
}

fn a_checkpoint_is_stored_with_its_batch(journal: &dyn Journal) {
    let change = |key: &str, value: Option<&str>| Change {
        key: key.into(),
        value: value.map(|value| value.into()),
    };
    let steps = [
        vec![change("k1", Some("one")), change("k2", Some("zwei")), change("other", Some("x"))],
        vec![change("k1", None), change("k2", Some("two"))],
    ];
    for (number, changes) in steps.into_iter().enumerate() {
        let checkpoint = Checkpoint { source: "suite".to_owned(), changes };
        let told = append(journal, vec![entry(700 + number as u128)], Some(checkpoint));
        assert!(told.is_ok(), "a batch with a checkpoint is taken");
    }
    let kept = journal.checkpoint("suite", b"k").unwrap_or_default();
    assert_eq!(kept, [(b"k2".to_vec(), b"two".to_vec())], "a checkpoint holds the last values");
    let keys = |source| journal.checkpoint_keys(source).ok();
    assert_eq!(keys("suite"), Some(2), "keys that are there are counted, and no other");
    assert_eq!(keys("elsewhere"), Some(0), "a source without a checkpoint has no keys");
    assert!(
        journal.checkpoint("elsewhere", b"").is_ok_and(|kept| kept.is_empty()),
        "sources are apart"
    );
}

fn followers_are_told(journal: &dyn Journal) {
    let (told, notices) = mpsc::channel();
    journal.on_commit(Box::new(move |seq| told.send(seq).unwrap_or_default()));
    let appended = append(journal, vec![entry(800)], None);
    assert!(appended.is_ok(), "a lone entry is taken");
    // A notice of the commit before may still be on its way.
    let last = journal.bounds().last;
    let told = notices.iter().take(10).any(|seq| seq == last);
    assert!(told, "followers are told");
}

fn cursors_move_and_are_forgotten(journal: &dyn Journal) {
    assert!(matches!(journal.cursor("reader"), Ok(None)), "an unknown cursor is none");
    assert!(matches!(journal.durable_cursor("reader"), Ok(None)), "an unknown cursor is none");
    let mut before = None;
    for done in [Some(Seq(3)), Some(Seq(2)), None] {
        assert!(journal.set_cursor("reader", done).is_ok(), "a cursor is set, or forgotten");
        let cursor = journal.cursor("reader");
        assert!(matches!(cursor, Ok(at) if at == done), "a cursor stands where it was set");
        assert_becomes_durable(journal, "reader", before, done);
        before = done;
    }
}

fn assert_becomes_durable(
    journal: &dyn Journal,
    name: &str,
    before: Option<Seq>,
    done: Option<Seq>,
) {
    let begun = Instant::now();
    loop {
        let durable = journal.durable_cursor(name).unwrap_or(Some(Seq(u64::MAX)));
        if durable == done {
            return;
        }
        assert_eq!(durable, before, "a cursor is durable where it was, or where it was set");
        assert!(begun.elapsed() < Duration::from_secs(60), "a cursor becomes durable by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
}
