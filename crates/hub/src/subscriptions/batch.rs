//! Deliveries that go together: what a subscription may ask for, and the body of one request.

use std::time::Duration;

use mail_event::EventId;
use postbell_engine::{BatchLimits, Shared, event_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::attempts::Held;
use super::make::{CreateError, invalid};
use super::worker::Job;
use crate::WebhooksConfig;
use crate::config::parse_duration;
use crate::references::Reference;

/// Deliveries that go together, several in one request. What is absent is as it stands here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Batching {
    /// Events in one request at most, 2 or more; 100 where absent.
    pub(crate) max_events: u32,
    /// Octets of its body at most; 262144 where absent. An event that is larger goes by itself.
    pub(crate) max_octets: u64,
    /// How long an event waits for others to go with it, up to a minute (`500ms`, `5s`); `1s` where
    /// absent.
    pub(crate) max_delay: String,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_events: 100, max_octets: 256 * 1024, max_delay: "1s".to_owned() }
    }
}

impl Batching {
    /// Whether a hub that is configured so delivers like that.
    pub(super) fn check(&self, config: &WebhooksConfig) -> Result<(), CreateError> {
        let (events, octets) = (config.batch_events, config.batch_octets);
        if self.max_events < EVENTS_MIN || self.max_events > events {
            let why = format!(
                "{} is not from {EVENTS_MIN} to {events} (webhooks.batch_events)",
                self.max_events
            );
            return Err(invalid("/sink/batch/maxEvents", why));
        }
        if self.max_octets < OCTETS_MIN || self.max_octets > octets {
            let why = format!(
                "{} is not from {OCTETS_MIN} to {octets} (webhooks.batch_octets)",
                self.max_octets
            );
            return Err(invalid("/sink/batch/maxOctets", why));
        }
        if self.delay().is_none() {
            let why = format!("{:?} is no time up to a minute (try 1s)", self.max_delay);
            return Err(invalid("/sink/batch/maxDelay", why));
        }
        Ok(())
    }

    /// The limits it comes to; what the operator lets be may be less by now than when it was made.
    pub(super) fn limits(&self, config: &WebhooksConfig) -> BatchLimits {
        let events = self.max_events.min(config.batch_events).max(EVENTS_MIN);
        let octets = self.max_octets.min(config.batch_octets);
        BatchLimits {
            events: usize::try_from(events).unwrap_or(usize::MAX),
            octets: usize::try_from(octets).unwrap_or(usize::MAX),
            delay: self.delay().unwrap_or_default(),
        }
    }

    fn delay(&self) -> Option<Duration> {
        parse_duration(&self.max_delay).filter(|delay| *delay <= DELAY_MAX)
    }
}

/// The body of one request, a JSON array of CloudEvents, and what its id is made of.
pub(super) struct Batch {
    pub(super) body: Vec<u8>,
    /// The subscription, and each event's id and number.
    members: Vec<u8>,
    references: Vec<Reference>,
    unix_millis: Option<i64>,
}

impl Batch {
    /// One of the subscription with this id, with nothing in it.
    pub(super) fn new(subscription: &str) -> Self {
        Self {
            body: vec![b'['],
            members: subscription.into(),
            references: Vec::new(),
            unix_millis: None,
        }
    }

    /// Adds a delivery to whoever may read `shared` of others.
    pub(super) fn add(&mut self, job: &Job, seq: u64, held: &Held, shared: &Shared) {
        if self.body.len() > 1 {
            self.body.push(b',');
        }
        let (id, reference) = job.write(&mut self.body, seq, held, shared);
        self.references.extend(reference);
        self.members.extend(id.as_u128().to_be_bytes());
        self.members.extend(seq.to_be_bytes());
        self.unix_millis.get_or_insert_with(|| held.unix_millis());
    }

    /// Takes the last one out again, before which the body was so long.
    pub(super) fn take_back(&mut self, octets: usize) {
        self.body.truncate(octets);
        self.references.retain(|reference| reference.begins < octets);
        self.members.truncate(self.members.len().saturating_sub(MEMBER_OCTETS));
    }

    /// The id, which is of these deliveries in this order and of no others; the body, and what the
    /// store is to make in it.
    pub(super) fn finish(mut self) -> (EventId, Vec<u8>, Vec<Reference>) {
        self.body.push(b']');
        let id = event_id("batch", &self.members, 0, self.unix_millis.unwrap_or(0));
        (id, self.body, self.references)
    }
}

/// One alone is no batch.
const EVENTS_MIN: u32 = 2;

/// Less would hold no event.
const OCTETS_MIN: u64 = 1024;

/// Who can wait longer for events need not be told of each day's as they happen.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Octets of a member: an id and a number.
const MEMBER_OCTETS: usize = 24;
