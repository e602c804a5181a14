//! Batches waiting to be written, and whose turn it is.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::SystemTime;

use crate::files::locked;
use crate::options::{BLOCK_OCTETS, BLOCK_RECORDS};
use crate::overlay::encoded_octets;
use crate::segment::Position;
use crate::{AppendError, Batch, Done, ENTRY_OCTETS_MAX, Options};

/// Whether the journal takes batches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It does.
    Accepting,
    /// The disk is full; it will by itself when there is room again.
    Full {
        /// Since when.
        since: SystemTime,
    },
    /// It will not until it is opened again.
    Stopped {
        /// What failed.
        reason: Arc<str>,
    },
    /// It was closed.
    Closed,
}

/// Batches waiting, guarded together with what decides who may write.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    folder: Arc<Path>,
    entries_max: usize,
    octets_max: usize,
}

/// What [`Queue`] guards.
#[derive(Debug)]
pub(crate) struct Inner {
    waiting: VecDeque<Waiting>,
    entries: usize,
    octets: usize,
    /// A commit is going on.
    pub(crate) committing: bool,
    /// No batch will come any more.
    pub(crate) closed: bool,
    /// Goes up with each failed commit: what was encoded for a later one is void.
    pub(crate) epoch: u64,
    /// Up to where all is on disk.
    pub(crate) durable: Position,
    state: State,
    /// Why the last commit failed.
    pub(crate) failure: AppendError,
}

/// A batch and whom to tell.
pub(crate) struct Waiting {
    pub(crate) batch: Batch,
    pub(crate) done: Done,
    entries: usize,
    /// What it takes in memory, about.
    pub(crate) octets: usize,
}

/// A batch that was not taken, whom to tell, and why.
type Refused = Box<(Batch, Done, AppendError)>;

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Queue {
    /// An empty queue before the record after `durable`.
    pub(crate) fn new(folder: Arc<Path>, options: &Options, durable: Position) -> Self {
        let inner = Inner {
            waiting: VecDeque::new(),
            entries: 0,
            octets: 0,
            committing: false,
            closed: false,
            epoch: 0,
            durable,
            state: State::Accepting,
            failure: AppendError::Closed,
        };
        Self {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            folder,
            entries_max: options.queue_entries,
            octets_max: options.queue_octets,
        }
    }

    /// Takes the batch in, or tells at once why not.
    pub(crate) fn push(&self, batch: Batch, done: Done) {
        if let Err(refused) = self.try_push(batch, done) {
            let (_, done, error) = *refused;
            done(Err(error));
        }
    }

    /// Takes the batch in, or gives it back where the queue is full; what else is wrong is told.
    pub(crate) fn offer(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        let Err(refused) = self.try_push(batch, done) else { return Ok(()) };
        match *refused {
            (batch, done, AppendError::Busy { .. }) => Err((batch, done)),
            (_, done, error) => {
                done(Err(error));
                Ok(())
            }
        }
    }

    fn try_push(&self, batch: Batch, done: Done) -> Result<(), Refused> {
        let octets = match self.weigh(&batch) {
            Ok(octets) => octets,
            Err(error) => return Err(Box::new((batch, done, error))),
        };
        let entries = batch.entries.len();
        self.admit(Waiting { batch, done, entries, octets })
    }

    fn weigh(&self, batch: &Batch) -> Result<usize, AppendError> {
        let bodies = batch.entries.iter().map(|entry| entry.body.len());
        let changes = batch
            .checkpoint
            .iter()
            .map(|checkpoint| encoded_octets(&checkpoint.source, &checkpoint.changes));
        let mut total = 0;
        for octets in bodies.chain(changes) {
            if octets > ENTRY_OCTETS_MAX {
                return Err(AppendError::TooLarge { octets, limit_octets: ENTRY_OCTETS_MAX });
            }
            total += octets;
        }
        Ok(total + batch.entries.len() * ENTRY_OVERHEAD_OCTETS + BATCH_OVERHEAD_OCTETS)
    }

    fn admit(&self, waiting: Waiting) -> Result<(), Refused> {
        let mut inner = self.lock();
        if let Some(error) = self.refusal(&inner) {
            return Err(Box::new((waiting.batch, waiting.done, error)));
        }
        let entries = inner.entries + waiting.entries;
        let octets = inner.octets + waiting.octets;
        if !inner.waiting.is_empty() && (entries > self.entries_max || octets > self.octets_max) {
            let error = AppendError::Busy { entries: inner.entries, octets: inner.octets };
            return Err(Box::new((waiting.batch, waiting.done, error)));
        }
        inner.entries = entries;
        inner.octets = octets;
        inner.waiting.push_back(waiting);
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Why nothing is taken now, if so.
    pub(crate) fn refusal(&self, inner: &Inner) -> Option<AppendError> {
        let folder = Arc::clone(&self.folder);
        match &inner.state {
            State::Stopped { reason } => {
                Some(AppendError::Stopped { folder, reason: Arc::clone(reason) })
            }
            State::Full { .. } if !inner.closed => Some(AppendError::Full { folder }),
            State::Accepting | State::Full { .. } | State::Closed => {
                inner.closed.then_some(AppendError::Closed)
            }
        }
    }

    /// The guarded part.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Waits until something changed.
    pub(crate) fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.wake.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Says that something changed.
    pub(crate) fn notify(&self) {
        self.wake.notify_all();
    }

    /// Whether it takes batches.
    pub(crate) fn state(&self) -> State {
        let inner = self.lock();
        match &inner.state {
            State::Stopped { .. } => inner.state.clone(),
            _ if inner.closed => State::Closed,
            state => state.clone(),
        }
    }

    /// Entries and octets waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.entries, inner.octets)
    }

    /// Takes no more batches.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.notify();
    }

    /// Turns to a state in which nothing is taken, and refuses what waits.
    ///
    /// What a stopped journal holds is unknown, so that no other state follows on that.
    pub(crate) fn fail(&self, failure: &Failure) -> AppendError {
        let mut inner = self.lock();
        let folder = Arc::clone(&self.folder);
        let error = match (&inner.state, failure) {
            (State::Stopped { reason }, _) => {
                AppendError::Stopped { folder, reason: Arc::clone(reason) }
            }
            (_, Failure::Stopped(reason)) => {
                let reason: Arc<str> = reason.as_str().into();
                inner.state = State::Stopped { reason: Arc::clone(&reason) };
                AppendError::Stopped { folder, reason }
            }
            (State::Full { .. }, Failure::Full) => AppendError::Full { folder },
            (_, Failure::Full) => {
                inner.state = State::Full { since: SystemTime::now() };
                AppendError::Full { folder }
            }
        };
        inner.epoch += 1;
        inner.failure = error.clone();
        inner.entries = 0;
        inner.octets = 0;
        let refused = std::mem::take(&mut inner.waiting);
        drop(inner);
        self.notify();
        for waiting in refused {
            (waiting.done)(Err(error.clone()));
        }
        error
    }

    /// Takes batches again after the disk was full.
    pub(crate) fn resume(&self) {
        let mut inner = self.lock();
        if matches!(inner.state, State::Full { .. }) {
            inner.state = State::Accepting;
        }
    }
}

/// Why a commit failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// There was no room.
    Full,
    /// It is unknown what is on disk.
    Stopped(String),
}

impl Inner {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether enough waits for a whole block.
    pub(crate) fn has_block(&self) -> bool {
        self.entries >= BLOCK_RECORDS || self.octets >= BLOCK_OCTETS
    }

    /// Takes whole batches for about one block; at least one batch where one waits.
    pub(crate) fn take_block(&mut self) -> Vec<Waiting> {
        let (mut entries, mut octets) = (0, 0);
        let mut taken = Vec::new();
        while entries < BLOCK_RECORDS && octets < BLOCK_OCTETS {
            let Some(waiting) = self.waiting.pop_front() else { break };
            entries += waiting.entries;
            octets += waiting.octets;
            taken.push(waiting);
        }
        self.entries -= entries;
        self.octets -= octets;
        taken
    }
}

/// What an entry counts in the queue beyond its body, in octets: its id, its head, its place.
const ENTRY_OVERHEAD_OCTETS: usize = 96;

/// What a batch counts in the queue beyond its entries, so that empty ones have a limit too.
const BATCH_OVERHEAD_OCTETS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, RecordId};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many batches like `batch` are taken before the queue is full.
    fn taken(options: &Options, batch: &Batch) -> usize {
        let queue = Queue::new(Arc::from(Path::new("journal")), options, Position::default());
        let busy = Arc::new(AtomicUsize::new(0));
        for pushed in 0..10_000 {
            let busy_too = Arc::clone(&busy);
            let done: Done = Box::new(move |result| {
                assert!(matches!(result, Err(AppendError::Busy { .. })));
                busy_too.fetch_add(1, Ordering::Relaxed);
            });
            queue.push(batch.clone(), done);
            if busy.load(Ordering::Relaxed) > 0 {
                return pushed;
            }
        }
        10_000
    }

    #[test]
    fn the_queue_has_a_limit_for_whatever_is_pushed() {
        let entry = Entry { id: RecordId(1), head: [0; 24], body: "an event".into() };
        let one = Batch { entries: vec![entry.clone()], checkpoint: None };
        let many = Batch { entries: vec![entry; 100], checkpoint: None };
        let by_entries = Options { queue_entries: 300, ..Options::default() };
        let by_octets = Options { queue_octets: 36_000, ..Options::default() };
        assert_eq!(taken(&by_entries, &many), 3);
        assert_eq!(taken(&by_entries, &one), 300);
        assert_eq!(taken(&by_octets, &one), 100);
        assert_eq!(taken(&by_octets, &Batch::default()), 36_000 / BATCH_OVERHEAD_OCTETS);
    }

    #[test]
    fn what_is_offered_to_a_full_queue_comes_back_and_is_told_nothing() {
        let options = Options { queue_entries: 1, ..Options::default() };
        let queue = Queue::new(Arc::from(Path::new("journal")), &options, Position::default());
        let entry = Entry { id: RecordId(1), head: [0; 24], body: "an event".into() };
        let batch = Batch { entries: vec![entry], checkpoint: None };
        let (tell, told) = std::sync::mpsc::channel();
        let done = move || -> Done {
            let tell = tell.clone();
            Box::new(move |result| tell.send(result).unwrap())
        };
        assert!(queue.offer(batch.clone(), done()).is_ok());
        let (back, _done) = queue.offer(batch.clone(), done()).unwrap_err();
        assert_eq!(back, batch);
        assert!(told.try_recv().is_err());
        queue.close();
        assert!(queue.offer(batch, done()).is_ok());
        assert_eq!(told.try_recv().unwrap(), Err(AppendError::Closed));
    }

    #[test]
    fn a_batch_larger_than_the_queue_is_taken_when_nothing_waits() {
        let entry = Entry { id: RecordId(1), head: [0; 24], body: vec![0; 9000].into() };
        let large = Batch { entries: vec![entry], checkpoint: None };
        assert_eq!(taken(&Options { queue_octets: 1000, ..Options::default() }, &large), 1);
    }
}
