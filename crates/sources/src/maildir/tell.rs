//! From what was worked out to batches for the intake.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use mail_event::Timestamp;
use postbell_engine::{Actor, Certainty, Identity, Observation, Origin, What};

use super::known::{self, Mailbox, Record};
use crate::{Batch, Count, Health, Intake, Stopped};

/// Gathers observations and the changes of memory that go with them, and hands both over in
/// batches of bounded size.
///
/// What belongs together, such as a message's observation and its UID in the checkpoint, goes in
/// with one call and so into one batch: the intake makes a batch durable as one. A crash in
/// between therefore finds either both or neither, and with neither the next look finds the same
/// difference again. So nothing is ever told twice, and an identity need only be different from
/// those before it: the user, the number of the batch and the place in it.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    pub(super) intake: &'a dyn Intake,
    pub(super) prefix: &'a [u8],
    health: &'a Health,
    server_fqdn: Option<&'a str>,
    user: &'a str,
    /// The first look at a user is remembered, not told.
    pub(super) is_baseline: bool,
    /// Since when, in milliseconds since 1970, what no notice told of may have happened; nothing
    /// where a notice did, or nobody knows.
    pub(super) since: Option<i64>,
    batch: Batch,
    octets: usize,
    /// There is something to remember even without a change.
    is_touched: bool,
    /// Mailboxes as they are to be remembered: once a batch, however often they changed.
    mailboxes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A change of the checkpoint.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

impl<'a> Teller<'a> {
    pub(super) fn new(
        intake: &'a dyn Intake,
        health: &'a Health,
        server_fqdn: Option<&'a str>,
        (user, prefix): (&'a str, &'a [u8]),
        is_baseline: bool,
    ) -> Self {
        let (batch, octets, mailboxes) = (Batch::default(), 0, BTreeMap::new());
        Self {
            intake,
            prefix,
            health,
            server_fqdn,
            user,
            is_baseline,
            since: None,
            batch,
            octets,
            is_touched: false,
            mailboxes,
        }
    }

    /// Has the user's own record stored the next time, whatever else there is.
    pub(super) fn touch(&mut self) {
        self.is_touched = true;
    }

    /// Has a mailbox remembered as it is now, with what is told or remembered next.
    pub(super) fn note(&mut self, name: &str, mailbox: &Mailbox) {
        let key = known::mailbox_key(self.prefix, mailbox.id);
        self.mailboxes.insert(key, Some(known::encode_mailbox(name, mailbox)));
    }

    /// Has a mailbox forgotten; its messages follow.
    pub(super) fn forget(&mut self, id: u32) {
        self.mailboxes.insert(known::mailbox_key(self.prefix, id), None);
        self.mailboxes.insert(known::discarded_key(self.prefix, id), Some(Vec::new()));
    }

    /// Adds something that happened at `at` (nanoseconds since 1970) and what is to be
    /// remembered with it.
    pub(super) fn tell(
        &mut self,
        record: &mut Record,
        at: i128,
        what: What,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), Stopped> {
        if !self.is_baseline || matches!(what, What::QuotaSeen(_)) {
            self.octets += octets(&what);
            let place = self.batch.observations.len();
            let generation = record.generation;
            let identity = format!("{}\0{generation}\0{place}", self.user).into_bytes();
            let observation = self.observation(Identity(identity), at, what);
            self.batch.observations.push(observation);
        }
        self.remember(record, changes)
    }

    /// Adds something to remember that is not told.
    pub(super) fn remember(
        &mut self,
        record: &mut Record,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), Stopped> {
        self.batch.changes.extend(changes);
        let is_full = self.batch.observations.len() >= OBSERVATIONS_MAX
            || self.batch.changes.len() >= CHANGES_MAX
            || self.octets >= OCTETS_MAX;
        if is_full { self.settle(record) } else { Ok(()) }
    }

    /// Hands over what has gathered, and returns when it is durable.
    pub(super) fn settle(&mut self, record: &mut Record) -> Result<(), Stopped> {
        let is_touched = std::mem::take(&mut self.is_touched);
        if self.batch.is_empty() && self.mailboxes.is_empty() && !is_touched {
            return Ok(());
        }
        record.generation += 1;
        let mut batch = std::mem::take(&mut self.batch);
        self.octets = 0;
        batch.changes.extend(std::mem::take(&mut self.mailboxes));
        batch.changes.push((known::key(self.prefix, "u"), Some(record.encode())));
        let told = batch.observations.len() as u64;
        self.intake.take(batch)?;
        self.health.add(Count::Observations, told);
        Ok(())
    }

    fn observation(&self, identity: Identity, at: i128, what: What) -> Observation {
        // A delivery is an agent's doing; everything else the owner's mail program did, or
        // somebody in the owner's name.
        let is_delivery = matches!(what, What::Delivered { .. } | What::Missed { .. });
        let user = (!is_delivery).then(|| self.user.to_owned());
        let at = local(at);
        let seen = Observation {
            identity,
            at,
            certainty: Certainty::Inferred,
            owner: Some(self.user.to_owned()),
            // Over which protocol can't be seen on disk.
            actor: Actor { user, ..Actor::default() },
            origin: Origin {
                process: Some("postbell".to_owned()),
                pid: Some(std::process::id()),
                server_fqdn: self.server_fqdn.map(str::to_owned),
                ..Origin::default()
            },
            what,
            extras: Vec::new(),
        };
        match self.since {
            // What was there before the last look and is told only now (Dovecot gave it its UID)
            // happened when the file says.
            Some(since) => {
                seen.within(u64::try_from(at.unix_millis().saturating_sub(since)).unwrap_or(0))
            }
            None => seen,
        }
    }
}

/// An instant in local time; never later than now, whatever a file claims.
fn local(nanos: i128) -> Timestamp {
    let now = jiff::Timestamp::now();
    let instant = jiff::Timestamp::from_nanosecond(nanos).unwrap_or(now).min(now);
    // What a file system tells is no finer than some milliseconds.
    let millis = jiff::Timestamp::from_millisecond(instant.as_millisecond()).unwrap_or(instant);
    Timestamp::from_zoned(&millis.to_zoned_datetime(TimeZone::system()))
}

/// About how much memory an observation takes beyond the usual.
fn octets(what: &What) -> usize {
    match what {
        What::Delivered { message, .. } | What::Appended(message) => {
            let content = message.content.as_ref().map_or(0, |content| content.as_bytes().len());
            content + message.body_structure.as_ref().map_or(0, String::len)
        }
        _ => 0,
    }
}

/// Observations in one batch: enough that a commit to disk costs little for each, few enough that
/// a batch is small beside the rest.
const OBSERVATIONS_MAX: usize = 1_000;

/// Changes of the checkpoint in one batch, of about a hundred octets each.
const CHANGES_MAX: usize = 10_000;

/// Octets of message content and structure in one batch, plus one message's.
const OCTETS_MAX: usize = 1 << 20;
