//! From a notification to observations: what Cyrus says, in RFC 5423's terms.
//!
//! Nothing here looks at the world. Each theme in which Cyrus strays from the RFC has a file, and
//! what has to be remembered for it, over restarts, is in [`Memory`].

mod acl;
mod flags;
mod mailboxes;
mod messages;
mod others;
mod quota;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::iter;

use jiff::tz::TimeZone;
use mail_event::{ImapUrl, OtherName, Timestamp, Value};
use postbell_engine::{Actor, Certainty, Identity, Mailbox, Observation, Origin, Status, What};

use super::Options;
use super::namespace::Place;
use super::notification::Notification;
use crate::Pair;
use crate::spool::Change;
use crate::standing::Standing;
pub(super) use mailboxes::is_implied;
pub(super) use sessions::Sessions;

/// Turns notifications into observations.
#[derive(Clone, Debug)]
pub(super) struct Teller<'a> {
    options: &'a Options,
    zone: TimeZone,
}

/// What is remembered between notifications.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) sessions: Sessions,
    /// Which mailboxes are on which subscription list.
    subscribed: Standing,
    /// Who may look up which mailbox.
    access: Standing,
    /// The move whose expunge is still to come, by process.
    moves: messages::Moves,
}

/// What a notification is beside what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whence {
    /// What makes it this one and no other.
    pub(super) identity: [u8; 32],
    /// When it was sent.
    pub(super) received: Timestamp,
}

/// What is told of one notification, in order.
pub(super) type Told = Box<dyn Iterator<Item = Observation>>;

/// Why nothing can be told of a notification, for a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Untold {
    /// It is about a mailbox and doesn't say which.
    #[error("it doesn't say which mailbox")]
    Mailbox,
    /// It is about messages and doesn't say which.
    #[error("it doesn't say which messages")]
    Messages,
    /// Flags were changed, and it doesn't say which: Cyrus's `event_exclude_flags` leaves them out.
    #[error("it names no flag (is event_exclude_flags set?)")]
    Flags,
    /// A login, of whom is not said, or where.
    #[error("it doesn't say who or where")]
    Session,
    /// More messages than one happening may name.
    #[error("it names too many messages")]
    TooMany,
}

impl Memory {
    /// Where its keys in the checkpoint begin.
    pub(super) const PREFIXES: [&'static [u8]; 4] =
        [sessions::KEY, SUBSCRIBED_KEY, ACCESS_KEY, messages::MOVE_KEY];

    /// From what the checkpoint says under each of [`Memory::PREFIXES`].
    pub(super) fn restore(kept: [Vec<Pair>; 4]) -> Self {
        let [sessions, subscribed, access, moves] = kept;
        Self {
            sessions: Sessions::restore(&sessions),
            subscribed: Standing::restore(SUBSCRIBED_KEY, SUBSCRIBED_MAX, subscribed),
            access: Standing::restore(ACCESS_KEY, ACCESS_MAX, access),
            moves: messages::Moves::restore(&moves),
        }
    }

    /// Notes what `user` is subscribed to, by the names an admin has for it: what was on their list
    /// at a moment, in milliseconds since 1970.
    pub(super) fn listed(&mut self, user: &str, names: &BTreeSet<String>, at: i64) {
        self.subscribed.learn(&[user], names, at);
    }

    /// Something was not heard, and it may have been anything: what is taken for known may not be so.
    pub(super) fn lost(&mut self) {
        self.subscribed.forget_all();
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let mut changes = self.sessions.drain_changes();
        changes.extend(self.subscribed.drain_changes());
        changes.extend(self.access.drain_changes());
        changes.extend(self.moves.drain_changes());
        changes
    }
}

impl<'a> Teller<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self { options, zone: TimeZone::system() }
    }

    /// What a notification means.
    ///
    /// # Errors
    ///
    /// Why nothing can be told of it.
    pub(super) fn tell(
        &self,
        memory: &mut Memory,
        said: &Notification,
        whence: Whence,
    ) -> Result<Told, Untold> {
        memory.moves.passed(said);
        let telling = Telling { teller: self, said, whence };
        let place = said.mailbox(self.options);
        if place.is_some_and(|(place, _)| place.is_deleted) && said.event != "MailboxRename" {
            // It was told as deleted when it was put there.
            return telling.none();
        }
        match said.event.as_str() {
            "MessageNew" => messages::new(&telling, memory),
            "MessageAppend" => messages::appended(&telling, memory),
            "vnd.cmu.MessageCopy" | "vnd.cmu.MessageMove" => messages::copied(&telling, memory),
            "MessageExpunge" | "MessageExpire" => messages::removed(&telling, memory),
            "MessageRead" | "MessageTrash" | "FlagsSet" | "FlagsClear" => {
                flags::changed(&telling, memory)
            }
            "QuotaExceed" | "QuotaWithin" | "QuotaChange" => quota::told(&telling, memory),
            "Login" => sessions::login(&telling, memory),
            "Logout" => sessions::logout(&telling, memory),
            "MailboxCreate" | "MailboxDelete" | "MailboxRename" => {
                mailboxes::changed(&telling, memory)
            }
            "MailboxSubscribe" | "MailboxUnSubscribe" => mailboxes::subscribed(&telling, memory),
            "AclChange" => acl::changed(&telling, memory),
            _ => others::told(&telling, memory),
        }
    }

    /// Something that can't be told.
    pub(super) fn missed(&self, identity: &str, at: Timestamp, reason: String) -> Observation {
        Observation {
            identity: Identity(identity.as_bytes().to_vec()),
            at: self.local(at),
            certainty: Certainty::Inferred,
            owner: None,
            actor: Actor::default(),
            origin: Origin {
                process: Some("postbell".to_owned()),
                pid: Some(std::process::id()),
                server_fqdn: self.options.server_fqdn.clone(),
                ..Origin::default()
            },
            what: What::Missed { mailbox: None, reason },
            extras: Vec::new(),
        }
    }

    /// In local time, as RFC 5423 wants it.
    fn local(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_zoned(&at.instant().to_zoned_datetime(self.zone.clone()))
    }
}

/// One notification and what is needed to tell it.
struct Telling<'a> {
    teller: &'a Teller<'a>,
    said: &'a Notification,
    whence: Whence,
}

impl Telling<'_> {
    fn options(&self) -> &Options {
        self.teller.options
    }

    /// The mailbox it is about, and whose.
    fn mailbox(&self) -> Result<(Option<String>, Mailbox), Untold> {
        let (place, uid_validity) = self.said.mailbox(self.options()).ok_or(Untold::Mailbox)?;
        Ok((place.owner, Mailbox { name: place.name, uid_validity }))
    }

    /// The same for where it was before, or came from.
    fn old_mailbox(&self) -> Option<(Option<String>, Mailbox)> {
        let (place, uid_validity) = located(self.said.old.as_ref()?, self.options())?;
        Some((place.owner, Mailbox { name: place.name, uid_validity }))
    }

    fn status(&self) -> Status {
        Status { messages: self.said.messages, uidnext: self.said.uidnext }
    }

    fn one(&self, memory: &Memory, owner: Option<String>, what: What) -> Result<Told, Untold> {
        Ok(Box::new(iter::once(self.observation(memory, "", owner, what))))
    }

    fn none(&self) -> Result<Told, Untold> {
        Ok(Box::new(iter::empty()))
    }

    /// What all observations of one notification have in common; `part` tells them apart.
    fn observation(
        &self,
        memory: &Memory,
        part: &str,
        owner: Option<String>,
        what: What,
    ) -> Observation {
        let said = self.said;
        // Whom a message was delivered to did nothing; Cyrus names them as the user.
        let is_delivery = said.is_delivery();
        let session = memory.sessions.find(said);
        let user = said.user.clone().or_else(|| Some(session?.user.clone()));
        let user = user.filter(|_| !is_delivery);
        // Where nobody is said to have acted, no access protocol can be said to have been used
        // (R148): MailboxModseq comes so from every service.
        let is_access = user.is_some() || is_delivery || !said.is_by_access_protocol();
        let mut extras = self.extras();
        if !is_access {
            push(&mut extras, "vnd.postbell.rawService", said.service.clone());
        }
        Observation {
            identity: Identity([&self.whence.identity[..], part.as_bytes()].concat()),
            at: self.teller.local(said.at.unwrap_or(self.whence.received)),
            certainty: Certainty::Seen,
            owner,
            actor: Actor {
                user,
                admin: None,
                client: said.client.or_else(|| session?.client).filter(|_| !is_delivery),
                service: said.service.clone().filter(|_| is_access),
                session: said.session.clone(),
            },
            origin: Origin {
                // Cyrus says the name of a service and never that of a process.
                process: None,
                pid: said.pid,
                server_fqdn: said
                    .server_fqdn
                    .clone()
                    .or_else(|| self.options().server_fqdn.clone()),
                server_domain: said
                    .server_domain
                    .clone()
                    .or_else(|| session?.server_domain.clone()),
                server_port: said.server_port.or_else(|| session?.server_port),
            },
            what,
            extras,
        }
    }

    /// Parameters outside the registry: a vendor's as they came, all others as Cyrus's (R152).
    fn extras(&self) -> Vec<(OtherName, Value)> {
        let mut extras = Vec::new();
        if self.options().raw {
            push(&mut extras, "vnd.postbell.raw", self.said.raw.clone());
            let repairs: Vec<_> = self.said.repairs.iter().map(ToString::to_string).collect();
            let repairs = Some(repairs).filter(|repairs| !repairs.is_empty());
            push(&mut extras, "vnd.postbell.repairs", repairs);
        }
        for (name, value) in &self.said.others {
            let is_private = !self.options().envelope && PRIVATE.contains(&name.as_str());
            if is_private || UNTOLD.contains(&name.as_str()) {
                continue;
            }
            let name = match name.starts_with("vnd.") {
                true => OtherName::new(name),
                false => OtherName::new(&format!("vnd.cmu.{name}")),
            };
            extras.extend(name.ok().map(|name| (name, value.clone())));
        }
        let own = [
            ("vnd.cmu.mailboxUniqueId", &self.said.unique_id),
            ("vnd.cmu.aclSubject", &self.said.acl_subject),
            ("vnd.cmu.aclRights", &self.said.acl_rights),
        ];
        for (name, value) in own {
            push(&mut extras, name, value.clone());
        }
        if self.said.is_about_many() {
            let highest = self.said.modseq.map(|modseq| modseq.get().to_string());
            push(&mut extras, "vnd.postbell.highestModseq", highest);
        }
        extras.truncate(EXTRAS_MAX);
        extras
    }
}

impl Notification {
    /// Where it happened, as the owner names it, and the UIDVALIDITY.
    fn mailbox(&self, options: &Options) -> Option<(Place, Option<u32>)> {
        located(self.uri.as_ref()?, options)
    }

    /// A message came from outside, and nobody is logged in.
    fn is_delivery(&self) -> bool {
        matches!(self.service.as_deref(), Some("lmtp" | "lmtpunix"))
    }

    /// Somebody must be logged in to use the service.
    fn is_by_access_protocol(&self) -> bool {
        matches!(
            self.service.as_deref(),
            Some("imap" | "imaps" | "pop3" | "pop3s" | "http" | "https" | "jmap")
        )
    }

    /// More than one message: then `modseq` is the mailbox's (A4).
    fn is_about_many(&self) -> bool {
        self.uids.as_ref().is_some_and(|uids| uids.len() > 1)
    }
}

fn located(uri: &ImapUrl, options: &Options) -> Option<(Place, Option<u32>)> {
    Some((options.namespace.place(uri.mailbox()?), uri.uid_validity()))
}

fn push(extras: &mut Vec<(OtherName, Value)>, name: &str, value: Option<impl Into<Value>>) {
    if let (Ok(name), Some(value)) = (OtherName::new(name), value) {
        extras.push((name, value.into()));
    }
}

/// What tells who writes to whom and about what, like IMAP's ENVELOPE: left out unless policy lets
/// the envelope out.
const PRIVATE: [&str; 2] = ["vnd.cmu.envelope", "vnd.fastmail.jmapEmail"];

/// Never told: what a calendar's entry says and whom it concerns, which comes with its alarm; and what
/// lets whoever has it send to a user's device.
const UNTOLD: [&str; 9] = [
    "alarmRecipients",
    "apsDeviceToken",
    "attendeeEmails",
    "attendeeNames",
    "attendeeStatus",
    "description",
    "location",
    "organizer",
    "summary",
];

/// Parameters of one event beside the registry's; an event may have some more.
const EXTRAS_MAX: usize = 100;

const SUBSCRIBED_KEY: &[u8] = b"subscribed/";

const ACCESS_KEY: &[u8] = b"acl/";

/// Subscriptions remembered.
const SUBSCRIBED_MAX: usize = 200_000;

/// Rights remembered: a user and a mailbox each.
const ACCESS_MAX: usize = 100_000;
