//! Whether a receiver may be sent another request: how many it takes, how many events its subscription's
//! owner may have, and whether it takes any.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postbell_engine::{Breaker, Moment, Pace, Turn};
use postbell_sinks::webhook::Answer;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Job;
use crate::lock::locked;
use crate::subscriptions::carrier::Carrier;
use crate::subscriptions::{SubscriptionState, time};

/// Whether the receiver may be sent a request.
#[derive(Debug)]
pub(in crate::subscriptions) struct Gate {
    /// How many it takes, and how many events may leave.
    pub(in crate::subscriptions) pace: Pace,
    /// Whether it takes any.
    pub(in crate::subscriptions) breaker: Breaker,
}

impl Job {
    /// Begins a request where one may begin; otherwise says when to ask again.
    pub(in crate::subscriptions) fn may_begin(&self) -> Result<(), Instant> {
        if !self.is_gated() {
            return Ok(());
        }
        let now = self.gate_time();
        let mut gate = locked(&self.gate);
        let breaks = (!gate.breaker.lets(now)).then(|| gate.breaker.next());
        let paces = (gate.pace.next() > now).then(|| Some(gate.pace.next()));
        if let Some(at) = breaks.or(paces) {
            let at = at.map(|at| self.began + Duration::from_millis(at.0));
            // Where it depends on a request under way, or dead letters beside it may change it, it is
            // looked at before long.
            let is_alone = self.entry.live.redriving.load(Ordering::Relaxed) == 0;
            let soon = Instant::now() + GATE_LOOK;
            return Err(at.filter(|at| is_alone || *at < soon).unwrap_or(soon));
        }
        gate.pace.begin(now);
        gate.breaker.begin();
        self.note_pace(&gate);
        Ok(())
    }

    /// Notes that the request begun last has so many events beside its first.
    pub(in crate::subscriptions) fn also_has(&self, others: usize) {
        if !self.is_gated() {
            return;
        }
        let mut gate = locked(&self.gate);
        gate.pace.add(others);
        self.note_pace(&gate);
    }

    /// A subscription that is held and resumed, or changed, has another gate then: to be begun anew
    /// must not be a way to get more events.
    fn note_pace(&self, gate: &Gate) {
        if let Some(next) = gate.pace.next_event() {
            let next = self.began.checked_add(Duration::from_millis(next.0));
            *locked(&self.entry.live.paced_until) = next;
        }
    }

    /// Notes that what was under way is given up, and nobody will say how it ended.
    pub(in crate::subscriptions) fn abandoned(&self) {
        let now = self.gate_time();
        locked(&self.gate).breaker.abandon(now);
    }

    /// Notes how a request ended, in memory; says what is to be kept of it.
    pub(in crate::subscriptions) fn concluded(&self, answer: &Answer, dice: u32) -> Turn {
        if !self.is_gated() {
            return Turn::Same;
        }
        let now = self.gate_time();
        let mut gate = locked(&self.gate);
        let turn = gate.breaker.conclude(answer.outcome, now, dice);
        match turn {
            Turn::Same => {}
            Turn::Opened => {
                warn!(subscription = %self.entry.label(), reason = %answer.reason, "its receiver takes nothing: it is tried with one delivery at a time");
                let long = gate.breaker.failing_for(now).unwrap_or_default();
                let since = jiff::Timestamp::now().checked_sub(long).unwrap_or_default();
                self.entry.kept().failing_since_unix_millis = Some(since.as_millisecond());
            }
            Turn::Closed => {
                info!(subscription = %self.entry.label(), "its receiver takes deliveries again");
                self.entry.kept().failing_since_unix_millis = None;
            }
            Turn::Hopeless => {
                let label = self.entry.label();
                let mut kept = self.entry.kept();
                let since = kept.failing_since_unix_millis.unwrap_or_default();
                let since = jiff::Timestamp::from_millisecond(since).map(time).unwrap_or_default();
                let why = format!("nothing but failure since {since}: {}", answer.reason);
                warn!(subscription = %label, %why, "the subscription is disabled");
                kept.state = SubscriptionState::Disabled;
                kept.detail = Some(why);
            }
        }
        turn
    }

    /// A program fails of one event and not of the next: the others need not wait for it.
    fn is_gated(&self) -> bool {
        matches!(self.carrier, Carrier::Webhook(_))
    }

    fn gate_time(&self) -> Moment {
        Moment(0).after(self.began.elapsed())
    }
}

/// How soon it is looked at again whether a receiver may be sent a request.
const GATE_LOOK: Duration = Duration::from_secs(5);
