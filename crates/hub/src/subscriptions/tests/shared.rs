//! Mailboxes that others share, delivered for as long as the store says so.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use postbell_engine::Shared as Rights;
use postbell_sources::SharedError;

use super::*;
use crate::sharing::{Remembered, Times};

/// What each user reads of others, as the store would say it, and how it answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Acl(Arc<StdMutex<Store>>);

#[derive(Debug, Default)]
struct Store {
    rights: BTreeMap<String, Rights>,
    mood: Mood,
}

/// How a store answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Mood {
    #[default]
    Answers,
    /// What it looked up some time before.
    AnswersLate,
    /// It takes its time before it looks.
    Hesitates,
    NotNow,
    LetsNobodyIn,
    IsAway,
}

impl Acl {
    /// Whatever it was like, it answers by now.
    pub(super) fn gives(&self, user: &str, owner: &str, mailboxes: &[&str]) {
        let all: Vec<_> = mailboxes.iter().map(|&mailbox| (owner, mailbox.to_owned())).collect();
        self.gives_all(user, &all);
        self.is(Mood::Answers);
    }

    /// Mailboxes of several owners, whether or not it answers.
    pub(super) fn gives_all(&self, user: &str, all: &[(&str, String)]) {
        let mut shared = Rights::default();
        all.iter().for_each(|(owner, mailbox)| shared.add(*owner, mailbox, "lr"));
        self.0.lock().unwrap().rights.insert(user.to_owned(), shared);
    }

    pub(super) fn goes_away(&self) {
        self.is(Mood::IsAway);
    }

    pub(super) fn is(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn ask(&self, user: &str) -> Result<Rights, SharedError> {
        let answer = |all: &Store| all.rights.get(user).cloned().unwrap_or_default();
        loop {
            let all = self.0.lock().unwrap();
            match all.mood {
                Mood::Answers => return Ok(answer(&all)),
                Mood::AnswersLate => {
                    let answer = answer(&all);
                    drop(all);
                    std::thread::sleep(Duration::from_millis(8));
                    return Ok(answer);
                }
                Mood::Hesitates => {
                    drop(all);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Mood::NotNow => return Err(SharedError::Unsaid("not now".to_owned())),
                Mood::LetsNobodyIn => return Err(SharedError::NotLetIn("no".to_owned())),
                Mood::IsAway => return Err(SharedError::Away("it is away".to_owned())),
            }
        }
    }
}

/// A bench whose store shares as `acl` says, for as long as the watch is held.
pub(super) async fn sharing(
    folder: &Path,
    pauses_millis: &[u64],
    acl: &Acl,
) -> (Bench, watch::Sender<bool>) {
    sharing_for(folder, pauses_millis, acl, Times::STANDARD).await
}

/// The same where what the store says counts, and is waited for, for so long.
pub(super) async fn sharing_for(
    folder: &Path,
    pauses_millis: &[u64],
    acl: &Acl,
    times: Times,
) -> (Bench, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let acl = acl.clone();
    let sharing = |feed: &Feed, state: &Arc<StateDb>| {
        let feed = feed.clone();
        let remembered = Remembered::new(Arc::clone(state), state.shared().unwrap());
        let sharing = Sharing::new(move |user| acl.ask(user), feed, remembered, times);
        tokio::spawn(sharing.clone().watch(stopping));
        sharing
    };
    let none = BTreeMap::new();
    let bench =
        Bench::open_sharing(folder, Options::default(), pauses_millis, &none, sharing).await;
    (bench, stop)
}

impl Bench {
    pub(super) fn comes(&self, owner: &str, mailbox: &str) -> u64 {
        let number = self.journal.stats().records + 1;
        self.append_event(&format!(
            r#"{{"event":"FlagsSet","uri":"imap://{owner}@h/{mailbox}","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"{number}"}}"#,
        ));
        number
    }

    /// Says, as a source does, that rights on a mailbox are others now.
    pub(super) fn rights_change(&self, owner: &str, mailbox: &str) -> u64 {
        let number = self.journal.stats().records + 1;
        self.append_event(&format!(
            r#"{{"event":"vnd.cmu.AclChange","uri":"imap://{owner}@h/{mailbox}","timestamp":"2026-08-20T13:34:14+02:00","vnd.x.number":{number}}}"#,
        ));
        number
    }

    /// Says that a user got or lost sight of an owner's mailbox.
    pub(super) fn sight_changes(&self, user: &str, owner: &str, mailbox: &str) -> u64 {
        let number = self.journal.stats().records + 1;
        self.append_event(&format!(
            r#"{{"event":"MailboxCreate","uri":"imap://{user}@h/shared/{owner}/{mailbox};UIDVALIDITY=7","mailboxID":"imap://{user}@h/shared/{owner}/{mailbox};UIDVALIDITY=7","timestamp":"2026-08-20T13:34:14+02:00","vnd.postbell.affectedUser":"{user}","vnd.x.number":{number}}}"#,
        ));
        number
    }
}

/// Only what happens to flags.
fn flags(url: &str) -> NewSubscription {
    NewSubscription { events: vec!["FlagsSet".to_owned()], ..wanted("phone", url) }
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

pub(super) fn data(taken: &Taken) -> Value {
    serde_json::from_slice::<Value>(&taken.body).unwrap()["data"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_subscription_delivers_what_others_share_for_as_long_as_the_store_says_so() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[20, 20], &acl).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    for (owner, mailbox) in [("ann", "Secret"), ("ann", "Plans"), ("eve", "Plans"), ("bob", "A")] {
        bench.comes(owner, mailbox);
    }
    let taken = receiver.wait_for(2).await;
    assert_eq!((seqs(&taken, "Plans"), seqs(&taken, "A")), (vec![2], vec![4]));

    // Lost: from that record on, whatever comes behind it at once.
    acl.gives("bob", "ann", &[]);
    bench.rights_change("ann", "Plans");
    bench.comes("ann", "Plans");
    bench.comes("bob", "A");
    let taken = receiver.wait_for(3).await;
    assert_eq!(seqs(&taken, "A"), [4, 7]);

    // Given anew, and two at once: nothing behind it is missed.
    acl.gives("bob", "ann", &["Plans", "Secret"]);
    bench.sight_changes("bob", "ann", "Secret");
    bench.comes("ann", "Secret");
    bench.comes("ann", "Plans");
    let taken = receiver.wait_for(5).await;
    assert_eq!((seqs(&taken, "Secret"), seqs(&taken, "Plans")), (vec![9], vec![2, 10]));
    assert_chain(&taken);
    bench.wait_until(&id, |shown| shown.lag == 0).await;

    // Looking back, too, it is as the store says by now.
    acl.gives("bob", "ann", &["Plans"]);
    bench.rights_change("ann", "Secret");
    let before = receiver.taken().len();
    bench.subscriptions.replay(&bob, &id, Begin::Seq(1)).await.unwrap();
    let taken = receiver.wait_for(before + 5).await;
    let mut again: Vec<_> = taken[before..].iter().map(|one| one.seq).collect();
    again.sort_unstable();
    assert_eq!(again, [2, 4, 6, 7, 10]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_comes_while_the_store_is_asked_is_not_passed_over() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    acl.is(Mood::Hesitates);
    let (bench, _watching) = sharing(folder.path(), &[20, 20], &acl).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    for (owner, mailbox) in [("ann", "Plans"), ("bob", "A"), ("ann", "Plans")] {
        bench.comes(owner, mailbox);
    }
    acl.is(Mood::Answers);
    let taken = receiver.wait_for(3).await;
    assert_eq!((seqs(&taken, "Plans"), seqs(&taken, "A")), (vec![1, 3], vec![2]));
    bench.wait_until(&id, |shown| shown.lag == 0).await;

    acl.is(Mood::Hesitates);
    acl.gives("bob", "eve", &["Plans"]);
    bench.sight_changes("bob", "eve", "Plans");
    for (owner, mailbox) in [("eve", "Plans"), ("bob", "A"), ("eve", "Plans")] {
        bench.comes(owner, mailbox);
    }
    acl.is(Mood::Answers);
    let taken = receiver.wait_for(6).await;
    assert_eq!((seqs(&taken, "Plans"), seqs(&taken, "A")), (vec![1, 3, 5, 7], vec![2, 6]));
    assert_chain(&taken);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_waits_for_its_next_attempt_is_not_sent_once_the_right_is_lost() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans", "Kept"]);
    let (bench, _watching) = sharing(folder.path(), &[50; 1_200], &acl).await;
    let (receiver, mended) = mendable().await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    for (owner, mailbox) in [("ann", "Plans"), ("ann", "Plans"), ("ann", "Kept"), ("bob", "A")] {
        bench.comes(owner, mailbox);
    }
    // Each mailbox was tried.
    while ["Plans", "Kept", "A"].iter().any(|one| seqs(&receiver.taken(), one).is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acl.gives("bob", "ann", &["Kept"]);
    bench.rights_change("ann", "Plans");
    // What comes behind it is decided by what the store says now.
    bench.comes("ann", "Plans");
    bench.comes("bob", "B");
    while seqs(&receiver.taken(), "B").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let until_now = receiver.taken().len();
    mended.store(true, Ordering::SeqCst);
    let taken = receiver.wait_for(5).await;
    assert!(receiver.taken()[until_now..].iter().all(|one| one.mailbox != "Plans"));
    assert_eq!(
        (seqs(&taken, "Kept"), seqs(&taken, "A"), seqs(&taken, "B")),
        (vec![3], vec![4], vec![7])
    );
    // In its place stands that it can't be told, and no number is missing.
    assert_eq!(seqs(&taken, ""), [1, 2]);
    assert_chain(&taken);
    let gap = data(taken.iter().find(|one| one.seq == 2).unwrap());
    assert_eq!(gap["event"], "vnd.postbell.Gap");
    assert_eq!((&gap["vnd.postbell.gapFrom"], &gap["vnd.postbell.gapTo"]), (&2.into(), &2.into()));
    for one in taken.iter().filter(|one| one.mailbox.is_empty()) {
        let body = String::from_utf8_lossy(&one.body);
        assert!(!body.contains("ann") && !body.contains("Plans"), "{body}");
    }
    bench.wait_until(&id, |shown| shown.lag == 0 && shown.dead_letters == 0).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_was_named_and_is_lost_comes_as_a_gap_from_a_worker_that_begins_anew_too() {
    for (is_known, restarts) in [(false, false), (true, false), (false, true), (true, true)] {
        let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
        acl.gives("bob", "ann", &["Plans"]);
        let (mut bench, mut watching) = sharing(folder.path(), &[20; 3_000], &acl).await;
        let mended = Arc::new(AtomicBool::new(false));
        let fine = Arc::clone(&mended);
        let takes = move |mailbox: &str| mailbox == "A" || fine.load(Ordering::SeqCst);
        let receiver = Receiver::start(move |one, _| if takes(one) { ok() } else { busy() }).await;
        let (bob, token) = bench.user("b1", "bob");
        let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
        let [failing, named, naming] = [("bob", "B"), ("ann", "Plans"), ("bob", "A")]
            .map(|(owner, one)| bench.comes(owner, one));
        assert_eq!(receiver.wait_for(1).await[0].prev_seq, Some(named));
        if is_known {
            acl.gives("bob", "ann", &[]);
            bench.rights_change("ann", "Plans");
            while seqs(&receiver.taken(), "").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // Lost by now, whether or not anybody has asked.
        if restarts {
            bench.close().await;
            acl.gives("bob", "ann", &[]);
            (bench, watching) = sharing(folder.path(), &[20; 3_000], &acl).await;
        } else {
            bench.subscriptions.pause(&bob, &id).await.unwrap();
            acl.gives("bob", "ann", &[]);
        }
        bench.rights_change("ann", "Plans");
        bench.comes("ann", "Plans");
        let bob = bench.tokens.grant(&token).unwrap();
        bench.subscriptions.resume(&bob, &id).await.unwrap();
        mended.store(true, Ordering::SeqCst);
        bench.wait_until(&id, |shown| shown.lag == 0).await;
        let taken: Vec<_> = receiver.taken().into_iter().filter(|one| one.fine).collect();
        assert_eq!(
            seqs(&taken, ""),
            [named],
            "{is_known} {restarts}: and what came later isn't told"
        );
        assert_chain(&taken);

        // Nothing of it was to come after a replay.
        mended.store(false, Ordering::SeqCst);
        let before = receiver.taken().len();
        bench.subscriptions.replay(&bob, &id, Begin::Seq(1)).await.unwrap();
        while seqs(&receiver.taken()[before..], "B").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.subscriptions.pause(&bob, &id).await.unwrap();
        bench.subscriptions.resume(&bob, &id).await.unwrap();
        mended.store(true, Ordering::SeqCst);
        bench.wait_until(&id, |shown| shown.lag == 0).await;
        let again = receiver.taken().split_off(before);
        assert_eq!((seqs(&again, ""), seqs(&again, "Plans")), (vec![], vec![]));
        let fine: Vec<_> = again.into_iter().filter(|one| one.fine).collect();
        let mut told: Vec<_> = fine.iter().map(|one| (one.seq, one.prev_seq)).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, [(failing, None), (naming, Some(failing))]);
        bench.close().await;
        drop(watching);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_request_under_way_is_dropped_with_the_right() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[20; 9], &acl).await;
    let receiver = Receiver::start(|mailbox, _| if mailbox == "Plans" { hang() } else { ok() });
    let receiver = receiver.await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    bench.comes("ann", "Plans");
    while receiver.taken().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acl.gives("bob", "ann", &[]);
    bench.rights_change("ann", "Plans");
    // It would hang for longer than is waited here: what ends it is the change.
    bench.wait_until(&id, |shown| shown.lag == 0).await;
    assert_eq!(seqs(&receiver.taken(), "Plans"), [1]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_dead_letter_of_what_is_shared_no_more_is_not_redriven() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans", "Kept"]);
    let (bench, _watching) = sharing(folder.path(), &[], &acl).await;
    let (receiver, mended) = mendable().await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    bench.comes("ann", "Plans");
    bench.comes("ann", "Kept");
    bench.wait_until(&id, |shown| shown.dead_letters == 2 && shown.lag == 0).await;
    acl.gives("bob", "ann", &["Kept"]);
    bench.rights_change("ann", "Plans");
    mended.store(true, Ordering::SeqCst);
    let all = Redrive { all: true, ..Redrive::default() };
    bench.subscriptions.redrive(&bob, &id, all).await.unwrap();
    bench.wait_until(&id, |shown| (shown.dead_letters, shown.redriving) == (1, 0)).await;
    let left = bench.subscriptions.dead_letters(&bob, &id, 9).unwrap().unwrap();
    assert_eq!((left[0].seq, left[0].reason.as_str()), (1, "its owner may not see it any more"));
    assert_eq!(seqs(&receiver.wait_for(1).await, "Kept"), [2]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_while_the_store_can_not_be_asked_what_is_shared_waits_and_ones_own_goes_on() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[20, 20], &acl).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    bench.comes("ann", "Plans");
    receiver.wait_for(1).await;
    acl.goes_away();
    bench.rights_change("ann", "Plans");
    bench.comes("ann", "Plans");
    bench.comes("bob", "A");
    let taken = receiver.wait_for(2).await;
    assert_eq!((seqs(&taken, "Plans"), seqs(&taken, "A")), (vec![1], vec![4]));
    let shown = bench.wait_until(&id, |shown| shown.last_error.is_some()).await;
    let why = "the store can't be asked what others share";
    assert_eq!((shown.cursor, shown.last_error.as_deref()), (2, Some(why)));
    acl.gives("bob", "ann", &["Plans"]);
    let taken = receiver.wait_for(3).await;
    assert_eq!(seqs(&taken, "Plans"), [1, 3]);
    bench.wait_until(&id, |shown| shown.lag == 0 && shown.last_error.is_none()).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_what_is_shared_waits_for_a_store_that_is_away_also_where_the_hub_begins_anew() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, watching) = sharing(folder.path(), &[20, 20], &acl).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    bench.comes("ann", "Plans");
    receiver.wait_for(1).await;
    bench.wait_until(&id, |shown| shown.lag == 0).await;
    acl.goes_away();
    bench.rights_change("ann", "Plans");
    bench.comes("ann", "Plans");
    // A worker that begins anew while it waits.
    let seq = bench.comes("bob", "A");
    while !seqs(&receiver.taken(), "A").contains(&seq) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.subscriptions.replay(&bob, &id, Begin::Seq(2)).await.unwrap();
    let taken = receiver.wait_for(3).await;
    assert_eq!((seqs(&taken, "Plans"), seqs(&taken, "A")), (vec![1], vec![seq, seq]));
    bench.close().await;
    drop(watching);

    // And the whole hub.
    let (bench, _watching) = sharing(folder.path(), &[20, 20], &acl).await;
    bench.comes("ann", "Plans");
    let last = bench.comes("bob", "A");
    while !seqs(&receiver.taken(), "A").contains(&last) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seqs(&receiver.taken(), "Plans"), [1]);
    acl.gives("bob", "ann", &["Plans"]);
    while seqs(&receiver.taken(), "Plans").len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seqs(&receiver.taken(), "Plans"), [1, 3, 5]);
    bench.wait_until(&id, |shown| shown.lag == 0).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_dead_letter_of_others_keeps_no_other_one_waiting_for_the_store() {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &["Plans"]);
    let (bench, _watching) = sharing(folder.path(), &[], &acl).await;
    let (receiver, mended) = mendable().await;
    let (bob, _) = bench.user("b1", "bob");
    let id = bench.subscriptions.create(flags(&receiver.url), &bob).await.unwrap().id;
    for _ in 0..8 {
        bench.comes("ann", "Plans");
    }
    bench.comes("bob", "A");
    bench.wait_until(&id, |shown| shown.dead_letters == 9 && shown.lag == 0).await;
    acl.goes_away();
    bench.rights_change("ann", "Plans");
    mended.store(true, Ordering::SeqCst);
    let all = Redrive { all: true, ..Redrive::default() };
    bench.subscriptions.redrive(&bob, &id, all).await.unwrap();
    bench.wait_until(&id, |shown| (shown.dead_letters, shown.redriving) == (8, 8)).await;
    let before = receiver.taken().len();
    acl.gives("bob", "ann", &["Plans"]);
    bench.wait_until(&id, |shown| (shown.dead_letters, shown.redriving) == (0, 0)).await;
    let told = seqs(&receiver.taken()[before..], "Plans");
    assert_eq!(told, Vec::from_iter(1..=8), "in order");
    bench.close().await;
}
