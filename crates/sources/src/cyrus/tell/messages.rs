//! Messages that came and went.
//!
//! A copy is told as MessageAppend for each message, with where it came from (A13); a move as that
//! and Cyrus's own MessageExpunge, which follows it and is told where the messages went. What a
//! client puts in over HTTP is MessageAppend, not MessageNew (R27, R38).

use std::collections::BTreeMap;

use mail_event::{MessageContent, UidSet};
use postbell_engine::{Identity, Mailbox, Message, Origination, What};
use serde::{Deserialize, Serialize};

use super::super::notification::Notification;
use super::{Memory, Telling, Told, Untold};
use crate::spool::Change;
use crate::{Pair, saved};

pub(super) fn new(telling: &Telling<'_>, memory: &Memory) -> Result<Told, Untold> {
    let by_client = telling.said.service.as_deref() == Some("http");
    let (owner, message) = message(telling)?;
    let what = match by_client {
        true => What::Appended(message),
        false => What::Delivered { message, envelope: None },
    };
    telling.one(memory, owner, what)
}

pub(super) fn appended(telling: &Telling<'_>, memory: &Memory) -> Result<Told, Untold> {
    let (owner, message) = message(telling)?;
    telling.one(memory, owner, What::Appended(message))
}

/// The one message that came.
fn message(telling: &Telling<'_>) -> Result<(Option<String>, Message), Untold> {
    let said = telling.said;
    let (owner, mailbox) = telling.mailbox()?;
    let in_uri = said.uri.as_ref().and_then(mail_event::ImapUrl::uid);
    let uid = in_uri.or_else(|| said.uids.as_ref()?.only()).ok_or(Untold::Messages)?;
    // Cyrus may cut it, or send a part: only the whole is a message's content (R119).
    let is_whole = |content: &&String| said.size_octets == Some(content.len() as u64);
    let content = said.content.as_ref().filter(is_whole);
    let message = Message {
        mailbox,
        uid,
        status: telling.status(),
        flags: said.flags.clone(),
        size_octets: said.size_octets,
        body_structure: said.body_structure.clone(),
        content: content.map(|content| MessageContent::new(content.as_bytes())),
        modseq: said.modseq,
        copied_from: None,
    };
    Ok((owner, message))
}

pub(super) fn copied(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let (owner, mailbox) = telling.mailbox()?;
    let uids = said.uids.clone().filter(|uids| !uids.is_empty()).ok_or(Untold::Messages)?;
    if uids.len() > UIDS_MAX {
        return Err(Untold::TooMany);
    }
    let from = telling.old_mailbox();
    // Both sets are in order, and a copy keeps it.
    let old_uids = said.old_uids.clone().filter(|old| old.len() == uids.len());
    if said.event == "vnd.cmu.MessageMove" {
        memory.moves.note(said, &owner, &mailbox);
    }
    let message = Message {
        mailbox,
        uid: 0,
        status: telling.status(),
        flags: said.flags.clone(),
        size_octets: None,
        body_structure: None,
        content: None,
        modseq: said.modseq.filter(|_| uids.len() == 1),
        copied_from: None,
    };
    let what = What::Appended(message.clone());
    let one = telling.observation(memory, "", owner.clone(), what);
    let mut old = each(old_uids.unwrap_or_default());
    Ok(Box::new(each(uids).map(move |uid| {
        let from = from.as_ref().zip(old.next()).map(|((from_owner, mailbox), uid)| Origination {
            owner: from_owner.clone(),
            mailbox: mailbox.clone(),
            uids: UidSet::single(uid),
        });
        let mut one = one.clone();
        one.identity = Identity([&one.identity.0[..], &uid.to_be_bytes()].concat());
        one.what = What::Appended(Message { uid, copied_from: from, ..message.clone() });
        one
    })))
}

pub(super) fn removed(telling: &Telling<'_>, memory: &mut Memory) -> Result<Told, Untold> {
    let said = telling.said;
    let (owner, mailbox) = telling.mailbox()?;
    let uids = said.uids.clone().filter(|uids| !uids.is_empty()).ok_or(Untold::Messages)?;
    let status = telling.status();
    let what = if said.event == "MessageExpire" {
        // The policy is the job's that ran it; Cyrus names no other (R34).
        What::Expired { mailbox, uids, status, policy: said.service.clone() }
    } else {
        let moved_to = memory.moves.take(said);
        What::Expunged { mailbox, uids, status, moved_to }
    };
    telling.one(memory, owner, what)
}

/// The UIDs of a set, one after the other.
fn each(uids: UidSet) -> impl Iterator<Item = u32> + 'static {
    uids.ranges().to_vec().into_iter().flat_map(|(first, last)| first..=last)
}

/// Moves whose expunge is still to come: the same process tells it next.
#[derive(Debug, Default)]
pub(super) struct Moves {
    moves: BTreeMap<String, Move>,
    changed: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Move {
    /// The mailbox, as an admin names it.
    from: String,
    from_uids: String,
    owner: Option<String>,
    to: String,
    to_validity: Option<u32>,
    to_uids: String,
}

impl Moves {
    pub(super) fn restore(saved: &[Pair]) -> Self {
        Self { moves: saved::restore(MOVE_KEY, saved), changed: Vec::new() }
    }

    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().map(|pid| saved::change(MOVE_KEY, pid, self.moves.get(pid))).collect()
    }

    fn note(&mut self, said: &Notification, owner: &Option<String>, to: &Mailbox) {
        let from = said.old.as_ref().and_then(mail_event::ImapUrl::mailbox);
        let (Some(pid), Some(from)) = (said.pid, from) else { return };
        let (Some(from_uids), Some(to_uids)) = (&said.old_uids, &said.uids) else { return };
        if from_uids.len() != to_uids.len() || self.moves.len() >= MOVES_MAX {
            return;
        }
        let one = Move {
            from: from.to_owned(),
            from_uids: from_uids.to_string(),
            owner: owner.clone(),
            to: to.name.clone(),
            to_validity: to.uid_validity,
            to_uids: to_uids.to_string(),
        };
        self.moves.insert(pid.to_string(), one);
        self.changed.push(pid.to_string());
    }

    /// Where the messages of an expunge went, if it ends a move.
    fn take(&mut self, said: &Notification) -> Option<Origination> {
        let pid = said.pid?.to_string();
        let one = self.moves.remove(&pid)?;
        self.changed.push(pid);
        let is_ours = said.uri.as_ref()?.mailbox() == Some(&*one.from)
            && said.uids.as_ref()?.to_string() == one.from_uids;
        is_ours.then_some(Origination {
            owner: one.owner,
            mailbox: Mailbox { name: one.to, uid_validity: one.to_validity },
            uids: one.to_uids.parse().ok()?,
        })
    }

    /// A process that tells something else has no expunge left to tell.
    pub(super) fn passed(&mut self, said: &Notification) {
        let is_between = matches!(
            said.event.as_str(),
            "MailboxModseq" | "MessageExpunge" | "QuotaWithin" | "vnd.cmu.MessageMove"
        );
        let Some(pid) = said.pid.filter(|_| !is_between) else { return };
        if self.moves.remove(&pid.to_string()).is_some() {
            self.changed.push(pid.to_string());
        }
    }
}

pub(super) const MOVE_KEY: &[u8] = b"move/";

/// Messages of one copy: each makes an event, so that twelve letters could otherwise ask for 2³² of
/// them.
const UIDS_MAX: u64 = 1 << 20;

/// Moves under way; a machine has no more processes.
const MOVES_MAX: usize = 10_000;
