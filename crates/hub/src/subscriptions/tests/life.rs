//! How long subscriptions live, and how one is had as it is wanted.

use jiff::{SignedDuration, Timestamp};
use postbell_engine::Demand;

use super::*;
use crate::subscriptions::api::Renewal;

fn until(text: &str) -> Renewal {
    Renewal { expires: text.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_expires_ends_says_so_and_goes_on_once_it_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let new = NewSubscription { expires: Some("1h".to_owned()), ..wanted("phone", &receiver.url) };
    let made = bench.subscriptions.create(new, &bench.admin).await.unwrap();
    let left = made.expires.as_deref().unwrap().parse::<Timestamp>().unwrap();
    let left = left.duration_since(Timestamp::now()).as_secs();
    assert!((3_000..=3_600).contains(&left), "{left}");
    bench.append("A");
    receiver.wait_for(1).await;
    // Its answer too: what is under way at the end comes again.
    bench.wait_until("phone", |shown| shown.lag == 0).await;

    let renewed = bench.subscriptions.renew(&bench.admin, "phone", until("50ms")).await;
    assert_ne!(renewed.unwrap().unwrap().etag, made.etag);
    let shown = bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
    let detail = shown.detail.unwrap();
    let told = format!("it expired at {}; ", shown.expires.unwrap());
    assert!(detail.starts_with(&told), "{detail}");
    bench.append("A");
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    let refused = bench.subscriptions.resume(&bench.admin, "phone").await.unwrap_err();
    assert!(refused.to_string().contains("renew it"), "{refused}");
    let rotated = bench.subscriptions.rotate(&bench.admin, "phone", Rotation::default()).await;
    assert_eq!(rotated.unwrap().unwrap().state, SubscriptionState::Ended);
    assert_eq!(receiver.taken().len(), 1, "nothing is delivered beyond its end");

    let refused = bench.subscriptions.renew(&bench.admin, "phone", until("2020-01-01T00:00:00Z"));
    assert_eq!(refused.await.unwrap_err().to_string(), "\"2020-01-01T00:00:00Z\" is past");
    let renewed = bench.subscriptions.renew(&bench.admin, "phone", until("never")).await;
    let shown = renewed.unwrap().unwrap();
    assert_eq!((shown.state, shown.detail, shown.expires), (SubscriptionState::Active, None, None));
    assert_eq!(seqs(&receiver.wait_for(2).await, "A"), [1, 2]);
    let nobody = bench.subscriptions.renew(&bench.admin, "nobody", until("1h")).await;
    assert!(nobody.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_expired_is_kept_for_a_while_and_then_removed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    for (name, expires) in [("short", Some("1h")), ("held", Some("1h")), ("endless", None)] {
        let expires = expires.map(str::to_owned);
        let new = NewSubscription { expires, ..wanted(name, &receiver.url) };
        bench.subscriptions.create(new, &bench.admin).await.unwrap();
    }
    bench.subscriptions.pause(&bench.admin, "held").await.unwrap();
    let names = || {
        let all = bench.subscriptions.list(&bench.admin);
        all.into_iter().map(|shown| (shown.name, shown.state)).collect::<Vec<_>>()
    };
    let in_hours = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let (short, held, endless) =
        ("short".to_owned(), "held".to_owned(), ("endless".to_owned(), SubscriptionState::Active));
    bench.subscriptions.expire(Timestamp::now()).await;
    assert_eq!(
        names(),
        [
            (short.clone(), SubscriptionState::Active),
            (held.clone(), SubscriptionState::Paused),
            endless.clone()
        ]
    );
    let next = bench.subscriptions.expire(in_hours(2)).await.unwrap();
    let ended =
        [(short, SubscriptionState::Ended), (held, SubscriptionState::Ended), endless.clone()];
    assert_eq!(names(), ended);
    let days = (next - Timestamp::now().as_millisecond()) / (24 * 3_600_000);
    assert_eq!(days, 7, "then it is looked at again");
    bench.subscriptions.expire(in_hours(7 * 24)).await;
    assert_eq!(names(), ended);
    assert_eq!(bench.subscriptions.expire(in_hours(7 * 24 + 2)).await, None);
    assert_eq!(names(), std::slice::from_ref(&endless));
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.subscriptions.list(&bench.admin).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_twice_is_one_subscription_and_what_differs_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (first, second) = (Receiver::start(|_, _| ok()).await, Receiver::start(|_, _| ok()).await);
    let apply = |new| bench.subscriptions.apply(new, &bench.admin);
    let (applied, made) = apply(wanted("phone", &first.url)).await.unwrap();
    assert_eq!(applied, Applied::Made);
    let secret = secret_of(made.clone());
    bench.append("A");
    first.wait_for(1).await;
    bench.wait_until("phone", |shown| shown.lag == 0).await;

    let (applied, shown) = apply(wanted("phone", &first.url)).await.unwrap();
    assert_eq!((applied, &shown.id, &shown.etag), (Applied::There, &made.id, &made.etag));
    let ShownSink::Webhook { secret: None, .. } = &shown.sink else {
        panic!("a secret is shown once")
    };
    // It goes on where it stood, elsewhere and with less, signed as before.
    let less = NewSubscription {
        mailboxes: vec!["B".to_owned()],
        begin: Begin::Seq(0),
        ..wanted("phone", &second.url)
    };
    let (applied, shown) = apply(less.clone()).await.unwrap();
    assert_eq!((applied, &shown.id), (Applied::There, &made.id));
    assert_ne!(shown.etag, made.etag);
    for mailbox in ["A", "B"] {
        bench.append(mailbox);
    }
    let taken = second.wait_for(1).await;
    assert_eq!((taken[0].seq, taken[0].prev_seq), (3, Some(1)));
    let header = |name: &str| taken[0].headers[name].to_str().unwrap().to_owned();
    let at = header("webhook-timestamp").parse().unwrap();
    assert_eq!(header("webhook-signature"), secret.sign(&header("webhook-id"), at, &taken[0].body));
    assert_eq!(first.taken().len(), 1);

    // One that is held stays held, and another kind of signature takes another secret.
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    let sink = NewSink::Webhook {
        url: second.url.clone(),
        signature: Signature::V1a,
        secret: None,
        verify: None,
        batch: None,
        client_certificate: None,
    };
    let signed = NewSubscription { sink, ..less };
    let (_, shown) = apply(signed.clone()).await.unwrap();
    assert_eq!(shown.state, SubscriptionState::Paused);
    let ShownSink::Webhook { secret: None, public_key: Some(_), .. } = &shown.sink else {
        panic!("{shown:?}")
    };
    assert_eq!(apply(signed).await.unwrap().1.etag, shown.etag);
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.shown("phone").etag, shown.etag, "a restart changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn r162_a_name_applied_is_the_owners_own() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (mine, others) = (Receiver::start(|_, _| ok()).await, Receiver::start(|_, _| ok()).await);
    let (owner, _) = bench.user("a1", "a");
    let (stranger, _) = bench.user("b1", "b");
    let made = bench.make("phone", &mine, &owner).await;
    for grant in [&stranger, &bench.admin] {
        let (applied, shown) =
            bench.subscriptions.apply(wanted("phone", &others.url), grant).await.unwrap();
        assert_eq!(applied, Applied::Made);
        assert_ne!(shown.id, made.id);
    }
    // Another token of the same user means the same.
    let (again, _) = bench.user("a2", "a");
    let (applied, shown) =
        bench.subscriptions.apply(wanted("phone", &mine.url), &again).await.unwrap();
    assert_eq!((applied, shown.etag), (Applied::There, made.etag));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_is_told_by_whose_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let service = serde_json::json!({ "name": "crm", "role": "service", "scope": ["subscribe"] });
    let service = bench.tokens.create(serde_json::from_value(service).unwrap()).unwrap().id;
    let (user, token) = bench.user("a1", "a");
    let grant = bench.tokens.grant(&service).unwrap();
    let of_service = bench.make("theirs", &receiver, &grant).await.id;
    let of_user = bench.make("mine", &receiver, &user).await.id;
    for (token, id, told) in [
        (token, of_user, "(resume it with another one of theirs)"),
        (service, of_service, "(make it anew with another one)"),
    ] {
        bench.tokens.revoke(&token).unwrap();
        let shown = bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
        let detail = shown.detail.unwrap();
        assert!(detail.ends_with(told), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_what_one_wants_counts_until_its_end_and_from_its_renewal_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let new = NewSubscription { expires: Some("1h".to_owned()), ..wanted("phone", &receiver.url) };
    bench.subscriptions.create(new, &bench.admin).await.unwrap();
    let entry = bench.subscriptions.entries().remove(0);
    bench.subscriptions.renew(&bench.admin, "phone", until("1ms")).await.unwrap().unwrap();
    bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
    bench.subscriptions.expire(Timestamp::now()).await;
    assert!(!entry.is_counted());
    // It is looked through for what has ended at any time, also while one is renewed.
    entry.wants(bench.subscriptions.0.demands.count(Demand::everything()));
    entry.let_go_if_ended();
    assert!(!entry.is_counted());
    bench.subscriptions.renew(&bench.admin, "phone", until("1h")).await.unwrap().unwrap();
    bench.subscriptions.expire(Timestamp::now()).await;
    assert!(entry.is_counted());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_t_be_removed_or_held_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    bench.create("phone", &receiver).await;
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
        db.execute_batch(sql).unwrap();
    };
    for (what, count) in [("DELETE", 1), ("UPDATE", 2)] {
        change(&format!(
            "CREATE TRIGGER full BEFORE {what} ON subscription
             BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
        ));
        let refused = match what {
            "DELETE" => bench.subscriptions.remove(&bench.admin, "phone").await,
            _ => bench.subscriptions.pause(&bench.admin, "phone").await,
        };
        assert!(matches!(refused, Err(CreateError::State(_))), "{refused:?}");
        assert_eq!(bench.shown("phone").state, SubscriptionState::Active);
        bench.append("A");
        assert_eq!(receiver.wait_for(count).await.len(), count);
        change("DROP TRIGGER full");
    }
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    bench.append("A");
    assert!(bench.subscriptions.remove(&bench.admin, "phone").await.unwrap().is_some());
    assert_eq!((bench.subscriptions.count(), receiver.taken().len()), (0, 2));
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(bench.subscriptions.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_t_be_kept_as_resumed_stays_whose_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (owner, token) = bench.user("a1", "a");
    let id = bench.make("phone", &receiver, &owner).await.id;
    bench.tokens.revoke(&token).unwrap();
    bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
    let (again, other) = bench.user("a2", "a");
    let entry = bench.subscriptions.entry(&bench.admin, &id).unwrap();
    let before = entry.kept().clone();
    let db = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    db.execute_batch(
        "CREATE TRIGGER full BEFORE UPDATE ON subscription
         BEGIN SELECT RAISE(ABORT, 'as good as a full disk'); END",
    )
    .unwrap();
    assert!(bench.subscriptions.resume(&again, &id).await.is_err());
    assert!(*entry.kept() == before);
    db.execute_batch("DROP TRIGGER full").unwrap();
    bench.subscriptions.resume(&again, &id).await.unwrap();
    assert_eq!(entry.kept().owner.as_ref().unwrap().token, other);
    bench.append("A");
    receiver.wait_for(1).await;
    bench.close().await;
}
