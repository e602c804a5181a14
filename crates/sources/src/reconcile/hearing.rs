//! Since when flags are told.

use mail_event::Timestamp;

use super::Reconcile;
use crate::Pair;

/// Whether the store was asked to tell of flags. What changed while it wasn't is no hole: nobody
/// wanted it.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    state: State,
    is_changed: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// As long as anybody knows.
    #[default]
    Always,
    /// Not now.
    Deaf,
    /// Not until then, in milliseconds since 1970.
    DeafUntil(i64),
}

impl Hearing {
    /// Whether flags were told all the time since then; where it isn't known since when, whether
    /// they always were.
    pub(super) fn has_heard_since(&self, since: Option<i64>) -> bool {
        match self.state {
            State::Always => true,
            State::Deaf => false,
            State::DeafUntil(until) => since.is_some_and(|since| since > until),
        }
    }

    /// What is to be stored, where that changed since this was last asked.
    pub(super) fn take_change(&mut self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let text = match self.state {
            State::Always => None,
            State::Deaf => Some(Vec::new()),
            State::DeafUntil(until) => Some(until.to_string().into_bytes()),
        };
        std::mem::take(&mut self.is_changed).then(|| (Reconcile::HEARING.to_vec(), text))
    }
}

impl Reconcile {
    /// The key under which it is remembered since when flags are told.
    pub(in super::super) const HEARING: &'static [u8] = b"hearing/flags";

    /// Remembers since when flags are told, from what [`Reconcile::drain_changes`] once gave.
    pub(in super::super) fn restore_hearing(&mut self, saved: &[Pair]) {
        let Some((_, value)) = saved.first() else { return };
        let until = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.hearing.state = until.map_or(State::Deaf, State::DeafUntil);
    }

    /// Notes whether flags are told from now on; says whether they are, and weren't before.
    pub(in super::super) fn hear_flags(&mut self, are_told: bool, now: Timestamp) -> bool {
        let state = match (are_told, self.hearing.state) {
            (true, State::Deaf) => State::DeafUntil(now.unix_millis()),
            (true, before) => before,
            (false, _) => State::Deaf,
        };
        let begins = are_told && self.hearing.state == State::Deaf;
        self.hearing.is_changed |= state != self.hearing.state;
        self.hearing.state = state;
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap();
        Timestamp::new(instant, jiff::tz::Offset::UTC)
    }

    #[test]
    fn what_nobody_wanted_to_hear_was_not_missed() {
        let mut memory = Reconcile::default();
        assert!(!memory.hear_flags(true, at(1)) && memory.hearing.has_heard_since(None));
        assert_eq!(memory.hearing.take_change(), None);
        assert!(!memory.hear_flags(false, at(2)) && !memory.hearing.has_heard_since(Some(3)));
        let (_, value) = memory.hearing.take_change().unwrap();

        let mut restored = Reconcile::default();
        restored.restore_hearing(&[(Reconcile::HEARING.to_vec(), value.unwrap())]);
        assert!(restored.hear_flags(true, at(5)), "it begins to hear");
        assert!(!restored.hear_flags(true, at(6)));
        for (since, heard) in [(None, false), (Some(5), false), (Some(6), true)] {
            assert_eq!(restored.hearing.has_heard_since(since), heard, "{since:?}");
        }
        let (key, value) = restored.hearing.take_change().unwrap();
        assert_eq!((key, value), (b"hearing/flags".to_vec(), Some(b"5".to_vec())));
    }
}
