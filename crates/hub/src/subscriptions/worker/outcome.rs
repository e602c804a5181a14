//! What goes out: attempts, and what follows from each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postbell_engine::{HEAD_OCTETS, Keys, Next, Stamp, Turn};
use postbell_sinks::webhook::{Answer, write_body};
use tracing::{debug, warn};

use super::{Course, Job, Worker};
use crate::links::{Holder, now_unix};
use crate::subscriptions::attempts::Ended;
use crate::subscriptions::carrier::Carrier;
use crate::token::fill_random;

impl Worker<'_> {
    /// Does what follows from an attempt.
    pub(super) fn conclude(&mut self, ended: Ended) -> (Course, Turn) {
        let concluded = self.attempts.conclude(ended);
        let (attempt, next, turn) = (concluded.attempt, concluded.next, concluded.turn);
        let live = &self.job.entry.live;
        let (name, reason) = (&self.job.entry.name, &concluded.reason);
        match next {
            Next::Done => {
                for seq in concluded.seqs() {
                    live.last_delivered.fetch_max(seq, Ordering::Relaxed);
                    self.attempts.let_go(seq);
                }
                if self.erred {
                    self.failing.remove(&attempt.seq);
                    if self.failing.is_empty() {
                        live.set_last_error(None);
                        self.erred = false;
                    }
                }
            }
            Next::TryAt(_) => {
                debug!(subscription = %name, seq = attempt.seq, attempt = attempt.number, %reason, "an attempt failed");
                live.set_last_error(Some(reason.clone()));
                self.erred = true;
                self.failing.insert(attempt.seq);
            }
            Next::GiveUp => {
                warn!(subscription = %name, seq = attempt.seq, attempt = attempt.number, %reason, "delivery given up");
                live.set_last_error(Some(reason.clone()));
                self.erred = true;
                self.failing.remove(&attempt.seq);
                for seq in concluded.seqs() {
                    if let Some(held) = self.attempts.let_go(seq) {
                        self.burials.add(seq, &held, attempt.number, concluded.reason_for_each());
                    }
                }
            }
            Next::End => return (Course::Ended, turn),
        }
        (if turn == Turn::Hopeless { Course::Ended } else { Course::Goes }, turn)
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
        let mut out = Vec::with_capacity(json.len() + STAMP_OCTETS + ENVELOPE_OCTETS);
        self.write(&mut out, head, json, stamp);
        match &self.carrier {
            Carrier::Webhook(webhook) => {
                let (id, webhook) = (stamp.id, Arc::clone(webhook));
                async move { webhook.post(id, out.into(), SystemTime::now()).await }.boxed()
            }
            Carrier::Command(runs) => {
                let runs = Arc::clone(runs);
                async move { runs.run(&out).await }.boxed()
            }
        }
    }

    /// Appends a record as it is delivered.
    pub(in crate::subscriptions) fn write(
        &self,
        out: &mut Vec<u8>,
        head: &[u8; HEAD_OCTETS],
        json: &[u8],
        stamp: &Stamp,
    ) {
        let view = Keys::from_head(head).view(json);
        let recast = self.filter.recast(&view, json);
        let (view, json) = match &recast {
            Some((keys, json)) => (keys.view(json), &**json),
            None => (view, json),
        };
        let allowed = self.grant.principal().redact(&view, json);
        let link = self.projection.wants_link(&allowed, &view).then(|| {
            let holder = Holder::Subscription(self.entry.id.clone());
            self.context.links.make(stamp.seq, &holder, now_unix())
        });
        let write = |out: &mut Vec<u8>| {
            self.projection.write_linked(out, &allowed, &view, stamp, link.as_deref());
        };
        match &self.carrier {
            Carrier::Webhook(_) => {
                let mut data = Vec::with_capacity(json.len() + STAMP_OCTETS);
                write(&mut data);
                write_body(out, &data, &view, stamp, &self.context.source);
            }
            Carrier::Command(_) => write(out),
        }
    }
}

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
