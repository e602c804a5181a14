//! Who is logged in, so that each Login gets exactly one Logout (R74).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::record::Transaction;
use crate::{Pair, saved};

/// The sessions that haven't ended.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<String, Session>,
}

/// What is kept of a session: what its Logout will want to say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Session {
    /// The run it is served in, or was served in last.
    pub(super) run: String,
    /// When it began, in seconds since 1970.
    pub(super) began: i64,
    /// The user.
    pub(super) user: String,
    /// Who logged in, where it wasn't the user.
    pub(super) auth: Option<String>,
    /// `imap`, `pop3`.
    pub(super) service: Option<String>,
    /// Dovecot's name for the session.
    pub(super) session: Option<String>,
    /// The client.
    pub(super) client: Option<SocketAddr>,
    /// What the client reached.
    pub(super) server: Option<SocketAddr>,
    /// The process.
    pub(super) pid: u32,
    /// Whether it ever hibernated: Dovecot handed it to `imap-hibernate` while its client idled.
    #[serde(default)]
    pub(super) has_slept: bool,
    #[serde(default)]
    standing: Standing,
    /// How its connection was found when it was looked for last.
    #[serde(default)]
    connection: Connection,
}

/// Who serves a session.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Standing {
    /// The process of its run.
    #[default]
    Served,
    /// None: it hibernates.
    Asleep,
    /// None: it ended, unless it turns out to hibernate.
    Closing(Said),
}

/// What was said of a session's end.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    /// When, in milliseconds since 1970.
    pub(super) at_millis: i64,
    /// By which process.
    pub(super) pid: u32,
    /// How long it had lasted.
    pub(super) seconds: Option<u64>,
    /// The client was heard to say LOGOUT.
    pub(super) is_graceful: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Connection {
    /// Not yet.
    #[default]
    Unseen,
    /// It was not on this machine: who holds it can't be seen from here.
    Elsewhere,
    Open,
    Closed,
}

/// Which sessions that hibernate are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sleepers {
    /// Each, at intervals that leave time for what was on its way.
    All,
    /// Those whose connection was not found yet.
    New,
}

impl Session {
    fn of(line: &Transaction) -> Self {
        Self {
            run: line.run.clone(),
            began: line.at.instant().as_second(),
            user: line.user.clone(),
            auth: line.auth.clone(),
            service: line.service.clone(),
            session: line.session.clone(),
            client: line.client,
            server: line.server(),
            pid: line.pid,
            has_slept: false,
            standing: Standing::Served,
            connection: Connection::Unseen,
        }
    }

    fn is_watched(&self) -> bool {
        self.standing == Standing::Asleep && self.connection != Connection::Elsewhere
    }

    fn is_elsewhere(&self) -> bool {
        self.standing == Standing::Asleep && self.connection == Connection::Elsewhere
    }
}

impl Sessions {
    /// What the checkpoint says.
    pub(super) fn restore(saved: &[Pair]) -> Self {
        Self { sessions: saved::restore(KEY, saved) }
    }

    /// What a line's session is called here.
    pub(super) fn id(line: &Transaction) -> String {
        // Every client's session has a name; one run serves one at a time of those that have none.
        line.session.clone().unwrap_or_else(|| format!("run {}", line.run))
    }

    /// Notes a login. Says whether it is one: the same session can't begin twice.
    pub(super) fn begin(&mut self, line: &Transaction) -> bool {
        let id = Self::id(line);
        // Handed from one process to another it is still the same session.
        let began = self.sessions.get(&id).map(|before| before.began);
        let now = Session::of(line);
        self.sessions.insert(id, Session { began: began.unwrap_or(now.began), ..now });
        began.is_none()
    }

    /// Notes a logout, and gives what is known of the session, if it had begun.
    pub(super) fn end(&mut self, id: &str) -> Option<Session> {
        self.sessions.remove(id)
    }

    /// Notes that a session ended, if it doesn't turn out to hibernate: [`Sessions::fall_asleep`].
    pub(super) fn close(&mut self, id: &str, said: Said) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.standing = Standing::Closing(said);
        }
    }

    /// What was said of a session's end, where nobody said that it hibernates.
    pub(super) fn closing(&self, id: &str) -> Option<Said> {
        match self.sessions.get(id)?.standing {
            Standing::Closing(said) => Some(said),
            Standing::Served | Standing::Asleep => None,
        }
    }

    /// The sessions that [`Sessions::close`] was told of.
    pub(super) fn all_closing(&self) -> Vec<String> {
        let closing = self.sessions.keys().filter(|id| self.closing(id).is_some());
        closing.cloned().collect()
    }

    /// Notes that a session hibernates: what its script took for the end was none.
    pub(super) fn fall_asleep(&mut self, id: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            (session.standing, session.has_slept) = (Standing::Asleep, true);
        }
    }

    /// Notes that a process serves a session that none had served; says whether none had.
    pub(super) fn wake(&mut self, line: &Transaction) -> bool {
        let Some(session) = self.sessions.get_mut(&Self::id(line)) else { return false };
        if session.standing == Standing::Served || session.run == line.run {
            return false;
        }
        session.run.clone_from(&line.run);
        (session.pid, session.has_slept, session.standing) = (line.pid, true, Standing::Served);
        if session.connection == Connection::Closed {
            session.connection = Connection::Open;
        }
        true
    }

    /// Whether a session ever hibernated.
    pub(super) fn has_slept(&self, id: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.has_slept)
    }

    /// Whether any session hibernates of which something can be seen.
    pub(super) fn any_asleep(&self) -> bool {
        self.sessions.values().any(Session::is_watched)
    }

    /// Looks which of the hibernating sessions' connections are open, by the server's address and
    /// the client's. Gives those that changed, and whether they are over: the connection was open,
    /// and in two looks it was not. One that is not found at first may be anywhere, and isn't looked
    /// for again; of these no more than [`ELSEWHERE_MAX`] are remembered.
    pub(super) fn look(
        &mut self,
        which: Sleepers,
        is_open: impl Fn(SocketAddr, SocketAddr) -> bool,
    ) -> Vec<(String, bool)> {
        let mut changed = Vec::new();
        for (id, session) in self.sessions.iter_mut().filter(|(_, session)| session.is_watched()) {
            let before = session.connection;
            if which == Sleepers::New && before != Connection::Unseen {
                continue;
            }
            let ends = session.server.zip(session.client);
            session.connection =
                match (before, ends.is_some_and(|(here, there)| is_open(here, there))) {
                    (_, true) => Connection::Open,
                    (Connection::Unseen, false) => Connection::Elsewhere,
                    (_, false) => Connection::Closed,
                };
            let is_over = (before, session.connection) == (Connection::Closed, Connection::Closed);
            if before != session.connection || is_over {
                changed.push((id.clone(), is_over));
            }
        }
        let elsewhere = self.sessions.iter().filter(|(_, session)| session.is_elsewhere());
        let mut elsewhere: Vec<_> = elsewhere.map(|(id, one)| (one.began, id.clone())).collect();
        if elsewhere.len() > ELSEWHERE_MAX {
            elsewhere.sort_unstable();
            for (_, id) in elsewhere.drain(..elsewhere.len() - ELSEWHERE_MAX) {
                self.sessions.remove(&id);
                changed.push((id, false));
            }
        }
        changed
    }

    /// Whether a session has begun and not ended.
    pub(super) fn has(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    /// The sessions that were served in a run.
    pub(super) fn of_run(&self, run: &str) -> Vec<String> {
        let of_run = |one: &Session| one.run == run && one.standing == Standing::Served;
        let of_run = self.sessions.iter().filter(|(_, session)| of_run(session));
        of_run.map(|(id, _)| id.clone()).collect()
    }

    /// A session's entry in the checkpoint as it is to be.
    pub(super) fn change(&self, id: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        saved::change(KEY, id, self.sessions.get(id))
    }

    /// How many are logged in.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

/// Where a session is in the checkpoint.
pub(super) const KEY: &[u8] = b"session/";

/// Sessions that hibernate, and of whose end nobody will tell: an evening's of a large server.
const ELSEWHERE_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dovecot::record;

    fn line(session: &str) -> Transaction {
        line_of('a', session)
    }

    fn line_of(run: char, session: &str) -> Transaction {
        let text = format!(
            r#"{{"v":1,"run":"{}","seq":1,"pid":7,"time":90,"user":"u","service":"imap","session":"{session}","rip":"::2","rport":9,"lip":"::1","lport":143,"events":[{{"e":"login"}}]}}"#,
            run.to_string().repeat(32)
        );
        record::parse(text.as_bytes()).unwrap()
    }

    fn again(sessions: &Sessions, id: &str) -> Sessions {
        let (key, value) = sessions.change(id);
        Sessions::restore(&[(key, value.unwrap())])
    }

    #[test]
    fn r74_a_session_begins_once_and_ends_once_over_restarts() {
        let mut sessions = Sessions::default();
        assert!(sessions.begin(&line("s")) && !sessions.begin(&line("s")));
        let mut again = again(&sessions, "s");
        assert_eq!(again.of_run(&"a".repeat(32)), ["s"]);
        let ended = again.end("s").unwrap();
        assert_eq!((ended.began, ended.server.unwrap().port()), (90, 143));
        assert_eq!((again.end("s"), again.change("s").1, again.len()), (None, None, 0));
    }

    #[test]
    fn r74_a_session_that_hibernates_goes_on_and_is_no_process() {
        let mut sessions = Sessions::default();
        sessions.begin(&line("s"));
        assert!(!sessions.wake(&line("s")) && !sessions.any_asleep());
        sessions.fall_asleep("s");
        let mut again = again(&sessions, "s");
        assert!(again.any_asleep());
        assert_eq!(again.of_run(&"a".repeat(32)), Vec::<String>::new());
        assert!(again.wake(&line_of('b', "s")) && !again.any_asleep());
        assert_eq!(again.of_run(&"b".repeat(32)), ["s"]);
        assert_eq!(again.end("s").unwrap().began, 90);
    }

    #[test]
    fn r74_a_session_that_closes_has_ended_unless_it_hibernates_or_goes_on() {
        let said = Said { at_millis: 95_000, pid: 7, seconds: Some(5), is_graceful: false };
        let mut sessions = Sessions::default();
        sessions.begin(&line("s"));
        sessions.close("s", said);
        let mut again = again(&sessions, "s");
        assert_eq!((again.all_closing(), again.closing("s")), (vec!["s".to_owned()], Some(said)));
        assert_eq!(again.of_run(&"a".repeat(32)), Vec::<String>::new());
        assert!(!again.wake(&line("s")), "its own run has ended");
        again.fall_asleep("s");
        assert!(again.closing("s").is_none() && again.any_asleep());
        assert!(sessions.wake(&line_of('b', "s")) && sessions.closing("s").is_none());
    }

    #[test]
    fn a_hibernating_session_is_over_when_its_connection_was_open_and_twice_is_not() {
        let mut sessions = Sessions::default();
        sessions.begin(&line("s"));
        let all = |sessions: &mut Sessions, is_open| sessions.look(Sleepers::All, |_, _| is_open);
        let new = |sessions: &mut Sessions, is_open| sessions.look(Sleepers::New, |_, _| is_open);
        assert!(all(&mut sessions, false).is_empty(), "it is awake");
        sessions.fall_asleep("s");
        let (goes_on, is_over) = ([("s".to_owned(), false)], [("s".to_owned(), true)]);
        assert_eq!(new(&mut sessions, true), goes_on);
        assert!(all(&mut sessions, true).is_empty() && new(&mut sessions, false).is_empty());
        assert_eq!(all(&mut sessions, false), goes_on);
        assert!(new(&mut sessions, false).is_empty(), "too soon");
        assert_eq!(all(&mut again(&sessions, "s"), false), is_over);
        assert_eq!(all(&mut sessions, true), goes_on);
        assert_eq!(all(&mut sessions, false), goes_on);
        // Awake it is its process that tells.
        assert!(sessions.wake(&line_of('b', "s")) && all(&mut sessions, false).is_empty());
        sessions.fall_asleep("s");
        assert_eq!(all(&mut sessions, false), goes_on, "it was found before");
        assert_eq!(all(&mut sessions, false), is_over);

        let mut sessions = Sessions::default();
        sessions.begin(&line("s"));
        sessions.fall_asleep("s");
        assert_eq!(new(&mut sessions, false), goes_on);
        assert!(!sessions.any_asleep() && all(&mut sessions, false).is_empty(), "it is elsewhere");
        assert!(sessions.wake(&line_of('b', "s")) && sessions.has("s"));
    }
}
