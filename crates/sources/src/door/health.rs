//! How a source is, for `/v1/sources`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postbell_engine::in_words;
use serde::Serialize;

/// The status a source keeps up to date and the hub shows. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    words: Mutex<Words>,
    counts: [AtomicU64; Count::ALL.len()],
}

#[derive(Clone, Debug, Default)]
struct Words {
    state: State,
    detail: String,
    last_error: Option<String>,
    asking_error: Option<String>,
}

impl Health {
    /// A source that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the source is doing now, with a few words for a person (may be empty).
    pub fn set_state(&self, state: State, detail: impl Into<String>) {
        let detail = clipped(in_words(&detail.into()));
        self.with(|words| {
            words.state = state;
            words.detail = detail;
        });
    }

    /// Remembers what went wrong last. The source logs it itself if it swallows it.
    pub fn set_error(&self, error: &dyn fmt::Display) {
        let error = clipped(in_words(error));
        self.with(|words| words.last_error = Some(error));
    }

    /// Says why the last question to the store had no answer; nothing where it had one.
    pub fn set_asking_error(&self, error: Option<&str>) {
        let error = error.map(|error| clipped(in_words(&error)));
        self.with(|words| words.asking_error = error);
    }

    /// Sets a count that is a level, such as [`Count::Messages`].
    pub fn set(&self, count: Count, value: u64) {
        self.count(count).store(value, Ordering::Relaxed);
    }

    /// Adds to a count that only grows, such as [`Count::Rescans`].
    pub fn add(&self, count: Count, more: u64) {
        self.count(count).fetch_add(more, Ordering::Relaxed);
    }

    /// How the source is at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let words = self.with(|words| words.clone());
        let read = |count| self.count(count).load(Ordering::Relaxed);
        Snapshot {
            state: words.state,
            detail: words.detail,
            last_error: words.last_error,
            asking_error: words.asking_error,
            users: read(Count::Users),
            mailboxes: read(Count::Mailboxes),
            messages: read(Count::Messages),
            observations: read(Count::Observations),
            rescans: read(Count::Rescans),
            skipped: read(Count::Skipped),
            gaps: read(Count::Gaps),
            unread: read(Count::Unread),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Words) -> T) -> T {
        // A thread that died while holding the lock left words behind, not a broken promise.
        change(&mut self.0.words.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, count: Count) -> &AtomicU64 {
        let [users, mailboxes, messages, observations, rescans, skipped, gaps, unread] =
            &self.0.counts;
        match count {
            Count::Users => users,
            Count::Mailboxes => mailboxes,
            Count::Messages => messages,
            Count::Observations => observations,
            Count::Rescans => rescans,
            Count::Skipped => skipped,
            Count::Gaps => gaps,
            Count::Unread => unread,
        }
    }
}

/// What a source counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Users watched now.
    Users,
    /// Mailboxes watched now.
    Mailboxes,
    /// Messages known now.
    Messages,
    /// Observations handed over since the start.
    Observations,
    /// Full looks taken because a notice may have been missed.
    Rescans,
    /// Things left aside as unreadable or beyond a limit.
    Skipped,
    /// Holes told as `vnd.postbell.Gap`.
    Gaps,
    /// Octets handed over in a spool whose events are not in the journal yet.
    Unread,
}

impl Count {
    /// All of them, in the order of [`Snapshot`].
    pub const ALL: [Self; 8] = [
        Self::Users,
        Self::Mailboxes,
        Self::Messages,
        Self::Observations,
        Self::Rescans,
        Self::Skipped,
        Self::Gaps,
        Self::Unread,
    ];
}

/// What a source is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not ready yet.
    #[default]
    Starting,
    /// Taking a full look.
    Scanning,
    /// Following the store, or listening for publishers.
    Running,
    /// Waiting for something outside, such as room on the disk or a store that is away.
    Waiting,
    /// Ended by itself; a person must act.
    Failed,
    /// Ended because it was asked to.
    Stopped,
}

/// A source's status at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// What it is doing.
    pub state: State,
    /// The same in a few words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What went wrong last, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Why the last question to the store had no answer, if it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asking_error: Option<String>,
    /// Users watched now.
    pub users: u64,
    /// Mailboxes watched now.
    pub mailboxes: u64,
    /// Messages known now.
    pub messages: u64,
    /// Observations handed over since the start.
    pub observations: u64,
    /// Full looks taken because a notice may have been missed.
    pub rescans: u64,
    /// Things left aside.
    pub skipped: u64,
    /// Holes told.
    pub gaps: u64,
    /// Octets of a spool not journalled yet.
    pub unread: u64,
}

/// The longest text kept, in octets: a path or two; more helps nobody and comes from outside.
const TEXT_OCTETS_MAX: usize = 1024;

fn clipped(mut text: String) -> String {
    if text.len() > TEXT_OCTETS_MAX {
        let end = text.floor_char_boundary(TEXT_OCTETS_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_shown_in_words() {
        let health = Health::new();
        let away = std::io::Error::from_raw_os_error(13);
        health.set_error(&away);
        health.set_state(State::Waiting, format!("/mail: {away}"));
        let shown = health.snapshot();
        assert_eq!(shown.last_error.as_deref(), Some("Permission denied"));
        assert_eq!(shown.detail, "/mail: Permission denied");
    }

    #[test]
    fn a_snapshot_shows_what_every_clone_said() {
        let health = Health::new();
        let other = health.clone();
        other.set_state(State::Running, "watching /var/mail");
        other.set_error(&"away");
        for (index, count) in (1..).zip(Count::ALL) {
            other.set(count, index);
        }
        other.add(Count::Rescans, 10);
        let json = serde_json::to_value(health.snapshot()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "state": "running", "detail": "watching /var/mail", "lastError": "away",
                "users": 1, "mailboxes": 2, "messages": 3, "observations": 4,
                "rescans": 15, "skipped": 6, "gaps": 7, "unread": 8,
            })
        );
    }

    #[test]
    fn what_was_asked_in_vain_is_forgotten_with_the_next_answer_and_by_nothing_else() {
        let health = Health::new();
        health.set_asking_error(Some("127.0.0.1:143: refused"));
        health.set_error(&"/spool: no room");
        let shown = health.snapshot();
        assert_eq!(shown.asking_error.as_deref(), Some("127.0.0.1:143: refused"));
        health.set_asking_error(None);
        let shown = health.snapshot();
        assert_eq!(
            (shown.asking_error, shown.last_error.as_deref()),
            (None, Some("/spool: no room"))
        );
    }

    #[test]
    fn a_hostile_text_is_cut() {
        let health = Health::new();
        health.set_state(State::Failed, "é".repeat(10_000));
        assert!(health.snapshot().detail.len() < 1100);
    }
}
