//! A receiver that takes nothing is tried with one delivery at a time, and at last no more.

use std::time::Duration;

use super::{Moment, Outcome};

/// Whether a receiver is worth an attempt, over all its mailboxes.
///
/// After ten failures in a row it opens: one attempt at a time, a *probe*, with a pause before each
/// that doubles from five seconds to fifteen minutes. A single success closes it. Where there was
/// nothing but failure for five days, it says so.
///
/// Holds no clock: the caller says what time it is, how attempts ended and how the dice fell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breaker {
    state: State,
    /// Failures since the last success.
    failures: u32,
    /// When the first of them was, as far as this run goes.
    since: Option<Moment>,
    /// For how long there was nothing but failure before this run.
    before: Duration,
}

/// What an attempt changed.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Nothing.
    Same,
    /// There are but probes now.
    Opened,
    /// It takes deliveries again.
    Closed,
    /// There was nothing but failure for so long that nothing more is to be attempted.
    Hopeless,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Closed,
    /// No attempt before then.
    Open {
        until: Moment,
        probes: u32,
    },
    /// One is under way.
    Probing {
        probes: u32,
    },
}

impl Breaker {
    /// Closed; or, where there was nothing but failure for some time already, with a probe first.
    #[must_use]
    pub fn new(failing_for: Option<Duration>) -> Self {
        let until = Moment(0);
        Self {
            state: failing_for.map_or(State::Closed, |_| State::Open { until, probes: 0 }),
            failures: 0,
            since: failing_for.map(|_| until),
            before: failing_for.unwrap_or_default(),
        }
    }

    /// Whether an attempt may begin at `now`.
    #[must_use]
    pub fn lets(&self, now: Moment) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until, .. } => until <= now,
            State::Probing { .. } => false,
        }
    }

    /// When the next attempt may begin; none where any may, or where it depends on the one under way.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed | State::Probing { .. } => None,
        }
    }

    /// For how long there has been nothing but failure at `now`.
    #[must_use]
    pub fn failing_for(&self, now: Moment) -> Option<Duration> {
        let since = self.since?;
        Some(self.before + Duration::from_millis(now.0.saturating_sub(since.0)))
    }

    /// Notes that an attempt begins.
    pub fn begin(&mut self) {
        if let State::Open { probes, .. } = self.state {
            self.state = State::Probing { probes };
        }
    }

    /// Notes that nobody will say how the attempt under way ends: another may begin.
    pub fn abandon(&mut self, now: Moment) {
        if let State::Probing { probes } = self.state {
            self.state = State::Open { until: now, probes };
        }
    }

    /// Notes how an attempt ended at `now`; `dice` is any number, best a random one, and spreads
    /// receivers that failed together.
    pub fn conclude(&mut self, outcome: Outcome, now: Moment, dice: u32) -> Turn {
        let Outcome::Failed { .. } = outcome else {
            let was_closed = self.state == State::Closed;
            *self = Self::new(None);
            return if was_closed { Turn::Same } else { Turn::Closed };
        };
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        let probes = match self.state {
            State::Closed if self.failures < FAILURES_MAX => return Turn::Same,
            State::Closed => 0,
            State::Probing { probes } => probes.saturating_add(1),
            // It was under way when the others failed.
            State::Open { .. } => return Turn::Same,
        };
        let turn = if self.state == State::Closed { Turn::Opened } else { Turn::Same };
        self.state = State::Open { until: now.after(pause(probes, dice)), probes };
        match self.failing_for(now) {
            Some(long) if long >= HOPELESS_AFTER => Turn::Hopeless,
            Some(_) | None => turn,
        }
    }
}

/// Up to a fifth more than it would be, as the dice fall; never less.
fn pause(probes: u32, dice: u32) -> Duration {
    let pause = PAUSE_MIN.saturating_mul(1_u32.checked_shl(probes).unwrap_or(u32::MAX));
    let pause = pause.min(PAUSE_MAX);
    pause + (pause / 5).mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

/// Failures in a row after which the receiver as a whole is taken to be away, and not a mailbox to
/// be the trouble: about as many as are under way at once.
const FAILURES_MAX: u32 = 10;

/// The pause before the first probe: a receiver that is only started anew is back by then.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// The longest pause before a probe: so long at most it takes to see that a receiver is back.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// How long nothing but failure is borne with: a long weekend, and a day to mend it.
const HOPELESS_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILED: Outcome = Outcome::Failed { retry_after: None };

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(None);
        for _ in 1..FAILURES_MAX {
            assert!(breaker.lets(Moment(0)));
            assert_eq!(breaker.conclude(FAILED, Moment(0), 0), Turn::Same);
        }
        assert_eq!(breaker.conclude(FAILED, Moment(0), 0), Turn::Opened);
        breaker
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_probed_until_it_takes_one() {
        let mut breaker = opened();
        assert!(!breaker.lets(Moment(4_999)));
        assert_eq!(breaker.next(), Some(Moment(5_000)));
        // What was under way when it opened changes nothing.
        assert_eq!(breaker.conclude(FAILED, Moment(3), 0), Turn::Same);
        let mut now = 5_000;
        for pause in [10, 20, 40, 80, 160, 320, 640, 900, 900] {
            assert!(breaker.lets(Moment(now)));
            breaker.begin();
            assert!(!breaker.lets(Moment(u64::MAX)), "one at a time");
            assert_eq!(breaker.conclude(FAILED, Moment(now), 0), Turn::Same);
            now += pause * 1_000;
            assert_eq!(breaker.next(), Some(Moment(now)));
        }
        breaker.begin();
        assert_eq!(breaker.conclude(Outcome::Accepted, Moment(now), 0), Turn::Closed);
        assert!(breaker.lets(Moment(now)) && breaker.failing_for(Moment(now)).is_none());
    }

    #[test]
    fn a_probe_that_nobody_tells_the_end_of_is_followed_by_another() {
        let mut breaker = opened();
        breaker.begin();
        assert!(!breaker.lets(Moment(u64::MAX)));
        breaker.abandon(Moment(6_000));
        assert!(breaker.lets(Moment(6_000)));
        // What isn't probed has nothing to give up.
        let mut closed = Breaker::new(None);
        closed.abandon(Moment(0));
        assert!(closed.lets(Moment(0)));
    }

    #[test]
    fn one_success_among_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(None);
        for at in 0..10 * FAILURES_MAX {
            let outcome = if at % FAILURES_MAX == 0 { Outcome::Accepted } else { FAILED };
            assert_eq!(breaker.conclude(outcome, Moment(u64::from(at)), 0), Turn::Same);
        }
    }

    #[test]
    fn five_days_of_nothing_but_failure_are_hopeless_over_restarts_too() {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let mut breaker = Breaker::new(Some(days(4)));
        assert!(breaker.lets(Moment(0)));
        breaker.begin();
        let almost = u64::try_from(days(1).as_millis()).unwrap() - 1;
        assert_eq!(breaker.conclude(FAILED, Moment(almost), 0), Turn::Same);
        breaker.begin();
        assert_eq!(breaker.conclude(FAILED, Moment(almost + 1), 0), Turn::Hopeless);
        assert_eq!(breaker.failing_for(Moment(almost + 1)), Some(days(5)));
    }

    proptest! {
        #[test]
        fn open_or_closed_it_keeps_its_laws(
            steps in prop::collection::vec((any::<bool>(), 0_u64..2_000_000, any::<u32>()), 1..300),
        ) {
            let (mut breaker, mut now, mut failures, mut first) = (Breaker::new(None), 0, 0_u32, None);
            for (fine, wait, dice) in steps {
                now += wait;
                let is_open = failures >= FAILURES_MAX;
                prop_assert_eq!(breaker.next().is_some(), is_open);
                if !breaker.lets(Moment(now)) {
                    prop_assert!(is_open);
                    // It never waits longer than the longest pause and its fifth.
                    let Some(Moment(at)) = breaker.next() else { panic!("nobody probes") };
                    prop_assert!(at - now <= 900_000 / 5 * 6);
                    now = at;
                }
                prop_assert!(breaker.lets(Moment(now)));
                breaker.begin();
                prop_assert_eq!(breaker.lets(Moment(now)), !is_open, "open, one at a time");
                let outcome = if fine { Outcome::Accepted } else { FAILED };
                let turn = breaker.conclude(outcome, Moment(now), dice);
                if fine {
                    prop_assert_eq!(turn == Turn::Closed, is_open);
                    (failures, first) = (0, None);
                } else {
                    failures += 1;
                    let since = *first.get_or_insert(now);
                    let hopeless = failures >= FAILURES_MAX && now - since >= 432_000_000;
                    prop_assert_eq!(turn == Turn::Hopeless, hopeless);
                }
            }
        }
    }
}
