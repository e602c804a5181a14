//! Whether Cyrus names the flags of messages that come.
//!
//! Of a message without flags it names none, and of none where it isn't configured to
//! (`flagNames`). So only of a message that came soon after one with flags named is it sure that it
//! came without any: the configuration may have been changed since.

use std::time::Duration;

use mail_event::Timestamp;

use crate::Pair;
use crate::spool::Change;

/// When Cyrus last named any.
#[derive(Debug, Default)]
pub(super) struct FlagNaming {
    /// In milliseconds since 1970.
    last: Option<i64>,
    stored: Option<i64>,
}

impl FlagNaming {
    pub(super) fn restore(saved: &[Pair]) -> Self {
        let text = saved.first().and_then(|(_, value)| std::str::from_utf8(value).ok());
        let last = text.and_then(|text| text.parse().ok());
        Self { last, stored: last }
    }

    /// What is to be stored, if it is much later than what is.
    pub(super) fn take_change(&mut self) -> Option<Change> {
        let last = self.last?;
        if self.stored.is_some_and(|stored| last - stored < millis(STORED_FOR)) {
            return None;
        }
        self.stored = Some(last);
        Some((KEY.to_vec(), Some(last.to_string().into_bytes())))
    }

    /// Flags of a message were named that came then.
    pub(super) fn note(&mut self, at: Timestamp) {
        self.last = self.last.max(Some(at.unix_millis()));
    }

    /// Whether a message of which none are named, and that came then, came without.
    pub(super) fn is_sure_at(&self, at: Timestamp) -> bool {
        self.last.is_some_and(|last| at.unix_millis() - last <= millis(SURE_FOR))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When it was, in the checkpoint.
pub(super) const KEY: &[u8] = b"names-flags";

/// For how long after it named flags Cyrus is taken to do so.
const SURE_FOR: Duration = Duration::from_secs(60 * 60);

/// How much later it must be to be stored anew.
const STORED_FOR: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &str) -> Timestamp {
        format!("2026-11-25T{clock}:00+01:00").parse().unwrap()
    }

    #[test]
    fn cyrus_is_taken_to_name_flags_for_an_hour() {
        let mut naming = FlagNaming::restore(&[(KEY.to_vec(), Vec::new())]);
        assert!(!naming.is_sure_at(at("12:00")), "what an earlier version knew is too old");
        assert_eq!(naming.take_change(), None);
        naming.note(at("12:00"));
        naming.note(at("11:00"));
        assert!(naming.is_sure_at(at("12:00")) && naming.is_sure_at(at("13:00")));
        assert!(!naming.is_sure_at(at("13:01")));

        let (key, value) = naming.take_change().unwrap();
        let again = FlagNaming::restore(&[(key, value.unwrap())]);
        assert!(again.is_sure_at(at("13:00")) && !again.is_sure_at(at("13:01")));
        // Not with each message.
        naming.note(at("12:04"));
        assert_eq!(naming.take_change(), None);
        naming.note(at("12:05"));
        assert!(naming.take_change().is_some());
    }
}
