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
    /// The run it is served in.
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
        }
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

    /// Whether a session has begun and not ended.
    pub(super) fn has(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    /// The sessions that were served in a run.
    pub(super) fn of_run(&self, run: &str) -> Vec<String> {
        let of_run = self.sessions.iter().filter(|(_, session)| session.run == run);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dovecot::record;

    fn line(session: &str) -> Transaction {
        let text = format!(
            r#"{{"v":1,"run":"{}","seq":1,"pid":7,"time":90,"user":"u","service":"imap","session":"{session}","lip":"::1","lport":143,"events":[{{"e":"login"}}]}}"#,
            "a".repeat(32)
        );
        record::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn r74_a_session_begins_once_and_ends_once_over_restarts() {
        let mut sessions = Sessions::default();
        assert!(sessions.begin(&line("s")) && !sessions.begin(&line("s")));
        let (key, value) = sessions.change("s");
        let mut again = Sessions::restore(&[(key, value.unwrap())]);
        assert_eq!(again.of_run(&"a".repeat(32)), ["s"]);
        let ended = again.end("s").unwrap();
        assert_eq!((ended.began, ended.server.unwrap().port()), (90, 143));
        assert_eq!((again.end("s"), again.change("s").1, again.len()), (None, None, 0));
    }
}
