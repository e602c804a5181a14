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
use crate::subscriptions::attempts::{Concluded, Ended};
use crate::subscriptions::carrier::Carrier;
use crate::token::fill_random;

impl Worker<'_> {
    /// Does what follows from an attempt.
    pub(super) fn conclude(&mut self, ended: Ended) -> (Course, Turn) {
        let Concluded { attempt, next, turn, reason } = self.attempts.conclude(ended);
        let live = &self.job.entry.live;
        let (name, seq) = (&self.job.entry.name, attempt.seq);
        match next {
            Next::Done => {
                live.last_delivered.fetch_max(seq, Ordering::Relaxed);
                if self.erred {
                    self.failing.remove(&seq);
                    if self.failing.is_empty() {
                        live.set_last_error(None);
                        self.erred = false;
                    }
                }
                self.attempts.let_go(seq);
            }
            Next::TryAt(_) => {
                debug!(subscription = %name, seq, attempt = attempt.number, %reason, "an attempt failed");
                live.set_last_error(Some(reason));
                self.erred = true;
                self.failing.insert(seq);
            }
            Next::GiveUp => {
                warn!(subscription = %name, seq, attempt = attempt.number, %reason, "delivery given up");
                live.set_last_error(Some(reason.clone()));
                self.erred = true;
                self.failing.remove(&seq);
                if let Some(held) = self.attempts.let_go(seq) {
                    self.burials.add(held.id, &attempt, reason);
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
