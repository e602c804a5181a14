//! What a look at a mailbox has that the spool hadn't.

use std::collections::BTreeMap;

use mail_event::{Flags, Timestamp, UidSet};
use postbell_engine::{
    Actor, Certainty, Identity, Mailbox, Message, Observation, Origin, Status, What,
};

use super::kept::{Kept, Sets};
use crate::ask::{Asked, BoxLook, Changes, NamingScope, union};

/// How mailboxes and the server are named in what is told.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Naming<'a> {
    /// How the store's users name mailboxes.
    pub(in super::super) scope: &'a dyn NamingScope,
    /// The name of this server.
    pub(in super::super) server_fqdn: Option<&'a str>,
}

/// What is told of one mailbox.
pub(super) struct Telling<'a> {
    pub(super) owner: &'a str,
    pub(super) name: &'a str,
    pub(super) at: Timestamp,
    /// When it was looked at before, in milliseconds since 1970; nothing where nobody knows.
    pub(super) since: Option<i64>,
    /// Whether flags were told ever since.
    pub(super) hears_flags: bool,
    pub(super) naming: &'a Naming<'a>,
}

impl Telling<'_> {
    /// What changed since `kept.base` and wasn't told; and what of it is inferred.
    pub(super) fn differences(&self, kept: &Kept, changes: Changes) -> (Vec<Observation>, Sets) {
        let Changes { look, vanished, changed } = changes;
        let mut inferred = Sets::default();
        let Some(base) = kept.base else { return (Vec::new(), inferred) };
        let (old, new) = (base.uid_validity, look.uid_validity);
        if old != new {
            let reason = format!(
                "UIDVALIDITY changed from {old} to {new}: nothing known of the messages holds"
            );
            return (vec![self.missed(look, format!("validity {old}"), reason)], inferred);
        }
        let mut seen = Vec::new();
        let is_old = |uid: u32| uid < base.uidnext;
        let was_gone = self.vanished(kept, base, look, &vanished, &changed, &mut seen);
        let status = Status { messages: Some(look.messages), uidnext: Some(look.uidnext) };
        for (uid, asked) in &changed {
            if !is_old(*uid) && !kept.told.added.contains(*uid) {
                inferred.added.insert(*uid);
                seen.push(self.appended(look, status, *uid, asked));
            }
        }
        if !was_gone.is_empty() {
            let what = What::Expunged {
                mailbox: self.mailbox(new),
                uids: was_gone.clone(),
                status,
                moved_to: None,
            };
            seen.push(self.observation(&format!("gone {new} {was_gone}"), what));
            inferred.gone = was_gone;
        }
        if !self.hears_flags {
            return (seen, inferred);
        }
        let odd = changed.keys().filter(|uid| {
            is_old(**uid)
                && !kept.told.flagged.contains(**uid)
                && kept.told.came_with(**uid).is_none()
        });
        let odd = UidSet::from_uids(odd.copied());
        if !odd.is_empty() {
            let reason = format!("flags changed, which ones nobody knows: UID {}", shown(&odd));
            seen.push(self.missed(look, format!("flags {new} {}", look.modseq), reason));
        }
        self.flags(kept, look, status, &changed, &mut seen);
        (seen, inferred)
    }

    /// Changed flags of messages that were told to have come, with which flags is known.
    fn flags(
        &self,
        kept: &Kept,
        look: BoxLook,
        status: Status,
        changed: &BTreeMap<u32, Asked>,
        seen: &mut Vec<Observation>,
    ) {
        let mut alike: Vec<((Flags, Flags), UidSet)> = Vec::new();
        for (uid, asked) in changed.iter().filter(|(uid, _)| !kept.told.flagged.contains(**uid)) {
            let Some(before) = kept.told.came_with(*uid) else { continue };
            let change = (asked.flags.difference(&before), before.difference(&asked.flags));
            if change.0.is_empty() && change.1.is_empty() {
                continue;
            }
            match alike.iter_mut().find(|(known, _)| *known == change) {
                Some((_, uids)) => uids.insert(*uid),
                None => alike.push((change, UidSet::single(*uid))),
            }
        }
        for ((set, cleared), uids) in alike {
            let kind =
                format!("flags {} {} {uids} {set}) {cleared}", look.uid_validity, look.modseq);
            let mailbox = self.mailbox(look.uid_validity);
            let modseq = uids.only().and_then(|uid| changed.get(&uid)?.modseq);
            let what = What::FlagsChanged { mailbox, uids, set, cleared, modseq, status };
            seen.push(self.observation(&kind, what));
        }
    }

    /// Those that went and weren't told; what can't be told apart is told as missed.
    fn vanished(
        &self,
        kept: &Kept,
        base: BoxLook,
        look: BoxLook,
        vanished: &UidSet,
        changed: &BTreeMap<u32, Asked>,
        seen: &mut Vec<Observation>,
    ) -> UidSet {
        let below = |uid: &u32| *uid < base.uidnext;
        // Only what can have gone since: a server may name all that ever went.
        let old = UidSet::from_uids(vanished.iter().take_while(below).take(UIDS_MAX));
        let untold = UidSet::from_uids(old.iter().filter(|uid| !kept.told.gone.contains(*uid)));
        let came = u64::try_from(changed.range(base.uidnext..).count()).unwrap_or(u64::MAX);
        let stayed = look.messages.saturating_sub(came);
        let went = base.messages.saturating_sub(stayed);
        // Messages that came and went in between, both unseen.
        let passing = vanished.iter().skip_while(below).take(UIDS_MAX);
        let passing = UidSet::from_uids(passing.filter(|uid| {
            *uid < look.uidnext
                && !(kept.told.added.contains(*uid) && kept.told.gone.contains(*uid))
        }));
        let unknown =
            UidSet::from_uids(passing.iter().filter(|uid| !kept.told.added.contains(*uid)));
        if !unknown.is_empty() {
            let reason = format!("messages came and went: UID {}", shown(&unknown));
            seen.push(self.missed(look, format!("passing {}", look.modseq), reason));
        }
        let known = UidSet::from_uids(passing.iter().filter(|uid| kept.told.added.contains(*uid)));
        if old.len() <= went {
            return union(&untold, &known);
        }
        let told = kept.told.gone.iter().take_while(below).count();
        let left = went.saturating_sub(u64::try_from(told).unwrap_or(u64::MAX));
        if left > 0 && !untold.is_empty() {
            let reason = format!("{left} of these messages are gone: UID {}", shown(&untold));
            seen.push(self.missed(look, format!("gone {}", look.modseq), reason));
        }
        known
    }

    fn appended(&self, look: BoxLook, status: Status, uid: u32, asked: &Asked) -> Observation {
        let message = Message {
            mailbox: self.mailbox(look.uid_validity),
            uid,
            status,
            flags: asked.flags.clone(),
            size_octets: asked.size_octets,
            body_structure: asked.body_structure.clone(),
            content: asked.content.clone(),
            modseq: asked.modseq,
            copied_from: None,
        };
        let kind = format!("added {} {uid}", look.uid_validity);
        self.observation(&kind, What::Appended(message))
    }

    /// What of a mailbox wasn't written down can't be found any more: nothing is known of how it
    /// stood before.
    pub(super) fn blind(&self, look: BoxLook) -> Observation {
        let reason = "what was not written down of this mailbox can't be found any more: more was \
                      told than is remembered while the server could not be asked"
            .to_owned();
        let kind = format!("blind {} {} {}", look.uid_validity, look.modseq, self.at.unix_millis());
        self.missed(look, kind, reason)
    }

    fn missed(&self, look: BoxLook, kind: String, reason: String) -> Observation {
        let mailbox = Some(self.mailbox(look.uid_validity));
        self.observation(&kind, What::Missed { mailbox, reason })
    }

    pub(super) fn mailbox(&self, uid_validity: u32) -> Mailbox {
        let uid_validity = Some(uid_validity).filter(|validity| *validity != 0);
        Mailbox { name: self.naming.scope.told(self.name), uid_validity }
    }

    pub(super) fn observation(&self, kind: &str, what: What) -> Observation {
        let identity = ["look", self.owner, self.name, kind].join("\0");
        let seen = Observation {
            identity: Identity(identity.into_bytes()),
            at: self.at,
            certainty: Certainty::Inferred,
            owner: Some(self.owner.to_owned()),
            // Who did it, nobody knows.
            actor: Actor::default(),
            origin: Origin {
                process: Some("postbell".to_owned()),
                pid: Some(std::process::id()),
                server_fqdn: self.naming.server_fqdn.map(str::to_owned),
                ..Origin::default()
            },
            what,
            extras: Vec::new(),
        };
        match self.since {
            // A clock that was set back makes nothing happen later than it was seen.
            Some(since) => {
                let millis = self.at.unix_millis().saturating_sub(since);
                seen.within(u64::try_from(millis).unwrap_or(0))
            }
            None => seen,
        }
    }
}
/// A set, for a person: its beginning, where it is long.
fn shown(set: &UidSet) -> String {
    let text = set.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
/// Messages of one look that are gone; more than that no mailbox loses between two looks.
const UIDS_MAX: usize = 1_000_000;
/// Letters of a set that a person is shown.
const SHOWN_MAX: usize = 200;
