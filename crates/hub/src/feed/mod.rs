//! Following the journal: each reader by its own number, woken by what concerns it.

mod guide;
#[cfg(test)]
mod tests;
mod trail;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use postbell_engine::{Filter, in_words};
use postbell_journal::{Journal, ReadError, Records, Seq};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::error;

use self::guide::Guide;
pub(crate) use self::guide::Seat;
use self::trail::Look;
use crate::lock::locked;

/// Hands out readers of one journal.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    journal: Arc<dyn Journal>,
    last: watch::Receiver<u64>,
    damage: Damage,
    led: Arc<Led>,
}

/// The guide, and the task that it is, which ends when nobody has the feed any more.
#[derive(Debug)]
struct Led {
    guide: Arc<Guide>,
    task: OnceLock<AbortHandle>,
}

/// Records met since the start that can't be read, and what is wrong with them.
#[derive(Clone, Debug, Default)]
struct Damage(Arc<Mutex<BTreeMap<u64, String>>>);

/// One reader's place in the journal.
#[derive(Debug)]
pub(crate) struct Reader {
    journal: Arc<dyn Journal>,
    last: watch::Receiver<u64>,
    next: u64,
    octets: usize,
    damage: Damage,
    /// Where it is told what may concern it.
    seat: Option<Arc<Seat>>,
}

/// What a reader finds next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Records, at least one.
    Records(Records),
    /// Numbers that can't be told any more.
    Gap(Gap),
}

/// A range of records that can't be told any more, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gap {
    /// The first.
    pub(crate) from: u64,
    /// The last.
    pub(crate) to: u64,
    /// Why, in a few words.
    pub(crate) reason: &'static str,
}

impl Feed {
    /// Starts following `journal`.
    pub(crate) fn new(journal: Arc<dyn Journal>) -> Self {
        let (sender, last) = watch::channel(0);
        let sender = Arc::new(sender);
        let committed = Arc::clone(&sender);
        journal.on_commit(Box::new(move |seq| raise(&committed, seq)));
        // Only now, lest a commit between the two go unseen.
        raise(&sender, journal.bounds().last);
        let guide = Guide::new(*last.borrow());
        let led = Arc::new(Led { guide, task: OnceLock::new() });
        Self { journal, last, damage: Damage::default(), led }
    }

    /// Has the guide begin after this record, once it is sent off; nobody may have joined yet.
    pub(crate) fn stand_at(&self, upto: u64) {
        self.led.guide.stand_at(upto);
    }

    /// Sends the guide off; until then, whoever has joined is told nothing.
    pub(crate) fn lead(&self) {
        let (guide, alone) = (Arc::clone(&self.led.guide), self.reader(1));
        self.led.task.get_or_init(|| {
            tokio::spawn(guide.lead(move |next| alone.beginning_at(next))).abort_handle()
        });
    }

    /// Up to where the guide has looked: what it is told to look for concerns what comes behind that.
    pub(crate) fn led_upto(&self) -> u64 {
        self.led.guide.upto()
    }

    /// A place for a reader whom what one of the filters lets through may concern, its condition
    /// aside, and who wants nothing up to `done`.
    pub(crate) fn join(&self, filters: Vec<Filter>, done: u64) -> Arc<Seat> {
        Arc::new(self.led.guide.join(filters, done))
    }

    /// A reader whose first record is `next`.
    pub(crate) fn reader(&self, next: u64) -> Reader {
        Reader {
            journal: Arc::clone(&self.journal),
            last: self.last.clone(),
            next: next.max(1),
            octets: READ_OCTETS,
            damage: self.damage.clone(),
            seat: None,
        }
    }

    /// What can't be read of the journal, as far as anybody has come upon it since the start.
    pub(crate) fn damage(&self) -> Vec<String> {
        locked(&self.damage.0).values().cloned().collect()
    }

    /// The newest durable record.
    pub(crate) fn last(&self) -> u64 {
        self.journal.bounds().last.0
    }

    /// The journal followed.
    pub(crate) fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }
}

impl Reader {
    /// Reads about so many octets of bodies at once.
    pub(crate) fn reading(mut self, octets: usize) -> Self {
        self.octets = octets;
        self
    }

    /// Is told what may concern it: what it reads is every record that the filter of `seat` lets
    /// through, and others beside them.
    pub(crate) fn led(mut self, seat: Arc<Seat>) -> Self {
        self.seat = Some(seat);
        self
    }

    /// Another one like this, whose first record is `next`, and whom nobody leads.
    fn beginning_at(&self, next: u64) -> Self {
        Self {
            journal: Arc::clone(&self.journal),
            last: self.last.clone(),
            next: next.max(1),
            octets: self.octets,
            damage: self.damage.clone(),
            seat: None,
        }
    }

    /// Goes on with this record where it hasn't come so far: nothing before it concerns the reader.
    pub(crate) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Goes on with this record, before or after where it stands.
    pub(crate) fn seek(&mut self, next: u64) {
        self.next = next;
    }

    /// The newest record it knows of.
    pub(crate) fn newest(&self) -> u64 {
        *self.last.borrow()
    }

    /// The number of the record read next; where it is led, nothing before it is left that
    /// concerns it.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next
    }

    /// What comes next, if it is there already.
    pub(crate) async fn try_next(&mut self) -> Result<Option<Step>, ReadError> {
        self.try_next_within(u64::MAX).await
    }

    /// The same where it isn't settled yet what concerns the reader behind `bound`: nothing is passed
    /// over there.
    pub(crate) async fn try_next_within(&mut self, bound: u64) -> Result<Option<Step>, ReadError> {
        let last = *self.last.borrow_and_update();
        let mut until = u64::MAX;
        match self.seat.as_ref().map_or(Look::Unknown, |seat| seat.look(self.next)) {
            Look::Unknown => {}
            Look::Nothing { upto } => {
                self.skip_to(upto.min(bound) + 1);
                return Ok(None);
            }
            Look::At { first, .. } if first > bound => {
                self.skip_to(bound + 1);
                return Ok(None);
            }
            Look::At { first, last } => (self.next, until) = (first, last),
        }
        if self.next > last {
            return Ok(None);
        }
        let from = Seq(self.next);
        let octets = if until == self.next { 1 } else { self.octets };
        // New blocks are in the journal's memory: a copy of a pointer is not worth a thread.
        let read = if last - self.next <= HOT_RECORDS {
            self.journal.read(from, octets)
        } else {
            let journal = Arc::clone(&self.journal);
            let read = tokio::task::spawn_blocking(move || journal.read(from, octets));
            // Only a panic in the journal or the end of the runtime ends it without an answer.
            read.await.map_err(|error| ReadError::Unreadable {
                file: "journal".into(),
                source: Box::new(error),
            })?
        };
        match read {
            Ok(records) => {
                let records = records.up_to(Seq(until));
                Ok(records.last().map(|last| {
                    self.next = last.0 + 1;
                    Step::Records(records)
                }))
            }
            Err(ReadError::Dropped { first }) => {
                Ok(Some(self.skip(first.0, "retention has dropped them")))
            }
            Err(ReadError::Lost { to, .. }) => {
                Ok(Some(self.skip(to.0 + 1, "they were lost to damage")))
            }
            Err(error) => {
                self.damage.tell(&error);
                Err(error)
            }
        }
    }

    /// Waits until there is more; where it is led, more that concerns it.
    pub(crate) async fn more(&mut self) {
        let next = self.next;
        if let Some(seat) = &self.seat {
            return seat.more(next).await;
        }
        // The sender lives as long as the journal, and we hold the journal.
        if self.last.wait_for(|last| *last >= next).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn skip(&mut self, to: u64, reason: &'static str) -> Step {
        let gap = Gap { from: self.next, to: to.saturating_sub(1), reason };
        // Whatever the journal says, a reader only ever goes forward.
        self.next = to.max(self.next + 1);
        Step::Gap(gap)
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Damage {
    /// Logs a damaged record once, whoever comes upon it and however often.
    fn tell(&self, error: &ReadError) {
        let ReadError::Corrupt { seq, .. } = error else { return };
        let mut known = locked(&self.0);
        if known.len() < DAMAGE_MAX && !known.contains_key(&seq.0) {
            error!(%error, "a record can't be read: restore its file, or accept the loss (docs/journal.md)");
            known.insert(seq.0, in_words(error));
        }
    }
}

/// Tells the readers of a commit.
fn raise(sender: &watch::Sender<u64>, seq: Seq) {
    sender.send_if_modified(|last| {
        let grew = seq.0 > *last;
        *last = (*last).max(seq.0);
        grew
    });
}

/// Octets of bodies read at once: several blocks, and little for a thousand readers.
const READ_OCTETS: usize = 256 * 1024;

/// Damaged records remembered; where there are more, the disk is gone as a whole.
const DAMAGE_MAX: usize = 100;

/// Among this many newest records a read finds its block in memory.
const HOT_RECORDS: u64 = 16_384;
