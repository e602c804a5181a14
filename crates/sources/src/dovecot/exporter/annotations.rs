//! What the exporter said, kept until the spool's line is there.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use mail_event::Timestamp;

use super::{Annotation, Exported, Login};

/// Annotations that wait for their lines, and how sessions began and ended.
///
/// Bounded: what nobody asks for falls out at the other end.
#[derive(Debug, Default)]
pub(in super::super) struct Annotations {
    lines: Kept<(String, u64), Annotation>,
    endings: Kept<String, Ending>,
    logins: Kept<String, Login>,
    heard: Option<Instant>,
    missed_in_a_row: u32,
}

/// How a session ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Ending {
    /// When everything of it was done; not yet known where only LOGOUT was seen.
    pub(in super::super) at: Option<Timestamp>,
    /// How long it lasted.
    pub(in super::super) duration: Option<Duration>,
    /// The client said LOGOUT and was answered. Where it didn't, the connection broke or timed
    /// out; which of the two, Dovecot does not export.
    pub(in super::super) is_graceful: bool,
    /// Only its process ended: the session hibernates.
    pub(in super::super) is_hibernation: bool,
}

impl Annotations {
    /// Keeps what `exported` says of a line, or of a session's beginning or end.
    pub(in super::super) fn add(&mut self, exported: &Exported, now: Instant) {
        self.heard = Some(now);
        self.missed_in_a_row = 0;
        match exported {
            Exported::Transaction { run, seq, annotation } => {
                self.lines.insert((run.clone(), *seq), annotation.clone());
            }
            Exported::Command { whence, name, .. } if name == "LOGOUT" => {
                if let Some(session) = &whence.session {
                    self.endings.entry(session.clone()).is_graceful = true;
                }
            }
            Exported::Session { whence, duration } => {
                if let Some(session) = &whence.session {
                    let ending = self.endings.entry(session.clone());
                    (ending.at, ending.duration) = (whence.at, Some(*duration));
                }
            }
            Exported::Hibernated { whence } => {
                if let Some(session) = &whence.session {
                    self.endings.entry(session.clone()).is_hibernation = true;
                }
            }
            Exported::Auth { whence, login } => {
                if let Some(session) = &whence.session {
                    self.logins.insert(session.clone(), login.clone());
                }
            }
            Exported::Command { .. } | Exported::Delivery { .. } | Exported::Recipient { .. } => {}
        }
    }

    /// What was said of a line, once.
    pub(in super::super) fn take(&mut self, run: &str, seq: u64) -> Option<Annotation> {
        self.lines.remove(&(run.to_owned(), seq))
    }

    /// How a session was begun, once.
    pub(in super::super) fn take_login(&mut self, session: &str) -> Option<Login> {
        self.logins.remove(&session.to_owned())
    }

    /// How a session ended, once, and only when its end was exported (`at` is known): LOGOUT
    /// alone is still kept.
    pub(in super::super) fn take_ending(&mut self, session: &str) -> Option<Ending> {
        self.endings.get(session).filter(|ending| ending.at.is_some())?;
        self.endings.remove(&session.to_owned())
    }

    /// Forgets that a session hibernates, whose end was taken before.
    pub(in super::super) fn take_hibernation(&mut self, session: &str) {
        self.endings.remove(&session.to_owned());
    }

    /// Says that a line was waited for, and nothing came.
    pub(in super::super) fn give_up(&mut self) {
        self.missed_in_a_row = self.missed_in_a_row.saturating_add(1);
    }

    /// Whether waiting is worth it: something was heard lately, or not enough was waited for in
    /// vain to say that nobody is there. A quiet night costs nothing, an exporter that is away
    /// costs the window a few times.
    pub(in super::super) fn is_alive(&self, now: Instant) -> bool {
        let is_fresh = |heard: Instant| now.saturating_duration_since(heard) < FRESH;
        match self.missed_in_a_row {
            0..MISSES_MAX => true,
            MISSES_MAX.. => {
                self.heard.is_some_and(is_fresh) && self.missed_in_a_row < 2 * MISSES_MAX
            }
        }
    }
}

/// A map that forgets the oldest.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    found: HashMap<K, (u64, V)>,
    order: VecDeque<(u64, K)>,
    next: u64,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { found: HashMap::new(), order: VecDeque::new(), next: 0 }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Kept<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.next += 1;
        self.order.push_back((self.next, key.clone()));
        self.found.insert(key, (self.next, value));
        while self.order.len() > KEPT_MAX {
            let Some((stamp, key)) = self.order.pop_front() else { break };
            // It may have been taken, or taken and kept anew, since.
            if self.found.get(&key).is_some_and(|(kept, _)| *kept == stamp) {
                self.found.remove(&key);
            }
        }
    }

    fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.found.contains_key(&key) {
            self.insert(key.clone(), V::default());
        }
        &mut self.found.entry(key).or_default().1
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ?Sized,
    {
        self.found.get(key).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.found.remove(key).map(|(_, value)| value)
    }
}

/// Of lines and of sessions each: a minute of a busy server.
const KEPT_MAX: usize = 16_384;

/// What was heard is fresh for so long.
const FRESH: Duration = Duration::from_secs(60);

/// Lines waited for in vain before nobody waits any more.
const MISSES_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::Whence;
    use super::*;

    fn transaction(seq: u64) -> Exported {
        let command = Some(format!("COMMAND {seq}"));
        let annotation = Annotation { command, ..Annotation::default() };
        Exported::Transaction { run: "r".to_owned(), seq, annotation }
    }

    fn whence() -> Whence {
        let at = Some("2026-11-25T02:25:42+00:00".parse().unwrap());
        Whence { at, session: Some("s".to_owned()), ..Whence::default() }
    }

    #[test]
    fn an_annotation_joins_its_line_once() {
        let mut kept = Annotations::default();
        kept.add(&transaction(1), Instant::now());
        assert_eq!(kept.take("r", 2), None);
        assert_eq!(kept.take("q", 1), None);
        assert_eq!(kept.take("r", 1).unwrap().command.as_deref(), Some("COMMAND 1"));
        assert_eq!(kept.take("r", 1), None);
    }

    #[test]
    fn a_login_joins_its_session_once() {
        let mut kept = Annotations::default();
        let login = Login { mechanism: Some("PLAIN".to_owned()), ..Login::default() };
        kept.add(&Exported::Auth { whence: whence(), login: login.clone() }, Instant::now());
        assert_eq!(kept.take_login("t"), None);
        assert_eq!(kept.take_login("s"), Some(login));
        assert_eq!(kept.take_login("s"), None);
    }

    #[test]
    fn r157_what_nobody_asks_for_falls_out() {
        let mut kept = Annotations::default();
        for seq in 0..40_000 {
            kept.add(&transaction(seq), Instant::now());
        }
        assert_eq!((kept.lines.found.len(), kept.lines.order.len()), (KEPT_MAX, KEPT_MAX));
        assert!(kept.take("r", 10).is_none() && kept.take("r", 39_999).is_some());
    }

    #[test]
    fn an_exporter_that_is_away_is_waited_for_a_few_times_and_no_more() {
        let (mut kept, now) = (Annotations::default(), Instant::now());
        for _ in 0..MISSES_MAX {
            assert!(kept.is_alive(now));
            kept.give_up();
        }
        assert!(!kept.is_alive(now));
        kept.add(&transaction(1), now);
        assert!(kept.is_alive(now + Duration::from_secs(3600)), "a quiet hour is no absence");
    }

    #[test]
    fn r77_r78_a_session_that_said_logout_ended_gracefully_and_its_length_is_exact() {
        let mut kept = Annotations::default();
        let logout = Exported::Command {
            whence: whence(),
            name: "LOGOUT".to_owned(),
            tag: String::new(),
            arguments: String::new(),
            reply: String::new(),
        };
        let duration = Duration::from_micros(15_113_361);
        kept.add(&logout, Instant::now());
        assert_eq!(kept.take_ending("s"), None);
        kept.add(&Exported::Session { whence: whence(), duration }, Instant::now());
        let ending = kept.take_ending("s").unwrap();
        assert!(ending.is_graceful && ending.duration == Some(duration));
        assert_eq!(kept.take_ending("s"), None);

        kept.add(&Exported::Session { whence: whence(), duration }, Instant::now());
        assert!(!kept.take_ending("s").unwrap().is_graceful);
    }

    #[test]
    fn r74_a_session_that_hibernates_is_known_by_the_word_of_it() {
        let mut kept = Annotations::default();
        kept.add(&Exported::Hibernated { whence: whence() }, Instant::now());
        assert_eq!(kept.take_ending("s"), None);
        let duration = Duration::from_secs(1);
        kept.add(&Exported::Session { whence: whence(), duration }, Instant::now());
        assert!(kept.take_ending("s").unwrap().is_hibernation);
        // Where it came late it must not be taken for the next end's.
        kept.add(&Exported::Hibernated { whence: whence() }, Instant::now());
        kept.take_hibernation("s");
        kept.add(&Exported::Session { whence: whence(), duration }, Instant::now());
        assert!(!kept.take_ending("s").unwrap().is_hibernation);
    }
}
