//! When a delivery is tried again, and when it is given up.

use std::sync::Arc;
use std::time::Duration;

/// One record on its way to one subscriber.
///
/// Holds no socket and no clock: the caller says how an attempt ended, what time it is and how
/// the dice fell, and is told what to do next.
///
/// ```
/// use postbell_engine::{Delivery, Moment, Next, Outcome, Schedule};
///
/// let schedule = Schedule::standard();
/// let mut delivery = Delivery::default();
/// let failed = Outcome::Failed { retry_after: None };
/// assert_eq!(delivery.conclude(&schedule, failed, Moment(0), 0), Next::TryAt(Moment(5_000)));
/// assert_eq!(delivery.conclude(&schedule, Outcome::Accepted, Moment(5_000), 0), Next::Done);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delivery {
    attempts_made: u32,
}

impl Delivery {
    /// How many attempts have ended.
    #[must_use]
    pub fn attempts_made(&self) -> u32 {
        self.attempts_made
    }

    /// Records how an attempt ended at `now` and says what follows; `dice` is any number, best a
    /// random one, and spreads subscribers that failed together.
    pub fn conclude(
        &mut self,
        schedule: &Schedule,
        outcome: Outcome,
        now: Moment,
        dice: u32,
    ) -> Next {
        self.attempts_made = self.attempts_made.saturating_add(1);
        match outcome {
            Outcome::Accepted => Next::Done,
            Outcome::Gone => Next::End,
            Outcome::Failed { retry_after } => match schedule.pause(self.attempts_made, dice) {
                None => Next::GiveUp,
                Some(ours) => {
                    // A subscriber may ask for more patience than ours, never for less.
                    let asked = retry_after.map_or(ours, |asked| asked.min(PATIENCE_MAX));
                    Next::TryAt(now.after(asked.max(ours)))
                }
            },
        }
    }
}

/// How an attempt ended. Not an error: every one of these is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The subscriber has it.
    Accepted,
    /// The subscriber did not take it. Whatever the reason, it may next time: even a receiver
    /// that calls a delivery wrong gets mended.
    Failed {
        /// The pause it asked for, if any.
        retry_after: Option<Duration>,
    },
    /// The subscriber wants nothing any more.
    Gone,
}

/// What the driver does after an attempt.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Move the subscriber's cursor on.
    Done,
    /// End the subscription.
    End,
    /// Park the delivery where a person will see it, then move the cursor on.
    GiveUp,
    /// Attempt again, no sooner than this.
    TryAt(Moment),
}

/// Pauses between attempts, first to last; after the last, the hub gives up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule(Arc<[Duration]>);

impl Schedule {
    /// A schedule with one entry for each repeat.
    pub fn new(pauses: impl Into<Arc<[Duration]>>) -> Self {
        Self(pauses.into())
    }

    /// The schedule Standard Webhooks recommends: ten attempts over three days.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(STANDARD.map(Duration::from_secs))
    }

    /// How many attempts there are.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.0.len() + 1
    }

    /// Up to a fifth more than the schedule says, as the dice fall; never less.
    fn pause(&self, attempts_made: u32, dice: u32) -> Option<Duration> {
        let index = usize::try_from(attempts_made.checked_sub(1)?).ok()?;
        let pause = *self.0.get(index)?;
        let part = f64::from(dice) / f64::from(u32::MAX);
        Some(pause + (pause / JITTER_PART).mul_f64(part))
    }
}

/// Milliseconds since some start that the driver chose, by a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(pub u64);

impl Moment {
    /// So much later, in whole milliseconds.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(pause_ms))
    }
}

/// Standard Webhooks 1.0.0, in seconds: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
const STANDARD: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// A pause grows by at most its fifth.
const JITTER_PART: u32 = 5;

/// The longest pause a subscriber may ask for. A day outlives a night's repair; more would hold
/// its cursor too long.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Moment = Moment(43_200_000);
    const FAILED: Outcome = Outcome::Failed { retry_after: None };

    fn asking(seconds: u64) -> Outcome {
        Outcome::Failed { retry_after: Some(Duration::from_secs(seconds)) }
    }

    fn once(outcome: Outcome, dice: u32) -> Next {
        Delivery::default().conclude(&Schedule::standard(), outcome, NOON, dice)
    }

    #[test]
    fn a_failing_subscriber_is_tried_again_until_the_schedule_ends() {
        let schedule = Schedule::standard();
        assert_eq!(schedule.attempts(), 10);
        let mut delivery = Delivery::default();
        let mut pauses = Vec::new();
        while let Next::TryAt(Moment(at)) = delivery.conclude(&schedule, FAILED, Moment(0), 0) {
            pauses.push(at / 1_000);
        }
        assert_eq!(pauses, STANDARD);
        assert_eq!(delivery.attempts_made(), 10);
    }

    #[test]
    fn retry_after_only_ever_delays_and_by_a_day_at_most() {
        assert_eq!(once(asking(1), 0), Next::TryAt(Moment(NOON.0 + 5_000)));
        assert_eq!(once(asking(60), 0), Next::TryAt(Moment(NOON.0 + 60_000)));
        let greedy = Outcome::Failed { retry_after: Some(Duration::MAX) };
        assert_eq!(once(greedy, 0), Next::TryAt(NOON.after(PATIENCE_MAX)));
    }

    #[test]
    fn the_dice_delay_by_a_fifth_at_most() {
        assert_eq!(once(FAILED, u32::MAX), Next::TryAt(Moment(NOON.0 + 6_000)));
    }

    #[test]
    fn a_subscriber_that_is_gone_ends_it() {
        assert_eq!(once(Outcome::Gone, 0), Next::End);
        assert_eq!(once(Outcome::Accepted, 0), Next::Done);
    }

    proptest! {
        #[test]
        fn no_pause_is_shorter_than_ours_or_longer_than_a_day_and_a_fifth(
            before in 0_u32..9, asked in any::<Option<u64>>(), dice: u32,
        ) {
            let schedule = Schedule::standard();
            let mut delivery = Delivery { attempts_made: before };
            let outcome = Outcome::Failed { retry_after: asked.map(Duration::from_secs) };
            let ours = STANDARD[before as usize] * 1_000;
            match delivery.conclude(&schedule, outcome, NOON, dice) {
                Next::TryAt(Moment(at)) => {
                    prop_assert!(at - NOON.0 >= ours);
                    prop_assert!(at - NOON.0 <= 86_400_000 / 5 * 6);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
