//! From a line of the spool to observations.
//!
//! Nothing here looks at the world: what a line says, what the exporter adds to it and what lines
//! beside it say comes in, what happened goes out. An observation's identity is made of the line
//! alone, so that it is the same whether or not the exporter was heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};
use mail_event::{Flags, OtherName, Timestamp, UidSet, Value};
use postbell_engine::{
    Actor, Certainty, Identity, Mailbox, Message, Observation, Origin, Origination, Quota, Status,
    What,
};

use super::exporter::{Annotation, Ending, Login};
use super::holes::{Hole, Runs};
use super::names::Names;
use super::record::{Act, Transaction};
use super::sessions::{Said, Session};
use super::{ExpireRule, Options};
use crate::ask::NamingScope as _;
use crate::spool::Mishap;

/// Turns lines into observations.
#[derive(Clone, Debug)]
pub(super) struct Teller<'a> {
    options: &'a Options,
    names: Arc<Names>,
    zone: TimeZone,
}

/// What is known of a line beside itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside<'a> {
    /// What the exporter said of it.
    pub(super) annotation: Option<&'a Annotation>,
    /// The other half of a move.
    pub(super) other_half: Option<&'a Transaction>,
    /// The line of the same run that comes next, where it is there.
    pub(super) next: Option<&'a Transaction>,
}

/// An observation and where in its line it stands: the act and the message, counted from 1.
pub(super) type Told = ((u32, u32), Observation);

impl<'a> Teller<'a> {
    pub(super) fn new(options: &'a Options, names: Arc<Names>) -> Self {
        Self { options, names, zone: TimeZone::system() }
    }

    /// Whether a line is nobody's business: postbell's own sessions, and the copying of what
    /// happened elsewhere.
    pub(super) fn is_suppressed(&self, line: &Transaction, beside: Beside<'_>) -> bool {
        let ours = self.options.master.as_ref().is_some_and(|master| {
            line.auth.as_deref() == Some(&*master.user) || line.user == master.user
        });
        ours || line.service.as_deref() == Some("dsync")
            || reasons(beside).any(|reason| DSYNC.contains(&reason))
    }

    /// What a line says of mail and mailboxes, in order; sessions are told by
    /// [`Teller::logged_in`] and [`Teller::logged_out`].
    pub(super) fn tell<'t>(
        &'t self,
        line: &'t Transaction,
        beside: Beside<'t>,
    ) -> impl Iterator<Item = Told> + 't {
        let acts = (1_u32..).zip(&line.acts);
        acts.flat_map(move |(place, act)| self.act(line, beside, place, act))
    }

    fn act<'t>(
        &'t self,
        line: &'t Transaction,
        beside: Beside<'t>,
        place: u32,
        act: &'t Act,
    ) -> Box<dyn Iterator<Item = Told> + 't> {
        let one = |named: &str, what: &dyn Fn(&str, String) -> Option<What>| {
            let (owner, name) = self.place(&line.user, named);
            let told = what(&owner, name)
                .map(|what| ((place, 0), self.observation(line, (place, 0), owner, what)));
            Box::new(told.into_iter())
        };
        match act {
            Act::Added { delivered, mailbox, val, uids, flags } => {
                let (owner, name) = self.place(&line.user, mailbox);
                let counts = status(line, mailbox);
                let envelope = beside.annotation.and_then(|one| one.envelope.clone());
                let named = Mailbox { name, uid_validity: self.val(line, mailbox, *val) };
                let origins = self.moved_from(line, beside);
                Box::new(uids.iter().map(move |uid| {
                    let copied_from = origins.as_ref().and_then(|(end, from)| {
                        let uids = UidSet::single(*from.get(&uid)?);
                        Some(Origination { uids, ..end.clone() })
                    });
                    let message = Message {
                        mailbox: named.clone(),
                        uid,
                        status: counts,
                        flags: flags.clone(),
                        size_octets: None,
                        body_structure: None,
                        content: None,
                        modseq: None,
                        copied_from,
                    };
                    let what = match delivered {
                        true => What::Delivered { message, envelope: envelope.clone() },
                        false => What::Appended(message),
                    };
                    let place = (place, uid);
                    (place, self.observation(line, place, owner.clone(), what))
                }))
            }
            Act::Expunged { mailbox, val, uids } => one(mailbox, &|owner, name| {
                if is_implied(line, beside, mailbox) {
                    return None;
                }
                let status = status(line, mailbox);
                let uid_validity = self.val(line, mailbox, *val);
                let policy = self.policy(beside, owner, &name);
                let mailbox = Mailbox { name, uid_validity };
                let uids = uids.clone();
                Some(match policy {
                    Some(policy) => What::Expired { mailbox, uids, status, policy: Some(policy) },
                    None => {
                        let moved_to = self.moved_to(line, beside, &uids);
                        What::Expunged { mailbox, uids, status, moved_to }
                    }
                })
            }),
            Act::Set { mailbox, val, .. } if has_groups(line) => one(mailbox, &|_, name| {
                let groups = groups(line, mailbox);
                // Told with the first of them.
                let is_first = groups.first().is_some_and(|(first, _)| std::ptr::eq(*first, act));
                let groups = groups.into_iter().map(|(_, group)| group).collect();
                is_first.then(|| What::FlagsSet {
                    mailbox: Mailbox { name, uid_validity: self.val(line, mailbox, *val) },
                    groups,
                    status: status(line, mailbox),
                })
            }),
            Act::Set { mailbox, val, uids, flags } | Act::Cleared { mailbox, val, uids, flags } => {
                one(mailbox, &|_, name| {
                    let (set, cleared) = match act {
                        Act::Set { .. } => (flags.clone(), Flags::new()),
                        _ => (Flags::new(), flags.clone()),
                    };
                    Some(What::FlagsChanged {
                        mailbox: Mailbox { name, uid_validity: self.val(line, mailbox, *val) },
                        uids: uids.clone(),
                        set,
                        cleared,
                        modseq: None,
                        status: status(line, mailbox),
                    })
                })
            }
            Act::Created { mailbox, val } => one(mailbox, &|_, name| {
                let is_told = !is_lazy(line, beside, &name)
                    && !is_parent(line, mailbox, self.names.separator());
                let uid_validity = self.val(line, mailbox, *val);
                is_told.then_some(What::MailboxCreated(Mailbox { name, uid_validity }))
            }),
            Act::Deleted { mailbox, val } => one(mailbox, &|_, name| {
                let uid_validity = self.val(line, mailbox, *val);
                Some(What::MailboxDeleted(Mailbox { name, uid_validity }))
            }),
            Act::Renamed { mailbox, val, old } => one(mailbox, &|_, name| {
                let uid_validity = self.val(line, mailbox, *val);
                let (from_owner, from) = self.place(&line.user, old);
                Some(What::MailboxRenamed {
                    from_owner: Some(from_owner),
                    from: Mailbox { name: from, uid_validity },
                    to: Mailbox { name, uid_validity },
                })
            }),
            Act::Subscribed { mailbox } => one(mailbox, &|_, name| {
                Some(What::Subscribed(Mailbox { name, uid_validity: None }))
            }),
            Act::Unsubscribed { mailbox } => one(mailbox, &|_, name| {
                Some(What::Unsubscribed(Mailbox { name, uid_validity: None }))
            }),
            Act::LoggedIn | Act::LoggedOut { .. } | Act::Bye => Box::new(std::iter::empty()),
        }
    }

    /// A session that began; nothing where the line doesn't say what a Login must (R130, R131).
    pub(super) fn logged_in(&self, line: &Transaction) -> Option<Observation> {
        line.server_ip?;
        line.server_port?;
        let at = line.acts.iter().position(|act| *act == Act::LoggedIn)?;
        let place = u32::try_from(at + 1).ok()?;
        let mut seen = self.observation(line, (place, 0), String::new(), What::LoggedIn);
        seen.owner = None;
        add(&mut seen, "vnd.postbell.authMechanism", line.mech.clone());
        // The others say that Dovecot trusts the network, or doesn't, and nothing protects it.
        let protects = |layer: &String| !["secured", "trusted", "insecure"].contains(&&**layer);
        let layer = line.secured.clone().filter(protects);
        add(&mut seen, "vnd.postbell.securityLayer", layer);
        Some(seen)
    }

    /// A session that ended; where its process died, nobody said so (R74, R77, R78).
    pub(super) fn logged_out(&self, session: &Session, end: End) -> Observation {
        let (certainty, at, pid) = match end {
            End::Said(said) => (Certainty::Seen, moment(said.at_millis), said.pid),
            End::Died { at } | End::Vanished { at } => (Certainty::Inferred, at, session.pid),
        };
        let at = self.local(at);
        let mut seen = Observation {
            identity: Identity(
                format!(
                    "logout {} {}",
                    session.run,
                    session.session.as_deref().unwrap_or_default()
                )
                .into_bytes(),
            ),
            at,
            certainty,
            owner: None,
            actor: Actor {
                user: Some(session.user.clone()),
                admin: session.auth.clone(),
                client: session.client,
                service: session.service.clone(),
                session: session.session.clone(),
            },
            origin: self.origin(session.service.as_deref(), pid, session.server),
            what: What::LoggedOut,
            extras: Vec::new(),
        };
        let between = at.instant().as_second().saturating_sub(session.began);
        let seconds = match end {
            End::Said(said) => said.seconds,
            End::Died { .. } | End::Vanished { .. } => None,
        };
        let seconds = seconds.or_else(|| u64::try_from(between).ok());
        add(&mut seen, "vnd.postbell.sessionDuration", seconds);
        let how = match end {
            End::Said(said) if said.is_graceful => Some("graceful"),
            // No word of a LOGOUT is no proof that there was none: the exporter may be late.
            End::Said(_) | End::Vanished { .. } => None,
            End::Died { .. } => Some("abort"),
        };
        add(&mut seen, "vnd.postbell.disconnect", how);
        seen
    }

    /// Something that can't be told.
    pub(super) fn missed(
        &self,
        identity: String,
        at: Timestamp,
        owner: Option<String>,
        reason: String,
    ) -> Observation {
        Observation {
            identity: Identity(identity.into_bytes()),
            at: self.local(at),
            certainty: Certainty::Inferred,
            owner,
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

    /// Lines that nobody can read: told once for each user concerned, or once of the server.
    pub(super) fn hole(&self, hole: &Hole, reason: &str, at: Timestamp) -> Vec<Observation> {
        let tell = |owner: Option<&String>| {
            let identity = format!("{} {}", hole.identity(), owner.map_or("", |owner| owner));
            self.missed(identity, at, owner.cloned(), reason.to_owned())
        };
        match hole.users.as_slice() {
            [] => vec![tell(None)],
            users => users.iter().map(|user| tell(Some(user))).collect(),
        }
    }

    /// A file that somebody meddled with.
    pub(super) fn mishap(&self, mishap: &Mishap, at: Timestamp) -> Observation {
        self.missed(mishap.identity.clone(), at, None, mishap.what.clone())
    }

    /// Whose mailbox a name means, and what it is told as.
    fn place(&self, user: &str, name: &str) -> (String, String) {
        let (owner, name) = self.names.place(user, name);
        let name = self.names.told(&name);
        (owner, name)
    }

    /// A look at a quota, after a line.
    pub(super) fn quota(
        &self,
        line: &Transaction,
        owner: &str,
        place: u32,
        quota: Quota,
    ) -> Observation {
        let what = What::QuotaSeen(quota);
        let mut seen = self.observation(line, (place, 0), owner.to_owned(), what);
        seen.identity =
            Identity(format!("quota {owner} {} {} {place}", line.run, line.seq).into_bytes());
        seen
    }

    /// A mailbox's UIDVALIDITY: with the act, or with the counts.
    fn val(&self, line: &Transaction, mailbox: &str, val: Option<u32>) -> Option<u32> {
        val.or_else(|| line.stands(mailbox).val)
    }

    /// Under which name the server's policy took messages, if it did (R31, R34).
    fn policy(&self, beside: Beside<'_>, owner: &str, mailbox: &str) -> Option<String> {
        let rule = self.options.expire.iter().find(|rule| {
            reasons(beside).any(|reason| fits(&rule.reason, reason))
                && rule.user.as_ref().is_none_or(|user| user == owner)
                && rule.mailbox.as_ref().is_none_or(|pattern| pattern.matches(mailbox))
        });
        let builtin = || {
            let known = |reason: &str| {
                let found = BUILTIN_POLICIES.iter().find(|(code, _)| *code == reason);
                found.map(|(_, policy)| (*policy).to_owned())
            };
            reasons(beside).find_map(known)
        };
        rule.map(|ExpireRule { policy, .. }| policy.clone()).or_else(builtin)
    }

    /// Where the messages of a line were moved from, and which became which.
    fn moved_from(&self, line: &Transaction, beside: Beside<'_>) -> Option<(Origination, Pairs)> {
        self.moved(beside.other_half?, line)
    }

    /// Where messages were moved to.
    fn moved_to(
        &self,
        line: &Transaction,
        beside: Beside<'_>,
        uids: &UidSet,
    ) -> Option<Origination> {
        let (end, pairs) = self.moved(beside.other_half?, line)?;
        let uids = UidSet::from_uids(uids.iter().filter_map(|uid| pairs.get(&uid).copied()));
        (!uids.is_empty()).then_some(Origination { uids, ..end })
    }

    /// The other half, and for each UID of ours the one there: a move keeps the order.
    fn moved(&self, other: &Transaction, ours: &Transaction) -> Option<(Origination, Pairs)> {
        let ((mailbox, val, theirs), (_, _, ours)) = (messages(other)?, messages(ours)?);
        let (owner, name) = self.place(&other.user, mailbox);
        let pairs = ours.iter().zip(theirs.iter()).collect();
        let mailbox = Mailbox { name, uid_validity: self.val(other, mailbox, val) };
        Some((Origination { owner: Some(owner), mailbox, uids: theirs.clone() }, pairs))
    }

    fn observation(
        &self,
        line: &Transaction,
        (act, uid): (u32, u32),
        owner: String,
        what: What,
    ) -> Observation {
        let server = line.server();
        Observation {
            identity: Identity(format!("{} {} {act} {uid}", line.run, line.seq).into_bytes()),
            at: self.local(line.at),
            certainty: Certainty::Seen,
            owner: Some(owner),
            actor: Actor {
                user: Some(line.user.clone()),
                admin: line.auth.clone(),
                client: line.client,
                service: line.service.clone(),
                session: line.session.clone(),
            },
            origin: self.origin(line.service.as_deref(), line.pid, server),
            what,
            extras: Vec::new(),
        }
    }

    fn origin(&self, service: Option<&str>, pid: u32, server: Option<SocketAddr>) -> Origin {
        Origin {
            process: service.map(str::to_owned),
            pid: Some(pid).filter(|pid| *pid != 0),
            server_fqdn: self.options.server_fqdn.clone(),
            server_domain: server.map(|server| server.ip().to_string()),
            server_port: server.map(|server| server.port()).filter(|port| *port != 0),
        }
    }

    /// In local time, as RFC 5423 wants it.
    fn local(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_zoned(&at.instant().to_zoned_datetime(self.zone.clone()))
    }
}

/// What a line and the exporter say of a session's end.
pub(super) fn said(
    line: &Transaction,
    seconds: Option<u64>,
    ending: Option<&Ending>,
    has_slept: bool,
) -> Said {
    // Of a session that hibernated the exporter counts only since it woke.
    let counted = ending.filter(|_| !has_slept).and_then(|ending| ending.duration);
    Said {
        at_millis: line.at.unix_millis(),
        pid: line.pid,
        seconds: counted.map(|duration| duration.as_secs()).or(seconds),
        is_graceful: ending.is_some_and(|ending| ending.is_graceful),
    }
}

fn moment(millis: i64) -> Timestamp {
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Timestamp::new(instant, Offset::UTC)
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The script said so.
    Said(Said),
    /// Its process is gone.
    Died {
        /// When that was found.
        at: Timestamp,
    },
    /// It had no process, and its connection is gone.
    Vanished {
        /// When that was found.
        at: Timestamp,
    },
}

/// Whether a line is one half of a move, whose other half comes with the next.
pub(super) fn is_move(annotation: Option<&Annotation>) -> bool {
    annotation.is_some_and(|one| {
        one.reasons.iter().any(|reason| reason == "imap:cmd_move" || reason == "imap:cmd_uid_move")
    })
}

/// Whether a transaction set different flags on different messages, and not on so many that they
/// don't go into one event.
fn has_groups(line: &Transaction) -> bool {
    let sets = || line.acts.iter().filter(|act| matches!(act, Act::Set { .. }));
    let ranges = |act: &Act| match act {
        Act::Set { uids, .. } => uids.ranges().len(),
        _ => 0,
    };
    (2..=GROUPS_MAX).contains(&sets().count()) && sets().map(ranges).sum::<usize>() <= RANGES_MAX
}

/// The flags that a transaction set in a mailbox, with the act that says so.
fn groups<'l>(line: &'l Transaction, mailbox: &str) -> Vec<(&'l Act, (UidSet, Flags))> {
    let group = |act: &'l Act| match act {
        Act::Set { mailbox: name, uids, flags, .. } if name == mailbox => {
            Some((act, (uids.clone(), flags.clone())))
        }
        _ => None,
    };
    line.acts.iter().filter_map(group).collect()
}

/// Which of our UIDs is which of the other half's.
type Pairs = BTreeMap<u32, u32>;

/// Whether two lines are the halves of one move: the copies come first.
pub(super) fn are_halves(first: &Transaction, second: &Transaction) -> bool {
    let is_added = |act: &Act| matches!(act, Act::Added { delivered: false, .. });
    let is_expunged = |act: &Act| matches!(act, Act::Expunged { .. });
    let (Some((_, _, to)), Some((_, _, from))) = (messages(first), messages(second)) else {
        return false;
    };
    Runs::follows(first, second)
        && first.user == second.user
        && first.acts.iter().all(is_added)
        && second.acts.iter().all(is_expunged)
        && to.len() == from.len()
}

/// The messages of a line that is about nothing but those of one mailbox.
fn messages(line: &Transaction) -> Option<(&str, Option<u32>, UidSet)> {
    let mut found: Option<(&str, Option<u32>)> = None;
    let mut all = Vec::new();
    for act in &line.acts {
        let (Act::Added { mailbox, val, uids, .. } | Act::Expunged { mailbox, val, uids }) = act
        else {
            return None;
        };
        if found.is_some_and(|(name, _)| name != mailbox) {
            return None;
        }
        found = Some((mailbox, *val));
        all.extend(uids.iter());
    }
    found.map(|(mailbox, val)| (mailbox, val, UidSet::from_uids(all)))
}

/// Whether the next line of the run must be seen to know what this one means: an expunge of all
/// there was may be the beginning of a DELETE, where the exporter doesn't say.
pub(super) fn wants_next(line: &Transaction, annotation: Option<&Annotation>) -> bool {
    annotation.is_none()
        && line.acts.iter().any(|act| match act {
            Act::Expunged { mailbox, .. } => {
                line.status.get(mailbox).is_none_or(|status| status.messages.unwrap_or(0) == 0)
            }
            _ => false,
        })
}

/// Whether what the exporter says of a line changes what is told of it.
pub(super) fn wants_annotation(line: &Transaction) -> bool {
    let is_session = matches!(line.service.as_deref(), Some("imap" | "pop3"));
    line.acts.iter().any(|act| match act {
        Act::Added { .. } | Act::Expunged { .. } | Act::Created { .. } => true,
        Act::Set { .. }
        | Act::Cleared { .. }
        | Act::Deleted { .. }
        | Act::Renamed { .. }
        | Act::Subscribed { .. }
        | Act::Unsubscribed { .. } => !is_session,
        // Where authentication says no ports, the exporter may.
        Act::LoggedIn => line.server_port.is_none(),
        Act::LoggedOut { .. } | Act::Bye => false,
    })
}

/// Whether authentication's word is waited for: a login whose line says neither how nor where.
pub(super) fn wants_login(line: &Transaction) -> bool {
    line.acts.contains(&Act::LoggedIn) && line.server_port.is_none() && line.mech.is_none()
}

/// Adds what the exporter knows and the script doesn't: the addresses, and how a session began.
pub(super) fn complete(
    line: &mut Transaction,
    annotation: Option<&Annotation>,
    login: Option<&Login>,
) {
    let ends =
        [annotation.map(|one| (one.client, one.server)), login.map(|one| (one.client, one.server))];
    for (client, server) in ends.into_iter().flatten() {
        if line.client.is_none_or(|client| client.port() == 0) {
            line.client = client.or(line.client);
        }
        if let Some(server) = server.filter(|_| line.server_port.is_none()) {
            line.server_ip = Some(server.ip());
            line.server_port = Some(server.port()).filter(|port| *port != 0);
        }
    }
    if let Some(login) = login {
        line.mech = line.mech.take().or_else(|| login.mechanism.clone());
        line.secured = line.secured.take().or_else(|| login.transport.clone());
    }
}

fn reasons(beside: Beside<'_>) -> impl Iterator<Item = &str> {
    beside.annotation.into_iter().flat_map(|one| &one.reasons).map(String::as_str)
}

/// Whether an expunge is but a part of the mailbox's deletion (R86).
fn is_implied(line: &Transaction, beside: Beside<'_>, mailbox: &str) -> bool {
    if beside.annotation.is_some() {
        return reasons(beside).any(|reason| DELETIONS.contains(&reason));
    }
    let deletes = |act: &Act| matches!(act, Act::Deleted { mailbox: name, .. } if name == mailbox);
    beside.next.is_some_and(|next| {
        let is_same = Runs::follows(line, next) && next.session == line.session;
        is_same && next.acts.first().is_some_and(deletes)
    })
}

/// Whether a mailbox came to be by itself: INBOX always is there (R94), and what the operator has
/// made by need was there for the user all along.
fn is_lazy(line: &Transaction, beside: Beside<'_>, name: &str) -> bool {
    if name == "INBOX" {
        return true;
    }
    let is_delivery = line.acts.iter().any(|act| matches!(act, Act::Added { delivered: true, .. }))
        || matches!(line.service.as_deref(), Some("lmtp" | "lda"));
    match beside.annotation {
        Some(_) => !is_delivery && !reasons(beside).any(|reason| CREATIONS.contains(&reason)),
        // Without the exporter only the script may know.
        None => line.command.as_deref().is_some_and(|name| !name.eq_ignore_ascii_case("CREATE")),
    }
}

/// Whether a mailbox was made only for one below it, in the same go (R81).
fn is_parent(line: &Transaction, mailbox: &str, separator: char) -> bool {
    let below = format!("{mailbox}{separator}");
    let is_below =
        |act: &Act| matches!(act, Act::Created { mailbox, .. } if mailbox.starts_with(&below));
    line.acts.iter().any(is_below)
}

fn status(line: &Transaction, mailbox: &str) -> Status {
    let status = line.stands(mailbox);
    Status { messages: status.messages, uidnext: status.uidnext }
}

/// A reason code against a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    rest.char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
}

fn add(seen: &mut Observation, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Ok(name)) = (value, OtherName::new(name)) {
        seen.extras.push((name, value.into()));
    }
}

/// Reason codes of a server that takes over what happened in another.
const DSYNC: &[&str] = &["doveadm:cmd_backup", "doveadm:cmd_sync", "doveadm:cmd_dsync_server"];

/// Lists of flags that one command sets: as many as a handful of flags can make. Each is looked at
/// for each.
const GROUPS_MAX: usize = 64;

/// Ranges of one event's UID set, as the script has it.
const RANGES_MAX: usize = 4096;

/// Reason codes of a mailbox's end.
const DELETIONS: &[&str] = &["mailbox:delete", "imap:cmd_delete", "doveadm:cmd_mailbox_delete"];

/// Reason codes of somebody's wish for a mailbox.
const CREATIONS: &[&str] = &["imap:cmd_create", "doveadm:cmd_mailbox_create"];

/// Reason codes of Dovecot's own policies, and what they are called.
const BUILTIN_POLICIES: &[(&str, &str)] =
    &[("storage:autoexpunge", "autoexpunge"), ("trash:clean", "trash")];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dovecot::{Exporter, record};

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    fn options() -> Options {
        let rule = |reason: &str, mailbox: &str, policy: &str| ExpireRule {
            reason: reason.to_owned(),
            user: None,
            mailbox: mailbox.parse().ok(),
            policy: policy.to_owned(),
        };
        Options {
            spool: "/nowhere".into(),
            separator: '/',
            shared: vec!["shared/%u/".to_owned()],
            expire: vec![rule("doveadm:cmd_exp*", "Trash/%", "cron")],
            annotation_window: Duration::from_millis(250),
            server_fqdn: Some("mail.example.org".to_owned()),
            master: None,
            hole_window: Duration::from_secs(600),
            body_structure: false,
            content_max_octets: None,
            exporter: Exporter::new(),
        }
    }

    fn teller(options: &Options) -> Teller<'_> {
        Teller::new(options, Arc::new(Names::new(options.separator, &options.shared)))
    }

    fn line(seq: u64, service: &str, events: &str, status: &str) -> Transaction {
        let text = format!(
            r#"{{"v":1,"run":"{RUN}","seq":{seq},"pid":27062,"time":1795573548,"user":"alice","uid":21000,"service":"{service}",
            "session":"iOg/AAAB","rip":"127.0.0.1","rport":52046,"lip":"::1","lport":143,"mech":"PLAIN","secured":"TLS",
            "events":[{events}],"status":{{{status}}}}}"#
        );
        record::parse(text.as_bytes()).unwrap()
    }

    fn because(reasons: &[&str]) -> Annotation {
        let reasons = reasons.iter().map(|&reason| reason.to_owned()).collect();
        Annotation { reasons, ..Annotation::default() }
    }

    fn told(options: &Options, line: &Transaction, beside: Beside<'_>) -> Vec<Observation> {
        let teller = teller(options);
        let told: Vec<_> = teller.tell(line, beside).collect();
        assert!(told.is_sorted_by_key(|(place, _)| *place));
        told.into_iter().map(|(_, seen)| seen).collect()
    }

    fn alone(line: &Transaction) -> Vec<Observation> {
        told(&options(), line, Beside::default())
    }

    fn with(line: &Transaction, annotation: &Annotation) -> Vec<Observation> {
        let beside = Beside { annotation: Some(annotation), ..Beside::default() };
        told(&options(), line, beside)
    }

    #[test]
    fn each_message_is_told_with_the_counts_after_the_transaction() {
        let line = line(
            7,
            "imap",
            r#"{"e":"append","box":"INBOX","val":5,"uids":"7:8","flags":["\\Seen"]}"#,
            r#""INBOX":{"val":5,"messages":2,"uidnext":9,"modseq":9}"#,
        );
        let [first, second] = &alone(&line)[..] else { panic!("two events") };
        let What::Appended(message) = &second.what else { panic!("an append") };
        assert_eq!((message.uid, message.status.messages), (8, Some(2)));
        assert_eq!((message.status.uidnext, message.mailbox.uid_validity), (Some(9), Some(5)));
        assert_eq!(message.modseq, None, "the mailbox's highest needn't be the message's");
        assert_eq!(first.identity.0, format!("{RUN} 7 1 7").into_bytes());
        assert_eq!(first.owner.as_deref(), Some("alice"));
        assert_eq!(first.actor.user.as_deref(), Some("alice"));
        assert_eq!(first.actor.client.unwrap().to_string(), "127.0.0.1:52046");
        assert_eq!(first.actor.session.as_deref(), Some("iOg/AAAB"));
        assert_eq!(
            (first.origin.process.as_deref(), first.origin.pid),
            (Some("imap"), Some(27_062))
        );
        assert_eq!(first.origin.server_domain.as_deref(), Some("::1"));
        assert_eq!(first.origin.server_port, Some(143));
    }

    #[test]
    fn r40_a_delivery_has_an_envelope() {
        let line = line(1, "lmtp", r#"{"e":"new","box":"INBOX","val":5,"uids":"7"}"#, "");
        let envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n".parse().ok();
        let annotation = Annotation { envelope, ..because(&[]) };
        let [seen] = &with(&line, &annotation)[..] else { panic!("one event") };
        let What::Delivered { envelope, .. } = &seen.what else { panic!("a delivery") };
        assert!(envelope.is_some() && annotation.envelope.is_some());
        assert_eq!(seen.owner.as_deref(), Some("alice"));
    }

    #[test]
    fn the_exporter_changes_no_identity() {
        let line = line(2, "imap", r#"{"e":"expunge","box":"Trash/x","val":5,"uids":"1:3"}"#, "");
        let (alone, beside) = (alone(&line), with(&line, &because(&["storage:autoexpunge"])));
        assert_ne!(alone[0].what, beside[0].what);
        assert_eq!(alone[0].identity, beside[0].identity);
    }

    #[test]
    fn r31_r34_what_a_policy_took_is_expired_under_its_name() {
        let line =
            line(2, "doveadm", r#"{"e":"expunge","box":"Trash/x","val":5,"uids":"1:3"}"#, "");
        for (reason, policy) in [
            ("storage:autoexpunge", Some("autoexpunge")),
            ("doveadm:cmd_expunge", Some("cron")),
            ("imap:cmd_expunge", None),
        ] {
            let told = with(&line, &because(&[reason]));
            match (&told[0].what, policy) {
                (What::Expired { policy: Some(name), .. }, Some(policy)) => {
                    assert_eq!(name, policy);
                }
                (What::Expunged { .. }, None) => {}
                other => panic!("{reason}: {other:?}"),
            }
        }
    }

    #[test]
    fn r60_different_flags_set_at_once_are_seen_at_once() {
        let set = |uids: &str, flags: &str| {
            format!(r#"{{"e":"set","box":"INBOX","val":5,"uids":"{uids}","flags":[{flags}]}}"#)
        };
        let acts = [
            r#"{"e":"clear","box":"INBOX","val":5,"uids":"7","flags":["x"]}"#.to_owned(),
            set("1:99", r#""\\Seen""#),
            set("100", r#""\\Seen","\\Flagged""#),
        ];
        let seen = alone(&line(2, "imap", &acts.join(","), ""));
        let [cleared, set_at_once] = &seen[..] else { panic!("{seen:?}") };
        assert!(matches!(cleared.what, What::FlagsChanged { .. }));
        let What::FlagsSet { groups, .. } = &set_at_once.what else { panic!("groups") };
        let uids: Vec<_> = groups.iter().map(|(uids, _)| uids.to_string()).collect();
        assert_eq!(uids, ["1:99", "100"]);

        let scattered = |from: u32| {
            let uids: Vec<_> = (0..3_000).map(|at| (from + at * 4).to_string()).collect();
            uids.join(",")
        };
        let acts = [set(&scattered(1), r#""a""#), set(&scattered(3), r#""b""#)].join(",");
        assert_eq!(alone(&line(2, "imap", &acts, "")).len(), 2, "no event is that long");
    }

    #[test]
    fn r150_in_a_shared_mailbox_the_user_acts_and_the_owner_owns() {
        let line = line(
            2,
            "imap",
            r#"{"e":"set","box":"shared/bob/Work/ä","val":5,"uids":"1","flags":["x"]}"#,
            "",
        );
        let [seen] = &alone(&line)[..] else { panic!("one event") };
        let What::FlagsChanged { mailbox, .. } = &seen.what else { panic!("flags") };
        assert_eq!((seen.owner.as_deref(), mailbox.name.as_str()), (Some("bob"), "Work/ä"));
        assert_eq!(seen.actor.user.as_deref(), Some("alice"));
    }

    #[test]
    fn r86_expunges_that_a_deletion_implies_are_not_told() {
        let expunge = line(2, "imap", r#"{"e":"expunge","box":"A","val":5,"uids":"1"}"#, "");
        assert!(with(&expunge, &because(&["imap:cmd_delete", "mailbox:delete"])).is_empty());
        assert_eq!(with(&expunge, &because(&["imap:cmd_expunge"])).len(), 1);
        let after = |seq, name: &str| {
            line(seq, "imap", &format!(r#"{{"e":"delete","box":"{name}","val":5}}"#), "")
        };
        for (next, count) in [(after(3, "A"), 0), (after(3, "B"), 1), (after(4, "A"), 1)] {
            let beside = Beside { next: Some(&next), ..Beside::default() };
            assert_eq!(told(&options(), &expunge, beside).len(), count, "{next:?}");
        }
        assert!(wants_next(&expunge, None) && !wants_next(&expunge, Some(&because(&[]))));
        let some_left = line(
            2,
            "imap",
            r#"{"e":"expunge","box":"A","val":5,"uids":"1"}"#,
            r#""A":{"messages":1}"#,
        );
        assert!(!wants_next(&some_left, None));
    }

    #[test]
    fn r81_r94_mailboxes_that_come_by_themselves_are_not_told() {
        let create = |name: &str| {
            line(2, "imap", &format!(r#"{{"e":"create","box":"{name}","val":5}}"#), "")
        };
        assert!(alone(&create("INBOX")).is_empty());
        assert_eq!(alone(&create("Trash")).len(), 1);
        assert!(
            with(&create("Trash"), &because(&["imap:cmd_select", "mailbox:create"])).is_empty()
        );
        assert_eq!(with(&create("A"), &because(&["imap:cmd_create", "mailbox:create"])).len(), 1);
        let deep = line(2, "imap", r#"{"e":"create","box":"a"},{"e":"create","box":"a/b"}"#, "");
        assert_eq!(alone(&deep).len(), 1);
    }

    #[test]
    fn what_dsync_brings_happened_elsewhere() {
        let options = options();
        let teller = teller(&options);
        let line = line(2, "doveadm", r#"{"e":"append","box":"A","val":5,"uids":"1"}"#, "");
        let annotation = because(&["doveadm:cmd_sync"]);
        let beside = Beside { annotation: Some(&annotation), ..Beside::default() };
        assert!(
            teller.is_suppressed(&line, beside) && !teller.is_suppressed(&line, Beside::default())
        );
    }

    #[test]
    fn a_move_links_its_halves() {
        let to = line(
            2,
            "imap",
            r#"{"e":"append","box":"B","val":6,"uids":"11,13","flags":["x"]},{"e":"append","box":"B","val":6,"uids":"12","flags":[]}"#,
            "",
        );
        let from = line(3, "imap", r#"{"e":"expunge","box":"A","val":5,"uids":"3,5,9"}"#, "");
        assert!(are_halves(&to, &from) && !are_halves(&from, &to));
        let beside = Beside { other_half: Some(&from), ..Beside::default() };
        let origins: Vec<_> = told(&options(), &to, beside)
            .into_iter()
            .map(|seen| match seen.what {
                What::Appended(Message { uid, copied_from: Some(from), .. }) => {
                    (uid, from.mailbox.name, from.uids.to_string())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let origin = |uid, from: &str| (uid, "A".to_owned(), from.to_owned());
        assert_eq!(origins, [origin(11, "3"), origin(13, "9"), origin(12, "5")]);
        let beside = Beside { other_half: Some(&to), ..Beside::default() };
        let [seen] = &told(&options(), &from, beside)[..] else { panic!("one event") };
        let What::Expunged { moved_to: Some(to), .. } = &seen.what else { panic!("a move") };
        assert_eq!((to.mailbox.name.as_str(), to.uids.to_string()), ("B", "11:13".to_owned()));
    }

    #[test]
    fn r150_a_move_out_of_anothers_mailbox_names_its_owner_at_both_ends() {
        let to = line(2, "imap", r#"{"e":"append","box":"B","val":6,"uids":"11","flags":[]}"#, "");
        let from =
            line(3, "imap", r#"{"e":"expunge","box":"shared/bob/A","val":5,"uids":"3"}"#, "");
        let beside = Beside { other_half: Some(&from), ..Beside::default() };
        let [seen] = &told(&options(), &to, beside)[..] else { panic!("one event") };
        let What::Appended(Message { copied_from: Some(end), .. }) = &seen.what else {
            panic!("a move")
        };
        let whose = |seen: &Observation, end: &Origination| (seen.owner.clone(), end.owner.clone());
        let (mine, theirs) = (seen.owner.clone(), Some("bob".to_owned()));
        assert_ne!(mine, theirs);
        assert_eq!(whose(seen, end), (mine.clone(), theirs.clone()));
        let beside = Beside { other_half: Some(&to), ..Beside::default() };
        let [seen] = &told(&options(), &from, beside)[..] else { panic!("one event") };
        let What::Expunged { moved_to: Some(end), .. } = &seen.what else { panic!("a move") };
        assert_eq!(whose(seen, end), (theirs, mine));
    }

    #[test]
    fn r77_r78_a_logout_says_how_and_how_long() {
        let options = options();
        let teller = teller(&options);
        let login = line(1, "imap", r#"{"e":"login"}"#, "");
        let mut sessions = super::super::sessions::Sessions::default();
        sessions.begin(&login);
        let session = sessions.end("iOg/AAAB").unwrap();
        let extras = |seen: Observation| {
            seen.extras.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let graceful = Ending { is_graceful: true, ..Ending::default() };
        let end = End::Said(said(&login, Some(15), Some(&graceful), false));
        let told = extras(teller.logged_out(&session, end));
        assert_eq!(
            told,
            ["vnd.postbell.sessionDuration=15", "vnd.postbell.disconnect=\"graceful\""]
        );
        let end = End::Said(said(&login, Some(15), None, false));
        assert_eq!(extras(teller.logged_out(&session, end)), ["vnd.postbell.sessionDuration=15"]);
        let counted = Some(Duration::from_secs(3));
        let ending = Ending { duration: counted, ..Ending::default() };
        for (has_slept, seconds) in [(false, 3), (true, 15)] {
            assert_eq!(said(&login, Some(15), Some(&ending), has_slept).seconds, Some(seconds));
        }
        let at = Timestamp::new("2026-11-25T02:26:48Z".parse().unwrap(), Offset::UTC);
        let died = teller.logged_out(&session, End::Died { at });
        assert_eq!(died.certainty, Certainty::Inferred);
        let told = extras(died);
        assert_eq!(told, ["vnd.postbell.sessionDuration=60", "vnd.postbell.disconnect=\"abort\""]);
        let login = extras(teller.logged_in(&login).unwrap());
        assert_eq!(
            login,
            ["vnd.postbell.authMechanism=\"PLAIN\"", "vnd.postbell.securityLayer=\"TLS\""]
        );
    }

    #[test]
    fn r131_a_login_says_what_authentication_said_where_its_line_does_not() {
        let mut bare = line(1, "imap", r#"{"e":"login"}"#, "");
        let options = options();
        let extras = |line: &Transaction| -> Vec<String> {
            let seen = teller(&options).logged_in(line).unwrap();
            seen.extras.iter().map(|(_, value)| value.to_string()).collect()
        };
        assert!(!wants_login(&bare));
        (bare.mech, bare.secured, bare.server_port) = (None, None, None);
        assert!(wants_login(&bare) && teller(&options).logged_in(&bare).is_none());
        let login = |transport: &str| Login {
            mechanism: Some("SCRAM-SHA-256".to_owned()),
            transport: Some(transport.to_owned()),
            client: Some("192.0.2.1:5".parse().unwrap()),
            server: Some("192.0.2.9:993".parse().unwrap()),
        };
        for (transport, wanted) in
            [("TLS", &["SCRAM-SHA-256", "TLS"][..]), ("trusted", &["SCRAM-SHA-256"])]
        {
            let mut line = bare.clone();
            complete(&mut line, None, Some(&login(transport)));
            let wanted: Vec<_> = wanted.iter().map(|text| format!("{text:?}")).collect();
            assert_eq!((line.server_port, extras(&line)), (Some(993), wanted));
        }
    }

    #[test]
    fn a_star_in_a_reason_stands_for_anything() {
        assert!(fits("a:*", "a:b") && fits("*", "") && fits("a*c", "abbc") && !fits("a*c", "ab"));
    }
}
