//! From what publishers hand in to durable records, whichever door they come through.

mod gather;
mod socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail_event::Repair;
use postbell_engine::{Admitted, Inadmissible, Policy, Stores, Suppressed, admit};
use postbell_journal::{AppendError, Appended, Batch, Done, Entry, Journal, RecordId, Verdict};
use postbell_sources::{Count, Health, State};
use tokio::sync::oneshot;
use tracing::warn;

use crate::metrics::{EventIndex, SourceMetrics, Tally};
use crate::traces::Traces;

pub(crate) use gather::Gatherer;
pub(crate) use socket::{Socket, serve};

/// What all publishers have in common: the source they count as.
#[derive(Debug)]
pub(crate) struct Publishers {
    journal: Arc<dyn Journal>,
    policy: Policy,
    metrics: SourceMetrics,
    health: Health,
    turned_away: AtomicBool,
    /// Where the way of what they hand in is told.
    pub(crate) traces: Traces,
}

/// An event that was admitted and can become a record.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) entry: Entry,
    pub(crate) event: EventIndex,
    pub(crate) repairs: Vec<Repair>,
}

/// What the journal will answer to a batch.
pub(crate) type Pending = oneshot::Receiver<Result<Appended, AppendError>>;

impl Publishers {
    /// Publishers of events that go into `journal`.
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        policy: Policy,
        metrics: SourceMetrics,
        health: Health,
    ) -> Self {
        health.set_state(State::Running, RUNNING);
        let (turned_away, traces) = (AtomicBool::new(false), Traces::default());
        Self { journal, policy, metrics, health, turned_away, traces }
    }

    /// The same, with the way of what they hand in told.
    pub(crate) fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Looks at one event of a publisher that speaks for `stores`; one that is strict keeps its
    /// octets where they are.
    pub(crate) fn admit(
        &self,
        stores: &Stores,
        json: Bytes,
        identity: Option<&[u8]>,
    ) -> Result<Taken, Inadmissible> {
        let admitted = admit(&self.policy, NAME, stores, &json, identity);
        let Admitted { id, keys, rewritten, repairs, suppressed } =
            admitted.inspect_err(|error| self.refuse(error))?;
        suppressed.into_iter().for_each(|what| self.metrics.suppress(what));
        if !repairs.is_empty() {
            self.metrics.repaired.increment(1);
        }
        let body = rewritten.map_or(json, Bytes::from);
        let event = EventIndex::at(keys.place());
        let entry = Entry { id: RecordId(id.as_u128()), head: keys.to_head(), body };
        Ok(Taken { entry, event, repairs })
    }

    /// Counts an event that isn't let in, and that policy is why, where it is (R22).
    fn refuse(&self, error: &Inadmissible) {
        if let Inadmissible::Off(group) = error {
            self.metrics.suppress(Suppressed::Group(*group));
        }
        self.reject();
    }

    /// Counts an event that is none.
    pub(crate) fn reject(&self) {
        self.metrics.rejected.increment(1);
        self.health.add(Count::Skipped, 1);
    }

    /// Hands a batch to the journal; batches of one publisher become records in the order of
    /// these calls. While the queue is full it waits here, and so does the publisher.
    pub(crate) async fn submit(&self, entries: Vec<Entry>) -> Pending {
        let (tell, told) = oneshot::channel();
        // A publisher that went away is not waiting for an answer.
        let done: Done = Box::new(move |result| drop(tell.send(result)));
        let mut refused = self.journal.offer(Batch { entries, checkpoint: None }, done);
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        while let Err((batch, done)) = refused {
            if begun.elapsed() >= BUSY_MAX {
                self.journal.append(batch, done);
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            refused = self.journal.offer(batch, done);
        }
        told
    }

    /// Counts what became of a batch; `events` are those handed over, in order.
    pub(crate) fn count(
        &self,
        events: impl IntoIterator<Item = EventIndex>,
        result: &Result<Appended, AppendError>,
    ) {
        self.note(result);
        let Ok(appended) = result else { return };
        let mut tally = Tally::default();
        let mut repeated = 0;
        for (event, verdict) in events.into_iter().zip(&appended.verdicts) {
            match verdict {
                Verdict::New(_) => tally.add(event),
                Verdict::Repeated(_) => repeated += 1,
            }
        }
        self.metrics.accept_all(&tally);
        self.metrics.repeated.increment(repeated);
        self.health.add(Count::Observations, appended.verdicts.len() as u64);
    }

    /// Counts what became of one event.
    pub(crate) fn count_one(&self, event: EventIndex, result: &Result<Verdict, AppendError>) {
        self.note(result);
        match result {
            Ok(Verdict::New(_)) => self.metrics.accept(event),
            Ok(Verdict::Repeated(_)) => self.metrics.repeated.increment(1),
            Err(_) => return,
        }
        self.health.add(Count::Observations, 1);
    }

    /// Shows whether publishers are being turned away, and logs it when that begins.
    fn note<T>(&self, result: &Result<T, AppendError>) {
        match result {
            Ok(_) if self.turned_away.load(Ordering::Relaxed) => {
                self.turned_away.store(false, Ordering::Relaxed);
                self.health.set_state(State::Running, RUNNING);
            }
            Ok(_) => {}
            Err(error) => {
                let state = match error {
                    AppendError::Stopped { .. } | AppendError::Closed => State::Stopped,
                    _ => State::Waiting,
                };
                self.health.set_state(state, error.to_string());
                if !self.turned_away.swap(true, Ordering::Relaxed) {
                    warn!(%error, "publishers are turned away");
                }
            }
        }
    }
}

/// The name publishers have as a source.
pub(crate) const NAME: &str = "publish";

/// What it does while all is well.
const RUNNING: &str = "taking events";

/// The first wait for room in the queue, which drains in a few milliseconds.
const PAUSE_FIRST: Duration = Duration::from_millis(1);

/// The longest such wait.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How long a publisher waits for room at most; then it is told to come back.
const BUSY_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::pretend::{PretendJournal, busy, full, stopped};

    const EVENT: &str = r#"{"event":"MailboxDelete","uri":"imap://a@h/B","timestamp":"2026-08-20T12:00:00+00:00","mailboxID":"imap://a@h/B","user":"a"}"#;

    fn publishers(refusals: Vec<AppendError>) -> (Publishers, Arc<PretendJournal>) {
        let journal = Arc::new(PretendJournal::refusing(refusals));
        let metrics = Metrics::new().source(NAME);
        let policy = Policy::default();
        (Publishers::new(Arc::clone(&journal) as _, policy, metrics, Health::new()), journal)
    }

    async fn handed_in(publishers: &Publishers) -> Result<Appended, AppendError> {
        let taken = publishers.admit(&Stores::any(), EVENT.into(), None).unwrap();
        let result = publishers.submit(vec![taken.entry]).await.await.unwrap();
        publishers.count([taken.event], &result);
        result
    }

    #[tokio::test]
    async fn a_strict_event_is_kept_where_it_lies() {
        let (publishers, _) = publishers(Vec::new());
        let body = Bytes::from(EVENT);
        let taken = publishers.admit(&Stores::any(), body.clone(), None).unwrap();
        assert_eq!(taken.entry.body.as_ptr(), body.as_ptr());
    }

    #[tokio::test]
    async fn a_long_queue_is_waited_for() {
        let (publishers, journal) = publishers(vec![busy(), busy(), busy()]);
        assert!(handed_in(&publishers).await.is_ok());
        assert_eq!(journal.bodies(), [EVENT]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_shown_until_there_is_room() {
        let (publishers, journal) = publishers(vec![full()]);
        assert_eq!(handed_in(&publishers).await, Err(full()));
        let shown = publishers.health.snapshot();
        assert_eq!(shown.state, State::Waiting);
        assert_eq!(shown.detail, "/data/journal: no room left on the disk");
        assert!(handed_in(&publishers).await.is_ok());
        assert_eq!(publishers.health.snapshot().state, State::Running);
        assert_eq!(journal.bodies().len(), 1);
    }

    #[tokio::test]
    async fn a_stopped_journal_is_told_and_shown() {
        let (publishers, _) = publishers(vec![stopped()]);
        assert_eq!(handed_in(&publishers).await, Err(stopped()));
        assert_eq!(publishers.health.snapshot().state, State::Stopped);
    }
}
