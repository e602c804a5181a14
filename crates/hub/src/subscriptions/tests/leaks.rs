//! Whatever happens, whoever shares what and whatever is subscribed to: nobody is told of a mailbox they
//! may not read.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::shared::{Acl, sharing};
use super::*;
use crate::subscriptions::batch::Batching;

const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// A mailbox, by its owner and itself; its name says whose it is, so that a leak can be seen.
type Place = (usize, usize);

fn name((owner, mailbox): Place) -> String {
    format!("{}-of-{}", ["A", "B"][mailbox], USERS[owner])
}

fn url(place: Place) -> String {
    format!("imap://{}@h/{};UIDVALIDITY=7", USERS[place.0], name(place))
}

fn places() -> impl Iterator<Item = Place> {
    (0..USERS.len()).flat_map(|owner| (0..2).map(move |mailbox| (owner, mailbox)))
}

#[derive(Clone, Debug)]
enum Step {
    /// Something happens in a mailbox, and may name another.
    Happens(Event),
    /// The store gives a user rights on a mailbox, or takes them.
    Rights { user: usize, place: Place, given: bool },
    /// A user's receiver takes little from now on, or everything.
    Receiver { user: usize, fails: bool },
    /// Everything is delivered from here on once more.
    Replay { user: usize, from: u64 },
    /// What was given up is delivered once more.
    Redrive { user: usize },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Flags,
    /// What its owner does beside, which is nobody else's business.
    Subscribe,
    Rename,
}

/// What a user asks for.
#[derive(Clone, Debug)]
struct Asked {
    events: Vec<&'static str>,
    users: Vec<&'static str>,
    mailboxes: Vec<&'static str>,
    condition: Option<&'static str>,
    in_batches: bool,
}

/// Mostly one and the same, so that what happens there meets who may read it.
fn place() -> impl Strategy<Value = Place> {
    prop_oneof![2 => Just((0, 0)), 1 => (0..USERS.len(), 0..2_usize)]
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![Kind::Flags, Kind::Flags, Kind::Subscribe, Kind::Rename]);
    let parts = (kind, place(), prop::option::of(place()));
    parts.prop_map(|(kind, place, other)| Event::new(kind, place, other))
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    let rights = (user(), place(), prop::bool::weighted(0.6));
    prop_oneof![
        8 => event().prop_map(Step::Happens),
        5 => rights.prop_map(|(user, place, given)| Step::Rights { user, place, given }),
        3 => (user(), any::<bool>()).prop_map(|(user, fails)| Step::Receiver { user, fails }),
        1 => (user(), 1..9_u64).prop_map(|(user, from)| Step::Replay { user, from }),
        1 => user().prop_map(|user| Step::Redrive { user }),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    // Nearly everything, most of the time.
    let of = |all: Vec<Vec<&'static str>>| prop_oneof![Just(vec![]), prop::sample::select(all)];
    let events = of(vec![vec!["FlagsSet"], vec!["FlagsSet", "MailboxRename"]]);
    let users = of(vec![vec!["ann"], vec!["ann", "bob", "eve"]]);
    let mailboxes = of(vec![vec!["A*"], vec!["B-of-eve", "A-of-ann"]]);
    let conditions = vec![Some("uidset != \"3\""), Some("!has(vnd[\"x.from\"])")];
    let condition = prop_oneof![2 => Just(None), 1 => prop::sample::select(conditions)];
    (events, users, mailboxes, condition, any::<bool>()).prop_map(
        |(events, users, mailboxes, condition, in_batches)| Asked {
            events,
            users,
            mailboxes,
            condition,
            in_batches,
        },
    )
}

impl Asked {
    fn subscription(&self, url: &str) -> NewSubscription {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let max_delay = "20ms".to_owned();
        let batch = Batching { max_events: 3, max_delay, ..Batching::default() };
        let wanted = wanted("phone", url);
        let NewSink::Webhook { url, signature, .. } = wanted.sink;
        let sink = NewSink::Webhook {
            url,
            signature,
            secret: None,
            verify: None,
            batch: self.in_batches.then_some(batch),
            client_certificate: None,
        };
        NewSubscription {
            events: texts(&self.events),
            users: texts(&self.users),
            mailboxes: texts(&self.mailboxes),
            condition: self.condition.map(str::to_owned),
            sink,
            ..super::wanted("phone", "")
        }
    }

    /// Whether an event is asked for, said as plainly as can be.
    fn wants(&self, seq: u64, event: &Event) -> bool {
        let kind = match event.kind {
            Kind::Flags => "FlagsSet",
            Kind::Subscribe => "MailboxSubscribe",
            Kind::Rename => "MailboxRename",
        };
        let (owner, mailbox) = (USERS[event.place.0], name(event.place));
        let is_meant = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(begin) => mailbox.starts_with(begin),
            None => mailbox == **pattern,
        };
        let holds = match self.condition {
            Some("uidset != \"3\"") => event.kind == Kind::Flags && seq != 3,
            Some(_) => event.kind == Kind::Rename || event.other.is_none(),
            None => true,
        };
        (self.events.is_empty() || self.events.contains(&kind))
            && (self.users.is_empty() || self.users.contains(&owner))
            && (self.mailboxes.is_empty() || self.mailboxes.iter().any(is_meant))
            && holds
    }
}

/// What happened, under its number.
#[derive(Clone, Copy, Debug)]
struct Event {
    kind: Kind,
    place: Place,
    other: Option<Place>,
}

impl Event {
    /// One of a mailbox; a rename names another, whatever else does.
    fn new(kind: Kind, place: Place, other: Option<Place>) -> Self {
        let is_another = other.filter(|other| *other != place);
        let other = match kind {
            Kind::Rename => Some(is_another.unwrap_or((place.0, 1 - place.1))),
            Kind::Flags | Kind::Subscribe => other,
        };
        Self { kind, place, other }
    }

    fn json(&self, number: u64) -> String {
        let (uri, time) = (url(self.place), "2026-08-20T13:34:14+02:00");
        let other = self.other.map(url);
        let from = other.as_ref().map(|url| format!(r#","vnd.x.from":"{url}""#));
        let from = from.unwrap_or_default();
        match self.kind {
            Kind::Flags => format!(
                r#"{{"event":"FlagsSet","uri":"{uri}","timestamp":"{time}","flagNames":["x"],"uidset":"{number}"{from}}}"#
            ),
            Kind::Subscribe => format!(
                r#"{{"event":"MailboxSubscribe","uri":"{uri}","mailboxID":"{uri}","user":"{}","timestamp":"{time}","vnd.x.number":{number}{from}}}"#,
                USERS[self.place.0]
            ),
            Kind::Rename => {
                let old = other.unwrap_or_default();
                format!(
                    r#"{{"event":"MailboxRename","uri":"{uri}","mailboxID":"{uri}","oldMailboxID":"{old}","timestamp":"{time}","vnd.x.number":{number}}}"#
                )
            }
        }
    }
}

/// What the store gives and when it did.
#[derive(Debug, Default)]
struct Model {
    /// Grows with each change of rights.
    epoch: u64,
    /// Since when there is a right, or none.
    rights: BTreeMap<(usize, Place), Vec<(u64, bool)>>,
    /// In which epoch each record came.
    came: BTreeMap<u64, u64>,
    fails: [bool; USERS.len()],
    leaks: Vec<String>,
    /// The numbers that each user's receiver took, but for those of gaps.
    taken: [BTreeSet<u64>; USERS.len()],
    requests: u64,
}

impl Model {
    fn gives(&self, user: usize, place: Place) -> bool {
        user == place.0
            || self.rights.get(&(user, place)).and_then(|all| all.last()).is_some_and(|one| one.1)
    }

    /// Whether the right was there at any time from an epoch on.
    fn gave_since(&self, user: usize, place: Place, from: u64) -> bool {
        let all = self.rights.get(&(user, place)).map_or(&[][..], Vec::as_slice);
        let ends = all.iter().skip(1).map(|one| one.0).chain([u64::MAX]);
        user == place.0 || all.iter().zip(ends).any(|(one, end)| one.1 && end > from)
    }

    /// Takes note of a delivery. It may have left just before the last change of rights, but not where
    /// what it tells of came later.
    fn delivered(&mut self, user: usize, data: &Value) {
        let seq = data["vnd.postbell.seq"].as_u64().unwrap();
        let from = self.came.get(&seq).copied().unwrap_or(0).max(self.epoch.saturating_sub(1));
        let text = data.to_string();
        for place in places().filter(|place| text.contains(&name(*place))) {
            if !self.gave_since(user, place, from) {
                let epoch = self.epoch;
                self.leaks.push(format!("to {} in epoch {epoch}: {text}", USERS[user]));
            }
        }
        if self.takes(user) && data["event"] != "vnd.postbell.Gap" {
            self.taken[user].insert(seq);
        }
    }

    /// Whether a receiver takes this request. One in four it always does: it isn't to be taken for away.
    fn takes(&self, user: usize) -> bool {
        !self.fails[user] || self.requests.is_multiple_of(4)
    }
}

/// A user's receiver: what comes, one by one or in batches, is compared with the model.
async fn receiver(user: usize, model: &Arc<StdMutex<Model>>) -> String {
    let model = Arc::clone(model);
    let hook = move |body: Bytes| {
        let model = Arc::clone(&model);
        async move {
            let told: Value = serde_json::from_slice(&body).unwrap();
            let all = told.as_array().cloned().unwrap_or_else(|| vec![told]);
            let mut model = model.lock().unwrap();
            model.requests += 1;
            all.iter().for_each(|one| model.delivered(user, &one["data"]));
            if model.takes(user) { ok() } else { busy() }
        }
    };
    served(routing::post(hook)).await
}

struct Play {
    bench: Bench,
    acl: Acl,
    model: Arc<StdMutex<Model>>,
    owners: Vec<Arc<Grant>>,
    ids: Vec<String>,
    events: BTreeMap<u64, Event>,
    _watching: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Play {
    async fn begin(asked: &[Asked]) -> Self {
        let (folder, acl) = (tempfile::tempdir().unwrap(), Acl::default());
        let model = Arc::new(StdMutex::new(Model::default()));
        acl.gives("nobody", "nobody", &[]);
        let (bench, _watching) = sharing(folder.path(), &[5; 40], &acl).await;
        let (mut owners, mut ids) = (Vec::new(), Vec::new());
        for (user, asked) in asked.iter().enumerate() {
            let (owner, _) = bench.user(&format!("t{user}"), USERS[user]);
            let new = asked.subscription(&receiver(user, &model).await);
            ids.push(bench.subscriptions.create(new, &owner).await.unwrap().id);
            owners.push(owner);
        }
        let events = BTreeMap::new();
        Self { bench, acl, model, owners, ids, events, _watching, _folder: folder }
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    async fn act(&mut self, step: Step) {
        match step {
            Step::Happens(event) => {
                let number = self.bench.journal.stats().records + 1;
                let epoch = self.model().epoch;
                self.model().came.insert(number, epoch);
                self.bench.append_event(&event.json(number));
                self.events.insert(number, event);
            }
            Step::Rights { user, place, .. } if user == place.0 => {}
            Step::Rights { user, place, given } => self.rights(user, place, given).await,
            Step::Receiver { user, fails } => self.model().fails[user] = fails,
            Step::Replay { user, from } => {
                let from = from.min(self.bench.journal.stats().records + 1);
                let all = &self.bench.subscriptions;
                all.replay(&self.owners[user], &self.ids[user], Begin::Seq(from)).await.unwrap();
            }
            Step::Redrive { user } => {
                let which = Redrive { all: true, ..Redrive::default() };
                let all = &self.bench.subscriptions;
                all.redrive(&self.owners[user], &self.ids[user], which).await.unwrap();
            }
        }
    }

    /// The store changes rights, and says so in the ways a source does.
    async fn rights(&self, user: usize, place: Place, given: bool) {
        let note = |model: &mut Model| {
            model.epoch += 1;
            let since = (model.epoch, given);
            model.rights.entry((user, place)).or_default().push(since);
        };
        if given {
            // From here on it may be told.
            note(&mut self.model());
        }
        let has = |one: &Place| {
            if *one == place { given } else { self.model().gives(user, *one) && one.0 != user }
        };
        let all: Vec<_> = places().filter(has).map(|one| (USERS[one.0], name(one))).collect();
        self.acl.gives_all(USERS[user], &all);
        self.bench.rights_change(USERS[place.0], &name(place));
        let last = self.bench.sight_changes(USERS[user], USERS[place.0], "x");
        let reads = self.bench.sharing.of(self.owners[user].principal());
        reads.settled(last).await.unwrap();
        if !given {
            note(&mut self.model());
        }
    }

    /// Waits until everything is delivered, as far as it is wanted.
    async fn rest(&self) {
        self.model().fails = [false; USERS.len()];
        for id in &self.ids {
            let is_done = |shown: &Shown| shown.lag == 0 && shown.redriving == 0;
            self.bench.wait_until(id, is_done).await;
        }
    }

    /// What a user is to get by the rights there are now: their own, and of others what is shared, but
    /// nothing that names what they may not read where that can't be left out.
    fn due(&self, user: usize, asked: &Asked) -> BTreeSet<u64> {
        let model = self.model();
        let may = |event: &Event| {
            let is_own = event.place.0 == user;
            let names = event.other.filter(|_| event.kind == Kind::Rename);
            (is_own || (model.gives(user, event.place) && event.kind != Kind::Subscribe))
                && names.is_none_or(|place| model.gives(user, place))
        };
        let due = self.events.iter().filter(|(_, event)| may(event));
        // What is left out for them isn't there for their condition either.
        let seen = |event: &Event| {
            let is_own = event.place.0 == user;
            let other = event.other.filter(|place| is_own && place.0 == user);
            Event { other: if event.kind == Kind::Rename { event.other } else { other }, ..*event }
        };
        due.filter(|(seq, event)| asked.wants(**seq, &seen(event))).map(|(seq, _)| *seq).collect()
    }
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

async fn played(asked: Vec<Asked>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut play = Play::begin(&asked).await;
    for step in steps {
        play.act(step).await;
    }
    play.rest().await;
    play.model().taken = Default::default();
    for (owner, id) in play.owners.iter().zip(&play.ids) {
        play.bench.subscriptions.replay(owner, id, Begin::Seq(1)).await.unwrap();
    }
    play.rest().await;
    let leaks = std::mem::take(&mut play.model().leaks);
    prop_assert_eq!(leaks, Vec::<String>::new());
    for (user, asked) in asked.iter().enumerate() {
        let last = *play.events.keys().last().unwrap_or(&0);
        let taken: BTreeSet<_> =
            play.model().taken[user].iter().copied().filter(|seq| *seq <= last).collect();
        let taken = taken.into_iter().filter(|seq| play.events.contains_key(seq));
        let (taken, due) = (taken.collect::<BTreeSet<_>>(), play.due(user, asked));
        prop_assert_eq!(&taken, &due, "{} {:?}: {:?}", USERS[user], asked, play.events);
    }
    play.bench.close().await;
    Ok(())
}

/// Runs plays on a runtime of their own.
fn run<S: Strategy>(
    cases: u32,
    plays: S,
    play: impl AsyncFn(S::Value) -> Result<(), TestCaseError>,
) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let ran = TestRunner::new(config).run(&plays, |values| runtime.block_on(play(values)));
    if let Err(failed) = ran {
        panic!("{failed}");
    }
}

#[test]
fn r162_whoever_shares_subscribes_and_loses_what_nothing_leaks_and_nothing_is_kept_back() {
    let asked = prop::collection::vec(asked(), USERS.len());
    let plays = (asked, prop::collection::vec(step(), 1..60));
    run(24, plays, async |(asked, steps)| played(asked, steps).await);
}

#[test]
fn r162_no_delivery_count_or_error_depends_on_what_may_not_be_seen() {
    let plays = (asked(), prop::collection::vec(event(), 1..30));
    run(24, plays, async |(asked, events)| compared(asked, events).await);
}
