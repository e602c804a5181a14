//! How soon after each other attempts may begin, where a receiver says how many it takes.

use std::num::NonZeroU32;

use super::Moment;

/// The pace of one receiver: so many requests a minute, evenly spread, so that no minute has more.
///
/// Holds no clock: the caller says when it begins an attempt.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pace {
    per_minute: Option<NonZeroU32>,
    next: Moment,
}

impl Pace {
    /// So many a minute; as many as come where there is no bound.
    #[must_use]
    pub fn new(per_minute: Option<NonZeroU32>) -> Self {
        Self { per_minute, next: Moment(0) }
    }

    /// When the next attempt may begin, at the soonest.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Notes that an attempt begins at `now`.
    pub fn begin(&mut self, now: Moment) {
        if let Some(per_minute) = self.per_minute {
            let pause_ms = MINUTE_MS.div_ceil(u64::from(per_minute.get()));
            self.next = Moment(now.0.saturating_add(pause_ms));
        }
    }
}

const MINUTE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_bound_nothing_waits() {
        let mut pace = Pace::new(None);
        pace.begin(Moment(7));
        assert_eq!(pace.next(), Moment(0));
    }

    proptest! {
        #[test]
        fn no_minute_has_more_attempts_than_the_receiver_takes(
            per_minute in 1_u32..200, waits in prop::collection::vec(0_u64..5_000, 1..300),
        ) {
            let mut pace = Pace::new(NonZeroU32::new(per_minute));
            let (mut now, mut begun) = (0, Vec::new());
            for wait in waits {
                now += wait;
                if pace.next() <= Moment(now) {
                    pace.begin(Moment(now));
                    begun.push(now);
                }
            }
            for (at, first) in begun.iter().enumerate() {
                let within = begun[at..].iter().take_while(|one| **one < first + MINUTE_MS).count();
                prop_assert!(within <= per_minute as usize);
            }
        }
    }
}
