//! From a source's observations to durable records.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_event::json::{self, Profile};
use postbell_engine::{Demand, Identified, Keys, Memory, Observation, Policy, Store, normalise};
use postbell_journal::{
    AppendError, Batch as JournalBatch, Change, Checkpoint, Entry, Journal, ReadError, RecordId,
    Verdict,
};
use postbell_sources::{Batch, Count, Health, Intake, State, Stop, Stopped};
use tracing::warn;

use crate::demand::Demands;
use crate::lock::locked;
use crate::metrics::{EventIndex, SourceMetrics};
use crate::traces::{Traces, WayIn};

/// The intake of one source, for one run of it: a source that starts anew gets a new one, whose
/// memory is what is durable.
#[derive(Debug)]
pub(crate) struct HubIntake {
    pub(crate) source: String,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) demands: Demands,
    pub(crate) metrics: Arc<SourceMetrics>,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    /// Where the last checkpoint is noted.
    pub(crate) last: LastCheckpoint,
    pub(crate) memory: Mutex<Memory>,
    /// Kinds of refusals logged already.
    pub(crate) logged: Mutex<BTreeSet<String>>,
    /// Where the way of what it takes is told.
    pub(crate) traces: Traces,
}

impl HubIntake {
    /// An intake for `source`, remembering what was journalled.
    pub(crate) fn open(
        source: &str,
        journal: Arc<dyn Journal>,
        (store, policy, demands): (Store, Policy, Demands),
        metrics: Arc<SourceMetrics>,
        (health, stop): (Health, Stop),
        last: LastCheckpoint,
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
            demands,
            metrics,
            health,
            stop,
            last,
            memory: Mutex::new(memory),
            logged: Mutex::default(),
            traces: Traces::default(),
        })
    }

    /// The same, with the way of what it takes told.
    pub(crate) fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// What the observations mean, as entries, and what changed in the memory.
    fn entries(&self, observations: Vec<Observation>) -> (Vec<Entry>, Vec<Change>) {
        let demand = self.demands.now();
        let policy = demand.narrow(&self.policy);
        let mut memory = locked(&self.memory);
        let mut entries = Vec::with_capacity(observations.len());
        for observation in observations {
            // Nobody can want what is off; that it is off is what is counted.
            let is_off = policy.switched_off(&observation.what).is_some();
            if !is_off && !demand.may_come_of(&observation.what) {
                self.metrics.unwanted(observation.what.group());
                continue;
            }
            let meaning = normalise(&mut memory, &self.store, &policy, &self.source, observation);
            for event in &meaning.events {
                match demand.wants(event.event.name()) {
                    true => entries.extend(self.entry(event)),
                    false => self.metrics.unwanted(Some(event.event.name().group())),
                }
            }
            meaning.refused.iter().for_each(|refused| self.refuse(refused));
            meaning.suppressed.iter().for_each(|what| self.metrics.suppress(*what));
        }
        let changes = memory
            .drain_changes()
            .into_iter()
            .map(|(key, value)| Change { key: [MEMORY_PREFIX, &key].concat(), value });
        (entries, changes.collect())
    }

    fn entry(&self, identified: &Identified) -> Option<Entry> {
        let body = json::to_vec(&identified.event, Profile::Strict);
        // Also for what the quick check passes over, such as content that is not text.
        let Some(keys) = Keys::find(&body) else {
            self.refuse(&json::NotStrict);
            return None;
        };
        Some(Entry {
            id: RecordId(identified.id.as_u128()),
            head: keys.to_head(),
            body: Bytes::from(body),
        })
    }

    /// Counts what can't become an event, and logs the first of its kind.
    fn refuse(&self, why: &dyn std::fmt::Display) {
        self.metrics.rejected.increment(1);
        self.health.add(Count::Skipped, 1);
        let text = why.to_string();
        let mut logged = locked(&self.logged);
        if logged.len() < KINDS_LOGGED_MAX && logged.insert(kind_of(&text)) {
            warn!(source = %self.source, why = %text, "an observation is no event; the next of this kind are only counted");
        }
    }

    /// Appends until it is durable: waits while the disk is full, and gives up only where the
    /// journal or the operator says so.
    fn append(&self, mut batch: JournalBatch, mut way: WayIn) -> Result<(), Stopped> {
        let mut pause = PAUSE_FIRST;
        let mut waited = false;
        loop {
            let error = match append_and_wait(&*self.journal, batch.clone()) {
                Ok(appended) => {
                    way.journalled(Some(&appended.verdicts));
                    self.count(&batch.entries, &appended.verdicts);
                    if batch.checkpoint.is_some() {
                        self.last.note(self.seq_of(&appended.verdicts));
                    }
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

    /// The record a batch ended with; where it brought none, the newest there is.
    fn seq_of(&self, verdicts: &[Verdict]) -> u64 {
        let new = verdicts.iter().rev().find_map(|verdict| match verdict {
            Verdict::New(seq) => Some(seq.0),
            Verdict::Repeated(_) => None,
        });
        new.unwrap_or_else(|| self.journal.bounds().last.0)
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
    fn demand(&self) -> Demand {
        self.demands.now()
    }

    fn take(&self, batch: Batch) -> Result<(), Stopped> {
        if batch.is_empty() {
            return Ok(());
        }
        let begun = self.traces.now();
        let (entries, mut changes) = self.entries(batch.observations);
        changes.extend(batch.changes.into_iter().map(|(key, value)| Change { key, value }));
        if entries.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let checkpoint =
            (!changes.is_empty()).then(|| Checkpoint { source: self.source.clone(), changes });
        let mut way = WayIn::default();
        if !entries.is_empty() {
            way = self.traces.of_source(&self.source, begun);
            way.journalling(entries.iter().map(|entry| entry.id.0), 0);
        }
        self.append(JournalBatch { entries, checkpoint }, way)
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

/// The last checkpoint of a source since the start; cheap to clone, and the clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastCheckpoint(Arc<Mutex<Option<(u64, Instant)>>>);

impl LastCheckpoint {
    fn note(&self, seq: u64) {
        *locked(&self.0) = Some((seq, Instant::now()));
    }

    /// The record it was committed with, and how long ago; nothing where there was none yet.
    pub(crate) fn get(&self) -> Option<(u64, Duration)> {
        let last = *locked(&self.0);
        last.map(|(seq, at)| (seq, at.elapsed()))
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

#[cfg(test)]
mod tests {
    use mail_event::UidSet;
    use postbell_engine::{Actor, Certainty, Identity, Mailbox, Origin, Quota, Status, What};
    use postbell_sources::Snapshot;

    use super::*;
    use crate::metrics::Metrics;
    use crate::pretend::{PretendJournal, busy, full, stopped};

    /// An intake into a journal, and what it shows of itself.
    fn intake(journal: &Arc<PretendJournal>) -> HubIntake {
        let store = Store::new("mail.example.org", None).unwrap();
        HubIntake::open(
            "mail",
            Arc::clone(journal) as _,
            (store, Policy::default(), Demands::everything(Arc::clone(journal) as _)),
            Arc::new(Metrics::new().source("mail")),
            (Health::new(), Stop::new().unwrap()),
            LastCheckpoint::default(),
        )
        .unwrap()
    }

    fn observation(identity: &str, what: What) -> Observation {
        Observation {
            identity: Identity(identity.as_bytes().to_vec()),
            at: "2026-08-20T12:00:00+00:00".parse().unwrap(),
            certainty: Certainty::Seen,
            owner: Some("john".to_owned()),
            actor: Actor::default(),
            origin: Origin::default(),
            what,
            extras: Vec::new(),
        }
    }

    fn created(name: &str) -> Observation {
        let mailbox = Mailbox { name: name.to_owned(), uid_validity: Some(7) };
        observation(name, What::MailboxCreated(mailbox))
    }

    /// An expunge of nothing, which no event can tell.
    fn nothing(identity: &str) -> Observation {
        let mailbox = Mailbox { name: "INBOX".to_owned(), uid_validity: Some(7) };
        let what = What::Expunged {
            mailbox,
            uids: UidSet::default(),
            status: Status::default(),
            moved_to: None,
        };
        observation(identity, what)
    }

    fn batch(observations: Vec<Observation>) -> Batch {
        Batch { observations, changes: Vec::new() }
    }

    fn shown(intake: &HubIntake) -> Snapshot {
        intake.health.snapshot()
    }

    #[test]
    fn what_is_no_event_is_counted_and_takes_nothing_down() {
        let journal = Arc::new(PretendJournal::default());
        let intake = intake(&journal);
        let seen = vec![nothing("1"), created("A"), nothing("2"), created("B")];
        intake.take(batch(seen)).unwrap();
        assert_eq!(journal.bodies().len(), 2);
        assert_eq!(shown(&intake).skipped, 2);
        // Logged once, however often it comes.
        assert_eq!(intake.logged.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_full_disk_is_waited_for_and_shown() {
        let journal = Arc::new(PretendJournal::refusing((0..6).map(|_| full())));
        let intake = intake(&journal);
        let health = intake.health.clone();
        let watched = Arc::clone(&journal);
        let watching = std::thread::spawn(move || {
            // It is shown between the first refusal and the last.
            while watched.refusals() > 5 {}
            loop {
                let now = health.snapshot();
                if now.state == State::Waiting || watched.refusals() == 0 {
                    return now;
                }
            }
        });
        intake.take(batch(vec![created("A")])).unwrap();
        let seen = watching.join().unwrap();
        assert_eq!(
            (seen.state, seen.detail.as_str()),
            (State::Waiting, "disk full: /data/journal")
        );
        assert_eq!(shown(&intake).state, State::Running);
        assert_eq!(journal.bodies().len(), 1);
    }

    #[test]
    fn a_long_queue_is_waited_for_in_silence() {
        let journal = Arc::new(PretendJournal::refusing([busy(), busy()]));
        let intake = intake(&journal);
        intake.take(batch(vec![created("A")])).unwrap();
        assert_eq!(shown(&intake).state, State::Starting);
        assert_eq!(journal.bodies().len(), 1);
    }

    #[test]
    fn a_stopped_journal_ends_the_source() {
        let journal = Arc::new(PretendJournal::refusing([stopped()]));
        let ended = intake(&journal).take(batch(vec![created("A")])).unwrap_err();
        assert_eq!(ended.reason, "/data/journal: the journal has stopped: fsync failed");
    }

    #[test]
    fn a_hub_that_stops_does_not_wait_for_room() {
        let journal = Arc::new(PretendJournal::refusing((0..1000).map(|_| full())));
        let intake = intake(&journal);
        intake.stop.set();
        assert!(intake.take(batch(vec![created("A")])).is_err());
    }

    #[test]
    fn the_memory_of_quotas_lives_as_long_as_the_journal() {
        let journal = Arc::new(PretendJournal::default());
        let quota = |used| {
            let quota = Quota {
                root: String::new(),
                disk_limit_kib: Some(100),
                disk_used_kib: Some(used),
                messages_limit: None,
                messages_used: None,
            };
            observation(&used.to_string(), What::QuotaSeen(quota))
        };
        let first = intake(&journal);
        first.take(batch(vec![quota(50), quota(150)])).unwrap();
        let told = journal.bodies().len();
        assert!(journal.bodies().last().unwrap().contains("QuotaExceed"));
        // A new run of the source knows that this edge was passed.
        let second = intake(&journal);
        second.take(batch(vec![quota(151)])).unwrap();
        assert_eq!(journal.bodies().len(), told);
        second.take(batch(vec![quota(50)])).unwrap();
        assert!(journal.bodies().last().unwrap().contains("QuotaWithin"));
        // And a source never sees postbell's own keys.
        assert!(second.checkpoint(b"").unwrap().is_empty());
    }

    #[test]
    fn a_checkpoint_goes_with_its_events_and_comes_back() {
        let journal = Arc::new(PretendJournal::default());
        let changes = vec![(b"INBOX".to_vec(), Some(b"17".to_vec()))];
        let intake = intake(&journal);
        intake.take(Batch { observations: vec![created("A")], changes }).unwrap();
        assert_eq!(intake.checkpoint(b"IN").unwrap(), [(b"INBOX".to_vec(), b"17".to_vec())]);
        assert_eq!(intake.last.get().map(|(seq, _)| seq), Some(1));
        intake.take(batch(vec![created("A")])).unwrap();
        assert_eq!(journal.bodies().len(), 1);
        // Without a change there is no checkpoint; without an event it goes with the newest record.
        intake.take(batch(vec![created("B")])).unwrap();
        assert_eq!(intake.last.get().map(|(seq, _)| seq), Some(1));
        let changes = vec![(b"INBOX".to_vec(), Some(b"18".to_vec()))];
        intake.take(Batch { observations: Vec::new(), changes }).unwrap();
        assert_eq!(intake.last.get().map(|(seq, _)| seq), Some(2));
    }

    #[test]
    fn a_kind_is_what_is_left_without_numbers_and_details() {
        assert_eq!(kind_of("uid 17 is gone: /var/mail"), kind_of("uid 3 is gone: /home"));
    }
}
