//! How large a batch is.

use super::batches::{Receiver, Request, batched, up_to};
use super::shared::{Acl, sharing};
use super::*;
use crate::subscriptions::batch::Batching;

/// What a receiver that refuses everything was sent of a batch with six of Ann's events in it: before and
/// after it was another one by what she shares with Bob. That she shares `at_first`, while they gather, and
/// `then`, before the first attempt; afterwards `later`. Five of them are in Plans, with so many flags.
async fn refused(
    max_octets: u64,
    flags: usize,
    [at_first, then, later]: [&[&str]; 3],
) -> [Vec<Request>; 2] {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", at_first);
    let (bench, _watching) = sharing(folder.path(), &[10; 500], &acl).await;
    let receiver = Receiver::start(|_| busy()).await;
    let (bob, _) = bench.user("b1", "bob");
    let new = batched("phone", &receiver, Batching { max_octets, ..up_to(6, "60s") });
    let new = NewSubscription { events: vec!["FlagsSet".to_owned()], ..new };
    let id = bench.subscriptions.create(new, &bob).await.unwrap().id;
    let reads = bench.sharing.of(bob.principal());
    let knows = async |names: &[&str]| {
        while reads.known().has("ann", "Plans") != names.contains(&"Plans") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    knows(at_first).await;
    let flags: Vec<_> = (0..flags).map(|at| format!("k{at}")).collect();
    let flags = serde_json::to_string(&flags).unwrap();
    for number in 1..=5 {
        bench.append_event(&format!(
            r#"{{"event":"FlagsSet","uri":"imap://ann@h/Plans","timestamp":"2026-08-20T13:34:14+02:00","flagNames":{flags},"uidset":"{number}"}}"#,
        ));
    }
    let entry = bench.subscriptions.entry(&bench.admin, &id).unwrap();
    while entry.live.matched.load(Ordering::Relaxed) < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acl.gives("bob", "ann", then);
    bench.sight_changes("bob", "ann", "Plans");
    knows(then).await;
    bench.comes("ann", "Kept");
    receiver.wait_for(1).await;
    acl.gives("bob", "ann", later);
    bench.sight_changes("bob", "ann", "Plans");
    let tells = |one: &Request, names: &[&str]| {
        let is_told = one.events.iter().any(|(mailbox, ..)| mailbox == "Plans");
        is_told == names.contains(&"Plans")
    };
    while !receiver.taken().iter().any(|one| tells(one, later)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.close().await;
    let (before, after) = receiver.taken().into_iter().partition(|one| tells(one, then));
    [before, after]
}

fn most(requests: &[Request]) -> u64 {
    requests.iter().map(|one| one.body.len() as u64).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_no_more_octets_than_asked_for_once_some_of_it_may_not_be_told() {
    let all = &["Plans", "Kept"][..];
    let rights = [all, all, &["Kept"]];
    let [before, after] = refused(100_000, 1, rights).await;
    assert_eq!((before[0].events.len(), after[0].events.len()), (6, 6));
    let limit = most(&before);
    assert!(most(&after) > limit, "that something can't be told takes more than it did");
    let [before, after] = refused(limit, 1, rights).await;
    assert!(most(&before) <= limit && most(&after) <= limit, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_no_more_octets_than_asked_for_once_all_of_it_may_be_told_again() {
    let all = &["Plans", "Kept"][..];
    let rights = [all, &["Kept"], all];
    let [before, after] = refused(100_000, 80, rights).await;
    assert_eq!((before[0].events.len(), after[0].events.len()), (6, 6));
    let limit = most(&before);
    assert!(most(&after) > limit + 1_000);
    let [before, after] = refused(limit, 80, rights).await;
    assert!(most(&before) <= limit && most(&after) <= limit, "{after:?}");
}
