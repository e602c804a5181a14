//! How far a subscription has got, as it is kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postbell_engine::{Keys, Verdict};
use postbell_journal::{ReadError, Seq};
use tokio::time::Instant;
use tracing::debug;

use super::{Job, Worker};
use crate::feed::Step;
use crate::sharing::Candidates;

impl Worker<'_> {
    /// Up to where nothing is left to do, and the last delivery among it: a dead letter that
    /// isn't kept yet holds both back, since a repeat is better than a delivery nobody knows of.
    fn progress(&self) -> (u64, Option<u64>) {
        match self.burials.first() {
            Some(first) if first.seq <= self.attempts.lanes.cursor() => match self.job.batch {
                None => (first.seq.saturating_sub(1), first.prev_seq),
                // Just before it may be within another batch.
                Some(_) => (self.saved.done, self.saved.told),
            },
            Some(_) | None => (self.attempts.lanes.cursor(), self.attempts.lanes.told()),
        }
    }

    /// Shows how far it has got, and stores it now and then.
    pub(super) fn note_progress(&mut self) {
        let (done, told) = self.progress();
        self.job.entry.live.cursor.store(done, Ordering::Relaxed);
        let further = done.saturating_sub(self.saved.done);
        let is_due = match told == self.saved.told {
            // What is read again after a crash is passed over again.
            true => further >= SAVE_RESTING_EVERY || self.saved.at.elapsed() >= SAVE_RESTING_AFTER,
            // What was delivered is delivered again.
            false => further >= SAVE_EVERY || self.attempts.is_empty(),
        };
        if further > 0 && is_due {
            self.save();
        }
    }

    /// Stores how far it has got, where that is news.
    pub(super) fn save(&mut self) {
        let (done, told) = self.progress();
        if done <= self.saved.done {
            return;
        }
        match self.cursors.save(self.job.context.feed.journal().as_ref(), done, told) {
            Ok(()) => self.saved = Saved::new(done, told),
            // It says so itself, and loudly; a cursor that stands too early only repeats.
            Err(error) => debug!(%error, "a cursor was not stored"),
        }
    }
}

/// How far a subscription had got when that was stored last.
#[derive(Debug)]
pub(super) struct Saved {
    done: u64,
    told: Option<u64>,
    at: Instant,
}

impl Saved {
    /// It is stored now.
    pub(super) fn new(done: u64, told: Option<u64>) -> Self {
        Self { done, told, at: Instant::now() }
    }
}

/// The names of a subscription's cursors in the journal.
///
/// Three numbers are kept: the last record done; the last *delivery* among the records done, for
/// the next one's `prevSeq`; and up to where that is known. They are set in this order and each
/// may stand too early after a crash, so whatever is between the second or third and the first
/// is looked at again at the next start.
///
/// One that is begun anew has others: those before might be found after a crash where they stood, ahead
/// of where it is to begin.
#[derive(Debug)]
pub(in crate::subscriptions) struct Cursors {
    done: String,
    told: String,
    known: String,
}

impl Cursors {
    /// Those of a subscription that was begun anew so often.
    pub(in crate::subscriptions) fn new(id: &str, begun_anew: u32) -> Self {
        let done = match begun_anew {
            0 => id.to_owned(),
            times => format!("{id}/{times}"),
        };
        Self { told: format!("{done}/told"), known: format!("{done}/known"), done }
    }

    /// All of their names.
    #[cfg(test)]
    pub(in crate::subscriptions) fn names(&self) -> [String; 3] {
        [self.known.clone(), self.told.clone(), self.done.clone()]
    }

    /// The last record done, where any was.
    pub(in crate::subscriptions) fn done(
        &self,
        journal: &dyn postbell_journal::Journal,
    ) -> Result<Option<Seq>, ReadError> {
        journal.cursor(&self.done)
    }

    /// The last record done, where any was, as the hub starts. A journal that was lost has begun at 1
    /// again: one that was to begin behind its end begins with what comes, since it would be long until
    /// there is such a number.
    pub(in crate::subscriptions) fn stand(
        &self,
        journal: &dyn postbell_journal::Journal,
        start: u64,
    ) -> Option<u64> {
        let done = self.done(journal).ok()?;
        let last = journal.bounds().last.0;
        if done.is_none() && start > last && self.save(journal, last, None).is_ok() {
            return Some(last);
        }
        done.map(|done| done.0)
    }

    /// Up to where nothing is done again, also after a crash; none where that can't be read.
    pub(in crate::subscriptions) fn done_for_good(
        &self,
        journal: &dyn postbell_journal::Journal,
    ) -> u64 {
        journal.durable_cursor(&self.done).ok().flatten().map_or(0, |done| done.0)
    }

    /// Where the subscription stands: the last record done, and the last delivery among them.
    pub(super) async fn load(
        &self,
        job: &Job,
        start: u64,
    ) -> Result<(u64, Option<u64>), ReadError> {
        let feed = &job.context.feed;
        let read = |name: &str| Ok::<_, ReadError>(feed.journal().cursor(name)?.map(|seq| seq.0));
        let done = read(&self.done)?.unwrap_or(start);
        let mut told = read(&self.told)?;
        let known = read(&self.known)?.unwrap_or(start).max(told.unwrap_or(0));
        let mut shared = match known < done {
            true => job.reads.candidates(done).await,
            false => Candidates::default(),
        };
        let mut reader = feed.reader(known + 1);
        while reader.next_seq() <= done {
            match reader.try_next().await? {
                None => break,
                Some(Step::Gap(gap)) => told = Some(gap.to.min(done)),
                Some(Step::Records(records)) => {
                    for record in records.iter().filter(|record| record.seq.0 <= done) {
                        let view = Keys::from_head(record.head).view(record.body);
                        let shared = shared.once(record.seq.0);
                        if job.judge(&view, record.body, shared).0 == Verdict::Wanted {
                            told = Some(record.seq.0);
                        }
                    }
                }
            }
        }
        Ok((done, told))
    }

    pub(super) fn save(
        &self,
        journal: &dyn postbell_journal::Journal,
        done: u64,
        told: Option<u64>,
    ) -> Result<(), postbell_journal::AppendError> {
        journal.set_cursor(&self.done, Some(Seq(done)))?;
        if let Some(told) = told {
            journal.set_cursor(&self.told, Some(Seq(told)))?;
        }
        journal.set_cursor(&self.known, Some(Seq(done)))
    }

    pub(in crate::subscriptions) fn forget(
        &self,
        journal: &dyn postbell_journal::Journal,
    ) -> Result<(), postbell_journal::AppendError> {
        for name in [&self.known, &self.told, &self.done] {
            journal.set_cursor(name, None)?;
        }
        Ok(())
    }
}

/// Records passed over after which the cursor is stored, although nothing was delivered: of ten
/// thousand subscriptions with nothing to do not each is to be written for each record.
const SAVE_RESTING_EVERY: u64 = 10_000;

/// How long after the last time the cursor is stored although little was passed over: retention
/// would drop it some day, and what was dropped unseen is a gap.
const SAVE_RESTING_AFTER: Duration = Duration::from_secs(3600);

/// Deliveries after which the cursor is stored even though more are under way: what a killed hub
/// repeats at most, beside what the journal had yet to write.
const SAVE_EVERY: u64 = 64;
