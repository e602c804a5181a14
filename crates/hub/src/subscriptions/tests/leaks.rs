//! Whatever happens, whoever shares what and whatever is subscribed to: nobody is told of a mailbox they
//! may not read.

mod asked;
mod doorstep;
mod model;
mod play;

use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use self::asked::{Asked, Event, Kind, Place, USERS, asked, event, name, place};
use self::play::{End, Play, Said, Step, Wait};
use super::shared::{Acl, Mood, sharing};
use super::*;

fn rights() -> impl Strategy<Value = Step> {
    let said = prop::sample::select(vec![Said::OfMailbox, Said::ToUser, Said::Twice]);
    let wait = prop::sample::select(vec![Wait::Yes, Wait::No]);
    let reader = prop_oneof![2 => Just(1), 1 => 0..USERS.len()];
    let rights = (reader, place(), prop::bool::weighted(0.6), said, wait);
    rights.prop_map(|(user, place, given, said, wait)| Step::Rights {
        user,
        place,
        given,
        said,
        wait,
    })
}

fn restart() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![End::Stopped, End::Killed]).prop_map(Step::Restart)
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    let away = vec![Mood::Hesitates, Mood::NotNow, Mood::LetsNobodyIn, Mood::IsAway];
    let there = vec![Mood::Answers, Mood::AnswersLate, Mood::AnswersLate];
    let mood = prop_oneof![prop::sample::select(there), prop::sample::select(away)];
    prop_oneof![
        16 => event().prop_map(Step::Happens),
        10 => rights(),
        4 => (user(), any::<bool>()).prop_map(|(user, fails)| Step::Receiver { user, fails }),
        1 => (user(), 1..9_u64).prop_map(|(user, from)| Step::Replay { user, from }),
        1 => user().prop_map(|user| Step::Redrive { user }),
        4 => mood.prop_map(Step::Store),
        2 => restart(),
        4 => (1..15_u64).prop_map(Step::GoesOn),
    ]
}

/// One of those in which bob, whose receiver takes little, hears of what ann shares and of his own, and
/// now and then from another worker than before.
fn restless() -> impl Strategy<Value = Step> {
    let place = prop_oneof![Just(SHARED), Just((0, 1)), Just((1, 0))];
    let event = place.prop_map(|place| Event::new(Kind::Flags, place, None));
    let takes_little = prop::bool::weighted(0.8);
    prop_oneof![
        12 => event.prop_map(Step::Happens),
        6 => rights(),
        2 => takes_little.prop_map(|fails| Step::Receiver { user: 1, fails }),
        1 => (1..9_u64).prop_map(|from| Step::Replay { user: 1, from }),
        2 => Just(Step::Redrive { user: 1 }),
        2 => restart(),
        4 => (1..15_u64).prop_map(Step::GoesOn),
    ]
}

/// All that bob is delivered, and all that he can ask of his subscription, where this has happened.
async fn told(asked: &Asked, events: &[Event]) -> (Vec<Value>, Value) {
    let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
    acl.gives("bob", "ann", &[&name(SHARED)]);
    let (bench, _watching) = sharing(folder.path(), &[5], &acl).await;
    let receiver = Receiver::start(|_, _| ok()).await;
    let (bob, _) = bench.user("b", "bob");
    let new = Asked { in_batches: false, ..asked.clone() }.subscription(&receiver.url);
    let id = bench.subscriptions.create(new, &bob).await.unwrap().id;
    for (number, event) in (1..).zip(events) {
        bench.append_event(&event.json(number));
    }
    let shown = bench.wait_until(&id, |shown| shown.lag == 0).await;
    assert_eq!(bench.subscriptions.list(&bob), std::slice::from_ref(&shown));
    let mut shown = serde_json::to_value(shown).unwrap();
    for own in ["id", "created", "etag", "sink"] {
        shown.as_object_mut().unwrap().remove(own);
    }
    let mut taken = receiver.taken();
    taken.sort_by_key(|one| one.seq);
    // Something may have happened to the rights on what he reads: then what is under way comes again.
    taken.dedup_by_key(|one| one.seq);
    bench.close().await;
    (taken.iter().map(shared::data).collect(), shown)
}

/// What ann shares with bob.
const SHARED: Place = (0, 0);

/// Whether bob may be told of an event.
fn is_bobs(event: &Event) -> bool {
    let may = |place: Place| place.0 == 1 || place == SHARED;
    let beside = event.kind == Kind::Subscribe && event.place.0 != 1;
    let names = event.other.filter(|_| event.kind == Kind::Rename);
    may(event.place) && !beside && names.is_none_or(may)
}

/// Nothing that bob gets, is shown or can count depends on what he may not see: mailboxes, their
/// names, or what happens there.
async fn compared(asked: Asked, made: Vec<Event>) -> Result<(), TestCaseError> {
    let other = Event { kind: Kind::Flags, place: (2, 1), other: None };
    let twin: Vec<_> = made.iter().map(|one| if is_bobs(one) { *one } else { other }).collect();
    let (one, another) = (told(&asked, &made).await, told(&asked, &twin).await);
    prop_assert_eq!(one, another, "{:?}", made);
    Ok(())
}

async fn played(
    asked: Vec<Asked>,
    steps: Vec<Step>,
    pauses: &'static [u64],
) -> Result<(), TestCaseError> {
    let mut play = Play::begin(&asked, pauses).await;
    for step in steps {
        play.act(step).await;
    }
    play.rest().await;
    for (user, asked) in asked.iter().enumerate() {
        let (who, model) = (USERS[user], play.model());
        let (owed, taken) = (model.owed(user, asked), model.taken(user));
        let lost: Vec<_> = owed.difference(&taken).collect();
        prop_assert!(lost.is_empty(), "{who} lost {lost:?}: {asked:?} {model:?}");
        let missing = model.missing(user, &play.given_up(user));
        prop_assert!(missing.is_empty(), "{who} misses {missing:?}: {asked:?} {model:?}");
    }
    play.model().forget();
    for user in 0..USERS.len() {
        play.replay(user, 1).await;
    }
    play.all_is_delivered().await;
    let leaks = std::mem::take(&mut play.model().leaks);
    prop_assert_eq!(leaks, Vec::<String>::new());
    for (user, asked) in asked.iter().enumerate() {
        let model = play.model();
        let (taken, due) = (model.taken(user), model.due(user, asked));
        prop_assert_eq!(&taken, &due, "{} {:?}: {:?}", USERS[user], asked, model);
    }
    play.end().await;
    Ok(())
}

/// Runs so many plays, or as many as `PROPTEST_CASES` says, on runtimes of their own: they wait more
/// than they work, so several go side by side.
fn run<V: fmt::Debug>(
    cases: u32,
    plays: impl Strategy<Value = V> + Sync,
    play: impl AsyncFn(V) -> Result<(), TestCaseError> + Sync,
) {
    let standard = ProptestConfig::default();
    let is_asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if is_asked_for { standard.cases } else { cases }.div_ceil(SIDE_BY_SIDE);
    let config = ProptestConfig { cases, failure_persistence: None, ..standard };
    let some = || {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        let ran =
            TestRunner::new(config.clone()).run(&plays, |values| runtime.block_on(play(values)));
        ran.map_err(|failed| failed.to_string())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(some)).collect();
        for one in all {
            if let Err(failed) = one.join().unwrap() {
                panic!("{failed}");
            }
        }
    });
}

const SIDE_BY_SIDE: u32 = 4;

#[test]
fn r162_whoever_shares_subscribes_and_loses_what_nothing_leaks_and_nothing_is_kept_back() {
    let asked = prop::collection::vec(asked(), USERS.len());
    let plays = (asked, prop::collection::vec(step(), 1..60));
    run(120, plays, async |(asked, steps)| played(asked, steps, &[5; 3]).await);
}

#[test]
fn r162_what_a_delivery_names_comes_whoever_has_to_tell_it() {
    let asked = prop::collection::vec(asked(), USERS.len());
    let plays = (asked, prop::collection::vec(restless(), 10..60));
    run(60, plays, async |(asked, steps)| played(asked, steps, &[60; 9]).await);
}

#[test]
fn r162_no_delivery_count_or_error_depends_on_what_may_not_be_seen() {
    let plays = (asked(), prop::collection::vec(event(), 1..30));
    run(24, plays, async |(asked, events)| compared(asked, events).await);
}
