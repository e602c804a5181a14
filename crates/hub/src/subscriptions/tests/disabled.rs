//! A receiver that takes nothing: tried with one delivery at a time, and at last no more.

use postbell_journal::Journal as _;

use super::*;

/// Says of a subscription, as `hub.db` has it, that there was nothing but failure for so long.
fn failing_for(folder: &Path, days: i64) {
    let db = rusqlite::Connection::open(folder.join("hub.db")).unwrap();
    let since = jiff::Timestamp::now().as_millisecond() - days * 24 * 3_600_000;
    let query = "UPDATE subscription SET body = json_set(body, '$.failingSinceUnixMillis', ?1)";
    assert_eq!(db.execute(query, [since]).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_is_not_tried_by_every_mailbox() {
    let folder = tempfile::tempdir().unwrap();
    // No probe before this is over: those that are tried are so for the first time.
    let bench = Bench::open_with(folder.path(), Options::default(), &[600_000; 300]).await;
    let receiver = Receiver::start(|_, _| busy()).await;
    bench.create("phone", &receiver).await;
    for at in 0..40 {
        bench.append(&format!("M{at}"));
    }
    // Ten have failed, and at most those under way beside them.
    let entry = bench.subscriptions.entry(&bench.admin, "phone").unwrap();
    for _ in 0..3_000 {
        if entry.kept().failing_since_unix_millis.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(entry.kept().failing_since_unix_millis.is_some());
    let shown = bench.shown("phone");
    assert_eq!((shown.state, shown.cursor), (SubscriptionState::Active, 0));
    assert!((10..=13).contains(&shown.attempts), "{}", shown.attempts);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_back_gets_everything_after_one_probe() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| ok()).await;
    let bench = Bench::open(folder.path()).await;
    bench.create("phone", &receiver).await;
    bench.close().await;
    // As if it had failed for long when the hub was started again.
    failing_for(folder.path(), 1);
    let bench = Bench::open_with(folder.path(), Options::default(), &[1; 300]).await;
    for mailbox in ["A", "B", "C"] {
        bench.append(mailbox);
    }
    receiver.wait_for(3).await;
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!(shown.attempts, 3);
    let entry = bench.subscriptions.entry(&bench.admin, "phone").unwrap();
    assert_eq!(entry.kept().failing_since_unix_millis, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_days_of_nothing_but_failure_disable_it_and_its_owner_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, before| if before == 0 { busy() } else { ok() }).await;
    let bench = Bench::open(folder.path()).await;
    let (owner, _) = bench.user("a1", "a");
    let id = bench.make("phone", &receiver, &owner).await.id;
    bench.close().await;
    failing_for(folder.path(), 5);
    let bench = Bench::open(folder.path()).await;
    bench.append("INBOX");
    let shown = bench.wait_until(&id, |shown| shown.state == SubscriptionState::Disabled).await;
    let detail = shown.detail.unwrap();
    assert!(detail.starts_with("nothing but failure since 20"), "{detail}");
    assert!(detail.ends_with(": 503 Service Unavailable"), "{detail}");
    assert_eq!((shown.cursor, shown.attempts), (0, 1));

    // The event comes behind the one that failed.
    for _ in 0..3_000 {
        if bench.journal.bounds().last == Seq(2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let records = bench.journal.read(Seq(2), 1).unwrap();
    let record = records.iter().next().unwrap();
    let event: Value = serde_json::from_slice(record.body).unwrap();
    assert_eq!(event["event"], "vnd.postbell.DeliveryDisabled");
    assert_eq!((&event["user"], &event["uri"]), (&"a".into(), &"imap://imap.example.org/".into()));
    assert_eq!(event["vnd.postbell.subscription"], "phone");
    assert_eq!(event["vnd.postbell.subscriptionId"], id.as_str());
    assert_eq!(event["vnd.postbell.disabledReason"], detail.as_str());

    // It stays so over a restart, and goes on where it stood.
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.shown(&id).state, SubscriptionState::Disabled);
    let (owner, _) = bench.user("a2", "a");
    let resumed = bench.subscriptions.resume(&owner, &id).await.unwrap().unwrap();
    assert_eq!((resumed.state, resumed.detail), (SubscriptionState::Active, None));
    let taken = receiver.wait_for(2).await;
    // They are of two lanes, and may come in either order.
    let mut came: Vec<_> = taken.iter().map(|one| one.seq).collect();
    came.sort_unstable();
    assert_eq!(came, [1, 2]);
}
