//! What comes in: the journal, read as far as there is room for what is wanted of it.

use std::hash::Hasher;
use std::sync::atomic::Ordering;
use std::task::{self, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail_event::EventId;
use postbell_engine::{HEAD_OCTETS, Keys, Verdict, event_id};
use postbell_journal::ReadError;
use tracing::warn;

use super::{Trouble, Worker};
use crate::feed::{Gap, Reader, Step};
use crate::stream::gap_event;

impl Worker<'_> {
    /// Whether another delivery may be held.
    pub(super) fn has_room(&self) -> bool {
        self.lanes.has_room() && (self.held_octets < WINDOW_OCTETS || self.held.is_empty())
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> Poll<Result<(), Trouble>> {
        loop {
            let (reader, found) = ready!(self.reading.poll_unpin(context));
            let found = match found {
                Ok(found) => found,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            let wait = if found.is_none() { Wait::Yes } else { Wait::No };
            // It passes over what doesn't concern it.
            let passed = reader.next_seq().saturating_sub(1);
            self.reading = step(reader, wait);
            self.job.entry.live.set_trouble(None);
            match found {
                None if passed > self.lanes.passed() => {
                    self.lanes.pass(passed);
                    return Poll::Ready(Ok(()));
                }
                // Polled again, to be woken by what concerns it.
                None => {}
                Some(Step::Gap(gap)) => {
                    self.gap(gap);
                    return Poll::Ready(Ok(()));
                }
                Some(Step::Records(records)) => {
                    self.chunk = Some((records, 0));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Whether nothing is left to do of what was read.
    fn is_idle(&self) -> bool {
        self.lanes.is_idle() && self.burials.is_empty() && self.chunk.is_none()
    }

    /// Shows that it has nothing to do, or that it has.
    pub(super) fn note_rest(&self) {
        self.job.entry.live.rests(self.is_idle().then_some(&self.job.seat));
    }

    /// Passes over what doesn't concern it, where it has nothing to do.
    pub(super) fn pass_over(&mut self) {
        if self.is_idle() {
            self.lanes.pass(self.job.seat.reached(self.lanes.passed()));
        }
    }

    /// Looks at the records read, as far as there is room.
    pub(super) fn take_up(&mut self) {
        let Some((records, next)) = self.chunk.take() else { return };
        for record in records.iter().skip_while(|record| record.seq.0 < next) {
            let seq = record.seq.0;
            if !self.has_room() {
                self.chunk = Some((records.clone(), seq));
                return;
            }
            let view = Keys::from_head(record.head).view(record.body);
            match self.job.judge(&view, record.body) {
                Verdict::Wanted => {
                    self.job.entry.live.matched.fetch_add(1, Ordering::Relaxed);
                    self.lanes.push(seq, view.lane(), record.body.len(), self.now());
                    let id = EventId::from_u128(record.id.0);
                    self.hold(seq, Held { id, head: *record.head, body: record.body.into() });
                }
                Verdict::Unwanted => self.lanes.pass(seq),
                Verdict::Unclear(why) => {
                    self.job.entry.live.unclear(why);
                    self.lanes.pass(seq);
                }
            }
        }
    }

    /// Tells of records that can't be told any more, under the number of the last of them.
    pub(super) fn gap(&mut self, gap: Gap) {
        // It has passed all of that: there was nothing for it.
        if gap.to <= self.lanes.passed() {
            return;
        }
        warn!(subscription = %self.job.entry.name, from = gap.from, to = gap.to, reason = gap.reason, "records can't be delivered any more");
        let event = gap_event(&self.job.context.store, gap);
        let Some((keys, body)) = event.and_then(|body| Some((Keys::find(&body)?, body))) else {
            self.lanes.pass(gap.to);
            return;
        };
        // The same gap has the same id, whenever it is told.
        let id = event_id("gap", format!("{}-{}", gap.from, gap.to).as_bytes(), 0, 0);
        self.lanes.push(gap.to, keys.view(&body).lane(), body.len(), self.now());
        self.hold(gap.to, Held { id, head: keys.to_head(), body: body.into() });
    }

    fn hold(&mut self, seq: u64, held: Held) {
        self.held_octets += held.body.len();
        self.held.insert(seq, held);
    }

    pub(super) fn let_go(&mut self, seq: u64) -> Option<Held> {
        let held = self.held.remove(&seq)?;
        self.held_octets = self.held_octets.saturating_sub(held.body.len());
        Some(held)
    }
}

/// A record on its way: a copy, so that it doesn't keep a whole block in memory.
pub(super) struct Held {
    pub(super) id: EventId,
    pub(super) head: [u8; HEAD_OCTETS],
    pub(super) body: Box<[u8]>,
}

/// A number is its own hash, but for the upper bits, which tables look at as well: records'
/// numbers follow each other, and nobody chooses them.
#[derive(Default)]
pub(super) struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*octet));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number ^ (number << 57);
    }
}

/// One step in the journal; it hands the reader back.
pub(super) type Reading = BoxFuture<'static, (Reader, Result<Option<Step>, ReadError>)>;

/// Whether a reader at the journal's end waits there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    Yes,
    No,
}

/// Takes the next step in the journal, as soon as somebody asks for it.
pub(super) fn step(mut reader: Reader, wait: Wait) -> Reading {
    let step = async move {
        if wait == Wait::Yes {
            reader.more().await;
        }
        let found = reader.try_next().await;
        (reader, found)
    };
    step.boxed()
}

/// Octets of events a subscription may hold; beyond, nothing more is read. With content of
/// messages in them a few events are a lot.
const WINDOW_OCTETS: usize = 8 * 1024 * 1024;
