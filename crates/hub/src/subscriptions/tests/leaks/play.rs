//! A hub that is played with.

use postbell_journal::Journal as _;
use tokio::task::JoinHandle;

use super::super::shared::{Acl, Mood, sharing_for};
use super::super::*;
use super::asked::{Asked, Event, Place, USERS, name, places};
use super::doorstep::{Answer, Doorstep};
use super::model::Model;
use crate::sharing::{Reads, Times, used_name};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Something happens in a mailbox, and may name another.
    Happens(Event),
    /// The store gives a user rights on a mailbox, or takes them.
    Rights { user: usize, place: Place, given: bool, said: Said, wait: Wait },
    /// A user's receiver takes little from now on, or everything.
    Receiver { user: usize, fails: bool },
    /// Everything is delivered from here on once more.
    Replay { user: usize, from: u64 },
    /// What was given up is delivered once more.
    Redrive { user: usize },
    /// The store answers otherwise from now on, or not at all.
    Store(Mood),
    /// The hub ends and begins anew.
    Restart(End),
    /// What is under way goes on for some milliseconds.
    GoesOn(u64),
}

/// How a source says that rights have changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Said {
    /// Of the mailbox, where they are lost.
    OfMailbox,
    /// To the user.
    ToUser,
    Twice,
}

/// Whether nothing happens before the hub knows of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Stopped,
    Killed,
}

pub(super) struct Play {
    /// Until the play is over, but for a moment.
    open: Option<Open>,
    acl: Acl,
    answers: bool,
    pub(super) model: Arc<StdMutex<Model>>,
    doorsteps: Vec<Arc<StdMutex<Doorstep>>>,
    tokens: Vec<String>,
    ids: Vec<String>,
    /// When what failed is tried again, in milliseconds.
    pauses: &'static [u64],
    /// Who looks whether the hub has noticed something.
    noticing: Vec<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

struct Open {
    bench: Bench,
    owners: Vec<Arc<Grant>>,
    _watching: watch::Sender<bool>,
}

impl Play {
    pub(super) async fn begin(asked: &[Asked], pauses: &'static [u64]) -> Self {
        let model = Arc::new(StdMutex::new(Model::default()));
        let mut play = Self {
            open: None,
            acl: Acl::default(),
            answers: true,
            model,
            doorsteps: Vec::new(),
            tokens: Vec::new(),
            ids: Vec::new(),
            pauses,
            noticing: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        play.open().await;
        for (user, asked) in asked.iter().enumerate() {
            let bench = &play.open.as_ref().unwrap().bench;
            let (owner, token) = bench.user(&format!("t{user}"), USERS[user]);
            let (doorstep, url) = receiver(user, &play.model);
            let made = bench.subscriptions.create(asked.subscription(&url), &owner).await;
            play.ids.push(made.unwrap().id);
            play.tokens.push(token);
            play.doorsteps.push(doorstep);
            play.open.as_mut().unwrap().owners.push(owner);
        }
        play
    }

    async fn open(&mut self) {
        let folder = self.folder.path();
        let (bench, _watching) = sharing_for(folder, self.pauses, &self.acl, TIMES).await;
        let owners = self.tokens.iter().map(|id| bench.tokens.grant(id).unwrap()).collect();
        self.open = Some(Open { bench, owners, _watching });
    }

    pub(super) fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn bench(&self) -> &Bench {
        &self.open.as_ref().unwrap().bench
    }

    fn owner(&self, user: usize) -> &Grant {
        &self.open.as_ref().unwrap().owners[user]
    }

    fn reads(&self, user: usize) -> Reads {
        self.bench().sharing.of(self.owner(user).principal())
    }

    pub(super) async fn act(&mut self, step: Step) {
        match step {
            Step::Happens(event) => {
                let number = self.bench().journal.stats().records + 1;
                self.model().happens(number, event);
                self.bench().append_event(&event.json(number));
            }
            Step::Rights { user, place, .. } if user == place.0 => {}
            Step::Rights { user, place, given, said, wait } => {
                self.rights(user, place, given, said);
                // A loss it notices by itself.
                if wait == Wait::Yes && (self.answers || !given) {
                    let noticing = self.noticing.pop().unwrap();
                    tokio::time::timeout(ENOUGH, noticing).await.unwrap().unwrap();
                }
            }
            Step::Receiver { user, fails } => self.model().fails[user] = fails,
            Step::Replay { user, from } => {
                let from = from.min(self.bench().journal.stats().records + 1);
                self.replay(user, from).await;
            }
            Step::Redrive { user } => self.redrive(user).await,
            Step::Store(mood) => {
                self.acl.is(mood);
                self.answers = matches!(mood, Mood::Answers | Mood::AnswersLate);
            }
            Step::Restart(end) => self.restart(end).await,
            Step::GoesOn(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    pub(super) async fn replay(&self, user: usize, from: u64) {
        self.model().replays(user, from);
        let all = &self.bench().subscriptions;
        all.replay(self.owner(user), &self.ids[user], Begin::Seq(from)).await.unwrap();
        let mut doorstep = self.doorsteps[user].lock().unwrap();
        doorstep.take_in();
        self.model().starts_over(user);
    }

    async fn redrive(&self, user: usize) {
        let which = Redrive { all: true, ..Redrive::default() };
        let all = &self.bench().subscriptions;
        all.redrive(self.owner(user), &self.ids[user], which).await.unwrap();
    }

    /// The store changes rights and says so; and somebody looks whether the hub notices.
    fn rights(&mut self, user: usize, place: Place, given: bool, said: Said) {
        self.model().unsettle(user, place);
        if given {
            // From here on it may be told.
            self.model().right(user, place, given);
        }
        let has = |one: &Place| {
            if *one == place { given } else { self.model().gives(user, *one) && one.0 != user }
        };
        let all: Vec<_> = places().filter(has).map(|one| (USERS[one.0], name(one))).collect();
        self.acl.gives_all(USERS[user], &all);
        let bench = self.bench();
        let of_mailbox = || bench.rights_change(USERS[place.0], &name(place));
        let to_user = || bench.sight_changes(USERS[user], USERS[place.0], "x");
        // That there is a right which wasn't is said of no mailbox alone.
        let mut last = if given || said == Said::ToUser { to_user() } else { of_mailbox() };
        if !given {
            // Whatever comes from here on comes when it is said already.
            self.model().right(user, place, given);
        }
        if said == Said::Twice {
            last = of_mailbox().max(to_user());
        }
        let (epoch, reads) = (self.model().epoch, self.reads(user));
        let model = Arc::clone(&self.model);
        let noticing = match given {
            true => {
                let db = Arc::clone(&self.bench().subscriptions.0.context.db);
                tokio::spawn(async move {
                    knows(&reads, last, place).await;
                    while !is_kept(&db, user, place) {
                        tokio::time::sleep(SOME).await;
                    }
                    model.lock().unwrap().settle(user, place, epoch);
                })
            }
            false => {
                let all = self.bench().subscriptions.clone();
                let doorstep = Arc::clone(&self.doorsteps[user]);
                tokio::spawn(async move {
                    reads.noticed(last).await;
                    let_go(&all).await;
                    let mut doorstep = doorstep.lock().unwrap();
                    doorstep.take_in();
                    model.lock().unwrap().notice(user, epoch);
                })
            }
        };
        self.noticing.push(noticing);
    }

    /// Ends the hub, with whatever was under way, and begins it anew.
    async fn restart(&mut self, end: End) {
        for noticing in self.noticing.drain(..) {
            noticing.abort();
            drop(noticing.await);
        }
        let Open { bench, owners, _watching } = self.open.take().unwrap();
        match end {
            End::Stopped => bench.close().await,
            End::Killed => self.kill(bench).await,
        }
        drop((owners, _watching));
        for (user, doorstep) in self.doorsteps.iter().enumerate() {
            let mut doorstep = doorstep.lock().unwrap();
            doorstep.take_in();
            let mut model = self.model();
            let epoch = model.epoch;
            model.notice(user, epoch);
        }
        self.open().await;
    }

    /// As a crash ends it: in the middle of whatever it does, and with the cursors as the disk has
    /// them.
    async fn kill(&self, bench: Bench) {
        let entries = bench.subscriptions.entries();
        for entry in &entries {
            let running = locked(&entry.running).take();
            if let Some(running) = running {
                running.task.abort();
                drop(running.task.await);
            }
        }
        bench.subscriptions.0.house.close();
        let names = entries.iter().flat_map(|entry| entry.cursors().names());
        let durable = names.map(|name| {
            let seq = bench.journal.durable_cursor(&name).unwrap();
            (name, seq)
        });
        let mut durable: Vec<_> = durable.collect();
        for (user, named) in USERS.iter().enumerate() {
            let name = used_name(named);
            let used = bench.journal.durable_cursor(&name).unwrap();
            if used != bench.journal.cursor(&name).unwrap() {
                self.model().forgets(user);
                durable.push((name, used));
            }
        }
        bench.journal.close();
        drop(bench);
        let journal = self.folder.path().join("journal");
        let journal = SqliteJournal::open(&journal, Options::default()).unwrap();
        durable.iter().for_each(|(name, seq)| journal.set_cursor(name, *seq).unwrap());
        journal.close();
    }

    /// Has the store there and every receiver take what comes, and waits until all is delivered.
    pub(super) async fn rest(&mut self) {
        self.act(Step::Store(Mood::Answers)).await;
        self.model().fails = [false; USERS.len()];
        for (user, named) in USERS.iter().enumerate() {
            let last = self.bench().sight_changes(named, named, "x");
            let gives = |one: &Place| one.0 != user && self.model().gives(user, *one);
            let reads = self.reads(user);
            for place in places().filter(gives) {
                let knows = knows(&reads, last, place);
                let in_time = tokio::time::timeout(ENOUGH, knows).await;
                assert!(in_time.is_ok(), "{named} has {place:?} and isn't known to");
            }
        }
        for noticing in std::mem::take(&mut self.noticing) {
            // What was given and taken again is never known.
            noticing.abort();
            drop(noticing.await);
        }
        self.all_is_delivered().await;
        for user in 0..USERS.len() {
            self.redrive(user).await;
        }
        self.all_is_delivered().await;
    }

    pub(super) async fn all_is_delivered(&self) {
        for id in &self.ids {
            let is_done = |shown: &Shown| shown.lag == 0 && shown.redriving == 0;
            self.bench().wait_until(id, is_done).await;
        }
    }

    /// The numbers of what a user's receiver never took.
    pub(super) fn given_up(&self, user: usize) -> Vec<u64> {
        let all = &self.bench().subscriptions;
        let letters = all.dead_letters(self.owner(user), &self.ids[user], 1_000);
        letters.unwrap().unwrap().iter().map(|letter| letter.seq).collect()
    }

    pub(super) async fn end(mut self) {
        self.open.take().unwrap().bench.close().await;
    }
}

/// A user's receiver: what comes, one by one or in batches, is compared with the model.
fn receiver(user: usize, model: &Arc<StdMutex<Model>>) -> (Arc<StdMutex<Doorstep>>, String) {
    let model = Arc::clone(model);
    Doorstep::open(move |body| {
        let told: Value = serde_json::from_slice(body).unwrap();
        let all = told.as_array().cloned().unwrap_or_else(|| vec![told]);
        let mut model = model.lock().unwrap();
        let is_taken = model.requested(user, &all);
        // So that some are under way when something else happens.
        let pause = Duration::from_millis(2 * (model.requests(user) % 4));
        Answer { is_taken, pause }
    })
}

/// Waits until the hub knows of a right, of itself, where that was said up to this record.
async fn knows(reads: &Reads, last: u64, place: Place) {
    reads.noticed(last).await;
    while reads.bound().is_none() || !reads.known().has(USERS[place.0], &name(place)) {
        tokio::time::sleep(SOME).await;
    }
}

fn is_kept(db: &StateDb, user: usize, place: Place) -> bool {
    let all = db.shared().unwrap();
    all.get(USERS[user]).is_some_and(|(shared, _)| shared.has(USERS[place.0], &name(place)))
}

/// Waits until whoever was in the middle of sending something has come to where it learns that it may
/// not any more.
async fn let_go(subscriptions: &Subscriptions) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let turns = (0..2 * threads).map(|_| {
        subscriptions.0.threads.spawn(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        })
    });
    for turn in turns.collect::<Vec<_>>() {
        turn.await.unwrap();
    }
}

/// Short ones: a play has several absences of the store's.
const TIMES: Times = Times {
    life: Duration::from_millis(100),
    life_max: Duration::from_millis(200),
    retry: Duration::from_millis(30),
    rest: Duration::from_millis(10),
    patience: Duration::from_millis(500),
    ..Times::STANDARD
};

const SOME: Duration = Duration::from_millis(2);

/// Far above what a loaded machine needs.
const ENOUGH: Duration = Duration::from_secs(30);
