//! Which delivery is attempted next: in order within a lane, lanes side by side.

mod batch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use self::batch::BatchLimits;
use self::batch::Batches;
use super::{Delivery, Moment, Next, Outcome, Schedule};

/// The deliveries of one subscription that are not done yet.
///
/// Those of one lane (one mailbox) are attempted strictly in order, the next one when the one before
/// it is done; different lanes go side by side. A lane that waits for its next attempt holds up only
/// itself, until the window is full: then nothing new is taken, so that a subscriber who fails for
/// days costs no more memory than one who fails for a minute.
///
/// Each attempt is at one delivery, or, [in batches](Lanes::in_batches), at several together.
///
/// Records are handed in by their numbers, in order, wanted or not; [`Lanes::cursor`] says up to
/// which number nothing is left to do.
#[derive(Debug)]
pub struct Lanes {
    schedule: Schedule,
    limits: Limits,
    /// From the first delivery not done on, done ones between included.
    slots: VecDeque<Slot>,
    lanes: HashMap<Arc<[u8]>, Lane>,
    /// Lanes with something to attempt now, by the first delivery of each.
    ready: BTreeMap<u64, Arc<[u8]>>,
    /// When a delivery, or the batch it is the first of, may be attempted again.
    waiting: BTreeSet<(Moment, u64)>,
    batches: Batches,
    under_way: usize,
    /// The last record handed in.
    passed: u64,
    /// The last delivery handed in.
    newest: Option<u64>,
    /// The last delivery done, all before it included.
    told: Option<u64>,
}

/// A delivery to attempt, or a batch by its first one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The record's number.
    pub seq: u64,
    /// The number of the delivery before it, of whatever lane.
    pub prev_seq: Option<u64>,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// Whether its batch was put together for it, and is to be kept before it is attempted.
    pub is_new: bool,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    side_by_side: usize,
    window: usize,
    batch: BatchLimits,
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    prev_seq: Option<u64>,
    lane: Arc<[u8]>,
    octets: usize,
    /// Whether it goes together with others of its kind alone.
    is_apart: bool,
    /// When it was handed in.
    since: Moment,
    /// Of a batch, that of its first delivery counts.
    delivery: Delivery,
    /// The first delivery of the batch it is in, where it is in one.
    batch: Option<u64>,
    /// The last delivery of its batch, once that is done.
    done: Option<u64>,
}

/// What is not done of one lane; the first is under way, waits, or its lane is ready.
#[derive(Debug, Default)]
struct Lane {
    seqs: VecDeque<u64>,
    octets: usize,
}

impl Lanes {
    /// Nothing under way yet: all up to `cursor` is done, and `told` was the last delivery among
    /// it. At most `side_by_side` attempts go on at once, over at most `window` deliveries from
    /// the first not done to the newest.
    #[must_use]
    pub fn new(
        schedule: Schedule,
        cursor: u64,
        told: Option<u64>,
        side_by_side: usize,
        window: usize,
    ) -> Self {
        let (side_by_side, window) = (side_by_side.max(1), window.max(1));
        Self {
            schedule,
            limits: Limits { side_by_side, window, batch: BatchLimits::default() },
            slots: VecDeque::new(),
            lanes: HashMap::new(),
            ready: BTreeMap::new(),
            waiting: BTreeSet::new(),
            batches: Batches::default(),
            under_way: 0,
            passed: cursor,
            newest: told,
            told,
        }
    }

    /// Whether another delivery may be handed in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.slots.len() < self.limits.window
    }

    /// Says that no record behind those handed in is wanted, up to `seq`.
    pub fn pass(&mut self, seq: u64) {
        self.leave_out(seq.saturating_add(1));
        self.passed = self.passed.max(seq);
        self.unstick();
    }

    /// The last record handed in, or passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Hands in a delivery of about so many octets. Numbers only ever grow; one that doesn't is
    /// passed over, as it was handed in before, and the answer is `false`.
    pub fn push(&mut self, seq: u64, lane: &[u8], octets: usize, now: Moment) -> bool {
        self.hand_in(seq, lane, octets, now, false)
    }

    /// The same for one that may have to wait for something that others don't: it goes into no batch
    /// with those. All of a lane are handed in either way.
    pub fn push_apart(&mut self, seq: u64, lane: &[u8], octets: usize, now: Moment) -> bool {
        self.hand_in(seq, lane, octets, now, true)
    }

    fn hand_in(
        &mut self,
        seq: u64,
        lane: &[u8],
        octets: usize,
        now: Moment,
        is_apart: bool,
    ) -> bool {
        if seq <= self.passed {
            return false;
        }
        self.leave_out(seq);
        self.passed = seq;
        let prev_seq = self.newest.replace(seq);
        let lane = match self.lanes.get_key_value(lane) {
            Some((lane, _)) => Arc::clone(lane),
            None => Arc::from(lane),
        };
        let batch = self.expected_batch(seq, &lane);
        let queue = self.lanes.entry(Arc::clone(&lane)).or_default();
        if queue.seqs.is_empty() && batch.is_none() {
            self.ready.insert(seq, Arc::clone(&lane));
        }
        queue.seqs.push_back(seq);
        queue.octets = queue.octets.saturating_add(octets);
        let (since, delivery) = (now, Delivery::default());
        let slot =
            Slot { seq, prev_seq, lane, octets, is_apart, since, delivery, batch, done: None };
        self.slots.push_back(slot);
        if let Some(batch) = batch {
            self.see_whether_whole(batch);
        }
        self.unstick();
        true
    }

    /// Whether there is something to attempt now.
    #[must_use]
    pub fn has_ready(&self, now: Moment) -> bool {
        let is_due = self.waiting.first().is_some_and(|(at, _)| *at <= now);
        self.under_way < self.limits.side_by_side
            && (is_due || self.batches.has_whole() || self.has_gathered(now))
    }

    /// What to attempt now, if there is anything; it is under way then until [`Lanes::conclude`].
    pub fn start(&mut self, now: Moment) -> Option<Attempt> {
        if self.under_way >= self.limits.side_by_side {
            return None;
        }
        let (seq, is_new) = self.next(now)?;
        let slot = self.slot(seq)?;
        let number = slot.delivery.attempts_made().saturating_add(1);
        let attempt = Attempt { seq, prev_seq: slot.prev_seq, number, is_new };
        self.under_way += 1;
        Some(attempt)
    }

    /// What else is in the batch that begins with `seq`: numbers that grow, all behind it.
    #[must_use]
    pub fn others(&self, seq: u64) -> &[u64] {
        self.batches.others(seq)
    }

    /// The last delivery handed in: the one before the next.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Says how the attempt at `seq` ended, at all of its batch. After [`Next::GiveUp`] the
    /// deliveries count as done; park them before the cursor is stored.
    pub fn conclude(&mut self, seq: u64, outcome: Outcome, now: Moment, dice: u32) -> Next {
        let schedule = self.schedule.clone();
        let Some(slot) = self.slot(seq) else { return Next::Done };
        let next = slot.delivery.conclude(&schedule, outcome, now, dice);
        match next {
            Next::TryAt(at) => {
                self.waiting.insert((at, seq));
            }
            Next::Done | Next::GiveUp => {
                let others = self.batches.take(seq);
                let last = others.last().copied().unwrap_or(seq);
                self.finish(seq, last);
                for other in others {
                    self.finish(other, last);
                }
                self.forget_done();
            }
            // Nothing follows, so nothing need be tidied.
            Next::End => {}
        }
        self.under_way = self.under_way.saturating_sub(1);
        self.unstick();
        next
    }

    /// Takes back that `seq` is attempted, with all of its batch: nothing was sent. After the pause it
    /// is, as if it had not been begun.
    pub fn put_back(&mut self, seq: u64, now: Moment, pause: Duration) -> Next {
        if self.slot(seq).is_none() {
            return Next::Done;
        }
        let at = now.after(pause);
        self.waiting.insert((at, seq));
        self.under_way = self.under_way.saturating_sub(1);
        Next::TryAt(at)
    }

    /// When something that waits may be attempted, the soonest; none while as many are under way as
    /// may be, since one of them has to end first.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        if self.under_way >= self.limits.side_by_side {
            return None;
        }
        let again = self.waiting.first().map(|(at, _)| *at);
        again.into_iter().chain(self.gathered_by()).min()
    }

    /// The number up to which nothing is left to do; never one within a batch.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.slots.front().map_or(self.passed, |slot| slot.seq.saturating_sub(1))
    }

    /// The last delivery among those done without a gap.
    #[must_use]
    pub fn told(&self) -> Option<u64> {
        self.told
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// What goes next, and whether it was put together for that.
    fn next(&mut self, now: Moment) -> Option<(u64, bool)> {
        if let Some(&(at, seq)) = self.waiting.first()
            && at <= now
        {
            self.waiting.pop_first();
            return Some((seq, false));
        }
        if let Some(seq) = self.batches.take_whole() {
            return Some((seq, false));
        }
        if !self.has_gathered(now) {
            return None;
        }
        self.gather().map(|seq| (seq, true))
    }

    /// Takes the first delivery of its lane out, which is done; `last` is the last of its batch.
    fn finish(&mut self, seq: u64, last: u64) {
        let Some(slot) = self.slot(seq) else { return };
        slot.done = Some(last);
        let (lane, octets, batch) = (Arc::clone(&slot.lane), slot.octets, slot.batch);
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        queue.seqs.pop_front();
        queue.octets = queue.octets.saturating_sub(octets);
        let Some(next) = queue.seqs.front().copied() else {
            self.lanes.remove(&lane);
            return;
        };
        match self.slot(next).and_then(|slot| slot.batch) {
            None => {
                self.ready.insert(next, lane);
            }
            // It is finished along with this one.
            same if same == batch => {}
            Some(other) => self.see_whether_whole(other),
        }
    }

    /// Forgets what is done up to the first that isn't, but no part of a batch without the rest: after
    /// a restart it would be another batch.
    fn forget_done(&mut self) {
        let (mut whole, mut reaches) = (0, 0);
        for (slot, count) in self.slots.iter().zip(1..) {
            let Some(last) = slot.done else { break };
            reaches = last.max(reaches);
            if reaches <= slot.seq {
                whole = count;
            }
        }
        self.told = self.slots.drain(..whole).next_back().map(|slot| slot.seq).or(self.told);
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let place = self.place(seq)?;
        self.slots.get_mut(place)
    }

    fn place(&self, seq: u64) -> Option<usize> {
        // Where every record is wanted its place is its distance from the first.
        let first = self.slots.front()?.seq;
        let place = usize::try_from(seq.checked_sub(first)?).ok()?;
        match self.slots.get(place) {
            Some(slot) if slot.seq == seq => Some(place),
            Some(_) | None => self.slots.binary_search_by_key(&seq, |slot| slot.seq).ok(),
        }
    }
}
