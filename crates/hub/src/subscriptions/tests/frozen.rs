//! What went together goes together again.

use std::collections::HashSet;

use mail_event::EventId;
use postbell_engine::{Attempt, BatchLimits, Lanes, Next, Outcome};
use postbell_sinks::webhook::Answer;

use super::batches::{Receiver, Request, assert_frozen, batched, up_to};
use super::*;
use crate::subscriptions::attempts::{Attempts, Batcher, Held, Whose};
use crate::subscriptions::batch::Batching;

/// Enough attempts for a test.
const PAUSES: [u64; 500] = [10; 500];

/// All that a receiver has refused, of which `seq` was a part; it is the same each time.
fn refused_with(taken: &[Request], seq: u64) -> Vec<u64> {
    let of: std::collections::BTreeSet<_> = taken
        .iter()
        .filter(|one| !one.fine && one.seqs().contains(&seq))
        .map(|one| (one.id.clone(), one.seqs()))
        .collect();
    assert_eq!(of.len(), 1, "{of:?}");
    of.into_iter().next().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_longer_fits_its_batch_stays_with_what_it_goes_with_then() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &PAUSES).await;
    let receiver = Receiver::start(|seqs| if *seqs == [1] { ok() } else { busy() }).await;
    let new = batched("phone", &receiver, up_to(2, "60s"));
    let narrow = NewSubscription { events: vec!["FlagsSet".to_owned()], ..new.clone() };
    bench.subscriptions.create(narrow, &bench.admin).await.unwrap();
    bench.append("A");
    bench.append_event(
        r#"{"event":"FlagsClear","uri":"imap://a@h/A","timestamp":"2026-08-20T13:34:15+02:00","flagNames":["x"],"uidset":"1"}"#,
    );
    bench.append("A");
    receiver.wait_for(2).await;
    // Now 2 stands between 1 and 3, in the same mailbox.
    bench.subscriptions.apply(new, &bench.admin).await.unwrap();
    let before = receiver.taken().len();
    assert_eq!(refused_with(&receiver.taken()[..before.min(2)], 3), [1, 3]);
    bench.wait_until("phone", |shown| shown.cursor == 1).await;
    let changed = receiver.taken().iter().position(|one| one.seqs() == [1]).unwrap();
    receiver.wait_for(changed + 3).await;
    bench.close().await;
    let bench = Bench::open_with(folder.path(), Options::default(), &PAUSES).await;
    receiver.wait_for(receiver.taken().len() + 3).await;
    assert_eq!(bench.shown("phone").cursor, 1);
    let taken = receiver.taken().split_off(changed);
    assert_eq!(refused_with(&taken, 2), [2, 3]);
    assert_eq!(refused_with(&taken, 3), [2, 3]);
    assert_frozen(&receiver.taken());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_together_and_never_can_again_is_forgotten_once_it_goes_with_others() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &PAUSES).await;
    let (between, last) = (1_030, 1_033);
    let receiver =
        Receiver::start(move |seqs| if seqs.contains(&last) { busy() } else { ok() }).await;
    let of = |mailboxes: &[&str], batch: Batching| NewSubscription {
        mailboxes: mailboxes.iter().map(|one| (*one).to_owned()).collect(),
        ..batched("phone", &receiver, batch)
    };
    let new = of(&["Gone", "Kept", "Last"], up_to(3, "60s"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    let mailboxes = ["Gone", "Kept"].into_iter().chain((0..between).map(|_| "Between"));
    for mailbox in mailboxes.chain(["Last", "After", "After"]) {
        bench.append(mailbox);
    }
    receiver.wait_for(2).await;
    // More is wanted between them now than there is room for, and the first no longer.
    let new = of(&["Kept", "Between", "Last", "After"], up_to(100, "1s"));
    bench.subscriptions.apply(new, &bench.admin).await.unwrap();
    let refused_since = |from: usize| {
        let taken = receiver.taken().split_off(from);
        taken.iter().filter(|one| !one.fine).count()
    };
    let from = receiver.taken().len();
    while refused_since(from) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let shown = bench.shown("phone");
    assert!((3..last).contains(&shown.cursor), "{shown:?}");
    bench.close().await;
    let bench = Bench::open_with(folder.path(), Options::default(), &PAUSES).await;
    let again = receiver.taken().len();
    while refused_since(again) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = receiver.taken();
    let with = refused_with(&taken[from..], last);
    assert!(with.ends_with(&[last, last + 1, last + 2]), "{with:?}");
    assert_frozen(&taken);
    drop(bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_first_attempt_panicked_before_it_was_kept_is_kept_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_| ok()).await;
    let new = batched("phone", &receiver, up_to(2, "60s"));
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    // What its worker would do is done here.
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    let entry = bench.subscriptions.entry(&bench.admin, "phone").unwrap();
    let kept = entry.kept().clone();
    let job = bench.subscriptions.job(&entry, &kept).await;
    let job = Arc::new(job.unwrap());
    let (generation, _) = job.context.db.batches(&entry.id, 0).unwrap();
    let limits = BatchLimits { events: 2, octets: 9_999, delay: Duration::ZERO };
    let schedule = Schedule::new([Duration::from_millis(1); 9]);
    let lanes = Lanes::new(schedule, 0, None, 4, 9).in_batches(limits);
    let batcher = Batcher { generation, kept: HashSet::new() };
    let mut attempts = Attempts::new(&job, lanes, Some(batcher));
    for seq in 1..=2 {
        let json = format!(
            r#"{{"event":"FlagsSet","uri":"imap://a@h/A","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"{seq}"}}"#
        );
        let admitted =
            admit(&Policy::default(), "t", &Stores::any(), json.as_bytes(), None).unwrap();
        let (id, head) = (EventId::from_u128(admitted.id.as_u128()), admitted.keys.to_head());
        let (body, prev_seq, whose) = (json.into_bytes().into(), None, Whose::Own);
        attempts.push(seq, b"A", Held { id, head, body, prev_seq, whose });
    }
    let kept = || {
        let db = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
        let seqs = db.query_row("SELECT group_concat(seqs) FROM batch", [], |row| row.get(0));
        seqs.map(|seqs: Option<String>| seqs.unwrap_or_default()).unwrap()
    };
    attempts.start();
    attempts.clear();
    let attempt = Attempt { seq: 1, prev_seq: None, number: 1, is_new: true };
    let outcome = Outcome::Failed { retry_after: None };
    let panicked = Answer { outcome, reason: "the attempt panicked".to_owned() };
    let concluded = attempts.conclude((attempt, Ok(panicked)));
    assert!(matches!(concluded.next, Next::TryAt(_)));
    assert_eq!((receiver.taken().len(), &*kept()), (0, ""), "nothing was sent, nor kept");
    while attempts.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        attempts.start();
    }
    let ended = attempts.next().await.unwrap();
    assert_eq!(attempts.conclude(ended).next, Next::Done);
    assert_eq!((receiver.taken()[0].seqs(), &*kept()), (vec![1, 2], "[1,2]"));
}

/// All that is below a folder, as a killed process leaves it.
fn copied(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            let to = to.join(file.file_name());
            if file.file_type().unwrap().is_dir() {
                copy(&file.path(), &to);
            } else {
                std::fs::copy(file.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_one_still_where_the_hub_is_killed_before_a_cursor_is_written() {
    let folder = tempfile::tempdir().unwrap();
    // Cursors are written as the journal is closed, and not before.
    let never = || Options { housekeeping: Duration::from_secs(3_600), ..Options::default() };
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fine = Arc::clone(&mended);
    let receiver =
        Receiver::start(move |_| if fine.load(Ordering::SeqCst) { ok() } else { busy() }).await;
    let bench = Bench::open_with(folder.path(), never(), &PAUSES).await;
    let new = batched("phone", &receiver, up_to(5, "60s"));
    let few = NewSubscription { mailboxes: vec!["Few".to_owned()], ..new.clone() };
    bench.subscriptions.create(few, &bench.admin).await.unwrap();
    for at in 0..15 {
        bench.append(if at < 5 { "Few" } else { "A" });
    }
    bench.wait_until("phone", |shown| shown.cursor == 15).await;
    bench.subscriptions.apply(new, &bench.admin).await.unwrap();
    bench.close().await;
    mended.store(false, Ordering::SeqCst);
    let bench = Bench::open_with(folder.path(), never(), &PAUSES).await;
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    for _ in 0..3 {
        bench.append("A");
    }
    let from = receiver.taken().len();
    let shown = bench.subscriptions.replay(&bench.admin, "phone", Begin::Seq(14)).await;
    assert_eq!(shown.unwrap().unwrap().cursor, 13);
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    receiver.wait_for(from + 1).await;
    let killed = copied(folder.path());
    bench.close().await;
    let before = receiver.taken().len();
    let bench = Bench::open_with(killed.path(), never(), &PAUSES).await;
    receiver.wait_for(before + 1).await;
    mended.store(true, Ordering::SeqCst);
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let taken = receiver.taken().split_off(from);
    assert_frozen(&taken);
    let all: Vec<u64> = (14..=18).collect();
    assert!(taken.iter().all(|one| one.seqs() == all), "{taken:?}");
    assert_eq!(taken[0].events[0].2, None, "nothing was before it");
    // Begun anew again, and stopped in order.
    bench.subscriptions.replay(&bench.admin, "phone", Begin::Seq(14)).await.unwrap();
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    bench.close().await;
    let taken = receiver.taken().len();
    let bench = Bench::open_with(killed.path(), never(), &PAUSES).await;
    let shown = bench.shown("phone");
    assert_eq!((shown.cursor, receiver.taken().len()), (18, taken));
    use postbell_journal::Journal as _;
    for cursors in ["/1", "/1/told", "/1/known"] {
        let cursor = bench.journal.cursor(&format!("{}{cursors}", shown.id));
        assert_eq!(cursor.unwrap(), None, "{cursors} is of no use any more");
    }
}
