//! Which delivery is attempted next: in order within a lane, lanes side by side.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{Delivery, Moment, Next, Outcome, Schedule};

/// The deliveries of one subscription that are not done yet.
///
/// Those of one lane (one mailbox) are attempted strictly one at a time and in order; different
/// lanes go side by side. A lane that waits for its next attempt holds up only itself, until the
/// window is full: then nothing new is taken, so that a subscriber who fails for days costs no
/// more memory than one who fails for a minute.
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
    /// Lanes with something to attempt now; the one waiting longest first.
    ready: VecDeque<Arc<[u8]>>,
    /// When a lane may go on.
    waiting: BTreeSet<(Moment, u64)>,
    under_way: usize,
    /// The last record handed in.
    passed: u64,
    /// The last delivery handed in.
    newest: Option<u64>,
    /// The last delivery done, all before it included.
    told: Option<u64>,
}

/// One delivery to attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The record's number.
    pub seq: u64,
    /// The number of the delivery before it, of whatever lane.
    pub prev_seq: Option<u64>,
    /// Which attempt this is, from 1.
    pub number: u32,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    side_by_side: usize,
    window: usize,
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    prev_seq: Option<u64>,
    lane: Arc<[u8]>,
    delivery: Delivery,
    done: bool,
}

/// The numbers not done of one lane; the first is under way, waits, or its lane is ready.
#[derive(Debug, Default)]
struct Lane(VecDeque<u64>);

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
        Self {
            schedule,
            limits: Limits { side_by_side: side_by_side.max(1), window: window.max(1) },
            slots: VecDeque::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
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
        self.passed = self.passed.max(seq);
    }

    /// The last record handed in, or passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Hands in a delivery. Numbers only ever grow; one that doesn't is passed over, as it was
    /// handed in before.
    pub fn push(&mut self, seq: u64, lane: &[u8]) {
        if seq <= self.passed {
            return;
        }
        self.passed = seq;
        let prev_seq = self.newest.replace(seq);
        let lane = match self.lanes.get_key_value(lane) {
            Some((lane, _)) => Arc::clone(lane),
            None => Arc::from(lane),
        };
        let queue = self.lanes.entry(Arc::clone(&lane)).or_default();
        if queue.0.is_empty() {
            self.ready.push_back(Arc::clone(&lane));
        }
        queue.0.push_back(seq);
        let delivery = Delivery::default();
        self.slots.push_back(Slot { seq, prev_seq, lane, delivery, done: false });
    }

    /// Whether there is a delivery to attempt now.
    #[must_use]
    pub fn has_ready(&self, now: Moment) -> bool {
        let is_due = self.waiting.first().is_some_and(|(at, _)| *at <= now);
        self.under_way < self.limits.side_by_side && (!self.ready.is_empty() || is_due)
    }

    /// The delivery to attempt now, if there is one; it is under way then until
    /// [`Lanes::conclude`].
    pub fn start(&mut self, now: Moment) -> Option<Attempt> {
        while let Some(&(at, seq)) = self.waiting.first()
            && at <= now
        {
            self.waiting.pop_first();
            if let Some(slot) = self.slot(seq) {
                let lane = Arc::clone(&slot.lane);
                self.ready.push_back(lane);
            }
        }
        if self.under_way >= self.limits.side_by_side {
            return None;
        }
        let lane = self.ready.pop_front()?;
        let seq = *self.lanes.get(&lane)?.0.front()?;
        let slot = self.slot(seq)?;
        let number = slot.delivery.attempts_made().saturating_add(1);
        let attempt = Attempt { seq, prev_seq: slot.prev_seq, number };
        self.under_way += 1;
        Some(attempt)
    }

    /// Says how the attempt at `seq` ended. After [`Next::GiveUp`] the delivery counts as done;
    /// park it before the cursor is stored.
    pub fn conclude(&mut self, seq: u64, outcome: Outcome, now: Moment, dice: u32) -> Next {
        let schedule = self.schedule.clone();
        let Some(slot) = self.slot(seq) else { return Next::Done };
        let next = slot.delivery.conclude(&schedule, outcome, now, dice);
        let lane = Arc::clone(&slot.lane);
        match next {
            Next::TryAt(at) => {
                self.waiting.insert((at, seq));
            }
            Next::Done | Next::GiveUp => {
                slot.done = true;
                self.advance(&lane);
            }
            // Nothing follows, so nothing need be tidied.
            Next::End => {}
        }
        self.under_way = self.under_way.saturating_sub(1);
        next
    }

    /// When a waiting delivery may be attempted again, the soonest; none while as many are under way
    /// as may be, since one of them has to end first.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        let first = self.waiting.first().filter(|_| self.under_way < self.limits.side_by_side);
        first.map(|(at, _)| *at)
    }

    /// The number up to which nothing is left to do.
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

    fn advance(&mut self, lane: &Arc<[u8]>) {
        if let Some(queue) = self.lanes.get_mut(lane) {
            queue.0.pop_front();
            if queue.0.is_empty() {
                self.lanes.remove(lane);
            } else {
                self.ready.push_back(Arc::clone(lane));
            }
        }
        while self.slots.front().is_some_and(|slot| slot.done) {
            self.told = self.slots.pop_front().map(|slot| slot.seq);
        }
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        // Where every record is wanted its place is its distance from the first.
        let first = self.slots.front()?.seq;
        let place = usize::try_from(seq.checked_sub(first)?).ok()?;
        let at = match self.slots.get(place) {
            Some(slot) if slot.seq == seq => place,
            Some(_) | None => self.slots.binary_search_by_key(&seq, |slot| slot.seq).ok()?,
        };
        self.slots.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const FAILED: Outcome = Outcome::Failed { retry_after: None };

    fn lanes(side_by_side: usize, window: usize) -> Lanes {
        let schedule = Schedule::new([Duration::from_millis(10), Duration::from_millis(20)]);
        Lanes::new(schedule, 0, None, side_by_side, window)
    }

    fn started(lanes: &mut Lanes, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| lanes.start(Moment(now)).map(|attempt| attempt.seq)).collect()
    }

    #[test]
    fn one_mailbox_goes_one_by_one_and_others_beside_it() {
        let mut lanes = lanes(2, 10);
        for (seq, lane) in [(1, b"a"), (2, b"a"), (3, b"b"), (4, b"c")] {
            lanes.push(seq, lane);
        }
        assert_eq!(started(&mut lanes, 0), [1, 3]);
        assert_eq!(lanes.conclude(3, Outcome::Accepted, Moment(1), 0), Next::Done);
        assert_eq!(lanes.cursor(), 0);
        assert_eq!(started(&mut lanes, 1), [4]);
        assert_eq!(lanes.conclude(1, Outcome::Accepted, Moment(1), 0), Next::Done);
        assert_eq!((lanes.cursor(), lanes.told()), (1, Some(1)));
        assert_eq!(started(&mut lanes, 1), [2]);
    }

    #[test]
    fn a_lane_that_waits_holds_up_only_itself_until_the_window_is_full() {
        let mut lanes = lanes(4, 3);
        lanes.push(1, b"a");
        assert_eq!(started(&mut lanes, 0), [1]);
        assert_eq!(lanes.conclude(1, FAILED, Moment(0), 0), Next::TryAt(Moment(10)));
        for seq in [2, 3] {
            assert!(lanes.has_room());
            lanes.push(seq, b"b");
            assert_eq!(started(&mut lanes, 1), [seq]);
            assert_eq!(lanes.conclude(seq, Outcome::Accepted, Moment(1), 0), Next::Done);
        }
        assert!(!lanes.has_room());
        assert_eq!(lanes.next_due(), Some(Moment(10)));
        assert!(started(&mut lanes, 9).is_empty());
        assert_eq!(started(&mut lanes, 10), [1]);
        assert_eq!(lanes.conclude(1, FAILED, Moment(10), 0), Next::TryAt(Moment(30)));
        assert_eq!(started(&mut lanes, 30), [1]);
        assert_eq!(lanes.conclude(1, FAILED, Moment(30), 0), Next::GiveUp);
        assert_eq!((lanes.cursor(), lanes.told(), lanes.is_idle()), (3, Some(3), true));
    }

    #[test]
    fn while_as_many_are_under_way_as_may_be_nothing_is_due() {
        let mut lanes = lanes(1, 3);
        lanes.push(1, b"a");
        lanes.push(2, b"b");
        assert_eq!(started(&mut lanes, 0), [1]);
        assert_eq!(lanes.conclude(1, FAILED, Moment(0), 0), Next::TryAt(Moment(10)));
        assert_eq!(started(&mut lanes, 1), [2]);
        assert_eq!(lanes.next_due(), None);
        assert_eq!(lanes.conclude(2, Outcome::Accepted, Moment(20), 0), Next::Done);
        assert_eq!(lanes.next_due(), Some(Moment(10)));
        assert_eq!(started(&mut lanes, 20), [1]);
    }

    #[test]
    fn what_is_not_wanted_is_passed_and_does_not_break_the_chain() {
        let mut lanes = Lanes::new(Schedule::new([]), 4, Some(2), 1, 4);
        lanes.pass(5);
        assert_eq!((lanes.cursor(), lanes.told()), (5, Some(2)));
        lanes.push(6, b"a");
        lanes.pass(9);
        lanes.push(9, b"again");
        assert_eq!(lanes.cursor(), 5);
        let attempt = lanes.start(Moment(0)).unwrap();
        assert_eq!(attempt, Attempt { seq: 6, prev_seq: Some(2), number: 1 });
        assert_eq!(lanes.conclude(6, Outcome::Accepted, Moment(0), 0), Next::Done);
        assert_eq!((lanes.cursor(), lanes.told()), (9, Some(6)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass,
        Push(u8),
        Start,
        End(usize, bool),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Pass),
            4 => (0_u8..4).prop_map(Step::Push),
            4 => Just(Step::Start),
            4 => (any::<usize>(), any::<bool>()).prop_map(|(which, fine)| Step::End(which, fine)),
            1 => (1_u64..15).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn order_limits_and_cursor_hold_whatever_happens(
            steps in prop::collection::vec(step(), 0..200),
            side_by_side in 1_usize..4,
            window in 1_usize..12,
        ) {
            let mut lanes = lanes(side_by_side, window);
            // (number, lane, done), in the order handed in.
            let mut all: Vec<(u64, u8, bool)> = Vec::new();
            let (mut now, mut last, mut under_way) = (0, 0, Vec::new());
            let steps = steps.into_iter().chain((0..2_000).map(|at| match at % 3 {
                0 => Step::Start,
                1 => Step::End(0, at % 2 == 1),
                _ => Step::Wait(5),
            }));
            for step in steps {
                match step {
                    Step::Pass => {
                        last += 1;
                        lanes.pass(last);
                    }
                    Step::Push(lane) if lanes.has_room() => {
                        last += 1;
                        lanes.push(last, &[lane]);
                        all.push((last, lane, false));
                    }
                    Step::Push(_) => {}
                    Step::Start => match (lanes.has_ready(Moment(now)), lanes.start(Moment(now))) {
                        (true, Some(attempt)) => {
                            let at = all.iter().position(|one| one.0 == attempt.seq).unwrap();
                            let lane = all[at].1;
                            prop_assert!(all[..at].iter().all(|one| one.1 != lane || one.2));
                            prop_assert!(!all[at].2 && !under_way.contains(&attempt.seq));
                            let before = at.checked_sub(1).map(|before| all[before].0);
                            prop_assert_eq!(attempt.prev_seq, before);
                            under_way.push(attempt.seq);
                        }
                        (has_ready, Some(_)) => prop_assert!(has_ready),
                        (has_ready, None) => {
                            prop_assert!(!has_ready);
                            // Only what is under way or waits may hold anything up.
                            let idle = all.iter().filter(|one| !one.2).count() == 0;
                            prop_assert!(
                                idle || !under_way.is_empty() || lanes.next_due() > Some(Moment(now))
                            );
                        }
                    },
                    Step::End(which, fine) if !under_way.is_empty() => {
                        let seq = under_way.remove(which % under_way.len());
                        let outcome = if fine { Outcome::Accepted } else { FAILED };
                        let next = lanes.conclude(seq, outcome, Moment(now), 0);
                        if !matches!(next, Next::TryAt(_)) {
                            all.iter_mut().find(|one| one.0 == seq).unwrap().2 = true;
                        }
                    }
                    Step::End(..) => {}
                    Step::Wait(millis) => now += millis,
                }
                let open = all.iter().find(|one| !one.2).map(|one| one.0);
                let cursor = open.map_or(last, |seq| seq - 1);
                prop_assert_eq!(lanes.cursor(), cursor);
                let told = all.iter().rfind(|one| one.0 <= cursor).map(|one| one.0);
                prop_assert_eq!(lanes.told(), told);
                prop_assert!(under_way.len() <= side_by_side);
                let held = all.iter().filter(|one| one.0 > cursor).count();
                prop_assert!(held <= window);
            }
            prop_assert!(lanes.is_idle(), "everything ends at last");
        }
    }
}
