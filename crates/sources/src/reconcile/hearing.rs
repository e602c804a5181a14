//! Since when flags are told.

use mail_event::Timestamp;

use super::{Place, Reconcile};
use crate::Pair;

/// Whether the store was asked to tell of flags. What changed while it wasn't is no hole: nobody
/// wanted it.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    state: State,
    /// When a look passed over changed flags last, since it can't tell those of before from those
    /// after, in milliseconds since 1970.
    passed_over: i64,
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

/// What changes in whether flags are told.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Turn {
    /// Nothing.
    None,
    /// They are again.
    Begins,
    /// They are no more.
    Ends,
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

    /// Notes that a look passes over flags, at this moment.
    pub(super) fn pass_over(&mut self, at: Timestamp) {
        // While nobody wants them there is none that anybody misses.
        if matches!(self.state, State::DeafUntil(_)) {
            self.is_changed |= self.passed_over < at.unix_millis();
            self.passed_over = self.passed_over.max(at.unix_millis());
        }
    }

    /// What is to be stored, where that changed since this was last asked.
    pub(super) fn take_change(&mut self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let text = match self.state {
            State::Always => None,
            State::Deaf => Some(Vec::new()),
            State::DeafUntil(until) => Some(format!("{until} {}", self.passed_over).into_bytes()),
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
        let said = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
        let said =
            said.and_then(|(until, passed)| Some((until.parse().ok()?, passed.parse().ok()?)));
        let (state, passed_over) = match said {
            Some((until, passed_over)) => (State::DeafUntil(until), passed_over),
            None => (State::Deaf, 0),
        };
        (self.hearing.state, self.hearing.passed_over) = (state, passed_over);
    }

    /// Whether looks tell which flags changed after `since`, in milliseconds since 1970, in all
    /// mailboxes of these users; of everybody, where there are none. They don't where a mailbox
    /// wasn't looked at since flags are told: what changed before and what after, nobody knows.
    ///
    /// While nobody wants flags, there is nothing to tell.
    pub(in super::super) fn shows_flags(&self, users: &[String], since: Option<i64>) -> bool {
        if !matches!(self.hearing.state, State::DeafUntil(_)) {
            return true;
        }
        let concerns = |owner: &String| users.is_empty() || users.contains(owner);
        let mut concerned = self.boxes.iter().filter(|((owner, _), _)| concerns(owner));
        since.is_some_and(|since| since > self.hearing.passed_over)
            && concerned.all(|(_, kept)| self.hearing.has_heard_since(kept.looked_at))
    }

    /// Notes that a list shows a mailbox as it was when it was looked at last: it is known since the
    /// list, if flags weren't told all the time before.
    pub(super) fn stands_still(&mut self, place: &Place) {
        let Some(kept) = self.boxes.get_mut(place) else { return };
        if !self.hearing.has_heard_since(kept.looked_at) && self.hearing.has_heard_since(self.began)
        {
            kept.looked_at = self.began;
            self.changed.insert(place.clone());
        }
    }

    /// Notes whether flags are told from now on; says what that changes.
    pub(in super::super) fn hear_flags(&mut self, are_told: bool, now: Timestamp) -> Turn {
        let state = match (are_told, self.hearing.state) {
            (true, State::Deaf) => State::DeafUntil(now.unix_millis()),
            (true, before) => before,
            (false, _) => State::Deaf,
        };
        let turn = match (self.hearing.state, state) {
            (before, after) if before == after => Turn::None,
            (_, State::Deaf) => Turn::Ends,
            _ => Turn::Begins,
        };
        self.hearing.is_changed |= turn != Turn::None;
        self.hearing.state = state;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::BoxLook;
    use crate::reconcile::kept::Sets;

    fn at(millis: i64) -> Timestamp {
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap();
        Timestamp::new(instant, jiff::tz::Offset::UTC)
    }

    #[test]
    fn what_nobody_wanted_to_hear_was_not_missed() {
        let mut memory = Reconcile::default();
        assert_eq!(memory.hear_flags(true, at(1)), Turn::None);
        assert!(memory.hearing.has_heard_since(None));
        assert_eq!(memory.hearing.take_change(), None);
        assert_eq!(memory.hear_flags(false, at(2)), Turn::Ends);
        assert!(!memory.hearing.has_heard_since(Some(3)));
        let (_, value) = memory.hearing.take_change().unwrap();

        let mut restored = Reconcile::default();
        restored.restore_hearing(&[(Reconcile::HEARING.to_vec(), value.unwrap())]);
        assert_eq!(restored.hear_flags(true, at(5)), Turn::Begins);
        assert_eq!(restored.hear_flags(true, at(6)), Turn::None);
        for (since, heard) in [(None, false), (Some(5), false), (Some(6), true)] {
            assert_eq!(restored.hearing.has_heard_since(since), heard, "{since:?}");
        }
        let (key, value) = restored.hearing.take_change().unwrap();
        assert_eq!((key, value), (b"hearing/flags".to_vec(), Some(b"5 0".to_vec())));
    }

    #[test]
    fn flags_are_shown_once_all_mailboxes_were_looked_at_since_they_are_told() {
        let mut memory = Reconcile::default();
        let look = |memory: &mut Reconcile, owner: &str, begun: i64| {
            memory.begin(at(begun));
            let place = (owner.to_owned(), "INBOX".to_owned());
            memory.rebase(&place, BoxLook::empty(7), Sets::default(), Sets::default());
        };
        let (alice, bob) = (["alice".to_owned()], ["bob".to_owned()]);
        look(&mut memory, "alice", 1);
        look(&mut memory, "bob", 1);
        assert!(memory.shows_flags(&[], None), "they were always told");
        assert_eq!(memory.hear_flags(false, at(2)), Turn::Ends);
        memory.hearing.pass_over(at(3));
        assert!(memory.shows_flags(&alice, None), "nobody wants them");
        assert_eq!(memory.hear_flags(true, at(5)), Turn::Begins);
        assert!(!memory.shows_flags(&alice, Some(9)));
        look(&mut memory, "alice", 6);
        assert!(memory.shows_flags(&alice, Some(9)) && !memory.shows_flags(&bob, Some(9)));
        assert!(!memory.shows_flags(&[], Some(9)) && !memory.shows_flags(&alice, None));
        // What stands still need not be looked at.
        memory.began = Some(7);
        memory.stands_still(&("bob".to_owned(), "INBOX".to_owned()));
        assert!(memory.shows_flags(&[], Some(9)));
        memory.hearing.pass_over(at(9));
        let (_, value) = memory.hearing.take_change().unwrap();
        memory.hearing = Hearing::default();
        memory.restore_hearing(&[(Reconcile::HEARING.to_vec(), value.unwrap())]);
        assert!(memory.shows_flags(&alice, Some(10)) && !memory.shows_flags(&alice, Some(9)));
    }
}
