//! What goes together is kept before anybody sees it: all that waits at once, in one write.

use std::sync::Arc;

use postbell_engine::in_words;
use postbell_journal::Journal;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::entry::Entry;
use super::worker::{Cursors, TROUBLE_PAUSE};
use crate::state::{Freeze, Frozen, Generation, StateDb, StateError};

/// Keeps batches of all subscriptions; its task ends with it.
///
/// One for itself would cost an fsync each. Here whatever has come by the time the disk can take
/// more goes together: no timer, and nobody waits for company.
#[derive(Debug)]
pub(super) struct Freezer(mpsc::Sender<Asked>);

/// One batch, and who waits for it to be kept.
#[derive(Debug)]
struct Asked {
    subscription: String,
    /// Those by which it goes on after a crash.
    cursors: Cursors,
    batch: New,
    answer: oneshot::Sender<Answer>,
}

/// A batch put together by a worker.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) generation: Generation,
    /// Its deliveries, which grow.
    pub(super) seqs: Arc<[u64]>,
    /// Whether some of them may be kept as going with others.
    pub(super) are_moved: bool,
}

/// What became of a batch; where it is an error, of all that were written with it.
type Answer = Result<Frozen, Arc<StateError>>;

impl Freezer {
    /// Starts keeping them in `db`, for subscriptions whose cursors `journal` has.
    pub(super) fn start(db: Arc<StateDb>, journal: Arc<dyn Journal>) -> Self {
        let write = move |asked: &[Asked]| {
            let freezes: Vec<_> = asked.iter().map(|one| one.freeze(journal.as_ref())).collect();
            db.freeze(&freezes)
        };
        Self::start_with(Arc::new(write))
    }

    fn start_with(write: Arc<Write>) -> Self {
        let (sender, receiver) = mpsc::channel(ASKED_MAX);
        tokio::spawn(gather(write, receiver));
        Self(sender)
    }

    /// Keeps which deliveries of a subscription go together, however long the disk takes no writing.
    pub(super) async fn freeze(&self, entry: &Entry, batch: New) -> Frozen {
        let mut had_trouble = false;
        loop {
            match self.ask(entry.id.clone(), entry.cursors(), batch.clone()).await {
                Ok(frozen) => {
                    if had_trouble {
                        entry.live.set_trouble(None);
                    }
                    return frozen;
                }
                Err(error) => {
                    if entry.live.set_trouble(Some(in_words(&*error))) {
                        error!(subscription = %entry.label(), %error, "what goes together can't be kept; the subscription waits");
                    }
                }
            }
            had_trouble = true;
            tokio::time::sleep(TROUBLE_PAUSE).await;
        }
    }

    async fn ask(&self, subscription: String, cursors: Cursors, batch: New) -> Answer {
        let (answer, told) = oneshot::channel();
        let asked = Asked { subscription, cursors, batch, answer };
        let gone = |source| Arc::new(StateError::Interrupted { source });
        self.0.send(asked).await.map_err(|_| gone("nobody keeps batches any more".into()))?;
        told.await.unwrap_or_else(|source| Err(gone(source.into())))
    }
}

impl Asked {
    /// With what is of no more use: whatever the durable cursor is past, at which the subscription goes
    /// on after a crash. It never goes back. What can't be read lets nothing be forgotten.
    fn freeze(&self, journal: &dyn Journal) -> Freeze {
        Freeze {
            subscription: self.subscription.clone(),
            generation: self.batch.generation,
            seqs: Arc::clone(&self.batch.seqs),
            are_moved: self.batch.are_moved,
            done: self.cursors.done_for_good(journal),
        }
    }
}

/// Writes some, all or none.
type Write = dyn Fn(&[Asked]) -> Result<Vec<Frozen>, StateError> + Send + Sync;

async fn gather(write: Arc<Write>, mut receiver: mpsc::Receiver<Asked>) {
    let mut asked = Vec::new();
    while receiver.recv_many(&mut asked, ASKED_MAX).await > 0 {
        let (write, all) = (Arc::clone(&write), std::mem::take(&mut asked));
        let written = tokio::task::spawn_blocking(move || {
            let written = write(&all);
            tell(all, written);
        });
        if written.await.is_err() {
            // Whoever waits is told by that nobody answers.
            error!("keeping what goes together panicked");
        }
    }
}

/// Gives everybody their part. Who has gone away is not waiting for it.
fn tell(all: Vec<Asked>, written: Result<Vec<Frozen>, StateError>) {
    match written {
        Ok(frozen) => {
            for (one, frozen) in all.into_iter().zip(frozen) {
                drop(one.answer.send(Ok(frozen)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for one in all {
                drop(one.answer.send(Err(Arc::clone(&error))));
            }
        }
    }
}

/// Batches kept in one write at most, and as many wait for the next: with a few kilobytes in each
/// more would make no write cheaper.
const ASKED_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use futures_util::future::join_all;
    use postbell_journal::Seq;
    use proptest::prelude::*;

    use super::*;
    use crate::pretend::PretendJournal;

    fn open(folder: &Path) -> Arc<StateDb> {
        Arc::new(StateDb::open(&folder.join("hub.db")).unwrap())
    }

    fn begin(db: &StateDb) -> Generation {
        db.batches("a", 0).unwrap().0
    }

    fn new(generation: Generation, seqs: &[u64]) -> New {
        New { generation, seqs: seqs.into(), are_moved: false }
    }

    #[tokio::test]
    async fn what_waits_while_some_is_written_goes_together_in_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let own = begin(&open(folder.path()));
        let (begun, writes) = channel();
        let (go_on, held) = channel::<()>();
        let held = Mutex::new(held);
        let freezer = Freezer::start_with(Arc::new(move |asked: &[Asked]| {
            begun.send(asked.len()).unwrap();
            // Until its other end is gone.
            held.lock().unwrap().recv().unwrap_or_default();
            match asked.len() {
                1 => Ok(vec![Frozen::Kept]),
                _ => Err(StateError::Interrupted { source: "no room".into() }),
            }
        }));
        let asks = |count| {
            join_all(
                (0..count).map(|_| freezer.ask("a".into(), Cursors::new("a", 0), new(own, &[1]))),
            )
        };
        let others = async {
            let written = tokio::task::spawn_blocking(move || (writes.recv().unwrap(), writes));
            let (first, writes) = written.await.unwrap();
            let others = asks(40);
            tokio::pin!(others);
            // All of them wait before the disk can take more.
            assert!(futures_util::poll!(others.as_mut()).is_pending());
            drop(go_on);
            (others.await, first, writes)
        };
        let (alone, (others, first, writes)) = tokio::join!(asks(1), others);
        assert!(matches!(alone[..], [Ok(Frozen::Kept)]), "{alone:?}");
        assert!(others.iter().all(Result::is_err), "what fails fails for everybody in it");
        assert_eq!((first, writes.try_iter().collect::<Vec<_>>()), (1, vec![40]));
        let alone = asks(1).await;
        assert!(matches!(alone[..], [Ok(Frozen::Kept)]), "and for nobody after: {alone:?}");
    }

    #[tokio::test]
    async fn what_is_forgotten_is_behind_the_durable_cursor_of_where_it_began_last() {
        let folder = tempfile::tempdir().unwrap();
        let (db, journal) = (open(folder.path()), Arc::new(PretendJournal::default()));
        let freezer = Freezer::start(Arc::clone(&db), Arc::clone(&journal) as _);
        let set = |name, seq| journal.set_cursor(name, Some(Seq(seq))).unwrap();
        let freeze = async |begun, seqs: &[u64]| {
            let (own, _) = db.batches("a", 0).unwrap();
            let frozen = freezer.ask("a".into(), Cursors::new("a", begun), new(own, seqs)).await;
            assert!(matches!(frozen, Ok(Frozen::Kept)), "{frozen:?}");
            db.batches("a", 0).unwrap().1
        };
        assert_eq!(freeze(0, &[8, 9]).await, [[8, 9]]);
        set("a", 9);
        assert_eq!(freeze(0, &[10, 11]).await, [[8, 9], [10, 11]], "it isn't written yet");
        journal.write_cursors();
        // Begun anew, before 4, which may have to come again.
        assert_eq!(freeze(1, &[4, 5]).await, [[4, 5], [8, 9], [10, 11]]);
        set("a/1", 5);
        assert_eq!(freeze(1, &[6, 7]).await, [[4, 5], [6, 7], [8, 9], [10, 11]]);
        journal.write_cursors();
        assert_eq!(freeze(1, &[12, 13]).await, [[6, 7], [8, 9], [10, 11], [12, 13]]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Some of the next eight records go together.
        Freeze(u8),
        /// One is accepted.
        End(usize),
        /// The cursor is set.
        Set,
        /// The journal writes what is set.
        Write,
        /// A worker stops and another begins; what the first was freezing comes after that.
        Begin(usize),
        Kill,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_u8..).prop_map(Step::Freeze),
            4 => any::<usize>().prop_map(Step::End),
            2 => Just(Step::Set),
            1 => Just(Step::Write),
            1 => any::<usize>().prop_map(Step::Begin),
            1 => Just(Step::Kill),
        ]
    }

    /// Where the cursor stands: before the first record that isn't done, and within no batch.
    fn reached(sent: &BTreeMap<u64, Vec<u64>>, open: &BTreeSet<u64>, free: &BTreeSet<u64>) -> u64 {
        let mut cursor = open.iter().chain(free).min().unwrap() - 1;
        let around = |cursor: u64| {
            let is_around =
                |batch: &&Vec<u64>| (batch[0]..batch[batch.len() - 1]).contains(&cursor);
            sent.values().find(is_around).map(|batch| batch[0] - 1)
        };
        while let Some(before) = around(cursor) {
            cursor = before;
        }
        cursor
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever is written when, and whenever it is killed: all that was sent and may come again
        /// is kept as it was, and nothing else is.
        #[test]
        fn what_went_together_goes_together_again(steps in prop::collection::vec(step(), 0..60)) {
            let folder = tempfile::tempdir().unwrap();
            let (mut db, journal) = (open(folder.path()), PretendJournal::default());
            let mut own = begin(&db);
            let freeze = |db: &StateDb, generation, seqs: Vec<u64>| {
                let (subscription, answer) = ("a".to_owned(), oneshot::channel().0);
                let (cursors, batch) = (Cursors::new("a", 0), new(generation, &seqs));
                let asked = Asked { subscription, cursors, batch, answer };
                db.freeze(&[asked.freeze(&journal)]).unwrap()
            };
            let mut free: BTreeSet<u64> = (1..=8).collect();
            let (mut sent, mut open) = (BTreeMap::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Freeze(which) => {
                        let places = free.iter().copied().zip(0..);
                        let batch = places.filter(|(_, at)| which >> at & 1 == 1);
                        let batch: Vec<u64> = batch.map(|(seq, _)| seq).collect();
                        prop_assert_eq!(freeze(&db, own, batch.clone()), [Frozen::Kept]);
                        for seq in &batch {
                            free.remove(seq);
                        }
                        let next = sent.values().flatten().chain(&free).chain(&batch).max().unwrap() + 1;
                        free.extend(next..next + batch.len() as u64);
                        open.insert(batch[0]);
                        sent.insert(batch[0], batch);
                    }
                    Step::End(which) if !open.is_empty() => {
                        let first = *open.iter().nth(which % open.len()).unwrap();
                        open.remove(&first);
                    }
                    Step::End(_) => {}
                    Step::Set => {
                        let cursor = reached(&sent, &open, &free);
                        journal.set_cursor("a", Some(Seq(cursor))).unwrap();
                    }
                    Step::Write => journal.write_cursors(),
                    Step::Begin(_) | Step::Kill => {
                        if matches!(step, Step::Kill) {
                            journal.lose_cursors();
                            db = self::open(folder.path());
                        }
                        let cursor = journal.cursor("a").unwrap().map_or(0, |seq| seq.0);
                        let (next, batches) = db.batches("a", cursor).unwrap();
                        let again = sent.values().filter(|batch| batch[0] > cursor);
                        prop_assert_eq!(batches, again.cloned().collect::<Vec<_>>());
                        if let Step::Begin(which) = step {
                            let seq = which as u64 % 8 + cursor + 1;
                            prop_assert_eq!(freeze(&db, own, vec![seq]), [Frozen::Late]);
                        }
                        own = next;
                        open.extend(sent.keys().filter(|first| **first > cursor));
                    }
                }
            }
        }
    }
}
