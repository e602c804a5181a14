//! Many threads at once, on small segments that begin, are sealed and are dropped all the while.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what helps a test fails with it"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use postbell_journal::contract::append;
use postbell_journal::{
    AppendError, Batch, Bounds, Change, Checkpoint, Entry, Journal as _, Options, ReadError,
    RecordId, Retention, Seq, SqliteJournal, State, Verdict,
};

const PUBLISHERS: u64 = 4;
const BATCHES: u64 = 150;

fn open(folder: &std::path::Path, keep_octets: Option<u64>) -> Arc<SqliteJournal> {
    let options = Options {
        segment_octets: 8 * 1024,
        retention: Retention { age: None, octets: keep_octets },
        housekeeping: Duration::from_millis(1),
        recent_octets: 16 * 1024,
        cold_octets: 16 * 1024,
        ..Options::default()
    };
    Arc::new(SqliteJournal::open(folder, options).unwrap())
}

/// The batch of one publisher: its entries say whose they are and which.
fn batch(publisher: u64, number: u64) -> Batch {
    let entry = |at: u64| Entry {
        id: RecordId(u128::from(publisher) << 64 | u128::from(number * 100 + at)),
        head: [0; 24],
        body: format!("{publisher} {}", number * 100 + at).into(),
    };
    let change = |key: &str| Change { key: key.into(), value: Some(number.to_string().into()) };
    Batch {
        entries: (0..1 + (publisher + number) % 40).map(entry).collect(),
        checkpoint: Some(Checkpoint {
            source: format!("publisher-{publisher}"),
            changes: vec![change("first"), change("second")],
        }),
    }
}

/// Appends all batches of a publisher, the next before the last is acknowledged.
fn publish(journal: &SqliteJournal, publisher: u64) {
    let (told, answers) = mpsc::sync_channel(4);
    let mut last = 0;
    for number in 0..BATCHES + 4 {
        if number < BATCHES {
            let told = told.clone();
            let done = move |result| told.send(result).unwrap();
            journal.append(batch(publisher, number), Box::new(done));
        }
        if number >= 4 {
            let appended: Result<postbell_journal::Appended, AppendError> = answers.recv().unwrap();
            for verdict in appended.unwrap().verdicts {
                let Verdict::New(Seq(seq)) = verdict else { panic!("{verdict:?}") };
                assert!(seq > last, "acknowledged out of order");
                last = seq;
            }
            // What was acknowledged is there to be read, by whoever hears of it.
            assert!(journal.bounds().last >= Seq(last));
        }
    }
}

/// Reads from the first to the last; says how many records were told and how many were dropped.
fn follow(journal: &SqliteJournal, is_over: &AtomicBool, pause: Duration) -> (u64, u64) {
    let mut next = 1;
    let (mut told, mut dropped) = (0, 0);
    let mut newest = [None; 8];
    loop {
        let ends = is_over.load(Ordering::Acquire);
        let bounds = journal.bounds();
        assert!(bounds.first.0 <= bounds.last.0 + 1, "{bounds:?}");
        match journal.read(Seq(next), 2000) {
            Ok(records) if records.is_empty() && ends => return (told, dropped),
            Ok(records) => {
                for record in &records {
                    assert_eq!(record.seq.0, next, "no number is skipped");
                    let text = std::str::from_utf8(record.body).unwrap();
                    let (publisher, number) = text.split_once(' ').unwrap();
                    let publisher: usize = publisher.parse().unwrap();
                    let number: u64 = number.parse().unwrap();
                    assert!(newest[publisher] < Some(number), "a publisher's order is kept");
                    newest[publisher] = Some(number);
                    next += 1;
                    told += 1;
                }
            }
            Err(ReadError::Dropped { first }) => {
                assert!(first.0 > next, "{first:?} at {next}");
                dropped += first.0 - next;
                next = first.0;
            }
            Err(error) => panic!("{error:?}"),
        }
        thread::sleep(pause);
    }
}

fn run(keep_octets: Option<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), keep_octets);
    let noticed = Arc::new(Mutex::new(Vec::new()));
    let notice = Arc::clone(&noticed);
    journal.on_commit(Box::new(move |seq| notice.lock().unwrap().push(seq)));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let journal = &journal;
                scope.spawn(move || publish(journal, publisher))
            })
            .collect();
        let followers: Vec<_> = [0, 0, 3]
            .map(|pause| {
                let (journal, is_over) = (&journal, &is_over);
                scope.spawn(move || follow(journal, is_over, Duration::from_millis(pause)))
            })
            .into();
        let watcher = scope.spawn(|| {
            let mut seen = [0; 8];
            while !is_over.load(Ordering::Acquire) {
                for publisher in 0..PUBLISHERS {
                    let kept = journal.checkpoint(&format!("publisher-{publisher}"), b"").unwrap();
                    let number = |at: usize| {
                        let (_, value) = kept.get(at)?;
                        std::str::from_utf8(value).ok()?.parse::<u64>().ok()
                    };
                    let (first, second) = (number(0), number(1));
                    assert_eq!(first, second, "a checkpoint is seen whole");
                    let at = usize::try_from(publisher).unwrap();
                    assert!(first.unwrap_or(0) >= seen[at], "a checkpoint goes forward");
                    seen[at] = first.unwrap_or(0);
                    journal.set_cursor("watcher", Some(Seq(seen[at]))).unwrap();
                    assert_eq!(journal.cursor("watcher").unwrap(), Some(Seq(seen[at])));
                }
                assert!(journal.first_since(0).is_ok());
                assert_eq!(journal.state(), State::Accepting);
            }
        });
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        is_over.store(true, Ordering::Release);
        watcher.join().unwrap();
        let last = journal.bounds().last.0;
        for follower in followers {
            let (told, dropped) = follower.join().unwrap();
            assert_eq!(told + dropped, last, "every record is told, or told as dropped");
            assert!(dropped == 0 || keep_octets.is_some());
        }
    });
    journal.set_cursor("last words", Some(Seq(7))).unwrap();
    journal.close();
    // A commit is told after it is acknowledged.
    let noticed = noticed.lock().unwrap();
    assert_eq!(noticed.last(), Some(&journal.bounds().last));
    assert!(noticed.is_sorted(), "notices go forward: {noticed:?}");
    assert!(matches!(journal.set_cursor("late", None), Err(AppendError::Closed)));

    let journal = open(folder.path(), None);
    assert_eq!(journal.cursor("last words").unwrap(), Some(Seq(7)), "closing writes the cursors");
    for publisher in 0..PUBLISHERS {
        let kept = journal.checkpoint(&format!("publisher-{publisher}"), b"first").unwrap();
        let last = (BATCHES - 1).to_string().into_bytes();
        assert_eq!(kept, [(b"first".to_vec(), last)]);
    }
    // The window is known again, as far as there are records.
    let Bounds { first, last } = journal.bounds();
    for seq in [first, last] {
        let records = journal.read(seq, 1).unwrap();
        let record = records.iter().next().unwrap();
        let again = Entry { id: record.id, head: *record.head, body: "again".to_owned().into() };
        let told = append(&*journal, vec![again], None).unwrap();
        assert_eq!(told.verdicts, [Verdict::Repeated(seq)]);
    }
}

#[test]
fn writers_readers_and_housekeeping_do_not_disturb_each_other() {
    run(None);
}

#[test]
fn a_reader_of_old_segments_is_told_what_was_dropped_under_it() {
    run(Some(40 * 1024));
}
