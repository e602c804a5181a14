//! What goes out: attempts, and what follows from each.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use mail_event::EventId;
use postbell_engine::{Keys, Next, Shared, Stamp, Turn};
use postbell_sinks::webhook::{Answer, write_body};
use tracing::{debug, warn};

use super::{Course, Job, Worker};
use crate::feed::Gap;
use crate::links::{Holder, now_unix};
use crate::references::Reference;
use crate::sharing::Unknown;
use crate::stream::{gap_event, gap_id};
use crate::subscriptions::attempts::{Ended, Held, Unsettled, Whose};
use crate::subscriptions::carrier::Carrier;
use crate::token::fill_random;

impl Worker<'_> {
    /// Does what follows from an attempt.
    pub(super) fn conclude(&mut self, ended: Ended) -> (Course, Turn) {
        let concluded = self.attempts.conclude(ended);
        let (attempt, next, turn) = (concluded.attempt, concluded.next, concluded.turn);
        let live = &self.job.entry.live;
        let reason = &concluded.reason;
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
                debug!(subscription = %self.job.entry.label(), seq = attempt.seq, attempt = attempt.number, %reason, "an attempt failed");
                live.set_last_error(Some(reason.clone()));
                self.erred = true;
                self.failing.insert(attempt.seq);
            }
            Next::GiveUp => {
                warn!(subscription = %self.job.entry.label(), seq = attempt.seq, attempt = attempt.number, %reason, "delivery given up");
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
        self: &Arc<Self>,
        seq: u64,
        held: &Held,
    ) -> BoxFuture<'static, Result<Answer, Unsettled>> {
        let job = Arc::clone(self);
        match held.whose {
            Whose::Own => job.send(seq, held, Shared::NONE).map(Ok).boxed(),
            Whose::Others => {
                let held = held.clone();
                let sent = async move { job.settled(|shared| job.send(seq, &held, shared)).await };
                sent.boxed()
            }
        }
    }

    /// Sends what is made of what its owner may read of others at the moment, for as long as nothing
    /// says that this may be otherwise.
    pub(in crate::subscriptions) async fn settled(
        &self,
        send: impl FnOnce(&Shared) -> BoxFuture<'static, Answer>,
    ) -> Result<Answer, Unsettled> {
        let settled = self.reads.settled(self.context.feed.last()).await;
        let settled = settled.map_err(|Unknown| Unsettled::Unknown)?;
        let answer = send(&settled.shared);
        tokio::select! {
            biased;
            () = self.reads.doubted(&settled) => Err(Unsettled::Doubted),
            answer = answer => Ok(answer),
        }
    }

    fn send(&self, seq: u64, held: &Held, shared: &Shared) -> BoxFuture<'static, Answer> {
        let mut out = Vec::with_capacity(held.body.len() + STAMP_OCTETS + ENVELOPE_OCTETS);
        let (id, reference) = self.write(&mut out, seq, held, shared);
        let (references, links) = (Vec::from_iter(reference), Arc::clone(&self.context.links));
        match &self.carrier {
            Carrier::Webhook(webhook) => {
                let webhook = Arc::clone(webhook);
                async move {
                    let out = links.settle(out, references, usize::MAX).await;
                    webhook.post(id, out.into(), SystemTime::now()).await
                }
                .boxed()
            }
            Carrier::Command(runs) => {
                let runs = Arc::clone(runs);
                async move { runs.run(&links.settle(out, references, usize::MAX).await).await }
                    .boxed()
            }
        }
    }

    /// Appends a record as it is delivered to an owner who may read `shared` of others; its id, and
    /// what the store is to make in the place of a link. In the place of one they may not see any
    /// more stands that it can't be told, so that the number after it names one that was delivered.
    pub(in crate::subscriptions) fn write(
        &self,
        out: &mut Vec<u8>,
        seq: u64,
        held: &Held,
        shared: &Shared,
    ) -> (EventId, Option<Reference>) {
        let shared = match held.whose {
            // It waits for nobody to settle who shares what, so it tells nothing of theirs.
            Whose::Own => Shared::NONE,
            Whose::Others => shared,
        };
        let view = Keys::from_head(&held.head).view(&held.body);
        let is_lost = held.whose == Whose::Others
            && !self.grant.principal().may_with(&view, &held.body, shared);
        if !is_lost {
            return (held.id, self.write_allowed(out, seq, held, Some(shared)));
        }
        let gap = Gap { from: seq, to: seq, reason: WITHHELD };
        // The same each time it is told.
        let at = Timestamp::from_millisecond(held.unix_millis()).unwrap_or_default();
        let event = gap_event(&self.context.store, gap, at);
        if let Some((keys, body)) = event.and_then(|body| Some((Keys::find(&body)?, body))) {
            let (id, head, prev_seq) = (gap_id(gap), keys.to_head(), held.prev_seq);
            let gap = Held { id, head, body: body.into(), prev_seq, whose: Whose::Own };
            self.write_allowed(out, seq, &gap, Some(Shared::NONE));
        }
        (gap_id(gap), None)
    }

    /// Octets that [`Job::write`] may come to, whatever may be read of others at one attempt or another.
    pub(in crate::subscriptions) fn octets_at_most(&self, seq: u64, held: &Held) -> usize {
        let mut out = Vec::with_capacity(held.body.len() + STAMP_OCTETS + ENVELOPE_OCTETS);
        self.write_allowed(&mut out, seq, held, None);
        let whole = out.len();
        out.clear();
        self.write(&mut out, seq, held, Shared::NONE);
        whole.max(out.len())
    }

    /// The same of one they may see; without what may be read of others, as if all of it might be.
    fn write_allowed(
        &self,
        out: &mut Vec<u8>,
        seq: u64,
        held: &Held,
        shared: Option<&Shared>,
    ) -> Option<Reference> {
        let begins = out.len();
        let stamp = Stamp { id: held.id, seq, prev_seq: held.prev_seq };
        let json = &*held.body;
        let view = Keys::from_head(&held.head).view(json);
        let recast = self.filter.recast(&view, json);
        let (view, json) = match &recast {
            Some((keys, json)) => (keys.view(json), &**json),
            None => (view, json),
        };
        let allowed = match shared {
            Some(shared) => self.grant.principal().redact_with(&view, json, shared),
            None => Cow::Borrowed(json),
        };
        let link = self.projection.wants_link(&allowed, &view).then(|| {
            let holder = Holder::Subscription(self.entry.id.clone());
            self.context.links.make(stamp.seq, &holder, now_unix())
        });
        let write = |out: &mut Vec<u8>| {
            self.projection.write_linked(out, &allowed, &view, &stamp, link.as_deref().as_slice());
        };
        let octets = match &self.carrier {
            Carrier::Webhook(_) => {
                let mut data = Vec::with_capacity(json.len() + STAMP_OCTETS);
                write(&mut data);
                write_body(out, &data, &view, &stamp, &self.context.source);
                data.len()
            }
            Carrier::Command(_) => {
                write(out);
                out.len() - begins
            }
        };
        let (link, principal) = (link?, self.grant.principal());
        let url_auth = self.context.links.url_auth();
        let wanted = url_auth.wanted(&held.body, principal, Timestamp::now())?;
        let left = self.projection.event_octets_max().saturating_sub(octets);
        Some(Reference { begins, octets_max: link.len().saturating_add(left), link, wanted })
    }
}

/// Spreads the repeats of subscribers that failed together.
pub(in crate::subscriptions) fn dice() -> u32 {
    let mut octets = [0; 4];
    // Without randomness the schedule is kept to the second, which is no harm.
    fill_random(&mut octets).map_or(0, |()| u32::from_be_bytes(octets))
}

/// Why a record can't be told any more that was to be delivered.
const WITHHELD: &str = "its owner may not see it any more";

/// Octets that id, numbers and tags add to an event, about.
const STAMP_OCTETS: usize = 256;

/// Octets a CloudEvent adds to an event, about.
const ENVELOPE_OCTETS: usize = 512;
