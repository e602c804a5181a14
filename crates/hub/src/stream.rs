//! One client's stream: it follows the journal at the client's own pace.
//!
//! There is no queue: when the client doesn't read, the journal isn't read either.

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mail_event::{Event, EventId, Timestamp, json};
use postbell_engine::{
    Filter, GAP, Keys, Moment, Pace, Projection, Shared, Stamp, Store, Verdict, View, event_id,
};
use postbell_journal::{ReadError, Records};
use postbell_sinks::stream::Form;
use postbell_sources::Token;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::access::{Grant, Place};
use crate::api::Problem;
use crate::demand::Held;
use crate::feed::{Gap, Reader, Step};
use crate::hub::stopped;
use crate::links::{Holder, Links, now_unix};
use crate::metrics::Metrics;
use crate::outlet::{Sent, too_slow};
use crate::sharing::{Reads, last};
use crate::signing::SigningKey;
use crate::sources::chain;
use crate::url_auth::WAIT_MAX;

/// A stream as it was asked for.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) reader: Reader,
    pub(crate) form: Form,
    /// How far it came, and whether its client keeps up.
    pub(crate) sent: Arc<Sent>,
    /// How long it may be silent: [`HEARTBEAT`] but in tests.
    pub(crate) heartbeat: Duration,
    pub(crate) filter: Filter,
    pub(crate) projection: Projection,
    /// The delivery before the next one, on this stream or the one it continues.
    pub(crate) prev_seq: Option<u64>,
    /// Deliveries still wanted.
    pub(crate) left: u64,
    /// The last record wanted; the stream ends there.
    pub(crate) until: u64,
    /// What each delivery is signed with, where that was asked for.
    pub(crate) key: Option<Arc<SigningKey>>,
    /// Who reads it; it ends when they may not any more.
    pub(crate) grant: Arc<Grant>,
    /// What they may read of others.
    pub(crate) reads: Reads,
    pub(crate) store: Store,
    pub(crate) links: Arc<Links>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// How soon after each other deliveries may leave, where that is bounded.
    pub(crate) paced: Option<Paced>,
    /// Its place among the streams there may be.
    pub(crate) _permit: OwnedSemaphorePermit,
    /// And among those its owner may have.
    pub(crate) _place: Place,
    /// What it wants to have made, where it waits for any.
    pub(crate) _held: Option<Held>,
}

impl Follower {
    /// The stream as octets, in pieces that each hold whole deliveries.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, ReadError>> {
        self.metrics.streams.increment(1.0);
        let open = Open { follower: self, begun: false, broken: false, failure: None };
        futures_util::stream::unfold(open, |mut open| async {
            let piece = open.next().await.transpose()?;
            Some((piece, open))
        })
    }
}

/// The pace of one stream: so many deliveries a minute, evenly spread, since it began.
///
/// What is more stays in the journal: it is read again when its time has come.
#[derive(Debug)]
pub(crate) struct Paced {
    pace: Pace,
    began: Instant,
}

impl Paced {
    /// So many a minute from now on.
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self { pace: Pace::new(None, Some(per_minute)), began: Instant::now() }
    }

    /// When the next may leave, where it may not yet.
    fn due(&self) -> Option<Instant> {
        let next = self.pace.next();
        (next > self.now()).then(|| self.began + Duration::from_millis(next.0))
    }

    /// Notes that one leaves.
    fn begin(&mut self) {
        self.pace.begin(self.now());
    }

    fn now(&self) -> Moment {
        Moment(0).after(self.began.elapsed())
    }
}

/// A stream being sent.
struct Open {
    follower: Follower,
    begun: bool,
    broken: bool,
    /// What cuts it, once the client has been told.
    failure: Option<ReadError>,
}

impl Open {
    /// The next piece; none where the stream ends. An error cuts the connection, so that nobody
    /// takes it for an end.
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if !self.begun {
            self.begun = true;
            let opening = self.follower.form.opening();
            if !opening.is_empty() {
                return Ok(Some(Bytes::from_static(opening)));
            }
        }
        if let Some(error) = self.failure.take() {
            // What is not sent yet goes with the connection.
            tokio::time::sleep(SEND_TIME).await;
            self.broken = true;
            return Err(error);
        }
        if self.broken {
            return Ok(None);
        }
        let beat = Instant::now() + self.follower.heartbeat;
        loop {
            let follower = &mut self.follower;
            if follower.sent.is_slow() {
                return Ok(Some(follower.part().await));
            }
            if follower.ended() {
                return Ok(None);
            }
            if let Some(due) = follower.paced.as_ref().and_then(Paced::due) {
                let due = tokio::time::sleep_until(due);
                match within(beat, &mut follower.stopping, &follower.grant, &follower.sent, due)
                    .await
                {
                    Waited::Ready => continue,
                    Waited::Over => return Ok(None),
                    Waited::Silent => return Ok(Some(self.heartbeat())),
                }
            }
            let bound = follower.reads.passable(follower.reader.newest()).await;
            let step = match follower.reader.try_next_within(bound).await {
                Ok(step) => step,
                Err(error) => return Ok(Some(self.fail(error))),
            };
            match step {
                Some(Step::Records(records)) => {
                    let shared = follower.reads.up_to(last(records.last())).await;
                    let piece = follower.records(&records, &shared).await;
                    if !piece.is_empty() {
                        return Ok(Some(piece.into()));
                    }
                    // Nothing in them for this client; others have their turn meanwhile.
                    tokio::task::yield_now().await;
                }
                Some(Step::Gap(gap)) => return Ok(Some(follower.gap(gap).into())),
                None => {
                    let more = follower.reader.more();
                    match within(
                        beat,
                        &mut follower.stopping,
                        &follower.grant,
                        &follower.sent,
                        more,
                    )
                    .await
                    {
                        Waited::Ready => {}
                        Waited::Over => return Ok(None),
                        Waited::Silent => return Ok(Some(self.heartbeat())),
                    }
                }
            }
            // Records that nobody here wants must not keep the client without a sign of life.
            if Instant::now() >= beat {
                return Ok(Some(self.heartbeat()));
            }
        }
    }

    fn heartbeat(&self) -> Bytes {
        Bytes::from_static(self.follower.form.heartbeat())
    }
}

/// What a stream waited for.
enum Waited {
    Ready,
    /// It has ended.
    Over,
    /// It is time for a sign of life.
    Silent,
}

/// Waits until something is ready, or the client is found too slow; no longer than until `beat`, and
/// than the stream may be followed.
async fn within(
    beat: Instant,
    stopping: &mut watch::Receiver<bool>,
    grant: &Grant,
    sent: &Sent,
    ready: impl Future<Output = ()>,
) -> Waited {
    let waited = async {
        tokio::select! {
            biased;
            () = stopped(stopping) => Waited::Over,
            () = grant.ended() => Waited::Over,
            () = sent.slow() => Waited::Ready,
            () = ready => Waited::Ready,
        }
    };
    timeout_at(beat, waited).await.unwrap_or(Waited::Silent)
}

impl Open {
    /// Says why the stream will be cut; then cuts it.
    fn fail(&mut self, error: ReadError) -> Bytes {
        // A damaged record was logged by who came upon it first.
        if !matches!(error, ReadError::Corrupt { .. }) {
            error!(%error, "a stream was cut: the journal can't be read");
        }
        let why = chain(&error);
        let problem = Problem::unreadable(&*why).to_json();
        let told = self.follower.form.failure(&why, &problem);
        self.failure = Some(error);
        Bytes::from(told)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.follower.metrics.streams.decrement(1.0);
    }
}

impl Follower {
    fn ended(&self) -> bool {
        self.left == 0
            || self.reader.next_seq() > self.until
            || *self.stopping.borrow()
            || !self.grant.is_good()
    }

    /// Tells the client that it is too slow, and then nothing more: the stream isn't done, and its
    /// connection is cut once that is sent.
    async fn part(&self) -> Bytes {
        if self.sent.part() {
            std::future::pending::<()>().await;
        }
        let why = too_slow(self.sent.last());
        let problem = Problem::too_slow(&*why).to_json();
        Bytes::from(self.form.farewell(&why, &problem))
    }

    /// The wanted ones of some records, as they are sent.
    async fn records(&mut self, records: &Records, shared: &Shared) -> Vec<u8> {
        let deadline = Instant::now() + WAIT_MAX;
        let mut out = Vec::with_capacity(PIECE_OCTETS);
        let mut delivered = 0;
        for record in records {
            if self.left == 0 || record.seq.0 > self.until {
                break;
            }
            let view = Keys::from_head(record.head).view(record.body);
            // Before anything else is asked of it: not even that a condition failed is told of
            // what is another's.
            let principal = self.grant.principal();
            if !principal.may_with(&view, record.body, shared) {
                continue;
            }
            let body = principal.redact_with(&view, record.body, shared);
            match self.filter.judge(&view, &body) {
                Verdict::Wanted => {}
                Verdict::Unwanted => continue,
                Verdict::Unclear(_) => {
                    self.metrics.stream_unclear.increment(1);
                    continue;
                }
            }
            let recast = self.filter.recast(&view, &body);
            let (view, body) = match &recast {
                Some((keys, json)) => (keys.view(json), json.as_slice().into()),
                None => (view, body),
            };
            let seq = record.seq.0;
            let stamp = Stamp { id: EventId::from_u128(record.id.0), seq, prev_seq: self.prev_seq };
            let (mut url, mut link) = (None, None);
            if self.projection.wants_link(&body, &view) {
                url = self.authorised(record.body, deadline).await;
                link = Some(self.links.make(seq, &Holder::of(&self.grant), now_unix()));
            }
            // Where the URL is too long for the event, the link may not be.
            let links = url.as_ref().map(Token::reveal).into_iter().chain(link.as_deref());
            let links: Vec<_> = links.collect();
            self.form.deliver(&mut out, seq, &view.name(), |out| {
                self.write(out, &body, &view, &stamp, &links);
            });
            self.prev_seq = Some(seq);
            self.left -= 1;
            delivered += 1;
            if let Some(paced) = &mut self.paced {
                paced.begin();
                if paced.due().is_some() {
                    self.reader.seek(seq + 1);
                    break;
                }
            }
        }
        self.metrics.streamed.increment(delivered);
        if let Some(seq) = self.prev_seq.filter(|_| delivered > 0) {
            self.sent.reach(seq);
        }
        out
    }

    /// A URL by the store that leads to a record's content, if that is wanted and there by `deadline`.
    async fn authorised(&self, record: &[u8], deadline: Instant) -> Option<Token> {
        let url_auth = self.links.url_auth();
        let wanted = url_auth.wanted(record, self.grant.principal(), jiff::Timestamp::now())?;
        url_auth.authorise(wanted, deadline).await
    }

    /// One event as it is sent.
    fn write(
        &self,
        out: &mut Vec<u8>,
        body: &[u8],
        view: &View<'_>,
        stamp: &Stamp,
        links: &[&str],
    ) {
        let begin = out.len();
        self.projection.write_linked(out, body, view, stamp, links);
        if let Some(key) = &self.key {
            key.seal(out, begin);
        }
    }

    /// What tells of records that can't be told any more. It counts as a delivery, numbered as
    /// the last of them, so that a client which comes back goes on behind it.
    fn gap(&mut self, gap: Gap) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(body) = gap_event(&self.store, gap, jiff::Timestamp::now()) else { return out };
        let Ok(checked) = json::check(&body) else { return out };
        let view = Keys::new(&checked, &body).view(&body);
        let id = gap_id(gap);
        let stamp = Stamp { id, seq: gap.to, prev_seq: self.prev_seq };
        self.form.deliver(&mut out, gap.to, GAP, |out| {
            self.write(out, &body, &view, &stamp, &[]);
        });
        self.prev_seq = Some(gap.to);
        self.sent.reach(gap.to);
        self.left = self.left.saturating_sub(1);
        if let Some(paced) = &mut self.paced {
            paced.begin();
        }
        out
    }
}

/// The event that tells of a gap in the journal, as of `at`.
pub(crate) fn gap_event(store: &Store, gap: Gap, at: jiff::Timestamp) -> Option<Vec<u8>> {
    let at = Timestamp::new(at, jiff::tz::Offset::UTC);
    let event = Event::builder(GAP.parse().ok()?, store.server(None), at)
        .vendor("vnd.postbell.gapFrom".parse().ok()?, gap.from)
        .vendor("vnd.postbell.gapReason".parse().ok()?, gap.reason)
        .vendor("vnd.postbell.gapTo".parse().ok()?, gap.to)
        .build()
        .ok()?;
    Some(json::to_vec(&event, json::Profile::Strict))
}

/// The id of that event, without the time: the same gap has the same id, whenever and however it is
/// told.
pub(crate) fn gap_id(gap: Gap) -> EventId {
    event_id("gap", format!("{}-{}", gap.from, gap.to).as_bytes(), 0, 0)
}

/// How long a stream may be silent. Proxies commonly cut what is silent for a minute.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream that is to be cut has to send what it has.
const SEND_TIME: Duration = Duration::from_millis(100);

/// What a piece is about; large enough that a system call costs little beside what it carries.
const PIECE_OCTETS: usize = 64 * 1024;

/// Octets of bodies that go into one: with what a delivery adds to an event of the usual size they
/// fit, so that a piece need not grow.
pub(crate) const BODIES_OCTETS: usize = PIECE_OCTETS / 4 * 3;
