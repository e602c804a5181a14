//! Dead letters delivered again.

use std::sync::atomic::AtomicBool;

use super::*;

fn all() -> Redrive {
    Redrive { all: true, ..Redrive::default() }
}

fn these(seqs: &[u64]) -> Redrive {
    Redrive { seqs: seqs.to_vec(), all: false }
}

/// A receiver that takes nothing until it is mended, and the switch.
async fn mendable() -> (Receiver, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let fine = Arc::clone(&mended);
    let receiver = Receiver::start(move |_, _| match fine.load(Ordering::SeqCst) {
        true => ok(),
        false => busy(),
    });
    (receiver.await, mended)
}

/// A bench on which six deliveries, of mailboxes A and B in turn, were given up.
async fn buried(folder: &Path) -> (Bench, Receiver, Arc<AtomicBool>) {
    let bench = Bench::open_with(folder, Options::default(), &[]).await;
    let (receiver, mended) = mendable().await;
    bench.create("phone", &receiver).await;
    for at in 0..6 {
        bench.append(if at % 2 == 0 { "A" } else { "B" });
    }
    bench.wait_until("phone", |shown| shown.dead_letters == 6 && shown.lag == 0).await;
    (bench, receiver, mended)
}

fn letters(bench: &Bench) -> Vec<ShownDeadLetter> {
    bench.subscriptions.dead_letters(&bench.admin, "phone", 100).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_come_again_in_order_as_they_were_and_are_forgotten_once_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, receiver, mended) = buried(folder.path()).await;
    let first = receiver.taken();
    mended.store(true, Ordering::SeqCst);
    bench.append("A");
    receiver.wait_for(1).await;
    let shown = bench.subscriptions.redrive(&bench.admin, "phone", these(&[5, 2])).await;
    assert_eq!(shown.unwrap().unwrap().dead_letters, 6);
    bench.wait_until("phone", |shown| (shown.dead_letters, shown.redriving) == (4, 0)).await;
    let left: Vec<_> = letters(&bench).iter().map(|letter| letter.seq).collect();
    assert_eq!(left, [6, 4, 3, 1]);

    let shown = bench.subscriptions.redrive(&bench.admin, "phone", all()).await.unwrap().unwrap();
    assert!(shown.redriving <= 4);
    bench.wait_until("phone", |shown| shown.dead_letters == 0).await;
    let taken: Vec<_> = receiver.taken().into_iter().filter(|one| one.fine).collect();
    assert_eq!(seqs(&taken[3..], "A"), [1, 3]);
    assert_eq!(seqs(&taken[3..], "B"), [4, 6]);
    for again in taken.iter().filter(|one| one.seq < 7) {
        let before = first.iter().find(|one| one.seq == again.seq).unwrap();
        assert_eq!(again.body, before.body, "{}", again.seq);
        assert_eq!(again.headers["webhook-id"], before.headers["webhook-id"]);
    }
    let figures = &bench.subscriptions.figures()[0];
    assert_eq!((figures.dead_letters, figures.redriven, figures.accepted), (0, 6, 7));
    assert_eq!(bench.shown("phone").cursor, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_once_more_stays_a_dead_letter_with_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, _receiver, _) = buried(folder.path()).await;
    bench.subscriptions.redrive(&bench.admin, "phone", these(&[2])).await.unwrap();
    bench.wait_until("phone", |shown| shown.redriving == 0).await;
    let left = letters(&bench);
    let told: Vec<_> = left.iter().map(|letter| (letter.seq, letter.attempts)).collect();
    assert_eq!(told, [(6, 1), (5, 1), (4, 1), (3, 1), (2, 2), (1, 1)]);
    for (wrong, pointer, told) in [
        (these(&[]), "/seqs", "either numbers of dead letters, or all of them"),
        (
            Redrive { seqs: vec![1], all: true },
            "/seqs",
            "either numbers of dead letters, or all of them",
        ),
        (these(&[1, 9]), "/seqs/1", "there is no dead letter 9"),
        (these(&[1; 1_001]), "/seqs", "at most 1000 numbers"),
    ] {
        match bench.subscriptions.redrive(&bench.admin, "phone", wrong).await {
            Err(CreateError::Invalid { pointer: at, message }) => {
                assert_eq!((at.as_str(), message.as_str()), (pointer, told));
            }
            other => panic!("{told}: {other:?}"),
        }
    }
    assert_eq!(bench.shown("phone").redriving, 0, "all or none");
    let nobody = bench.subscriptions.redrive(&bench.admin, "nobody", all()).await;
    assert!(nobody.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_come_again_waits_for_a_paused_subscription_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, receiver, mended) = buried(folder.path()).await;
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    let shown = bench.subscriptions.redrive(&bench.admin, "phone", all()).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.redriving), (SubscriptionState::Paused, 6));
    assert!(letters(&bench).iter().all(|letter| letter.redriving));
    bench.close().await;
    mended.store(true, Ordering::SeqCst);
    let bench = Bench::open_with(folder.path(), Options::default(), &[]).await;
    assert_eq!(bench.shown("phone").redriving, 6);
    assert!(receiver.taken().iter().all(|one| !one.fine));
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    let taken = receiver.wait_for(6).await;
    assert_eq!((seqs(&taken, "A"), seqs(&taken, "B")), (vec![1, 3, 5], vec![2, 4, 6]));
    bench.wait_until("phone", |shown| shown.dead_letters == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_meanwhile_ends_the_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[]).await;
    let receiver = Receiver::start(|_, before| match before {
        0 => busy(),
        1 => StatusCode::GONE.into_response(),
        _ => ok(),
    })
    .await;
    bench.create("phone", &receiver).await;
    bench.append("A");
    bench.wait_until("phone", |shown| shown.dead_letters == 1).await;
    bench.subscriptions.redrive(&bench.admin, "phone", all()).await.unwrap();
    let shown = bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
    assert_eq!(shown.detail.as_deref(), Some("the receiver answered 410 Gone"));
    assert_eq!((shown.dead_letters, shown.redriving), (1, 1));
    bench.append("A");
    bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    let taken = receiver.wait_for(2).await;
    let mut came: Vec<_> = taken.iter().map(|one| one.seq).collect();
    came.sort_unstable();
    assert_eq!(came, [1, 2]);
}
