//! What a subscription asks for is compiled once, and beside everything else.

use super::*;
use crate::subscriptions::api::Renewal;
use crate::subscriptions::ready::noted::compiled;

fn asking(condition: &str, receiver: &Receiver) -> NewSubscription {
    NewSubscription { condition: Some(condition.to_owned()), ..wanted("phone", &receiver.url) }
}

async fn renew(bench: &Bench, expires: &str) -> Shown {
    let renewal = Renewal { expires: expires.to_owned() };
    bench.subscriptions.renew(&bench.admin, "phone", renewal).await.unwrap().unwrap()
}

/// Changes one in every way but in what it asks for.
async fn change(bench: &Bench) {
    let (all, admin) = (&bench.subscriptions, &bench.admin);
    all.pause(admin, "phone").await.unwrap().unwrap();
    all.resume(admin, "phone").await.unwrap().unwrap();
    all.replay(admin, "phone", Begin::Seq(0)).await.unwrap().unwrap();
    all.rotate(admin, "phone", Rotation::default()).await.unwrap().unwrap();
    let letters = Redrive { seqs: vec![], all: true };
    all.redrive(admin, "phone", letters).await.unwrap().unwrap();
    renew(bench, "1h").await;
    renew(bench, "never").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r157_a_condition_is_compiled_once_and_aside_whatever_becomes_of_its_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (first, second) = (r#"uidset != "once: the first""#, r#"uidset != "once: the second""#);
    let (all, admin) = (&bench.subscriptions, &bench.admin);
    all.create(asking(first, &receiver), admin).await.unwrap();
    change(&bench).await;
    all.apply(asking(first, &receiver), admin).await.unwrap();
    let tags = vec!["home".to_owned()];
    let taken = all.create(asking(first, &receiver), admin).await.unwrap_err();
    assert!(matches!(taken, CreateError::NameTaken(_)), "{taken}");
    assert_eq!(compiled(first), ["aside"]);

    all.apply(asking(second, &receiver), admin).await.unwrap();
    all.apply(asking(second, &receiver), admin).await.unwrap();
    change(&bench).await;
    assert_eq!(compiled(second), ["aside"]);
    bench.append("A");
    assert_eq!(seqs(&receiver.wait_for(1).await, "A"), [1]);
    // What else it asks for is compiled with it.
    let tagged = NewSubscription { tags, ..asking(second, &receiver) };
    all.apply(tagged.clone(), admin).await.unwrap();
    assert_eq!(compiled(second), ["aside"; 2]);
    bench.append("A");
    let body = receiver.wait_for(2).await[1].body.clone();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["data"]["tags"][0], "home");

    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    change(&bench).await;
    bench.subscriptions.apply(tagged, &bench.admin).await.unwrap();
    assert_eq!(compiled(second).len(), 3, "once more as the hub starts");
    assert_eq!(compiled(first), ["aside"]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r157_one_that_had_ended_as_the_hub_started_is_compiled_aside_once_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let condition = r#"uidset != "once: it had ended""#;
    bench.subscriptions.create(asking(condition, &receiver), &bench.admin).await.unwrap();
    renew(&bench, "50ms").await;
    bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    assert_eq!(compiled(condition), ["aside"], "as long as it has ended nothing is needed of it");
    renew(&bench, "never").await;
    change(&bench).await;
    assert_eq!(compiled(condition), ["aside"; 2]);
    bench.append("A");
    receiver.wait_for(1).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r157_whoever_has_it_go_on_with_another_token_has_nothing_compiled_but_aside() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let condition = r#"uidset != "once: another token""#;
    let (owner, token) = bench.user("a1", "a");
    let all = &bench.subscriptions;
    let id = all.create(asking(condition, &receiver), &owner).await.unwrap().id;
    let (again, next) = bench.user("a2", "a");
    bench.tokens.revoke(&token).unwrap();
    bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
    all.resume(&again, &id).await.unwrap();
    assert_eq!(compiled(condition), ["aside"], "it is a user's as before");
    bench.tokens.revoke(&next).unwrap();
    bench.wait_until(&id, |shown| shown.state == SubscriptionState::Ended).await;
    // Nobody's token is good for it, and whoever runs the hub lends none.
    all.resume(&bench.admin, &id).await.unwrap();
    let (last, _) = bench.user("a3", "a");
    all.resume(&last, &id).await.unwrap();
    bench.append("A");
    receiver.wait_for(1).await;
    assert!(
        compiled(condition).iter().all(|thread| thread == "aside"),
        "{:?}",
        compiled(condition)
    );
    bench.close().await;
}

impl Bench {
    /// As if policy had let it ask for this when it was made.
    async fn asks(&self, change: impl FnOnce(&mut Selection)) {
        let entry = self.subscriptions.entry(&self.admin, "phone").unwrap();
        let mut kept = entry.kept().clone();
        change(&mut kept.selection);
        let (id, body) = (entry.id.clone(), kept.body());
        self.subscriptions.0.context.blocking(move |db| db.update(&id, &body)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_keeps_by_now_is_held_back_and_refused_where_it_is_asked_for_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let condition = r#"uidset != "once: held back""#;
    let new = asking(condition, &receiver);
    bench.subscriptions.create(new.clone(), &bench.admin).await.unwrap();
    let parameters = vec!["uri".to_owned(), "envelope".to_owned()];
    bench.asks(|selection| selection.parameters.clone_from(&parameters)).await;
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    bench.append("A");
    receiver.wait_for(1).await;
    let same = NewSubscription { parameters, ..new };
    let refused = bench.subscriptions.apply(same, &bench.admin).await.unwrap_err();
    assert!(
        matches!(&refused, CreateError::Invalid { pointer, .. } if pointer == "/parameters/1"),
        "{refused:?}"
    );
    bench.append("A");
    receiver.wait_for(2).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_policy_lets_nobody_ask_by_now_delivers_nothing_and_says_so_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let fine = asking(r#"uidset != "once: fine""#, &receiver);
    bench.subscriptions.create(fine.clone(), &bench.admin).await.unwrap();
    let condition = r#"messageContent.contains("once: not by now")"#;
    bench.asks(|selection| selection.condition = Some(condition.to_owned())).await;
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    let told = |shown: Shown| {
        let why = shown.detail.unwrap_or_default();
        assert!(why.contains("policy.content_max_octets"), "{why:?}");
    };
    told(bench.shown("phone"));
    change(&bench).await;
    told(bench.shown("phone"));
    assert_eq!(compiled(condition).len(), 1, "as the hub started");
    let refused = bench.subscriptions.apply(asking(condition, &receiver), &bench.admin).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, CreateError::Invalid { pointer, .. } if pointer == "/where"),
        "{refused:?}"
    );
    bench.append("A");
    bench.subscriptions.apply(fine, &bench.admin).await.unwrap();
    assert_eq!(seqs(&receiver.wait_for(1).await, "A"), [1]);
    bench.close().await;
}
