//! What Cyrus doesn't say, asked over IMAP by a user who may act as any other (`proxyservers`).
//!
//! Three things are asked for: how quotas stand after mail came or went, what a notification leaves
//! out of a message, and what changed in mailboxes that nobody said (see `crate::reconcile`). An
//! answer that doesn't come costs what it would have said, and no event.
//!
//! Asking is done in sessions of IMAP, and Cyrus tells of these as of all others. Of ours nothing
//! is told on.

mod flag_naming;
mod quotas;
mod suspects;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mail_event::{Timestamp, UidSet};
use postbell_engine::{Demand, Mailbox, Message, Observation, What};

use super::notification::Notification;
use super::{CyrusError, Options};
use crate::ask::{Asker, InTurn, Want};
use crate::reconcile::{BoxStatus, EVERYTHING_INTERVAL, Naming, Next, Reconcile, Round};
use crate::spool::{Change, Said, Spool};
use crate::{Batch, Health, Intake, Stop, saved};
use crate::{Ends, Master};
use flag_naming::FlagNaming;
use quotas::{INBOX, Quotas};
use suspects::Suspects;

/// Asks, and remembers what was told, so that only what wasn't is found.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    options: &'a Options,
    intake: &'a dyn Intake,
    asker: Asker,
    reconcile: Reconcile,
    round: Round,
    suspects: Suspects,
    /// Those from before the start of whose mailboxes nothing is known.
    unfindable: BTreeSet<String>,
    quotas: Quotas,
    /// Our own sessions as Cyrus names them, and our ends of their connections, and when they were
    /// opened.
    own: BTreeMap<String, i64>,
    /// The ends of whoever else asks the store.
    ends: Ends,
    /// What was asked for and not yet taken.
    subscribed: Vec<(String, BTreeSet<String>, i64)>,
    changed: BTreeSet<String>,
    naming: FlagNaming,
    /// When everything is looked at next.
    everything_at: Instant,
}

/// What the server said of the messages of one notification.
#[derive(Debug, Default)]
pub(super) struct Answers(InTurn);

impl<'a> Asking<'a> {
    pub(super) fn new(
        options: &'a Options,
        master: &Master,
        intake: &'a dyn Intake,
    ) -> Result<Self, CyrusError> {
        let asker = Asker::new(master).map_err(|error| CyrusError::Master(error.to_string()))?;
        let reconcile = Reconcile::restore(intake.checkpoint(Reconcile::PREFIX)?);
        let mut reconcile = reconcile.hearing_creations();
        // While nobody listened anything may have happened.
        reconcile.want_everything();
        let suspects = Suspects::restore(intake.checkpoint(suspects::KEY)?);
        let unknown = suspects.iter().filter(|owner| !reconcile.knows(owner));
        let unfindable = unknown.map(str::to_owned).collect();
        Ok(Self {
            options,
            intake,
            asker,
            reconcile,
            round: Round::default(),
            suspects,
            unfindable,
            quotas: Quotas::restore(&intake.checkpoint(quotas::KEY)?),
            ends: master.ends.clone(),
            subscribed: Vec::new(),
            own: saved::restore(OWN_KEY, &intake.checkpoint(OWN_KEY)?),
            changed: BTreeSet::new(),
            naming: FlagNaming::restore(&intake.checkpoint(flag_naming::KEY)?),
            everything_at: Instant::now() + EVERYTHING_INTERVAL,
        })
    }

    /// Shows why the last question had no answer, if it had none.
    pub(super) fn show_error(&self, health: &Health) {
        self.asker.show_error(health);
    }

    /// How many looks wait or aren't settled yet.
    pub(super) fn waiting(&self) -> usize {
        self.reconcile.progress().0 + self.reconcile.unsettled()
    }

    /// Notes that something was said; what it is is told to [`Asking::note`].
    ///
    /// `received` is when, where Cyrus doesn't say.
    pub(super) fn hear(&mut self, said: &Notification, received: Timestamp) {
        if !said.is_mail() {
            return;
        }
        let is_message = matches!(said.event.as_str(), "MessageNew" | "MessageAppend");
        if is_message && !said.flags.is_empty() {
            self.naming.note(said.at.unwrap_or(received));
        }
        let name = said.uri.as_ref().and_then(mail_event::ImapUrl::mailbox);
        if let Some(name) = name.filter(|_| said.event == "MailboxModseq") {
            self.spoken_of(name);
        }
    }

    /// A mailbox that nobody knows came to be unheard, as those do that are made over JMAP.
    fn spoken_of(&mut self, admins_name: &str) {
        let place = self.options.namespace.place(admins_name);
        let Some(owner) = place.owner.filter(|_| !place.is_deleted) else { return };
        let name = self.options.namespace.asked(&place.name);
        if self.reconcile.knows(&owner) && !self.reconcile.has(&owner, &name) {
            self.reconcile.want_user(&owner);
        }
    }

    /// Whether an observation is of one of our own sessions.
    pub(super) fn is_own(&mut self, seen: &Observation) -> bool {
        let Some(name) = seen.actor.session.as_deref() else { return false };
        if seen.what == What::LoggedIn && self.take_end(seen) && !self.own.contains_key(name) {
            self.own_session(name.to_owned());
        }
        let is_own = self.own.contains_key(name);
        if is_own && seen.what == What::LoggedOut {
            self.own.remove(name);
            self.changed.insert(name.to_owned());
        }
        is_own
    }

    /// Whether a login came over a connection of ours. Only just after that was opened, and once,
    /// since others will have that port again.
    fn take_end(&mut self, login: &Observation) -> bool {
        let Some(client) = login.actor.client else { return false };
        let at = login.at.unix_millis();
        let then = at - LOGIN_MAX_MS..=at;
        let is_others = self.ends.take(client, &then);
        let end = client.to_string();
        let is_announced = self.own.get(&end).is_some_and(|opened| then.contains(opened));
        if is_announced {
            self.own.remove(&end);
            self.changed.insert(end);
        }
        is_others || is_announced
    }

    /// Notes what is told, adds what Cyrus left out of it, and takes out what a look told before.
    /// Says whether anything is left.
    pub(super) fn note(
        &mut self,
        said: &Notification,
        seen: &mut Observation,
        answers: &mut Answers,
    ) -> bool {
        self.note_quota(seen);
        let Some(owner) = seen.owner.clone() else {
            // It may have been somebody's before.
            if let What::MailboxRenamed { from_owner: Some(owner), from, .. } = &seen.what {
                self.reconcile.deleted(owner, &self.options.namespace.asked(&from.name));
            }
            return true;
        };
        if !said.is_mail() || said.event == "AclChange" {
            return true;
        }
        let namespace = &self.options.namespace;
        let demand = self.intake.demand();
        let is_wanted = demand.may_come_of(&seen.what);
        if let What::Delivered { message, .. } | What::Appended(message) = &mut seen.what
            && is_wanted
            && let Some(want) = lacking(self.options, message, demand)
        {
            let name = namespace.asked(&message.mailbox.name);
            self.announce(&owner);
            complete(&mut self.asker, (&owner, &name), (said, message), want, answers);
            self.opened();
        }
        let comes_with_mail = is_brought_back(said, seen);
        if comes_with_mail {
            self.quotas.add(&owner, INBOX.to_owned(), seen);
        }
        let is_left = self.remember(&owner, seen, comes_with_mail);
        if !self.reconcile.knows(&owner) {
            self.reconcile.want_user(&owner);
        }
        is_left
    }

    /// Has it remembered, so that a look finds nothing in it.
    fn remember(&mut self, owner: &str, seen: &mut Observation, comes_with_mail: bool) -> bool {
        let namespace = &self.options.namespace;
        let memory = &mut self.reconcile;
        let asked = |mailbox: &Mailbox| namespace.asked(&mailbox.name);
        let status = BoxStatus::default();
        match &mut seen.what {
            What::Delivered { message, .. } | What::Appended(message) => {
                let (name, uid) = (asked(&message.mailbox), UidSet::single(message.uid));
                let told = memory.added(owner, &name, (&uid, &message.flags), status);
                let is_certain = self.naming.is_sure_at(seen.at) && message.copied_from.is_none();
                if message.flags.is_empty() && !is_certain {
                    // Whether it has any, Cyrus doesn't say.
                    memory.flagged(owner, &name, &uid);
                }
                told.is_empty()
            }
            What::Expunged { mailbox, uids, .. } | What::Expired { mailbox, uids, .. } => {
                let told = memory.gone(owner, &asked(mailbox), uids, status);
                if !told.is_empty() {
                    *uids = UidSet::from_uids(uids.iter().filter(|uid| !told.contains(*uid)));
                }
                !uids.is_empty()
            }
            What::FlagsChanged { mailbox, uids, .. } => {
                memory.flagged(owner, &asked(mailbox), uids);
                true
            }
            What::MailboxCreated(mailbox) if comes_with_mail => {
                // Of its mail nothing is told: none of it came (R27). A look says how it stands.
                memory.created(owner, &asked(mailbox), None);
                memory.want_user(owner);
                true
            }
            What::MailboxCreated(mailbox) => {
                let (name, uid_validity) = (asked(mailbox), mailbox.uid_validity);
                let is_told = memory.stood(owner, &name, uid_validity);
                if !is_told {
                    memory.created(owner, &name, uid_validity);
                }
                !is_told
            }
            What::MailboxDeleted(mailbox) => {
                memory.deleted(owner, &asked(mailbox));
                true
            }
            What::MailboxRenamed { from_owner, from, to } => {
                match from_owner.as_deref() {
                    Some(from_owner) if from_owner == owner => {
                        let (from, to) = (asked(from), asked(to));
                        memory.renamed(owner, &from, &to, namespace.separator());
                    }
                    from_owner => {
                        if let Some(from_owner) = from_owner {
                            memory.deleted(from_owner, &asked(from));
                        }
                        // It comes with mail, of which a look says how it stands.
                        memory.created(owner, &asked(to), None);
                        memory.want_user(owner);
                    }
                }
                true
            }
            _ => true,
        }
    }

    /// Has the quota looked at of whoever's mail grew or shrank.
    fn note_quota(&mut self, seen: &Observation) {
        let namespace = &self.options.namespace;
        self.quotas.note(seen, |mailbox| namespace.asked(&mailbox.name));
    }

    /// How some of the quotas stand of those whose mail grew or shrank since this was last asked:
    /// no more than take a moment, since what happens meanwhile is told afterwards.
    pub(super) fn look_at_quotas(&mut self, at: Timestamp, stop: &Stop) -> Vec<Observation> {
        let begun = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..QUOTAS_AT_ONCE {
            if stop.is_set() || self.asker.is_resting() || begun.elapsed() >= QUOTAS_LIMIT {
                break;
            }
            let Some(look) = self.quotas.take() else { break };
            self.announce(&look.owner);
            let quotas = self.asker.quota(&look.owner, &look.mailbox, Instant::now());
            self.opened();
            if quotas.is_none() && self.asker.is_resting() {
                // When the server is back.
                self.quotas.put_back(look);
                break;
            }
            let server_fqdn = self.options.server_fqdn.as_deref();
            seen.extend(look.seen(quotas.unwrap_or_default(), at, server_fqdn));
        }
        seen
    }

    /// Whether a quota is to be looked at, and can be.
    pub(super) fn has_quotas_to_look_at(&self) -> bool {
        !self.quotas.is_empty() && !self.asker.is_resting()
    }

    /// Something was lost that may have been of anybody's mail: everything is looked at.
    pub(super) fn look_at_everything(&mut self) {
        self.reconcile.want_everything_if_few();
    }

    /// Lets go of what nobody needs; to be called now and then, when all lines are told. Gives
    /// owners of whose mail something was missed that isn't found.
    pub(super) fn tend(&mut self, at: Timestamp) -> BTreeSet<String> {
        let now = Instant::now();
        self.asker.tidy(now);
        if now >= self.everything_at {
            self.everything_at = now + EVERYTHING_INTERVAL;
            self.look_at_everything();
        }
        let mut lost = self.reconcile.take_refused();
        lost.append(&mut self.unfindable);
        lost.retain(|owner| self.suspects.remove(owner));
        let memory = &self.reconcile;
        let is_done = |owner: &str| memory.has_looked_at(std::slice::from_ref(&owner.to_owned()));
        drop(self.suspects.take(is_done));
        let is_old = |name: &str, opened: i64| {
            let is_end = name.parse::<SocketAddr>().is_ok();
            at.unix_millis() - opened > if is_end { LOGIN_KEPT_MS } else { OWN_KEPT_MS }
        };
        for (name, _) in self.own.extract_if(.., |name, opened| is_old(name, *opened)) {
            self.changed.insert(name);
        }
        lost
    }

    /// Whether what wasn't heard of an owner's mail may be found: they were looked at before, and
    /// there is room for them.
    pub(super) fn can_find(&self, owner: &str) -> bool {
        self.reconcile.knows(owner) && self.suspects.has_room_for(owner)
    }

    /// Something of an owner's mail wasn't heard; says whether it may be found.
    pub(super) fn missed(&mut self, owner: &str) -> bool {
        tracing::debug!("something of a mailbox was not heard");
        // Of all their mailboxes, lest one that was renamed be taken for one that is gone.
        self.reconcile.want_user(owner);
        self.reconcile.knows(owner) && self.suspects.add(owner.to_owned())
    }

    /// Takes one step in finding what nobody said.
    pub(super) fn step(&mut self, now: Timestamp) -> Next {
        let next = self.reconcile.next_owner().filter(|_| self.round.is_open());
        if let Some(owner) = next.map(str::to_owned) {
            self.announce(&owner);
        }
        self.ask_for_subscriptions();
        let scope = &self.options.namespace;
        let next = self.round.ask(&mut self.reconcile, &mut self.asker, scope, (now, GRACE));
        self.opened();
        next
    }

    /// Asks what a user is subscribed to, together with their list of mailboxes.
    fn ask_for_subscriptions(&mut self) {
        let next = self.reconcile.next_listed().filter(|_| self.round.is_open());
        let Some(user) = next.map(str::to_owned) else { return };
        let Some(names) = self.asker.subscribed(&user) else { return };
        let namespace = &self.options.namespace;
        let names = names.iter().filter_map(|name| namespace.admins(&user, name)).collect();
        self.subscribed.push((user, names, jiff::Timestamp::now().as_millisecond() + GRACE_MS));
    }

    /// Who is subscribed to what, since this was last asked: the names are an admin's, and it counts
    /// for what happens after a moment, in milliseconds since 1970.
    pub(super) fn take_subscribed(&mut self) -> Vec<(String, BTreeSet<String>, i64)> {
        std::mem::take(&mut self.subscribed)
    }

    /// Whether it is noted up to where the spool is to be told before looks are settled.
    pub(super) fn is_marked(&self) -> bool {
        self.round.is_marked()
    }

    /// What the looks have that the spool hadn't; nothing before that is told.
    pub(super) fn settle<T: Said>(
        &mut self,
        spool: &Spool<T>,
        now: Timestamp,
    ) -> Option<Vec<Observation>> {
        let looked = self.round.take(spool)?;
        let naming = naming(self.options);
        let mut seen = Vec::new();
        for one in looked {
            let is_holed = self.suspects.contains(one.owner());
            seen.extend(self.reconcile.settle(one, is_holed, now, &naming));
        }
        seen.iter().for_each(|seen| self.note_quota(seen));
        Some(seen)
    }

    /// What is missed of mailboxes of which too much was told to remember it.
    pub(super) fn take_blinded(&mut self, now: Timestamp) -> Vec<Observation> {
        let suspects = &self.suspects;
        let is_holed = |owner: &str| suspects.contains(owner);
        self.reconcile.take_blinded(is_holed, now, &naming(self.options))
    }

    /// What is to be stored, since this was last asked.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        let own = std::mem::take(&mut self.changed);
        let own = own.iter().map(|name| saved::change(OWN_KEY, name, self.own.get(name)));
        let mut changes: Vec<_> = own.chain(self.naming.take_change()).collect();
        changes.extend(self.reconcile.drain_changes());
        changes.extend(self.quotas.drain_changes());
        changes.extend(self.suspects.drain_changes());
        changes
    }

    /// Has it remembered by which connection a user will be asked about, before there is a login
    /// that Cyrus tells of.
    fn announce(&mut self, owner: &str) {
        let Some(end) = self.asker.connect(owner) else { return };
        let end = end.to_string();
        self.own_session(end.clone());
        let changes = vec![saved::change(OWN_KEY, &end, self.own.get(&end))];
        // Where the journal has stopped, the source ends with its next batch.
        if let Err(error) = self.intake.take(Batch { changes, ..Batch::default() }) {
            tracing::debug!(%error, "a session of our own may be told");
        }
    }

    /// Remembers sessions that were opened.
    fn opened(&mut self) {
        for name in self.asker.take_opened() {
            self.own_session(name);
        }
    }

    fn own_session(&mut self, name: String) {
        if self.own.len() < OWN_MAX {
            self.own.insert(name.clone(), jiff::Timestamp::now().as_millisecond());
            self.changed.insert(name);
        }
    }
}

fn naming(options: &Options) -> Naming<'_> {
    Naming { scope: &options.namespace, server_fqdn: options.server_fqdn.as_deref() }
}

/// Whether it is a mailbox that was deleted, and that an admin gave its name again: it is told as
/// one that came into view (R79).
fn is_brought_back(said: &Notification, seen: &Observation) -> bool {
    said.event == "MailboxRename" && matches!(seen.what, What::MailboxCreated(_))
}

/// What is to be asked of a message that came, if anything.
fn lacking(options: &Options, message: &Message, demand: Demand) -> Option<Want> {
    let want = Want {
        body_structure: options.body_structure && message.body_structure.is_none(),
        content_max_octets: options.content_max_octets.filter(|max| {
            message.content.is_none() && message.size_octets.is_none_or(|size| size <= *max)
        }),
    };
    let want = want.by(demand);
    let is_whole = message.size_octets.is_some();
    let is_all = is_whole && !want.body_structure && want.content_max_octets.is_none();
    (!is_all).then_some(want)
}

/// Adds what Cyrus left out of a message that came, and what policy wants of it.
fn complete(
    asker: &mut Asker,
    (owner, name): (&str, &str),
    (said, message): (&Notification, &mut Message),
    want: Want,
    answers: &mut Answers,
) {
    let uids = match &said.uids {
        Some(uids) if uids.contains(message.uid) => uids.clone(),
        _ => UidSet::single(message.uid),
    };
    let whose = (owner, name, message.mailbox.uid_validity);
    let Some(told) = answers.0.take(asker, whose, (&uids, message.uid), want) else { return };
    message.size_octets = message.size_octets.or(told.size_octets);
    message.body_structure = message.body_structure.take().or(told.body_structure);
    message.content = message.content.take().or(told.content);
    // Cyrus says the mailbox's MODSEQ after a copy. A flag changed since would have a higher one.
    let is_unchanged =
        told.modseq.zip(said.modseq).is_some_and(|(message, mailbox)| message <= mailbox);
    if message.copied_from.is_some() && is_unchanged {
        message.flags = told.flags;
        message.modseq = told.modseq;
    }
}

/// Our sessions in the checkpoint.
const OWN_KEY: &[u8] = b"own/";

/// Our sessions remembered; no more than sixteen are open at once.
const OWN_MAX: usize = 1_000;

/// How long one is remembered whose end isn't told.
const OWN_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// How long the connection of one is remembered that was not let in.
const LOGIN_KEPT_MS: i64 = 10 * 60 * 1000;

/// How long after its connection a login of ours may come.
const LOGIN_MAX_MS: i64 = 10_000;

/// Quotas looked at before what happened meanwhile is told, and for how long another is begun.
const QUOTAS_AT_ONCE: usize = 16;
const QUOTAS_LIMIT: Duration = Duration::from_millis(200);

/// How long what happened may take from Cyrus to its line in the spool: notifyd waits for the disk.
const GRACE: Duration = Duration::from_millis(GRACE_MS.unsigned_abs());

const GRACE_MS: i64 = 2_000;
