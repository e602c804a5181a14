//! How soon after each other attempts may begin, where it is bounded how many there may be.

use std::num::NonZeroU32;

use super::Moment;

/// The pace at which one receiver is sent anything: so many requests a minute, as it said itself, and
/// so many events, as the policy lets its owner have. Both are evenly spread.
///
/// An attempt with `n` events counts as one request and as `n` events: it holds off the next by `n`
/// times the pause between two events. It counts whatever becomes of it, so a repeat counts again. So
/// in no minute do more requests begin than there may; and the events of a minute, but for those of the
/// attempt begun last in it, are fewer than there may be. Where each attempt has one event, no minute
/// has more than there may be; after a larger one than that, the next waits for as many minutes as it
/// is larger.
///
/// Holds no clock: the caller says when it begins an attempt.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pace {
    requests: Bound,
    events: Bound,
}

impl Pace {
    /// So many requests a minute, and so many events; as many as come where there is no bound.
    #[must_use]
    pub fn new(requests: Option<NonZeroU32>, events: Option<NonZeroU32>) -> Self {
        Self { requests: Bound::new(requests), events: Bound::new(events) }
    }

    /// When the next attempt may begin, at the soonest.
    #[must_use]
    pub fn next(&self) -> Moment {
        self.requests.next().max(self.events.next())
    }

    /// When the next may begin as far as events go; none where there is no bound of them.
    #[must_use]
    pub fn next_event(&self) -> Option<Moment> {
        self.events.per_minute.map(|_| self.events.next())
    }

    /// Notes that an attempt with one event begins at `now`.
    pub fn begin(&mut self, now: Moment) {
        self.requests.begin(now);
        self.events.begin(now);
    }

    /// Notes that the attempt begun last has so many events more.
    pub fn add(&mut self, others: usize) {
        self.events.add(others);
    }

    /// Has so many requests a minute from here on.
    pub fn set_requests(&mut self, per_minute: Option<NonZeroU32>) {
        self.requests = Bound::new(per_minute);
    }

    /// Has no event leave before then, where there is a bound of them: what left before this pace was
    /// made counts still.
    pub fn hold_events(&mut self, until: Moment) {
        self.events.hold(until);
    }
}

/// So much a minute.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Bound {
    per_minute: Option<NonZeroU32>,
    /// Finer than a [`Moment`]: there may be more than one in a millisecond.
    next_nanos: u64,
}

impl Bound {
    fn new(per_minute: Option<NonZeroU32>) -> Self {
        Self { per_minute, next_nanos: 0 }
    }

    /// Rounded down, so that all that fits into a millisecond begins in it.
    fn next(&self) -> Moment {
        Moment(self.next_nanos / MILLI_NANOS)
    }

    fn begin(&mut self, now: Moment) {
        if self.per_minute.is_some() {
            self.hold(now);
            self.add(1);
        }
    }

    fn add(&mut self, count: usize) {
        if let Some(per_minute) = self.per_minute {
            let minutes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(MINUTE_NANOS);
            let pause = minutes.div_ceil(u64::from(per_minute.get()));
            self.next_nanos = self.next_nanos.saturating_add(pause);
        }
    }

    fn hold(&mut self, until: Moment) {
        if self.per_minute.is_some() {
            self.next_nanos = self.next_nanos.max(until.0.saturating_mul(MILLI_NANOS));
        }
    }
}

const MILLI_NANOS: u64 = 1_000_000;

const MINUTE_NANOS: u64 = 60_000 * MILLI_NANOS;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE_MS: u64 = 60_000;

    /// Has an attempt begin as soon as each wait lets it, with so many events; when, and with how many.
    fn begun(mut pace: Pace, attempts: &[(u64, usize)]) -> Vec<(u64, usize)> {
        let (mut now, mut begun) = (0, Vec::new());
        for (wait, events) in attempts {
            now += wait;
            if pace.next() <= Moment(now) {
                pace.begin(Moment(now));
                pace.add(events - 1);
                begun.push((now, *events));
            }
        }
        begun
    }

    /// Each minute that begins with one of them.
    fn minutes(begun: &[(u64, usize)]) -> impl Iterator<Item = &[(u64, usize)]> {
        begun.iter().enumerate().map(|(at, (first, _))| {
            let within = begun[at..].iter().take_while(|(one, _)| *one < first + MINUTE_MS);
            &begun[at..at + within.count()]
        })
    }

    fn events_of(begun: &[(u64, usize)]) -> usize {
        begun.iter().map(|(_, events)| events).sum()
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let mut pace = Pace::new(None, None);
        pace.hold_events(Moment(9));
        pace.begin(Moment(7));
        pace.add(1_000);
        assert_eq!((pace.next(), pace.next_event()), (Moment(0), None));
    }

    #[test]
    fn r43_a_batch_holds_the_next_off_for_each_event_in_it() {
        let mut pace = Pace::new(None, NonZeroU32::new(60));
        pace.begin(Moment(500));
        assert_eq!(pace.next(), Moment(1_500));
        pace.begin(Moment(1_500));
        pace.add(149);
        assert_eq!(pace.next(), Moment(151_500), "larger than the bound, it takes so much longer");
    }

    #[test]
    fn the_slower_of_two_bounds_holds() {
        let per_minute = NonZeroU32::new;
        let mut pace = Pace::new(per_minute(6), per_minute(60));
        pace.begin(Moment(0));
        assert_eq!((pace.next(), pace.next_event()), (Moment(10_000), Some(Moment(1_000))));
        pace.add(29);
        assert_eq!(pace.next(), Moment(30_000));
        pace.set_requests(per_minute(1));
        assert_eq!(pace.next(), Moment(30_000), "what left counts still");
    }

    #[test]
    fn what_left_before_counts_still() {
        let mut pace = Pace::new(NonZeroU32::new(6), NonZeroU32::new(60));
        pace.hold_events(Moment(5_000));
        assert_eq!(pace.next(), Moment(5_000));
    }

    #[test]
    fn more_than_one_in_a_millisecond_are_as_many_as_there_may_be() {
        let mut pace = Pace::new(None, NonZeroU32::new(150_000));
        let mut count = 0;
        for now in 0..MINUTE_MS {
            while pace.next() <= Moment(now) {
                pace.begin(Moment(now));
                count += 1;
            }
        }
        assert_eq!(count, 150_000);
    }

    proptest! {
        #[test]
        fn no_minute_has_more_attempts_than_the_receiver_takes(
            per_minute in 1_u32..200,
            waits in prop::collection::vec((0_u64..5_000, 1_usize..50), 1..300),
        ) {
            let begun = begun(Pace::new(NonZeroU32::new(per_minute), None), &waits);
            for minute in minutes(&begun) {
                prop_assert!(minute.len() <= per_minute as usize);
            }
        }

        #[test]
        fn r43_no_minute_has_more_events_than_there_may_be_where_each_goes_by_itself(
            (per_minute, waits) in prop_oneof![
                (1_u32..200, prop::collection::vec((0_u64..5_000, Just(1)), 1..300)),
                (50_000_u32..200_000, prop::collection::vec((0_u64..2, Just(1)), 1..300)),
            ],
        ) {
            let begun = begun(Pace::new(None, NonZeroU32::new(per_minute)), &waits);
            for minute in minutes(&begun) {
                prop_assert!(events_of(minute) <= per_minute as usize);
            }
        }

        #[test]
        fn r43_the_events_of_a_minute_without_its_last_batch_are_fewer_than_there_may_be(
            requests in prop::option::of(1_u32..200),
            per_minute in 1_u32..500,
            waits in prop::collection::vec((0_u64..20_000, 1_usize..100), 1..300),
        ) {
            let pace = Pace::new(requests.and_then(NonZeroU32::new), NonZeroU32::new(per_minute));
            let begun = begun(pace, &waits);
            for minute in minutes(&begun) {
                let before_the_last = &minute[..minute.len() - 1];
                prop_assert!(events_of(before_the_last) < per_minute as usize);
                prop_assert!(requests.is_none_or(|most| minute.len() <= most as usize));
            }
        }

        #[test]
        fn r43_over_any_time_no_more_leave_than_the_time_lets_and_what_left_last(
            per_minute in 1_u32..500,
            waits in prop::collection::vec((0_u64..60_000, 1_usize..100), 2..300),
        ) {
            let begun = begun(Pace::new(None, NonZeroU32::new(per_minute)), &waits);
            let (Some((first, _)), Some((last, _))) = (begun.first(), begun.last()) else {
                return Ok(());
            };
            let events = events_of(&begun[..begun.len() - 1]) as u64;
            // Times are of whole milliseconds.
            prop_assert!(events * MINUTE_MS < (last - first + 1) * u64::from(per_minute));
        }
    }
}
