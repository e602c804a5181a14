//! Whose quotas are to be looked at.
//!
//! A look shows how a quota stands after everything that happened before it, whoever did it. So
//! what is said of the occasion is what all that happened since the last look have in common: where
//! several acted, nobody is named rather than the wrong one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mail_event::Timestamp;
use postbell_engine::{Actor, Certainty, Identity, Mailbox, Observation, Origin, Quota, What};

use crate::spool::Change;
use crate::{Pair, saved};

/// Owners whose mail grew or shrank since their quotas were looked at.
///
/// Restored from, and stored with, the source's checkpoint: a look that was still to come when the
/// hub ended is taken by the next.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    due: BTreeMap<String, Due>,
    /// Whose turn it is.
    order: VecDeque<String>,
    changed: BTreeSet<String>,
    /// Those in the checkpoint.
    stored: BTreeSet<String>,
}

#[derive(Debug)]
struct Due {
    /// Through which mailboxes: each may count against a quota of its own.
    mailboxes: BTreeSet<String>,
    /// What caused it; nothing where it was left by a run that ended.
    occasion: Option<Observation>,
}

/// A quota to look at.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) owner: String,
    pub(super) mailbox: String,
    occasion: Option<Observation>,
}

impl Quotas {
    pub(super) fn restore(saved: &[Pair]) -> Self {
        let mut restored = Self::default();
        for (owner, mailboxes) in saved::restore::<BTreeSet<String>>(KEY, saved) {
            restored.stored.insert(owner.clone());
            restored.order.push_back(owner.clone());
            restored.due.insert(owner, Due { mailboxes, occasion: None });
        }
        restored
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for owner in std::mem::take(&mut self.changed) {
            let mailboxes = self.due.get(&owner).map(|due| &due.mailboxes);
            let was_stored = match mailboxes {
                Some(_) => !self.stored.insert(owner.clone()),
                None => self.stored.remove(&owner),
            };
            if was_stored || mailboxes.is_some() {
                changes.push(saved::change(KEY, &owner, mailboxes));
            }
        }
        changes
    }

    /// Has the quota looked at of whoever's mail grew or shrank; `asked` is a mailbox's name as its
    /// owner asks for it.
    pub(super) fn note(&mut self, seen: &Observation, asked: impl Fn(&Mailbox) -> String) {
        let (before, mailbox) = match &seen.what {
            What::Delivered { message, .. } | What::Appended(message) => {
                (None, Some(&message.mailbox))
            }
            What::Expunged { mailbox, .. } | What::Expired { mailbox, .. } => (None, Some(mailbox)),
            What::MailboxDeleted(_) => (None, None),
            What::MailboxRenamed { from_owner, to, .. } if *from_owner != seen.owner => {
                (from_owner.as_deref(), Some(to))
            }
            _ => return,
        };
        // What is gone has no quota any more, but its owner's has more room.
        let inbox = || INBOX.to_owned();
        if let Some(owner) = &seen.owner {
            self.add(owner, mailbox.map_or_else(inbox, asked), seen);
        }
        if let Some(owner) = before {
            self.add(owner, inbox(), seen);
        }
    }

    /// Has an owner's quota looked at through a mailbox, because of what was seen.
    pub(super) fn add(&mut self, owner: &str, mailbox: String, seen: &Observation) {
        let cause = occasion(owner, seen);
        if let Some(due) = self.due.get_mut(owner) {
            due.occasion = due.occasion.take().map(|before| joined(before, cause));
            if due.mailboxes.len() < MAILBOXES_MAX && due.mailboxes.insert(mailbox) {
                self.changed.insert(owner.to_owned());
            }
        } else if self.due.len() < OWNERS_MAX {
            let due = Due { mailboxes: [mailbox].into(), occasion: Some(cause) };
            self.due.insert(owner.to_owned(), due);
            self.order.push_back(owner.to_owned());
            self.changed.insert(owner.to_owned());
        }
    }

    /// Whether any is to be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Takes the next: each owner one, in turn.
    pub(super) fn take(&mut self) -> Option<Look> {
        let owner = self.order.pop_front()?;
        let due = self.due.get_mut(&owner)?;
        let mailbox = due.mailboxes.pop_first();
        let occasion = due.occasion.clone();
        self.changed.insert(owner.clone());
        if due.mailboxes.is_empty() {
            self.due.remove(&owner);
        } else {
            self.order.push_back(owner.clone());
        }
        Some(Look { owner, mailbox: mailbox?, occasion })
    }

    /// Has one looked at later that could not be looked at now.
    pub(super) fn put_back(&mut self, look: Look) {
        let Look { owner, mailbox, occasion } = look;
        let due = self.due.entry(owner.clone()).or_insert_with(|| {
            self.order.push_back(owner.clone());
            Due { mailboxes: BTreeSet::new(), occasion }
        });
        due.mailboxes.insert(mailbox);
        self.changed.insert(owner);
    }
}

impl Look {
    /// What was seen: one for each quota. `at` is when, and `server_fqdn` where, if nobody knows on
    /// which occasion.
    pub(super) fn seen(
        self,
        quotas: Vec<Quota>,
        at: Timestamp,
        server_fqdn: Option<&str>,
    ) -> impl Iterator<Item = Observation> {
        let Self { owner, mailbox, occasion } = self;
        let occasion = occasion.unwrap_or_else(|| Observation {
            identity: Identity(format!("quota of {owner} {}", at.unix_millis()).into_bytes()),
            at,
            certainty: Certainty::Inferred,
            owner: Some(owner),
            actor: Actor::default(),
            origin: Origin {
                process: Some("postbell".to_owned()),
                pid: Some(std::process::id()),
                server_fqdn: server_fqdn.map(str::to_owned),
                ..Origin::default()
            },
            what: What::QuotaSeen(Quota::default()),
            extras: Vec::new(),
        });
        (0_u32..).zip(quotas).map(move |(place, quota)| {
            let part = format!("quota {place} {mailbox}");
            let identity = Identity([&occasion.identity.0[..], part.as_bytes()].concat());
            Observation { identity, what: What::QuotaSeen(quota), ..occasion.clone() }
        })
    }
}

/// What of a happening is said of the look at a quota that it causes.
fn occasion(owner: &str, seen: &Observation) -> Observation {
    let is_inferred = seen.certainty == Certainty::Inferred;
    Observation {
        identity: seen.identity.clone(),
        at: seen.at,
        certainty: seen.certainty,
        owner: Some(owner.to_owned()),
        actor: seen.actor.clone(),
        origin: seen.origin.clone(),
        what: What::QuotaSeen(Quota::default()),
        // Of what was found that is how long before it may have happened.
        extras: if is_inferred { seen.extras.clone() } else { Vec::new() },
    }
}

/// The later occasion, with what is so of the one before as well.
fn joined(before: Observation, after: Observation) -> Observation {
    let is_seen = [&before, &after].iter().all(|one| one.certainty == Certainty::Seen);
    let (Actor { user, admin, client, service, session }, actor) = (before.actor, after.actor);
    let (Origin { process, pid, server_fqdn, server_domain, server_port }, origin) =
        (before.origin, after.origin);
    Observation {
        certainty: if is_seen { Certainty::Seen } else { Certainty::Inferred },
        actor: Actor {
            user: common(user, actor.user),
            admin: common(admin, actor.admin),
            client: common(client, actor.client),
            service: common(service, actor.service),
            session: common(session, actor.session),
        },
        origin: Origin {
            process: common(process, origin.process),
            pid: common(pid, origin.pid),
            server_fqdn: common(server_fqdn, origin.server_fqdn),
            server_domain: common(server_domain, origin.server_domain),
            server_port: common(server_port, origin.server_port),
        },
        extras: if before.extras == after.extras { after.extras } else { Vec::new() },
        ..after
    }
}

fn common<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.filter(|one| Some(one) == other.as_ref())
}

/// Through it the quota is found of whoever has but one.
pub(super) const INBOX: &str = "INBOX";

/// Owners whose quotas are to be looked at, in the checkpoint.
pub(super) const KEY: &[u8] = b"quota-due/";

/// Such owners remembered; of more, the next change of mail has it looked at.
const OWNERS_MAX: usize = 10_000;

/// Mailboxes of one owner among them. Few have more than one quota.
const MAILBOXES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use mail_event::{Flags, UidSet};
    use postbell_engine::{Message, Status};

    use super::*;

    fn expunged(owner: &str, user: Option<&str>, mailbox: &str) -> Observation {
        let mailbox = Mailbox { name: mailbox.to_owned(), uid_validity: Some(7) };
        let status = Status::default();
        let uids = UidSet::single(1);
        let port = user.map_or(0, |user| 1000 + u16::try_from(user.len()).unwrap());
        Observation {
            identity: Identity(format!("{owner} {user:?} {mailbox:?}").into_bytes()),
            at: "2026-11-25T12:00:00+01:00".parse().unwrap(),
            certainty: Certainty::Seen,
            owner: Some(owner.to_owned()),
            actor: Actor {
                user: user.map(str::to_owned),
                client: Some(([127, 0, 0, 1], port).into()),
                service: Some("imap".to_owned()),
                session: user.map(str::to_owned),
                ..Actor::default()
            },
            origin: Origin { server_port: Some(143), ..Origin::default() },
            what: What::Expunged { mailbox, uids, status, moved_to: None },
            extras: Vec::new(),
        }
    }

    fn note(quotas: &mut Quotas, seen: &Observation) {
        quotas.note(seen, |mailbox| mailbox.name.clone());
    }

    fn look(quotas: &mut Quotas) -> Observation {
        let look = quotas.take().unwrap();
        let at = "2026-11-25T13:00:00+01:00".parse().unwrap();
        look.seen(vec![Quota::default()], at, Some("mail.example.org")).next().unwrap()
    }

    #[test]
    fn where_several_acted_nobody_is_named() {
        for (others, mailbox) in [("bob", "INBOX"), ("bob", "Box"), ("anna", "Box")] {
            let mut quotas = Quotas::default();
            note(&mut quotas, &expunged("alice", Some("alice"), "INBOX"));
            assert_eq!(look(&mut quotas).actor.user.as_deref(), Some("alice"));
            assert!(quotas.is_empty());

            note(&mut quotas, &expunged("alice", Some("alice"), "INBOX"));
            note(&mut quotas, &expunged("alice", Some(others), mailbox));
            note(&mut quotas, &expunged("alice", Some("alice"), "INBOX"));
            while !quotas.is_empty() {
                let seen = look(&mut quotas);
                assert_eq!((seen.actor.user, seen.actor.client), (None, None));
                assert_eq!(seen.actor.session, None);
                // Both came in this way.
                assert_eq!(seen.actor.service.as_deref(), Some("imap"));
                assert_eq!(seen.origin.server_port, Some(143));
            }
        }
    }

    #[test]
    fn what_was_seen_and_what_was_found_together_are_inferred() {
        let mut quotas = Quotas::default();
        let seen = expunged("alice", Some("alice"), "INBOX");
        let found = Observation {
            certainty: Certainty::Inferred,
            actor: Actor::default(),
            ..seen.clone().within(5)
        };
        note(&mut quotas, &found);
        let alone = look(&mut quotas);
        assert_eq!((alone.certainty, alone.extras), (Certainty::Inferred, found.extras.clone()));
        note(&mut quotas, &found);
        note(&mut quotas, &seen);
        let both = look(&mut quotas);
        assert_eq!((both.certainty, both.actor.user), (Certainty::Inferred, None));
        assert!(both.extras.is_empty());
    }

    #[test]
    fn owners_take_turns_and_no_two_looks_are_the_same() {
        let mut quotas = Quotas::default();
        for mailbox in ["a", "b", "b", "c"] {
            note(&mut quotas, &expunged("alice", Some("alice"), mailbox));
        }
        note(&mut quotas, &expunged("bob", Some("bob"), "INBOX"));
        let looks: Vec<_> =
            std::iter::from_fn(|| (!quotas.is_empty()).then(|| look(&mut quotas))).collect();
        let owners: Vec<_> = looks.iter().filter_map(|seen| seen.owner.as_deref()).collect();
        assert_eq!(owners, ["alice", "bob", "alice", "alice"]);
        let identities: BTreeSet<_> = looks.iter().map(|seen| seen.identity.0.clone()).collect();
        assert_eq!(identities.len(), 4);
    }

    #[test]
    fn a_mailbox_that_changes_hands_is_looked_at_for_both() {
        let mut quotas = Quotas::default();
        let from = Mailbox { name: "Theirs".to_owned(), uid_validity: Some(7) };
        let to = Mailbox { name: "Mine".to_owned(), uid_validity: Some(7) };
        let renamed = |from_owner: &str| Observation {
            what: What::MailboxRenamed {
                from_owner: Some(from_owner.to_owned()),
                from: from.clone(),
                to: to.clone(),
            },
            ..expunged("alice", None, "")
        };
        note(&mut quotas, &renamed("alice"));
        assert!(quotas.is_empty(), "nothing came or went");
        note(&mut quotas, &renamed("bob"));
        let looks: Vec<_> = std::iter::from_fn(|| quotas.take()).collect();
        let places: Vec<_> = looks.iter().map(|look| (&*look.owner, &*look.mailbox)).collect();
        assert_eq!(places, [("alice", "Mine"), ("bob", "INBOX")]);
    }

    #[test]
    fn a_look_that_was_still_to_come_outlives_a_restart() {
        let mut quotas = Quotas::default();
        let message = Message {
            mailbox: Mailbox { name: "Box".to_owned(), uid_validity: Some(7) },
            uid: 1,
            status: Status::default(),
            flags: Flags::new(),
            size_octets: None,
            body_structure: None,
            content: None,
            modseq: None,
            copied_from: None,
        };
        let what = What::Appended(message);
        note(&mut quotas, &Observation { what, ..expunged("alice", Some("alice"), "") });
        let saved = quotas.drain_changes().into_iter();
        let saved: Vec<_> = saved.filter_map(|(key, value)| Some((key, value?))).collect();
        let mut again = Quotas::restore(&saved);
        // Who acted before nobody knows any more.
        note(&mut again, &expunged("alice", Some("bob"), "Box"));
        let seen = look(&mut again);
        assert_eq!((seen.owner.as_deref(), seen.actor.user), (Some("alice"), None));
        assert_eq!(seen.certainty, Certainty::Inferred);
        let changes = again.drain_changes();
        assert_eq!(changes, [([KEY, b"alice"].concat(), None)]);
        assert!(again.drain_changes().is_empty() && again.is_empty());

        // Looked at before anything is stored, it is none of the checkpoint's business.
        note(&mut again, &expunged("alice", Some("bob"), "Box"));
        look(&mut again);
        assert!(again.drain_changes().is_empty());
    }
}
