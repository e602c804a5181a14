//! The numbers of the records that may concern one reader.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;

use crate::lock::locked;

/// What the guide has noted for one reader, who is woken by it.
#[derive(Debug)]
pub(super) struct Trail {
    marks: Mutex<Marks>,
    /// Up to where the guide has looked, on everybody's behalf.
    upto: Arc<AtomicU64>,
    waiting: AtomicWaker,
}

/// Where a reader finds something next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// Nobody has looked there for it, or what was found is forgotten: it has to look itself.
    Unknown,
    /// Nothing concerns it up to there.
    Nothing {
        /// The last record looked at.
        upto: u64,
    },
    /// Nothing before the first of these; and up to the last one it may as well read on.
    At {
        /// The first record that may concern it.
        first: u64,
        /// The last one of the run.
        last: u64,
    },
}

impl Trail {
    /// One that is whole behind `from`.
    pub(super) fn new(from: u64, upto: Arc<AtomicU64>) -> Self {
        let marks = Mutex::new(Marks { from, numbers: VecDeque::new() });
        Self { marks, upto, waiting: AtomicWaker::new() }
    }

    /// Notes a record; the answer is who is to be woken once it may be taken up.
    pub(super) fn note(&self, seq: u64) -> Option<Waker> {
        self.marks().note(seq);
        self.waiting.take()
    }

    /// Knows nothing up to this record any more; the answer is who is to be woken to look itself.
    pub(super) fn forget(&self, upto: u64) -> Option<Waker> {
        self.marks().begin_behind(upto);
        self.waiting.take()
    }

    /// What is known from `next` on; all before it is done with.
    pub(super) fn look(&self, next: u64) -> Look {
        // Before the marks: whatever concerns the reader up to there is among them by now.
        let upto = self.upto.load(Ordering::Acquire);
        self.marks().look(next, upto)
    }

    /// How far a reader has got that has nothing to do behind `done`.
    pub(super) fn reached(&self, done: u64) -> u64 {
        let upto = self.upto.load(Ordering::Acquire);
        self.marks().reached(done, upto)
    }

    /// Waits until something was noted from `next` on.
    pub(super) async fn more(&self, next: u64) {
        poll_fn(|context| {
            self.waiting.register(context.waker());
            if self.marks().has_news(next) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// What is guarded is whole between any two steps.
    fn marks(&self) -> MutexGuard<'_, Marks> {
        locked(&self.marks)
    }
}

/// The newest numbers that may concern a reader: all there are behind `from`, and up to where the
/// guide has looked.
#[derive(Debug)]
struct Marks {
    from: u64,
    /// Growing.
    numbers: VecDeque<u64>,
}

impl Marks {
    fn note(&mut self, seq: u64) {
        if seq <= self.from || self.numbers.back().is_some_and(|newest| *newest >= seq) {
            return;
        }
        if self.numbers.len() >= MARKS_MAX
            && let Some(oldest) = self.numbers.pop_front()
        {
            self.from = oldest;
        }
        self.numbers.push_back(seq);
    }

    fn begin_behind(&mut self, upto: u64) {
        self.numbers.retain(|seq| *seq > upto);
        self.from = self.from.max(upto);
    }

    fn look(&mut self, next: u64, upto: u64) -> Look {
        let done = next.saturating_sub(1);
        if done < self.from {
            return Look::Unknown;
        }
        self.forget(done);
        let Some(first) = self.numbers.front().copied() else {
            return Look::Nothing { upto: upto.max(done) };
        };
        let later = self.numbers.iter().zip(self.numbers.iter().skip(1));
        let run = later.take_while(|(one, next)| **next - **one <= STRIDE);
        let last = run.last().map_or(first, |(_, last)| *last);
        Look::At { first, last }
    }

    fn reached(&self, done: u64, upto: u64) -> u64 {
        if done < self.from {
            return done;
        }
        match self.numbers.iter().find(|seq| **seq > done) {
            Some(first) => first.saturating_sub(1),
            None => upto.max(done),
        }
    }

    fn has_news(&self, next: u64) -> bool {
        next <= self.from || self.numbers.back().is_some_and(|newest| *newest >= next)
    }

    fn forget(&mut self, done: u64) {
        while self.numbers.front().is_some_and(|first| *first <= done) {
            self.numbers.pop_front();
        }
        if self.numbers.is_empty() {
            self.numbers.shrink_to(MARKS_KEPT);
        }
        // Whoever begins anew before it has to look itself.
        self.from = self.from.max(done);
    }
}

/// Numbers remembered for a reader; one that falls further behind reads the journal itself. Eight
/// octets each: with ten thousand readers who all fail, 80 MB.
const MARKS_MAX: usize = 1_024;

/// Numbers for which an empty trail keeps room.
const MARKS_KEPT: usize = 16;

/// Where the next number is this near, what is between is read and judged along with it, as that
/// costs less than another look in the journal.
const STRIDE: u64 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// Records are appended, each wanted or not.
        Append(Vec<bool>),
        /// The guide looks at so many.
        Guide(u64),
        /// The reader takes at most so many from one read.
        Read(u64),
        /// The reader begins anew, so far back.
        Restart(u64),
        /// The reader takes a place anew, as after a pause or with another filter.
        Rejoin(Vec<bool>),
        /// The reader wants more than before, from where it stands.
        Widen(Vec<bool>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let wanted = || {
            prop_oneof![
                prop::collection::vec(any::<bool>(), 0..40),
                prop::collection::vec(prop::bool::weighted(0.03), 0..400),
                (0_usize..2_500).prop_map(|count| vec![true; count]),
            ]
        };
        prop_oneof![
            4 => wanted().prop_map(Step::Append),
            4 => (0_u64..3_000).prop_map(Step::Guide),
            6 => (1_u64..700).prop_map(Step::Read),
            1 => (0_u64..50).prop_map(Step::Restart),
            1 => prop::collection::vec(any::<bool>(), 1..7).prop_map(Step::Rejoin),
            1 => prop::collection::vec(any::<bool>(), 1..7).prop_map(Step::Widen),
        ]
    }

    proptest! {
        /// What a reader is told by its trail and its own looks together is what it would find
        /// by asking of every record: under lag, overflow, restart, late joins and changes.
        #[test]
        fn a_trail_and_a_cursor_together_find_what_a_cursor_alone_finds(
            steps in prop::collection::vec(step(), 1..60)
        ) {
            // Record n stands at n - 1.
            let mut journal: Vec<bool> = Vec::new();
            let upto = Arc::new(AtomicU64::new(0));
            let mut trail = Trail::new(0, Arc::clone(&upto));
            let mut next = 1;
            let (mut told, mut due): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            let finish = [Step::Guide(u64::MAX)].into_iter().chain((0..400).map(|_| Step::Read(1_000)));
            for step in steps.into_iter().chain(finish) {
                let last = journal.len() as u64;
                let at = |seq: u64| usize::try_from(seq - 1).unwrap();
                let wants = |journal: &[bool], seq: u64| journal[at(seq)];
                match step {
                    Step::Append(records) => journal.extend(records),
                    Step::Guide(count) => {
                        let from = upto.load(Ordering::Acquire);
                        for seq in from + 1..=last.min(from.saturating_add(count)) {
                            if wants(&journal, seq) {
                                trail.note(seq);
                            }
                            upto.store(seq, Ordering::Release);
                        }
                    }
                    Step::Read(count) => {
                        let reached = trail.reached(next - 1);
                        prop_assert!((next..=reached).all(|seq| !wants(&journal, seq)));
                        let (first, end) = match trail.look(next) {
                            Look::Unknown => (next, last),
                            Look::Nothing { upto } => (upto + 1, upto),
                            Look::At { first, last } => (first, last),
                        };
                        prop_assert!(end <= last, "nothing is told of what isn't there");
                        prop_assert!((next..first).all(|seq| !wants(&journal, seq)));
                        let end = end.min(first.saturating_add(count - 1));
                        told.extend((first..=end).filter(|seq| wants(&journal, *seq)));
                        due.extend((next..=end).filter(|seq| wants(&journal, *seq)));
                        next = next.max(first).max(end + 1);
                    }
                    Step::Restart(back) => next = next.saturating_sub(back).max(1),
                    Step::Rejoin(pattern) => {
                        // What another filter wants of the records to come and gone.
                        for (seq, wanted) in journal.iter_mut().enumerate() {
                            *wanted = pattern[seq % pattern.len()];
                        }
                        let from = upto.load(Ordering::Acquire).max(next - 1);
                        trail = Trail::new(from, Arc::clone(&upto));
                    }
                    Step::Widen(pattern) => {
                        for (seq, wanted) in journal.iter_mut().enumerate() {
                            *wanted |= pattern[seq % pattern.len()];
                        }
                        drop(trail.forget(upto.load(Ordering::Acquire)));
                    }
                }
                prop_assert_eq!(&told, &due);
                prop_assert!(trail.marks().numbers.len() <= MARKS_MAX);
            }
            prop_assert_eq!(next, journal.len() as u64 + 1, "everybody arrives");
        }
    }

    #[test]
    fn who_waits_is_woken_by_what_concerns_it_alone() {
        let upto = Arc::new(AtomicU64::new(4));
        let trail = Trail::new(4, Arc::clone(&upto));
        let mut more = std::pin::pin!(trail.more(5));
        let mut is_ready = || {
            let mut context = std::task::Context::from_waker(Waker::noop());
            more.as_mut().poll(&mut context).is_ready()
        };
        assert!(!is_ready());
        upto.store(7, Ordering::Release);
        assert!(!is_ready(), "nothing was noted");
        assert_eq!(trail.reached(4), 7);
        assert!(trail.note(8).is_some(), "it is to be woken");
        assert!(trail.note(9).is_none(), "once");
        assert!(is_ready());
        assert_eq!(trail.reached(4), 7, "what is noted is not reached");
        assert_eq!(trail.look(5), Look::At { first: 8, last: 9 });
    }

    #[test]
    fn what_is_far_apart_is_not_read_together() {
        let trail = Trail::new(0, Arc::default());
        for seq in [3, 5, 5 + STRIDE, 6 + 2 * STRIDE] {
            trail.note(seq);
        }
        assert_eq!(trail.look(1), Look::At { first: 3, last: 5 + STRIDE });
        assert_eq!(
            trail.look(6 + STRIDE),
            Look::At { first: 6 + 2 * STRIDE, last: 6 + 2 * STRIDE }
        );
        assert_eq!(trail.look(3), Look::Unknown, "that is forgotten");
    }
}
