//! What goes out: attempts, and what follows from each.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postbell_engine::{Attempt, HEAD_OCTETS, Keys, Moment, Next, Outcome, Stamp, Turn};
use postbell_sinks::webhook::{Answer, write_body};
use tracing::{debug, error, warn};

use super::{Course, Job, Trouble, Worker};
use crate::links::{Holder, now_unix};
use crate::subscriptions::carrier::Carrier;
use crate::token::fill_random;

impl Worker<'_> {
    pub(super) fn start_attempts(&mut self) {
        let now = self.now();
        self.held_back = None;
        while self.job.grant.is_good() && self.lanes.has_ready(now) {
            if let Err(at) = self.job.may_begin() {
                self.held_back = Some(at);
                break;
            }
            let Some(attempt) = self.lanes.start(now) else { break };
            let Some(held) = self.held.get(&attempt.seq) else {
                let next = self.lanes.conclude(attempt.seq, Outcome::Accepted, now, 0);
                error!(seq = attempt.seq, ?next, "a delivery was not held where it should be");
                continue;
            };
            let stamp = Stamp { id: held.id, seq: attempt.seq, prev_seq: attempt.prev_seq };
            let answer = self.job.attempt(&held.head, &held.body, &stamp);
            let attempted = answer.map(move |answer| (attempt, answer));
            self.attempts.push(AssertUnwindSafe(attempted).catch_unwind().boxed());
        }
    }

    /// Does what follows from an attempt.
    pub(super) fn conclude(
        &mut self,
        ended: Ended,
        now: Moment,
    ) -> Result<(Course, Turn), Trouble> {
        let (attempt, answer) = ended.map_err(|_| Trouble::Panicked)?;
        let live = &self.job.entry.live;
        let (name, seq) = (&self.job.entry.name, attempt.seq);
        live.attempts.fetch_add(1, Ordering::Relaxed);
        // Chance spreads repeats only, and asking the system for it costs a call.
        let dice = if matches!(answer.outcome, Outcome::Failed { .. }) { dice() } else { 0 };
        let turn = self.job.concluded(&answer, dice);
        match self.lanes.conclude(seq, answer.outcome, now, dice) {
            Next::Done => {
                live.accepted.fetch_add(1, Ordering::Relaxed);
                live.last_delivered.fetch_max(seq, Ordering::Relaxed);
                if self.erred {
                    self.failing.remove(&seq);
                    if self.failing.is_empty() {
                        live.set_last_error(None);
                        self.erred = false;
                    }
                }
                self.let_go(seq);
            }
            Next::TryAt(_) => {
                live.retried.fetch_add(1, Ordering::Relaxed);
                debug!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "an attempt failed");
                live.set_last_error(Some(answer.reason));
                self.erred = true;
                self.failing.insert(seq);
            }
            Next::GiveUp => {
                live.given_up.fetch_add(1, Ordering::Relaxed);
                warn!(subscription = %name, seq, attempt = attempt.number, reason = %answer.reason, "delivery given up");
                live.set_last_error(Some(answer.reason.clone()));
                self.erred = true;
                self.failing.remove(&seq);
                if let Some(held) = self.let_go(seq) {
                    self.burials.add(held.id, &attempt, answer.reason);
                }
            }
            Next::End => {
                warn!(subscription = %name, seq, reason = %answer.reason, "the receiver wants nothing any more: the subscription has ended");
                self.job.entry.kept().end(format!("the receiver answered {}", answer.reason));
                return Ok((Course::Ended, turn));
            }
        }
        Ok(if turn == Turn::Hopeless { (Course::Ended, turn) } else { (Course::Goes, turn) })
    }
}

impl Job {
    /// One attempt to deliver a record; what is sent is made anew each time rather than kept.
    pub(in crate::subscriptions) fn attempt(
        &self,
        head: &[u8; HEAD_OCTETS],
        json: &[u8],
        stamp: &Stamp,
    ) -> BoxFuture<'static, Answer> {
        let view = Keys::from_head(head).view(json);
        let recast = self.filter.recast(&view, json);
        let (view, json) = match &recast {
            Some((keys, json)) => (keys.view(json), &**json),
            None => (view, json),
        };
        let mut data = Vec::with_capacity(json.len() + STAMP_OCTETS);
        let allowed = self.grant.principal().redact(&view, json);
        let link = self.projection.wants_link(&allowed, &view).then(|| {
            let holder = Holder::Subscription(self.entry.id.clone());
            self.context.links.make(stamp.seq, &holder, now_unix())
        });
        self.projection.write_linked(&mut data, &allowed, &view, stamp, link.as_deref());
        match &self.carrier {
            Carrier::Webhook(webhook) => {
                let mut body = Vec::with_capacity(data.len() + ENVELOPE_OCTETS);
                write_body(&mut body, &data, &view, stamp, &self.context.source);
                let (id, webhook) = (stamp.id, Arc::clone(webhook));
                async move { webhook.post(id, body.into(), SystemTime::now()).await }.boxed()
            }
            Carrier::Command(runs) => {
                let runs = Arc::clone(runs);
                async move { runs.run(&data).await }.boxed()
            }
        }
    }
}

/// An attempt that has ended, unless it panicked.
pub(super) type Ended = Result<(Attempt, Answer), Box<dyn Any + Send>>;

/// Spreads the repeats of subscribers that failed together.
pub(in crate::subscriptions) fn dice() -> u32 {
    let mut octets = [0; 4];
    // Without randomness the schedule is kept to the second, which is no harm.
    fill_random(&mut octets).map_or(0, |()| u32::from_be_bytes(octets))
}

/// Octets that id, numbers and tags add to an event, about.
const STAMP_OCTETS: usize = 256;

/// Octets a CloudEvent adds to an event, about.
const ENVELOPE_OCTETS: usize = 512;
