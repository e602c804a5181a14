//! What went together goes together again.

use super::batches::{Receiver, Request, assert_frozen, batched, up_to};
use super::*;
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
    let new = of(&["Kept", "Between", "Last", "After"], up_to(100, "20ms"));
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
