//! How many events a minute may leave to one subscription.

use std::num::NonZeroU32;

use postbell_engine::Ceiling;

use super::batches::{Receiver as BatchReceiver, Request, batched, up_to};
use super::*;

/// A bench on which users may have an event each second.
async fn open(folder: &Path) -> Bench {
    let user = Ceiling { events_per_minute: NonZeroU32::new(60), ..Ceiling::default() };
    let policy = Policy { user, ..Policy::default() };
    Bench::open_under(folder, policy, &[20, 20]).await
}

impl Bench {
    /// Waits until it is so of the user's own subscription.
    async fn wait_for(&self, grant: &Grant, what: impl Fn(&Shown) -> bool) -> Shown {
        for _ in 0..3_000 {
            let shown = self.subscriptions.find(grant, "phone").unwrap();
            if what(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.subscriptions.find(grant, "phone"));
    }
}

/// So many seconds after `begun`, or later.
fn assert_after(at: Instant, begun: Instant, seconds: u64) {
    let after = at - begun;
    assert!(after >= Duration::from_secs(seconds), "{after:?} and not {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_r157_a_user_gets_no_more_events_a_minute_than_they_may_and_an_admin_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = open(folder.path()).await;
    let (user, _) = bench.user("a1", "a");
    let (slow, fast) = (Receiver::start(|_, _| ok()).await, Receiver::start(|_, _| ok()).await);
    bench.make("phone", &slow, &user).await;
    bench.create("all", &fast).await;
    let begun = Instant::now();
    // Of as many mailboxes, so that none waits for another's answer.
    ["A", "B", "C", "D"].iter().for_each(|mailbox| bench.append(mailbox));
    fast.wait_for(4).await;
    let shown = bench.wait_for(&user, |shown| shown.cursor > 0).await;
    assert_eq!(shown.lag, 4 - shown.cursor, "what waits is what it lags behind");
    let taken = slow.wait_for(4).await;
    for (one, seconds) in taken.iter().zip(0..) {
        assert_after(one.at, begun, seconds);
    }
    let last_of_the_fast = fast.taken().iter().map(|one| one.at).max().unwrap();
    assert!(last_of_the_fast < taken[3].at, "it waited for nobody");
    assert_chain(&taken);
    bench.wait_for(&user, |shown| shown.lag == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_each_event_of_a_batch_counts_and_to_begin_anew_gives_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let bench = open(folder.path()).await;
    let (user, _) = bench.user("a1", "a");
    let receiver = BatchReceiver::start(|_| ok()).await;
    let new = batched("phone", &receiver, up_to(3, "60s"));
    bench.subscriptions.create(new, &user).await.unwrap();
    let begun = Instant::now();
    (0..6).for_each(|_| bench.append("A"));
    bench.wait_for(&user, |shown| shown.cursor >= 3).await;
    bench.subscriptions.pause(&user, "phone").await.unwrap();
    bench.subscriptions.resume(&user, "phone").await.unwrap();
    receiver.wait_for(2).await;
    assert_after(Instant::now(), begun, 3);
    let seqs: Vec<_> = receiver.taken().iter().map(Request::seqs).collect();
    assert_eq!(seqs, [[1, 2, 3], [4, 5, 6]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_what_is_attempted_again_leaves_again_and_so_does_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let bench = open(folder.path()).await;
    let (user, _) = bench.user("a1", "a");
    // What is given up after three attempts.
    let receiver = Receiver::start(|_, before| if before < 3 { busy() } else { ok() }).await;
    bench.make("phone", &receiver, &user).await;
    let begun = Instant::now();
    bench.append("A");
    bench.wait_for(&user, |shown| shown.dead_letters == 1).await;
    let which = Redrive { all: true, ..Redrive::default() };
    bench.subscriptions.redrive(&user, "phone", which).await.unwrap();
    bench.wait_for(&user, |shown| shown.dead_letters == 0).await;
    let taken = receiver.taken();
    assert_eq!(taken.len(), 4);
    for (one, seconds) in taken.iter().zip(0..) {
        assert_after(one.at, begun, seconds);
    }
}
