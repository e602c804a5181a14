//! Sessions, so that each Login gets exactly one Logout (R74), and the addresses that Cyrus says
//! only at these two are known of what happens between (R103).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mail_event::Timestamp;
use postbell_engine::{Actor, Certainty, Identity, Observation, Origin, What};
use serde::{Deserialize, Serialize};

use super::super::notification::Notification;
use super::{Memory, Teller, Telling, Told, Untold, push};
use crate::spool::Change;
use crate::{Pair, saved};

/// Who is logged in.
#[derive(Debug, Default)]
pub(in super::super) struct Sessions {
    sessions: BTreeMap<String, Session>,
    changed: BTreeSet<String>,
}

/// What is kept of a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in super::super) struct Session {
    pub(in super::super) pid: Option<u32>,
    /// When it began, in milliseconds since 1970.
    pub(in super::super) began: i64,
    pub(super) user: String,
    service: Option<String>,
    /// Cyrus's name for it.
    name: Option<String>,
    pub(in super::super) client: Option<SocketAddr>,
    pub(super) server_domain: Option<String>,
    pub(in super::super) server_port: Option<u16>,
    server_fqdn: Option<String>,
    /// Its end was worked out and told; should Cyrus tell it after all, it is told no more.
    #[serde(default)]
    pub(in super::super) is_over: bool,
}

impl Session {
    /// Where it was accepted, as Cyrus says: the address and the port.
    pub(in super::super) fn server(&self) -> Option<(&str, u16)> {
        self.server_domain.as_deref().zip(self.server_port)
    }
}

impl Sessions {
    pub(super) fn restore(saved: &[Pair]) -> Self {
        Self { sessions: saved::restore(KEY, saved), changed: BTreeSet::new() }
    }

    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().map(|id| saved::change(KEY, id, self.sessions.get(id))).collect()
    }

    /// How many are logged in.
    pub(in super::super) fn len(&self) -> usize {
        self.sessions.values().filter(|session| !session.is_over).count()
    }

    /// The session something happened in.
    pub(super) fn find(&self, said: &Notification) -> Option<&Session> {
        self.sessions.get(&id(said))
    }

    /// Those that haven't ended, with their names here.
    pub(in super::super) fn open(&self) -> impl Iterator<Item = (&str, &Session)> {
        let open = self.sessions.iter().filter(|(_, session)| !session.is_over);
        open.map(|(id, session)| (id.as_str(), session))
    }

    /// Notes that a session's end was worked out, and gives what is known of it.
    pub(in super::super) fn end(&mut self, id: &str) -> Option<Session> {
        let session = self.sessions.get_mut(id).filter(|session| !session.is_over)?;
        session.is_over = true;
        self.changed.insert(id.to_owned());
        Some(session.clone())
    }

    /// Lets go of what ended long before `at`, in milliseconds since 1970; and takes out one that
    /// is open, if there are too many.
    pub(in super::super) fn tidy(&mut self, at: i64) {
        let is_old = |session: &Session| session.is_over && at - session.began > OVER_KEPT_MS;
        let old: Vec<_> = self.sessions.iter().filter(|(_, one)| is_old(one)).collect();
        let old: Vec<_> = old.into_iter().map(|(id, _)| id.clone()).collect();
        for id in old {
            self.sessions.remove(&id);
            self.changed.insert(id);
        }
    }
}

/// What a session is called here. Where Cyrus doesn't name it (`vnd.cmu.sessionId`), its process
/// does: one serves one client at a time.
fn id(said: &Notification) -> String {
    match (&said.session, said.pid) {
        (Some(name), _) => name.clone(),
        (None, Some(pid)) => format!("pid {pid}"),
        (None, None) => String::new(),
    }
}

pub(super) fn login(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let is_whole = said.server_domain.is_some() && said.server_port.is_some();
    let user = said.user.clone().filter(|_| is_whole).ok_or(Untold::Session)?;
    let at = said.at.unwrap_or(telling.whence.received);
    let id = id(said);
    // Whoever is served now, the one before is served no more.
    let before: Vec<_> = memory
        .sessions
        .open()
        .filter(|(other, session)| *other != id && said.pid.is_some() && session.pid == said.pid)
        .map(|(other, _)| other.to_owned())
        .collect();
    let before = before.iter().filter_map(|other| memory.sessions.end(other));
    let mut told: Vec<_> = before.map(|session| telling.teller.ended(&session, at)).collect();
    // Told again, or told with no name of its own by a process that serves the next.
    let is_repeated = memory.sessions.sessions.get(&id).is_some_and(|known| {
        said.session.is_some() || (known.client == said.client && known.began == at.unix_millis())
    });
    if is_repeated {
        return Ok(Box::new(told.into_iter()));
    }
    if said.session.is_none()
        && let Some(session) = memory.sessions.end(&id)
    {
        told.push(telling.teller.ended(&session, at));
    }
    let session = Session {
        pid: said.pid,
        began: at.unix_millis(),
        user,
        service: said.service.clone(),
        name: said.session.clone(),
        client: said.client,
        server_domain: said.server_domain.clone(),
        server_port: said.server_port,
        server_fqdn: said.server_fqdn.clone(),
        is_over: false,
    };
    if memory.sessions.sessions.len() < SESSIONS_MAX {
        memory.sessions.sessions.insert(id.clone(), session);
        memory.sessions.changed.insert(id);
    }
    told.push(telling.observation(memory, "", None, What::LoggedIn));
    Ok(Box::new(told.into_iter()))
}

pub(super) fn logout(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let id = id(said);
    let known = memory.sessions.find(said).cloned();
    let is_whole = said.user.is_some() && said.server_domain.is_some();
    if !is_whole && known.is_none() {
        return Err(Untold::Session);
    }
    let mut seen = telling.observation(memory, "", None, What::LoggedOut);
    if let Some(session) = known {
        memory.sessions.sessions.remove(&id);
        memory.sessions.changed.insert(id);
        if session.is_over {
            return telling.none();
        }
        seen.actor.user = seen.actor.user.or(Some(session.user));
        push(&mut seen.extras, DURATION, seconds(session.began, seen.at));
    }
    Ok(Box::new(std::iter::once(seen)))
}

impl Teller<'_> {
    /// A session whose end nobody told: its connection was reset, or its process died.
    pub(in super::super) fn ended(&self, session: &Session, at: Timestamp) -> Observation {
        let name = session.name.clone().unwrap_or_default();
        let pid = session.pid.unwrap_or(0);
        let identity = format!("logout\0{name}\0{pid}\0{}", session.began);
        let mut extras = Vec::new();
        push(&mut extras, DURATION, seconds(session.began, at));
        push(&mut extras, "vnd.postbell.disconnect", Some("abort"));
        Observation {
            identity: Identity(identity.into_bytes()),
            at: self.local(at),
            certainty: Certainty::Inferred,
            owner: None,
            actor: Actor {
                user: Some(session.user.clone()),
                admin: None,
                client: session.client,
                service: session.service.clone(),
                session: session.name.clone(),
            },
            origin: Origin {
                process: None,
                pid: session.pid,
                server_fqdn: session.server_fqdn.clone(),
                server_domain: session.server_domain.clone(),
                server_port: session.server_port,
            },
            what: What::LoggedOut,
            extras,
        }
    }
}

fn seconds(began: i64, at: Timestamp) -> Option<u64> {
    u64::try_from(at.unix_millis().saturating_sub(began) / 1000).ok()
}

const DURATION: &str = "vnd.postbell.sessionDuration";

/// Where a session is in the checkpoint.
pub(super) const KEY: &[u8] = b"session/";

/// Sessions remembered: far more than a machine serves at once.
const SESSIONS_MAX: usize = 200_000;

/// How long one whose end was worked out is remembered, should Cyrus tell it after all.
const OVER_KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;
