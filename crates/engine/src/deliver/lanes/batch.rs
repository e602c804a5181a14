//! Deliveries that go together: gathered, frozen, and put together again after a restart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Lanes, Moment};

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

/// How much goes into one batch, and how long it is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchLimits {
    /// Deliveries at most.
    pub events: usize,
    /// Octets of deliveries at most, as they are handed in; a single one may have more.
    pub octets: usize,
    /// How long a delivery waits for others to go with it.
    pub delay: Duration,
}

impl Default for BatchLimits {
    /// Each delivery goes by itself, and at once.
    fn default() -> Self {
        Self { events: 1, octets: usize::MAX, delay: Duration::ZERO }
    }
}

/// Which deliveries belong together.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// What else is in each batch, by its first delivery.
    others: HashMap<u64, Vec<u64>>,
    /// What was frozen before a restart and isn't handed in yet, with the first of its batch.
    expected: BTreeMap<u64, u64>,
    /// Those frozen before a restart that are there again as a whole.
    whole: VecDeque<u64>,
}

impl Batches {
    pub(super) fn others(&self, seq: u64) -> &[u64] {
        self.others.get(&seq).map_or(&[], Vec::as_slice)
    }

    pub(super) fn take(&mut self, seq: u64) -> Vec<u64> {
        self.others.remove(&seq).unwrap_or_default()
    }

    pub(super) fn has_whole(&self) -> bool {
        !self.whole.is_empty()
    }

    pub(super) fn take_whole(&mut self) -> Option<u64> {
        self.whole.pop_front()
    }
}

impl Lanes {
    /// The same, of which attempts are at batches: what has gathered of lanes in which nothing is
    /// under way goes together, in the order of its numbers, once there is as much as fits or the
    /// first of it has waited long enough; what is [apart](Lanes::push_apart) by itself. Batches of different lanes go side by side.
    ///
    /// A batch is frozen: it is attempted with the same deliveries until it is done.
    #[must_use]
    pub fn in_batches(mut self, limits: BatchLimits) -> Self {
        self.limits.batch = BatchLimits { events: limits.events.max(1), ..limits };
        self
    }

    /// Says, before anything is handed in, that these deliveries were put together before a restart:
    /// they go together again, once all of them are handed in. Those that aren't wanted any more are
    /// left out.
    pub fn expect(&mut self, members: &[u64]) {
        let passed = self.passed;
        let known = &self.batches.expected;
        let is_new = |seq: &u64| *seq > passed && !known.contains_key(seq);
        let members: Vec<u64> = members.iter().copied().filter(is_new).collect();
        let Some((first, others)) = members.split_first() else { return };
        self.batches.expected.extend(members.iter().map(|seq| (*seq, *first)));
        self.batches.others.insert(*first, others.to_vec());
    }

    /// Takes all but the first `keep` deliveries out of a batch that was only now put together, and
    /// hands them back to their lanes.
    pub fn cut(&mut self, seq: u64, keep: usize) {
        let Some(others) = self.batches.others.get_mut(&seq) else { return };
        let left = others.split_off(keep.saturating_sub(1).min(others.len()));
        for seq in left {
            let Some(slot) = self.slot(seq) else { continue };
            slot.batch = None;
            let lane = Arc::clone(&slot.lane);
            if self.lanes.get(&lane).and_then(|queue| queue.seqs.front()) == Some(&seq) {
                self.ready.insert(seq, lane);
            }
        }
    }

    /// Whether nothing goes on before more is handed in: all there is belongs to batches of which
    /// something is missing.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let is_waiting = self.under_way > 0 || !self.waiting.is_empty() || self.batches.has_whole();
        !self.slots.is_empty() && self.ready.is_empty() && !is_waiting
    }

    /// Puts a batch together of what is ready.
    pub(super) fn gather(&mut self) -> Option<u64> {
        let limits = self.limits.batch;
        if limits.events == 1 && self.batches.others.is_empty() {
            return self.ready.pop_first().map(|(seq, _)| seq);
        }
        let first = *self.ready.first_key_value()?.0;
        let is_apart = self.is_apart(first);
        let (mut members, mut octets) = (Vec::new(), 0_usize);
        while members.len() < limits.events
            && let Some(seq) =
                self.ready.keys().copied().find(|seq| self.is_apart(*seq) == is_apart)
        {
            let slot = self.slot(seq)?;
            octets = octets.saturating_add(slot.octets);
            if !members.is_empty() && octets > limits.octets {
                break;
            }
            slot.batch = Some(first);
            members.push(seq);
            let lane = self.ready.remove(&seq)?;
            if let Some(next) = self.behind(seq) {
                self.ready.insert(next, lane);
            }
        }
        // Of a lane of which something is taken the rest waits.
        for seq in &members {
            if let Some(next) = self.behind(*seq) {
                self.ready.remove(&next);
            }
        }
        self.batches.others.insert(first, members.into_iter().skip(1).collect());
        Some(first)
    }

    fn is_apart(&self, seq: u64) -> bool {
        self.place(seq).and_then(|at| self.slots.get(at)).is_some_and(|slot| slot.is_apart)
    }

    /// Whether what is ready goes now, and waits for nothing to go with it.
    pub(super) fn has_gathered(&self, now: Moment) -> bool {
        let limits = self.limits.batch;
        if limits.events == 1 {
            return !self.ready.is_empty();
        }
        if self.gathered_by().is_some_and(|at| at <= now) {
            return true;
        }
        let (mut events, mut octets) = (0_usize, 0_usize);
        self.ready.values().filter_map(|lane| self.lanes.get(lane)).any(|queue| {
            events = events.saturating_add(queue.seqs.len());
            octets = octets.saturating_add(queue.octets);
            events >= limits.events || octets >= limits.octets
        })
    }

    /// Until when what is ready waits for others to go with it.
    pub(super) fn gathered_by(&self) -> Option<Moment> {
        let limits = self.limits.batch;
        if limits.events == 1 {
            return None;
        }
        let (first, _) = self.ready.first_key_value()?;
        Some(self.slots.get(self.place(*first)?)?.since.after(limits.delay))
    }

    /// The delivery behind one of its lane that is in no batch.
    fn behind(&self, seq: u64) -> Option<u64> {
        let lane = &self.slots.get(self.place(seq)?)?.lane;
        let seqs = &self.lanes.get(lane)?.seqs;
        let next = *seqs.get(seqs.binary_search(&seq).ok()?.checked_add(1)?)?;
        let is_free = self.slots.get(self.place(next)?)?.batch.is_none();
        is_free.then_some(next)
    }

    /// The batch for which a delivery of this lane was expected, unless what stands between it and
    /// the others of its lane could now never be done before them.
    pub(super) fn expected_batch(&mut self, seq: u64, lane: &[u8]) -> Option<u64> {
        let batch = self.batches.expected.remove(&seq)?;
        let is_ours = |seq: &u64| {
            self.place(*seq).and_then(|at| self.slots.get(at)).and_then(|slot| slot.batch)
                == Some(batch)
        };
        let fits = self.lanes.get(lane).is_none_or(|queue| {
            queue.seqs.back().is_none_or(is_ours) || !queue.seqs.iter().any(is_ours)
        });
        if !fits {
            self.leave(batch, seq);
        }
        fits.then_some(batch)
    }

    /// Leaves out what was expected before `seq` and wasn't handed in.
    pub(super) fn leave_out(&mut self, seq: u64) {
        while let Some((&missing, &batch)) = self.batches.expected.first_key_value()
            && missing < seq
        {
            self.batches.expected.remove(&missing);
            self.leave(batch, missing);
        }
    }

    fn leave(&mut self, batch: u64, seq: u64) {
        if seq != batch {
            if let Some(others) = self.batches.others.get_mut(&batch) {
                others.retain(|other| *other != seq);
            }
            self.see_whether_whole(batch);
            return;
        }
        // Of the others none was handed in yet: they are behind it.
        let others = self.batches.take(batch);
        let Some((first, others)) = others.split_first() else { return };
        for other in others.iter().chain([first]) {
            self.batches.expected.insert(*other, *first);
        }
        self.batches.others.insert(*first, others.to_vec());
    }

    /// Has a batch from before a restart go once all of it is there, each at the head of its lane.
    pub(super) fn see_whether_whole(&mut self, batch: u64) {
        let Some(others) = self.batches.others.get(&batch) else { return };
        let is_at_the_head = |seq: &u64| {
            let slot = self.place(*seq).and_then(|at| self.slots.get(at));
            let first = slot.and_then(|slot| self.lanes.get(&slot.lane)?.seqs.front());
            let first = first.and_then(|first| self.slots.get(self.place(*first)?));
            first.is_some_and(|first| first.batch == Some(batch))
        };
        if others.iter().chain([&batch]).all(is_at_the_head) {
            self.batches.whole.push_back(batch);
        }
    }

    /// Forgets what was to go together, where that would never be: the window is full, and nothing in
    /// it goes on.
    pub(super) fn unstick(&mut self) {
        if !self.is_stuck() || self.has_room() {
            return;
        }
        self.batches = Batches::default();
        for slot in &mut self.slots {
            slot.batch = None;
        }
        let heads = self
            .lanes
            .iter()
            .filter_map(|(lane, queue)| queue.seqs.front().map(|first| (*first, Arc::clone(lane))));
        self.ready = heads.collect();
    }
}
