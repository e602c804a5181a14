//! Asking a mail server over IMAP, as a user who may act as any other, for what nobody says by
//! themselves.
//!
//! Everything here may be answered with nothing: the server may be away, slow, or of another
//! mind. What is missing is then left out of the event, and an event never waits long: an answer
//! has a second, and after a failure nobody is asked for ten.
//!
//! Responses are read by `imap-codec`, whose 2.0 knows CONDSTORE, QRESYNC with VANISHED, QUOTA and
//! LIST-STATUS. It knows no ACL, and takes BODYSTRUCTURE apart where we pass it on as it came: these
//! few words are read in `crate::words`.

mod answers;
mod content;
mod ends;
mod in_turn;
#[cfg(test)]
mod real;
mod session;
mod shared;
mod url_auth;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{fmt, io};

use mail_event::{Flags, MessageContent, Modseq, UidSet};
use postbell_engine::{Demand, Quota};

use crate::{Health, Secret};
#[cfg(test)]
pub(super) use answers::listed;
pub(super) use answers::union;
pub(super) use content::content;
pub use ends::Ends;
pub(super) use in_turn::InTurn;
use session::{Greeted, Session};
pub use shared::SharedError;
pub(super) use shared::shared;
pub(super) use url_auth::Redeemed;
pub use url_auth::{Authorised, Authoriser, Token};

/// A user who may act as any other, and where to ask as such.
#[derive(Clone, Debug)]
pub struct Master {
    /// Where IMAP is spoken.
    pub address: SocketAddr,
    /// The user whose password it is.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// What stands between the one acted as and this one in a login, as in Dovecot's
    /// `alice*postbell`; where there is nothing, the one acted as is named apart (RFC 4616), as
    /// Cyrus has it.
    pub separator: Option<char>,
    /// Where our ends of the connections are noted.
    pub ends: Ends,
}

/// How the users of a store name their mailboxes.
pub(super) trait NamingScope: fmt::Debug {
    /// Whether a name is that of another's mailbox, or of what only holds such.
    fn is_of_others(&self, name: &str) -> bool;

    /// An owner's name for a mailbox as it is told: with `/` between the levels.
    fn told(&self, name: &str) -> String;
}

/// Asks over a few connections, each of one user, which are kept for a while.
#[derive(Debug)]
pub(super) struct Asker {
    master: Master,
    /// How long it may take to be let in.
    patience: Duration,
    /// Connections kept at the same time.
    open_max: usize,
    open: BTreeMap<String, Open>,
    /// A connection for a user who is to be asked about next.
    greeted: Option<(String, Greeted)>,
    /// Nobody is asked before.
    rest_until: Option<Instant>,
    /// Users the server doesn't let us in for, and until when they aren't tried again.
    shut: BTreeMap<String, Instant>,
    last_error: Option<String>,
    /// What the server calls sessions that were opened.
    opened: Vec<String>,
}

#[derive(Debug)]
struct Open {
    session: Session,
    opened: Instant,
    used: Instant,
}

/// What is wanted of a message beside its size and MODSEQ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Want {
    /// Its BODYSTRUCTURE.
    pub(super) body_structure: bool,
    /// The message itself, where it isn't larger.
    pub(super) content_max_octets: Option<u64>,
}

impl Want {
    /// As much of it as anybody wants.
    pub(super) fn by(self, demand: Demand) -> Self {
        Self {
            body_structure: self.body_structure && demand.body_structure(),
            content_max_octets: self
                .content_max_octets
                .and_then(|max| Some(max.min(demand.content_max_octets()?))),
        }
    }
}

/// What the server says of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asked {
    /// RFC822.SIZE: the length of BODY[] (R121).
    pub(super) size_octets: Option<u64>,
    /// MODSEQ, as it is now.
    pub(super) modseq: Option<Modseq>,
    /// FLAGS, as they are now.
    pub(super) flags: Flags,
    /// BODYSTRUCTURE in IMAP's form (R102).
    pub(super) body_structure: Option<String>,
    /// BODY[], whole (R119).
    pub(super) content: Option<MessageContent>,
}

/// How a mailbox stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct BoxLook {
    /// UIDVALIDITY.
    pub(super) uid_validity: u32,
    /// UIDNEXT.
    pub(super) uidnext: u32,
    /// MESSAGES.
    pub(super) messages: u64,
    /// HIGHESTMODSEQ.
    pub(super) modseq: u64,
}

/// What changed in a mailbox since it was looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// How it stands now.
    pub(super) look: BoxLook,
    /// UIDs the server says are gone; it may name more than went since.
    pub(super) vanished: UidSet,
    /// Messages that came or changed, by UID.
    pub(super) changed: BTreeMap<u32, Asked>,
}

impl Asker {
    /// One that hasn't asked yet.
    ///
    /// # Errors
    ///
    /// Where the address isn't this machine's: the password would go over the network in the
    /// clear, and TLS isn't offered yet.
    pub(super) fn new(master: &Master) -> Result<Self, AskError> {
        session::check_address(master.address)?;
        Ok(Self {
            master: master.clone(),
            patience: PATIENCE,
            open_max: OPEN_MAX,
            open: BTreeMap::new(),
            greeted: None,
            rest_until: None,
            shut: BTreeMap::new(),
            last_error: None,
            opened: Vec::new(),
        })
    }

    /// Connects where a question about `user` would, and gives our end: by it the login is known
    /// that comes with the question, should the server tell of it.
    pub(super) fn connect(&mut self, user: &str) -> Option<SocketAddr> {
        if !self.may_ask(user) || self.open.contains_key(user) {
            return None;
        }
        match Greeted::connect(&self.master, PATIENCE) {
            Ok(greeted) => {
                let local = greeted.local();
                self.greeted = Some((user.to_owned(), greeted));
                local
            }
            Err(error) => self.conclude(Err(error)),
        }
    }

    /// What the server says of messages of `user`'s, by UID; those that are gone are missing.
    ///
    /// `uid_validity`, where given, must still be the mailbox's.
    pub(super) fn messages(
        &mut self,
        user: &str,
        mailbox: &str,
        uid_validity: Option<u32>,
        uids: &UidSet,
        want: Want,
    ) -> Option<BTreeMap<u32, Asked>> {
        if uids.is_empty() {
            return Some(BTreeMap::new());
        }
        self.ask(user, |session| answers::messages(session, mailbox, uid_validity, uids, want))
    }

    /// The quotas that a mailbox of `user`'s counts against, limits and usage, after what had
    /// happened by `since`.
    ///
    /// Dovecot reads a user's limits at login and keeps them for the session. An older session
    /// would set what is in use now against a limit that may have changed. Cyrus doesn't.
    pub(super) fn quota(
        &mut self,
        user: &str,
        mailbox: &str,
        since: Instant,
    ) -> Option<Vec<Quota>> {
        let keeps_limits = self.master.separator.is_some();
        if keeps_limits && self.open.get(user).is_some_and(|open| open.opened < since) {
            self.close(user);
        }
        self.ask(user, |session| answers::quota(session, mailbox))
    }

    /// How a mailbox stands, without opening it.
    pub(super) fn status(&mut self, user: &str, mailbox: &str) -> Option<BoxLook> {
        self.ask(user, |session| answers::status(session, mailbox))
    }

    /// Which rights `user` has on a mailbox (RFC 4314), over a fresh connection: Dovecot's older
    /// ones remember for half a minute what rights there were.
    pub(super) fn rights(&mut self, user: &str, mailbox: &str) -> Option<String> {
        self.close(user);
        self.ask(user, |session| answers::rights(session, mailbox, PATIENCE))
    }

    /// `user`'s own mailboxes that can be opened, and how each stands; without those that others
    /// share.
    pub(super) fn mailboxes(
        &mut self,
        user: &str,
        scope: &dyn NamingScope,
    ) -> Option<BTreeMap<String, Option<BoxLook>>> {
        self.ask(user, |session| answers::mailboxes(session, scope))
    }

    /// The mailboxes `user` is subscribed to, as they name them.
    pub(super) fn subscribed(&mut self, user: &str) -> Option<BTreeSet<String>> {
        self.ask(user, answers::subscribed)
    }

    /// What changed in a mailbox since it stood as `since`; `Some(None)` where there is none such
    /// any more.
    pub(super) fn changes(
        &mut self,
        user: &str,
        mailbox: &str,
        since: BoxLook,
    ) -> Option<Option<Changes>> {
        self.ask(user, |session| {
            let answer = answers::changes(session, mailbox, since);
            unless_gone(session, mailbox, answer)
        })
    }

    /// How a mailbox stands; `Some(None)` where there is none such any more.
    pub(super) fn stands(&mut self, user: &str, mailbox: &str) -> Option<Option<BoxLook>> {
        self.ask(user, |session| {
            let answer = answers::status(session, mailbox);
            unless_gone(session, mailbox, answer)
        })
    }

    /// Closes connections that nobody needed for a while; to be called now and then.
    pub(super) fn tidy(&mut self, now: Instant) {
        let idle = |open: &Open| now.saturating_duration_since(open.used) >= IDLE_MAX;
        let users = self.open.iter().filter(|(_, open)| idle(open)).map(|(user, _)| user.clone());
        for user in users.collect::<Vec<_>>() {
            self.close(&user);
        }
        self.shut.retain(|_, until| *until > now);
    }

    /// What the server calls the sessions that were opened since this was last asked, where it
    /// says so.
    pub(super) fn take_opened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.opened)
    }

    /// What went wrong last, if nothing was answered since.
    #[cfg(test)]
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Shows what went wrong last, if nothing was answered since.
    pub(super) fn show_error(&self, health: &Health) {
        health.set_asking_error(self.last_error.as_deref());
        if let Some(error) = &self.last_error {
            health.set_error(error);
        }
    }

    /// Whether nobody is asked at the moment, since asking failed.
    pub(super) fn is_resting(&self) -> bool {
        self.rest_until.is_some_and(|until| Instant::now() < until)
    }

    /// Asks over the user's connection. One that was kept may have died meanwhile, so it is tried
    /// once more over a fresh one; what fails there fails.
    fn ask<T>(
        &mut self,
        user: &str,
        mut question: impl FnMut(&mut Session) -> Result<T, AskError>,
    ) -> Option<T> {
        if !self.may_ask(user) {
            return None;
        }
        let now = Instant::now();
        let mut outcome = Err(AskError::Closed);
        if let Some(open) = self.open.get_mut(user) {
            open.used = now;
            outcome = question(&mut open.session);
        }
        if let Err(error) = &outcome
            && error.ends_session()
        {
            let was_kept = self.open.remove(user).is_some();
            // What took all the time there was would take it once more.
            if !was_kept || error.is_closed() {
                outcome = self.ask_afresh(user, &mut question);
            }
        }
        self.conclude(outcome)
    }

    fn may_ask(&self, user: &str) -> bool {
        let is_shut = self.shut.get(user).is_some_and(|until| *until > Instant::now());
        !self.is_resting() && !is_shut
    }

    fn ask_afresh<T>(
        &mut self,
        user: &str,
        question: &mut impl FnMut(&mut Session) -> Result<T, AskError>,
    ) -> Result<T, AskError> {
        let opened = Instant::now();
        let greeted = self.greeted.take().filter(|(whose, _)| whose == user);
        let greeted = match greeted {
            Some((_, greeted)) => greeted,
            None => Greeted::connect(&self.master, self.patience)?,
        };
        if let Some(end) = greeted.local() {
            self.master.ends.note(end);
        }
        let mut session = match Session::login(greeted, &self.master, user, self.patience) {
            Ok(session) => session,
            Err(error) => {
                if matches!(error, AskError::Refused { .. }) {
                    self.shut_out(user);
                }
                return Err(error);
            }
        };
        if self.opened.len() < OPEN_MAX {
            self.opened.extend(session.name.clone());
        }
        let outcome = question(&mut session);
        if !outcome.as_ref().is_err_and(AskError::ends_session) {
            self.keep(user, session, opened);
        }
        outcome
    }

    fn conclude<T>(&mut self, outcome: Result<T, AskError>) -> Option<T> {
        match outcome {
            Ok(answer) => {
                self.last_error = None;
                Some(answer)
            }
            Err(error) => {
                let before = self.last_error.replace(format!("{}: {error}", self.master.address));
                let is_new = before != self.last_error;
                if error.ends_session() {
                    self.rest_until = Some(Instant::now() + REST);
                    tracing::warn!(
                        address = %self.master.address, %error,
                        "the mail server doesn't answer over IMAP: events go without what it would say"
                    );
                } else {
                    match error {
                        AskError::NoInbox if is_new => {
                            tracing::warn!(%error, "the mail server hides mailboxes from the master user");
                        }
                        _ => tracing::debug!(%error, "the mail server refused an answer"),
                    }
                }
                None
            }
        }
    }

    fn keep(&mut self, user: &str, session: Session, opened: Instant) {
        while self.open.len() >= self.open_max {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
            let Some(user) = oldest.map(|(user, _)| user.clone()) else { break };
            self.close(&user);
        }
        self.open.insert(user.to_owned(), Open { session, opened, used: Instant::now() });
    }

    fn close(&mut self, user: &str) {
        if let Some(open) = self.open.remove(user) {
            open.session.leave();
        }
    }

    fn shut_out(&mut self, user: &str) {
        if self.shut.len() >= SHUT_MAX {
            self.shut.pop_first();
        }
        self.shut.insert(user.to_owned(), Instant::now() + SHUT_FOR);
    }
}

/// An answer; nothing where the server refused it since the mailbox is gone. Why it refuses it
/// says only to people, so it is asked for the mailbox's name.
fn unless_gone<T>(
    session: &mut Session,
    mailbox: &str,
    answer: Result<T, AskError>,
) -> Result<Option<T>, AskError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(AskError::Refused { answer }) => match answers::is_there(session, mailbox)? {
            true => Err(AskError::Refused { answer }),
            false => Ok(None),
        },
        Err(error) => Err(error),
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let users: Vec<_> = self.open.keys().cloned().collect();
        for user in users {
            self.close(&user);
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The server greets nobody at the moment, whoever it is.
    #[error("nobody is let in: {answer}")]
    Away {
        /// Its words.
        answer: String,
    },
    /// The connection ended.
    #[error("the connection was closed")]
    Closed,
    /// The system refuses, or it took too long.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The answer lacks what was asked for.
    #[error("the answer has no {0}")]
    Lacking(&'static str),
    /// Who asks may not see what is there.
    #[error(
        "the user's INBOX is hidden: where Dovecot's ACL is in use, the master user must act with the owner's rights (acl_user)"
    )]
    NoInbox,
    /// The address is another machine's.
    #[error(
        "{address} is not a loopback address: the master user's password would cross the network unencrypted, and TLS is not offered here yet"
    )]
    NotLoopback {
        /// Which.
        address: SocketAddr,
    },
    /// The server says no.
    #[error("refused: {answer}")]
    Refused {
        /// Its words.
        answer: String,
    },
    /// The answer is larger than anything that was asked for.
    #[error("the answer is too large")]
    TooLarge,
}

impl AskError {
    /// Whether the connection can't be used any more.
    fn ends_session(&self) -> bool {
        match self {
            Self::Away { .. }
            | Self::Closed
            | Self::Io(_)
            | Self::TooLarge
            | Self::NotLoopback { .. } => true,
            Self::Lacking(_) | Self::NoInbox | Self::Refused { .. } => false,
        }
    }

    /// Whether the other end closed it, as it does with one that was idle for long.
    fn is_closed(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Io(error) => {
                !matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
            }
            Self::Away { .. }
            | Self::TooLarge
            | Self::NoInbox
            | Self::NotLoopback { .. }
            | Self::Lacking(_)
            | Self::Refused { .. } => false,
        }
    }
}

/// How long an event waits for an answer, login included.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nobody is asked after there was no answer.
const REST: Duration = Duration::from_secs(10);

/// Connections at the same time: users whose mail is busy together.
const OPEN_MAX: usize = 16;

/// A connection nobody needed for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// A user the server doesn't let us in for isn't tried again for so long.
const SHUT_FOR: Duration = Duration::from_secs(60);

/// Such users remembered.
const SHUT_MAX: usize = 10_000;
