//! An intake that keeps what it is told.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postbell_engine::{Demand, Observation, What};
use postbell_sources::{Batch, Intake, Pair, Stopped};

/// Keeps observations and checkpoint together, as the journal does.
#[derive(Debug)]
pub(crate) struct Kept {
    inner: Mutex<Inner>,
    /// Whether looks at quotas are kept as well.
    with_quotas: bool,
    /// Held by a test that wants the intake to block, as on a full disk.
    pub(crate) gate: Mutex<()>,
    /// How many batches came to that gate.
    pub(crate) arrived: AtomicUsize,
    /// How many batches it takes before it fails; to play a crash.
    pub(crate) takes_left: AtomicUsize,
    /// What it says it wants, each time it is asked.
    pub(crate) wants: Mutex<VecDeque<Demand>>,
    /// What it says it wants once these are used up: everything, unless a test says otherwise.
    pub(crate) wants_then: Mutex<Demand>,
}

#[derive(Debug, Default)]
struct Inner {
    told: Vec<Observation>,
    checkpoint: BTreeMap<Vec<u8>, Vec<u8>>,
    largest: (usize, usize),
}

impl Kept {
    /// Keeps everything.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(true)
    }

    /// Keeps all but looks at quotas: a source may take many, and what that means is the engine's
    /// to say.
    pub(crate) fn without_quotas() -> Arc<Self> {
        Self::with(false)
    }

    fn with(with_quotas: bool) -> Arc<Self> {
        let takes_left = AtomicUsize::new(usize::MAX);
        Arc::new(Self {
            inner: Mutex::default(),
            with_quotas,
            gate: Mutex::default(),
            arrived: AtomicUsize::default(),
            takes_left,
            wants: Mutex::default(),
            wants_then: Mutex::new(Demand::everything()),
        })
    }

    pub(crate) fn told(&self) -> Vec<Observation> {
        self.inner.lock().unwrap().told.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.inner.lock().unwrap().told.len()
    }

    /// How many pairs the checkpoint has.
    pub(crate) fn pairs(&self) -> usize {
        self.inner.lock().unwrap().checkpoint.len()
    }

    /// Keys of the checkpoint.
    pub(crate) fn keys(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.checkpoint.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// What the checkpoint says under the first key that begins so.
    pub(crate) fn value(&self, prefix: &str) -> Option<String> {
        let inner = self.inner.lock().unwrap();
        let (key, value) = inner.checkpoint.range(prefix.as_bytes().to_vec()..).next()?;
        key.starts_with(prefix.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
    }

    /// Changes what the checkpoint says under a key, which must be there.
    pub(crate) fn change(&self, key: &str, change: impl FnOnce(&str) -> String) {
        let mut inner = self.inner.lock().unwrap();
        let value = inner.checkpoint.get_mut(key.as_bytes()).unwrap();
        *value = change(std::str::from_utf8(value).unwrap()).into_bytes();
    }

    /// The most observations and changes in one batch.
    pub(crate) fn largest(&self) -> (usize, usize) {
        self.inner.lock().unwrap().largest
    }
}

impl Intake for Kept {
    fn take(&self, batch: Batch) -> Result<(), Stopped> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        let left = self.takes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(Stopped::new("a crash, played"));
        }
        self.takes_left.store(left - 1, Ordering::SeqCst);
        let mut inner = self.inner.lock().unwrap();
        let (observations, changes) = (batch.observations.len(), batch.changes.len());
        inner.largest = (inner.largest.0.max(observations), inner.largest.1.max(changes));
        for (key, value) in batch.changes {
            match value {
                Some(value) => drop(inner.checkpoint.insert(key, value)),
                None => drop(inner.checkpoint.remove(&key)),
            }
        }
        let is_kept =
            |seen: &Observation| self.with_quotas || !matches!(seen.what, What::QuotaSeen(_));
        inner.told.extend(batch.observations.into_iter().filter(is_kept));
        Ok(())
    }

    fn demand(&self) -> Demand {
        let next = self.wants.lock().unwrap().pop_front();
        next.unwrap_or_else(|| *self.wants_then.lock().unwrap())
    }

    fn checkpoint(&self, prefix: &[u8]) -> Result<Vec<Pair>, Stopped> {
        let inner = self.inner.lock().unwrap();
        let from = inner.checkpoint.range(prefix.to_vec()..);
        let pairs = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
