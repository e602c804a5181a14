//! What comes in: the journal, read as far as there is room for what is wanted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail_event::EventId;
use postbell_engine::{Keys, Verdict};
use postbell_journal::{ReadError, Record, Records};
use tracing::warn;

use super::{Trouble, Worker};
use crate::feed::{Gap, Reader, Step};
use crate::sharing::{Candidates, Reads, Unknown, last};
use crate::stream::{gap_event, gap_id};
use crate::subscriptions::attempts::{Held, Whose};

impl Worker<'_> {
    /// Whether another delivery may be held.
    pub(super) fn has_room(&self) -> bool {
        self.attempts.has_room(WINDOW_OCTETS)
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> Poll<Result<(), Trouble>> {
        loop {
            let (reader, found, candidates) = ready!(self.reading.poll_unpin(context));
            let found = match found {
                Ok(found) => found,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            let wait = if found.is_none() { Wait::Yes } else { Wait::No };
            // It passes over what doesn't concern it.
            let passed = reader.next_seq().saturating_sub(1);
            let reads = self.job.reads.clone();
            self.reading = step(reader, wait, Arc::clone(&self.passed), reads);
            self.job.entry.live.set_trouble(None);
            match found {
                None if passed > self.attempts.lanes.passed() => {
                    self.attempts.lanes.pass(passed);
                    return Poll::Ready(Ok(()));
                }
                // Polled again, to be woken by what concerns it.
                None => {}
                Some(Step::Gap(gap)) => {
                    self.gap(gap);
                    return Poll::Ready(Ok(()));
                }
                Some(Step::Records(records)) => {
                    self.chunk = Some((records, 0, candidates));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Whether nothing is left to do of what was read.
    fn is_idle(&self) -> bool {
        self.attempts.lanes.is_idle() && self.burials.is_empty() && self.chunk.is_none()
    }

    /// Shows that it has nothing to do, or that it has.
    pub(super) fn note_rest(&self) {
        self.job.entry.live.rests(self.is_idle().then_some(&self.job.seat));
    }

    /// Passes over what doesn't concern it, where it has nothing to do, or nothing before it knows what
    /// is missing of a batch.
    pub(super) fn pass_over(&mut self) {
        let has_read_all = self.chunk.is_none() && self.burials.is_empty();
        if self.is_idle() || (has_read_all && self.attempts.lanes.is_stuck()) {
            let passed = self.attempts.lanes.passed();
            let bound = self.job.reads.bound().unwrap_or(passed);
            let reached = self.job.seat.reached(passed).min(bound).max(passed);
            self.attempts.lanes.pass(reached);
            self.passed.store(reached, Ordering::Relaxed);
        }
    }

    /// Looks at the records read, as far as there is room.
    pub(super) fn take_up(&mut self) {
        let Some((records, next, mut candidates)) = self.chunk.take() else { return };
        for record in records.iter().skip_while(|record| record.seq.0 < next) {
            let seq = record.seq.0;
            if !self.has_room() {
                self.chunk = Some((records.clone(), seq, candidates));
                return;
            }
            let view = Keys::from_head(record.head).view(record.body);
            let shared = match seq <= self.inherited {
                true => candidates.once(seq),
                false => candidates.now(),
            };
            let (verdict, whose) = self.job.judge(&view, record.body, shared);
            match verdict {
                Verdict::Wanted => {
                    self.job.entry.live.matched.fetch_add(1, Ordering::Relaxed);
                    let held = Held {
                        id: EventId::from_u128(record.id.0),
                        head: *record.head,
                        body: record.body.into(),
                        prev_seq: self.attempts.lanes.newest(),
                        whose,
                    };
                    self.attempts.push(seq, view.lane(), held);
                }
                Verdict::Unwanted => self.attempts.lanes.pass(seq),
                Verdict::Unclear(why) => {
                    // Of others not even that is told: it isn't settled yet who may know it.
                    if whose == Whose::Own {
                        self.job.entry.live.unclear(why);
                    }
                    self.attempts.lanes.pass(seq);
                }
            }
        }
    }

    /// Tells of records that can't be told any more, under the number of the last of them.
    pub(super) fn gap(&mut self, gap: Gap) {
        // It has passed all of that: there was nothing for it.
        if gap.to <= self.attempts.lanes.passed() {
            return;
        }
        warn!(subscription = %self.job.entry.label(), from = gap.from, to = gap.to, reason = gap.reason, "records can't be delivered any more");
        let event = gap_event(&self.job.context.store, gap, jiff::Timestamp::now());
        let Some((keys, body)) = event.and_then(|body| Some((Keys::find(&body)?, body))) else {
            self.attempts.lanes.pass(gap.to);
            return;
        };
        let id = gap_id(gap);
        let lane: Box<[u8]> = keys.view(&body).lane().into();
        let prev_seq = self.attempts.lanes.newest();
        let whose = Whose::Own;
        let held = Held { id, head: keys.to_head(), body: body.into(), prev_seq, whose };
        self.attempts.push(gap.to, &lane, held);
    }
}

/// One step in the journal; it hands the reader back, and what of others may turn out to be readable.
pub(super) type Reading = BoxFuture<'static, (Reader, Result<Option<Step>, ReadError>, Candidates)>;

/// Whether a reader at the journal's end waits there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    Yes,
    No,
}

/// Takes the next step in the journal, as soon as somebody asks for it, and behind what was `passed`
/// over meanwhile: where its trail overflows, one that slept looks at no more than it has to.
pub(super) fn step(
    mut reader: Reader,
    wait: Wait,
    passed: Arc<AtomicU64>,
    reads: Reads,
) -> Reading {
    let step = async move {
        if wait == Wait::Yes {
            reader.more().await;
        }
        reader.skip_to(passed.load(Ordering::Relaxed).saturating_add(1));
        let bound = reads.passable(reader.newest()).await;
        let found = reader.try_next_within(bound).await;
        let candidates = match &found {
            Ok(Some(Step::Records(records))) => readable(&reads, records).await,
            Ok(Some(Step::Gap(_)) | None) | Err(_) => Candidates::default(),
        };
        (reader, found, candidates)
    };
    step.boxed()
}

/// What of others may be read where some records are judged. Where the store can't be asked it is
/// what was so last: each delivery waits until that is settled, and what is not a delivery now never
/// will be.
async fn readable(reads: &Reads, records: &Records) -> Candidates {
    let upto = last(records.last());
    let candidates = reads.candidates(upto).await;
    let is_of_others = |record: Record<'_>| {
        let view = Keys::from_head(record.head).view(record.body);
        candidates.now().is_of(view.owner().as_deref())
    };
    if candidates.now().is_empty() || !records.iter().any(is_of_others) {
        return candidates;
    }
    match reads.whole(upto).await {
        // Beside what was lost by then.
        Ok(settled) => reads.candidates_now(upto).settled(settled.shared),
        Err(Unknown) => candidates,
    }
}

/// Octets of events a subscription may hold; beyond, nothing more is read. With content of
/// messages in them a few events are a lot.
const WINDOW_OCTETS: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use postbell_engine::{Policy, Stores, admit};
    use postbell_journal::{Batch, Entry, Journal as _, Options, RecordId, SqliteJournal};

    use super::*;
    use crate::feed::Feed;

    #[tokio::test]
    async fn one_that_slept_does_not_look_at_what_it_was_past() {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
        let entries = (1..=6).map(|own| {
            let json = format!(
                r#"{{"event":"FlagsSet","uri":"imap://a@h/A","timestamp":"2026-08-20T13:34:14+02:00","flagNames":["x"],"uidset":"{own}"}}"#
            );
            let admitted = admit(&Policy::default(), "t", &Stores::any(), json.as_bytes(), None).unwrap();
            let (id, head) = (RecordId(admitted.id.as_u128()), admitted.keys.to_head());
            Entry { id, head, body: json.into() }
        });
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| tell.send(result).unwrap_or_default());
        journal.append(Batch { entries: entries.collect(), checkpoint: None }, done);
        told.recv().unwrap().unwrap();
        // Nobody leads it, as where its trail has overflown.
        let reader = Feed::new(Arc::new(journal)).reader(1);
        let passed = Arc::new(AtomicU64::new(4));
        let (reader, found, _) = step(reader, Wait::Yes, passed, Reads::default()).await;
        let Some(Step::Records(records)) = found.unwrap() else { panic!("nothing was read") };
        assert_eq!(records.iter().next().map(|record| record.seq.0), Some(5));
        assert_eq!(reader.next_seq(), 7);
    }
}
