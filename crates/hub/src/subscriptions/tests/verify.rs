//! The handshake before the first delivery, with receivers that are asked.

use super::*;

/// What a receiver was asked and sent, in this order: `true` is a question.
type Seen = Arc<StdMutex<Vec<(bool, Instant)>>>;

/// Listens, takes every delivery, and answers the questions as `answer` says of how many came
/// before.
async fn asked(
    answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static,
) -> (String, Seen) {
    let seen = Seen::default();
    let (questions, deliveries) = (Arc::clone(&seen), Arc::clone(&seen));
    let question = move |headers: HeaderMap| {
        assert_eq!(headers["webhook-request-origin"], "imap.example.org");
        let mut seen = questions.lock().unwrap();
        let before = seen.iter().filter(|(is_question, _)| *is_question).count();
        seen.push((true, Instant::now()));
        std::future::ready(answer(before))
    };
    let delivery = move || {
        deliveries.lock().unwrap().push((false, Instant::now()));
        std::future::ready(StatusCode::OK)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", routing::options(question).post(delivery));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

fn agrees() -> Response {
    (StatusCode::OK, [("webhook-allowed-origin", "imap.example.org")]).into_response()
}

/// A subscription whose receiver has to agree, though it is on this machine.
fn to_verify(url: &str) -> NewSubscription {
    let (url, signature) = (url.to_owned(), Signature::V1);
    let sink = NewSink::Webhook {
        url,
        signature,
        secret: None,
        verify: Some(true),
        batch: None,
        client_certificate: None,
    };
    NewSubscription { sink, ..wanted("phone", "") }
}

fn order(seen: &Seen) -> Vec<bool> {
    seen.lock().unwrap().iter().map(|(is_question, _)| *is_question).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r165_nothing_is_delivered_before_the_receiver_agrees_and_everything_after() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[20; 3_000]).await;
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let agreed = Arc::clone(&allowed);
    let answer = move |_| if agreed.load(Ordering::SeqCst) { agrees() } else { ok() };
    let (url, seen) = asked(answer).await;
    let made = bench.subscriptions.create(to_verify(&url), &bench.admin).await.unwrap();
    assert_eq!(made.state, SubscriptionState::Unverified);
    bench.append("A");
    bench.append("B");
    let told = "the receiver has yet to agree; it answered: 200 OK without WebHook-Allowed-Origin";
    bench.wait_until("phone", |shown| shown.detail.as_deref() == Some(told)).await;
    bench.subscriptions.pause(&bench.admin, "phone").await.unwrap();
    let resumed = bench.subscriptions.resume(&bench.admin, "phone").await.unwrap().unwrap();
    assert_eq!(resumed.state, SubscriptionState::Unverified, "to be held is not to be agreed with");
    allowed.store(true, Ordering::SeqCst);
    let shown = bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!((shown.state, shown.detail), (SubscriptionState::Active, None));
    let order = order(&seen);
    assert_eq!(order.iter().filter(|is_question| !*is_question).count(), 2);
    assert!(order.is_sorted_by(|before, after| before >= after), "questions come first: {order:?}");

    // It is asked once, also over a restart; and another URL anew.
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    bench.append("A");
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let (second, seen) = asked(|_| agrees()).await;
    bench.subscriptions.apply(to_verify(&second), &bench.admin).await.unwrap();
    bench.append("A");
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    let (_, same) = bench.subscriptions.apply(to_verify(&second), &bench.admin).await.unwrap();
    assert_eq!(same.state, SubscriptionState::Active);
    let told = seen.lock().unwrap().iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(told, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_nobody_reached_is_not_said_to_have_answered() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[20; 3_000]).await;
    // A port that was free a moment ago.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    bench.subscriptions.create(to_verify(&format!("http://{gone}/")), &bench.admin).await.unwrap();
    let told = "the receiver has yet to agree; it could not be asked: ";
    let is_told = |detail: &str| detail.starts_with(told) && detail.len() > told.len();
    bench.wait_until("phone", |shown| shown.detail.as_deref().is_some_and(is_told)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r165_a_receiver_that_does_not_agree_in_time_ends_the_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(folder.path(), Options::default(), &[5, 5]).await;
    let answer = |before| match before {
        0..3 => (StatusCode::OK, [("webhook-allowed-origin", "example.com")]).into_response(),
        3 => StatusCode::GONE.into_response(),
        _ => agrees(),
    };
    let (url, seen) = asked(answer).await;
    bench.subscriptions.create(to_verify(&url), &bench.admin).await.unwrap();
    bench.append("A");
    for (questions, told) in [
        (
            3,
            "the receiver did not agree to be delivered to: 200 OK with another WebHook-Allowed-Origin",
        ),
        (4, "the receiver answered 410 Gone"),
    ] {
        let shown =
            bench.wait_until("phone", |shown| shown.state == SubscriptionState::Ended).await;
        assert_eq!(shown.detail.as_deref(), Some(told));
        assert_eq!(order(&seen), vec![true; questions]);
        bench.subscriptions.resume(&bench.admin, "phone").await.unwrap();
    }
    bench.wait_until("phone", |shown| shown.lag == 0).await;
    assert_eq!(order(&seen), [true, true, true, true, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_no_more_requests_than_it_said_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let (url, seen) = asked(|_| {
        let headers = [("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "1")];
        (StatusCode::OK, headers).into_response()
    })
    .await;
    bench.subscriptions.create(to_verify(&url), &bench.admin).await.unwrap();
    let other = Receiver::start(|_, _| ok()).await;
    bench.create("other", &other).await;
    for at in 0..6 {
        bench.append(&format!("M{at}"));
    }
    let shown = bench.wait_until("phone", |shown| shown.lag == 5).await;
    assert!(matches!(shown.sink, ShownSink::Webhook { per_minute: Some(1), .. }));
    // Whoever set no bound has them all by now.
    bench.wait_until("other", |shown| shown.lag == 0).await;
    assert_eq!((order(&seen), bench.shown("phone").lag), (vec![true, false], 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_runs_the_hub_may_leave_the_handshake_out() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::open(folder.path()).await;
    let to = |verify| {
        let (url, signature) = ("https://example.org/hook".to_owned(), Signature::V1);
        let sink = NewSink::Webhook {
            url,
            signature,
            secret: None,
            verify,
            batch: None,
            client_certificate: None,
        };
        NewSubscription { sink, ..wanted("phone", "") }
    };
    let (user, _) = bench.user("a1", "a");
    match bench.subscriptions.create(to(Some(false)), &user).await {
        Err(CreateError::Invalid { pointer, message }) => {
            assert_eq!(pointer, "/sink/verify");
            assert_eq!(message, "only whoever runs the hub may leave it out");
        }
        other => panic!("{other:?}"),
    }
    let made = bench.subscriptions.create(to(None), &user).await.unwrap();
    assert_eq!(made.state, SubscriptionState::Unverified, "elsewhere it is asked unasked");
    let made = bench.subscriptions.create(to(Some(false)), &bench.admin).await.unwrap();
    assert_eq!(made.state, SubscriptionState::Active);
}
