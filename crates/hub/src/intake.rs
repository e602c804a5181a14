//! From a source's observations to durable records.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mail_event::json::{self, Profile};
use postbell_engine::{Identified, Keys, Memory, Observation, Policy, Store, normalise};
use postbell_journal::{
    AppendError, Batch as JournalBatch, Change, Checkpoint, Entry, Journal, ReadError, RecordId,
    Verdict,
};
use postbell_sources::{Batch, Count, Health, Intake, State, Stop, Stopped};
use tracing::warn;

use crate::metrics::{EventIndex, SourceMetrics};

/// The intake of one source, for one run of it: a source that starts anew gets a new one, whose
/// memory is what is durable.
#[derive(Debug)]
pub(crate) struct HubIntake {
    pub(crate) source: String,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) metrics: Arc<SourceMetrics>,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    pub(crate) memory: Mutex<Memory>,
    /// Kinds of refusals logged already.
    pub(crate) logged: Mutex<BTreeSet<String>>,
}

impl HubIntake {
    /// An intake for `source`, remembering what was journalled.
    pub(crate) fn open(
        source: &str,
        journal: Arc<dyn Journal>,
        (store, policy): (Store, Policy),
        metrics: Arc<SourceMetrics>,
        (health, stop): (Health, Stop),
    ) -> Result<Self, ReadError> {
        let kept = journal.checkpoint(source, MEMORY_PREFIX)?;
        let memory =
            Memory::restore(kept.into_iter().filter_map(|(key, value)| {
                Some((key.strip_prefix(MEMORY_PREFIX)?.to_vec(), value))
            }));
        Ok(Self {
            source: source.to_owned(),
            journal,
            store,
            policy,
            metrics,
            health,
            stop,
            memory: Mutex::new(memory),
            logged: Mutex::default(),
        })
    }

    /// What the observations mean, as entries, and what changed in the memory.
    fn entries(&self, observations: Vec<Observation>) -> (Vec<Entry>, Vec<Change>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::with_capacity(observations.len());
        for observation in observations {
            match normalise(&mut memory, &self.store, &self.policy, &self.source, observation) {
                Ok(events) => entries.extend(events.iter().filter_map(|event| self.entry(event))),
                Err(refused) => self.refuse(&refused),
            }
        }
        let changes = memory
            .drain_changes()
            .into_iter()
            .map(|(key, value)| Change { key: [MEMORY_PREFIX, &key].concat(), value });
        (entries, changes.collect())
    }

    fn entry(&self, identified: &Identified) -> Option<Entry> {
        let body = json::to_vec(&identified.event, Profile::Strict);
        match json::check(&body) {
            Ok(checked) => Some(Entry {
                id: RecordId(identified.id.as_u128()),
                head: Keys::new(&checked, &body).to_head(),
                body: Bytes::from(body),
            }),
            Err(error) => {
                self.refuse(&error);
                None
            }
        }
    }

    /// Counts what can't become an event, and logs the first of its kind.
    fn refuse(&self, why: &dyn std::fmt::Display) {
        self.metrics.rejected.increment(1);
        self.health.add(Count::Skipped, 1);
        let text = why.to_string();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < KINDS_LOGGED_MAX && logged.insert(kind_of(&text)) {
            warn!(source = %self.source, why = %text, "an observation is no event; the next of this kind are only counted");
        }
    }

    /// Appends until it is durable: waits while the disk is full, and gives up only where the
    /// journal or the operator says so.
    fn append(&self, mut batch: JournalBatch) -> Result<(), Stopped> {
        let mut pause = PAUSE_FIRST;
        let mut waited = false;
        loop {
            let error = match append_and_wait(&*self.journal, batch.clone()) {
                Ok(appended) => {
                    self.count(&batch.entries, &appended.verdicts);
                    if waited {
                        self.health.set_state(State::Running, "");
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            match error {
                AppendError::Busy { .. } => {}
                AppendError::Full { folder } => {
                    if !waited {
                        waited = true;
                        let folder = folder.display();
                        self.health.set_state(State::Waiting, format!("disk full: {folder}"));
                    }
                }
                AppendError::TooLarge { limit_octets, .. } => {
                    let before = batch.entries.len();
                    batch.entries.retain(|entry| entry.body.len() <= limit_octets);
                    if batch.entries.len() == before {
                        return Err(Stopped::new(error.to_string()));
                    }
                    self.refuse(&error);
                    continue;
                }
                error => return Err(Stopped::new(error.to_string())),
            }
            if self.stop.wait_timeout(pause) {
                return Err(Stopped::new("the hub is stopping"));
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn count(&self, entries: &[Entry], verdicts: &[Verdict]) {
        for (entry, verdict) in entries.iter().zip(verdicts) {
            match verdict {
                Verdict::New(_) => {
                    let view = Keys::from_head(&entry.head).view(&entry.body);
                    self.metrics.accept(EventIndex::of(&view.name()));
                }
                Verdict::Repeated(_) => self.metrics.repeated.increment(1),
            }
        }
    }
}

impl Intake for HubIntake {
    fn take(&self, batch: Batch) -> Result<(), Stopped> {
        if batch.is_empty() {
            return Ok(());
        }
        let (entries, mut changes) = self.entries(batch.observations);
        changes.extend(batch.changes.into_iter().map(|(key, value)| Change { key, value }));
        if entries.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let checkpoint =
            (!changes.is_empty()).then(|| Checkpoint { source: self.source.clone(), changes });
        self.append(JournalBatch { entries, checkpoint })
    }

    fn checkpoint(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Stopped> {
        let mut kept = self
            .journal
            .checkpoint(&self.source, prefix)
            .map_err(|error| Stopped::new(error.to_string()))?;
        kept.retain(|(key, _)| !key.starts_with(MEMORY_PREFIX));
        Ok(kept)
    }
}

/// Appends a batch and waits for the answer, on a thread that may block.
fn append_and_wait(
    journal: &dyn Journal,
    batch: JournalBatch,
) -> Result<postbell_journal::Appended, AppendError> {
    let (tell, told) = mpsc::sync_channel(1);
    // Nobody else waits on the other end, and we do until it comes.
    journal.append(batch, Box::new(move |result| drop(tell.send(result))));
    told.recv().unwrap_or(Err(AppendError::Closed))
}

/// A message without what differs from one happening to the next, so that a kind is logged once.
fn kind_of(text: &str) -> String {
    text.chars()
        .take_while(|letter| *letter != ':')
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}

/// Where normalise's memory stands among the keys of a source's checkpoint.
const MEMORY_PREFIX: &[u8] = b"\0memory/";

/// Kinds of refusals remembered as logged; a hostile store could think of endless ones.
const KINDS_LOGGED_MAX: usize = 64;

/// The first wait for room. A busy queue drains in a few milliseconds.
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest wait for room: how late a source notices that the disk has some again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
