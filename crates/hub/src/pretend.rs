//! A journal for tests: in memory, and as unwilling as it is told to be.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use postbell_journal::{
    AppendError, Appended, Batch, Bounds, Done, Entry, Journal, Pair, ReadError, RecordId, Records,
    Seq, Verdict,
};

/// A journal that refuses as often as it is told to, and then takes all.
#[derive(Debug, Default)]
pub(crate) struct PretendJournal(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    refusals: VecDeque<AppendError>,
    hangs: bool,
    hanging: Vec<(Batch, Done)>,
    is_unreadable: bool,
    entries: Vec<Entry>,
    checkpoint: BTreeMap<Vec<u8>, Vec<u8>>,
    cursors: BTreeMap<String, Seq>,
    durable: BTreeMap<String, Seq>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl PretendJournal {
    /// Refuses the next batches for these reasons.
    pub(crate) fn refusing(refusals: impl IntoIterator<Item = AppendError>) -> Self {
        let journal = Self::default();
        journal.lock().refusals.extend(refusals);
        journal
    }

    /// Refuses the next batches for these reasons.
    pub(crate) fn refuse(&self, refusals: impl IntoIterator<Item = AppendError>) {
        self.lock().refusals.extend(refusals);
    }

    /// Answers nothing any more.
    pub(crate) fn hang(&self) {
        self.lock().hangs = true;
    }

    /// Has nothing of the checkpoint read.
    pub(crate) fn be_unreadable(&self) {
        self.lock().is_unreadable = true;
    }

    /// How many it hasn't answered.
    pub(crate) fn hanging(&self) -> usize {
        self.lock().hanging.len()
    }

    /// Takes what it hasn't answered, and answers again.
    pub(crate) fn go_on(&self) {
        let hanging = {
            let mut inner = self.lock();
            inner.hangs = false;
            std::mem::take(&mut inner.hanging)
        };
        hanging.into_iter().for_each(|(batch, done)| self.append(batch, done));
    }

    /// Has the cursors durable as they are set.
    pub(crate) fn write_cursors(&self) {
        let mut inner = self.lock();
        inner.durable = inner.cursors.clone();
    }

    /// Has them stand where they are durable, as after a crash.
    pub(crate) fn lose_cursors(&self) {
        let mut inner = self.lock();
        inner.cursors = inner.durable.clone();
    }

    /// The bodies of all records.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let text = |entry: &Entry| String::from_utf8(entry.body.to_vec()).unwrap();
        self.lock().entries.iter().map(text).collect()
    }

    /// How many refusals are left.
    pub(crate) fn refusals(&self) -> usize {
        self.lock().refusals.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

/// There is no room.
pub(crate) fn full() -> AppendError {
    AppendError::Full { folder: Path::new("/data/journal").into() }
}

/// The queue is long.
pub(crate) fn busy() -> AppendError {
    AppendError::Busy { entries: 1, octets: 1 }
}

/// An fsync failed.
pub(crate) fn stopped() -> AppendError {
    AppendError::Stopped {
        folder: Path::new("/data/journal").into(),
        reason: "fsync failed".into(),
    }
}

impl Journal for PretendJournal {
    fn append(&self, batch: Batch, done: Done) {
        let mut inner = self.lock();
        if let Some(refusal) = inner.refusals.pop_front() {
            drop(inner);
            return done(Err(refusal));
        }
        if inner.hangs {
            return inner.hanging.push((batch, done));
        }
        for change in batch.checkpoint.into_iter().flat_map(|checkpoint| checkpoint.changes) {
            match change.value {
                Some(value) => inner.checkpoint.insert(change.key, value),
                None => inner.checkpoint.remove(&change.key),
            };
        }
        let mut verdicts = Vec::new();
        for entry in batch.entries {
            let place = inner.entries.iter().position(|known| known.id == entry.id);
            verdicts.push(match place {
                Some(place) => Verdict::Repeated(Seq(place as u64 + 1)),
                None => {
                    inner.entries.push(entry);
                    Verdict::New(Seq(inner.entries.len() as u64))
                }
            });
        }
        drop(inner);
        done(Ok(Appended { verdicts }));
    }

    fn offer(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        let mut inner = self.lock();
        if let Some(AppendError::Busy { .. }) = inner.refusals.front() {
            inner.refusals.pop_front();
            return Err((batch, done));
        }
        drop(inner);
        self.append(batch, done);
        Ok(())
    }

    fn read(&self, _from: Seq, _limit_octets: usize) -> Result<Records, ReadError> {
        Ok(Records::default())
    }

    fn bounds(&self) -> Bounds {
        Bounds { first: Seq(1), last: Seq(self.lock().entries.len() as u64) }
    }

    fn first_since(&self, _unix_millis: u64) -> Result<Seq, ReadError> {
        Ok(Seq(1))
    }

    fn written_ms(&self, _seq: Seq) -> Result<u64, ReadError> {
        Ok(0)
    }

    fn on_commit(&self, _notice: Box<dyn Fn(Seq) + Send + Sync>) {}

    fn checkpoint(&self, _source: &str, prefix: &[u8]) -> Result<Vec<Pair>, ReadError> {
        let inner = self.lock();
        if inner.is_unreadable {
            let source = "the disk failed".into();
            return Err(ReadError::Unreadable { file: "/data/journal".into(), source });
        }
        let pairs = inner.checkpoint.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn checkpoint_keys(&self, _source: &str) -> Result<u64, ReadError> {
        Ok(self.lock().checkpoint.len() as u64)
    }

    fn cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        Ok(self.lock().cursors.get(name).copied())
    }

    fn durable_cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        Ok(self.lock().durable.get(name).copied())
    }

    fn set_cursor(&self, name: &str, done: Option<Seq>) -> Result<(), AppendError> {
        let cursors = &mut self.lock().cursors;
        match done {
            Some(done) => cursors.insert(name.to_owned(), done),
            None => cursors.remove(name),
        };
        Ok(())
    }
}

#[test]
fn a_repeat_in_the_pretend_journal_is_one_record() {
    let journal = PretendJournal::default();
    let entry = Entry { id: RecordId(1), head: [0; 24], body: "x".into() };
    let batch = Batch { entries: vec![entry.clone(), entry], checkpoint: None };
    journal.append(batch, Box::new(|result| assert_eq!(result.unwrap().verdicts.len(), 2)));
    assert_eq!(journal.bodies(), ["x"]);
}
