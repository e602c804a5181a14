//! `POST /v1/events`: events handed in, with a verdict for each.

use std::convert::Infallible;
use std::fmt;
use std::future;
use std::sync::Arc;
use std::task::Poll;

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mail_event::cloudevents::{self, InvalidCloudEvent};
use mail_event::{EventId, Repair};
use postbell_engine::{Inadmissible, Scope, Stores};
use postbell_journal::{AppendError, Entry, Verdict as Appended};
use postbell_sources::publish::Lines;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::query::{Query, clipped};
use super::{App, Need, Peer, Problem, lone};
use crate::access::Grant;
use crate::config::HttpConfig;
use crate::publish::{Gatherer, Publishers};
use crate::traces::WayIn;

/// What became of the events handed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verdicts {
    /// How many became records.
    accepted: usize,
    /// How many were there already.
    repeated: usize,
    /// How many are no events.
    rejected: usize,
    /// One for each, in order.
    verdicts: Vec<Verdict>,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// The verdict.
    verdict: Kind,
    /// The record's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// The event's id.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "event_id")]
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// The line it stood on, in NDJSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// What was changed so that it says strictly what it meant.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "repairs")]
    #[schema(value_type = Vec<String>)]
    repairs: Vec<Repair>,
    /// The parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// The rule that was broken, as docs/conformance.md numbers them.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// It is a record, and durable.
    Accepted,
    /// It was there already.
    Repeated,
    /// It is no event; sending it again would change nothing.
    Rejected,
}

/// Takes events, and says of each what became of it.
#[utoipa::path(post, path = "/v1/events", tag = "events",
    request_body(
        description = "Events as docs/binding.md describes them: one or an array, an event a line, or CloudEvents",
        content(
            (Object = "application/json"),
            (String = "application/x-ndjson"),
            (Object = "application/cloudevents+json"),
            (Object = "application/cloudevents-batch+json"),
        )
    ),
    responses(
        (status = 200, description = "At least one was good, or there was none; a verdict for each", body = Verdicts),
        (status = 400, description = "The body can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body's type is none of these, or it is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "None was good", body = Verdicts),
        (status = 503, description = "Nothing was taken: the disk is full, or the journal has stopped", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    request: Request,
) -> Result<Response, Problem> {
    take(&app, &grant, request).await
}

/// The same for a request that did not come by way of the router.
pub(super) async fn straight(
    app: Arc<App>,
    request: hyper::Request<Incoming>,
    peer: Peer,
) -> Result<Response, Infallible> {
    let need = Need::Scope(Scope::Publish);
    Ok(match super::admitted(&app, request.headers(), &peer, need).await {
        Ok(grant) => take(&app, &grant, request).await.into_response(),
        Err(problem) => problem.into_response(),
    })
}

/// Where events are handed in.
pub(super) const PATH: &str = "/v1/events";

async fn take<B>(app: &App, grant: &Grant, request: hyper::Request<B>) -> Result<Response, Problem>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    Query::read(request.uri(), &[])?;
    plainly_coded(&request)?;
    let form = Form::of(&request)?;
    let stores = grant.principal().stores();
    let mut way = app.publishers.traces.over_http(request.headers());
    let body = read(request.into_body(), &app.http).await?;
    if form == Form::Json && body.starts_with(b"{") && body.ends_with(b"}") {
        return lone::publish(app, stores, body, &mut way).await;
    }
    // By itself, lest the usual request's future has room for it.
    Box::pin(take_all(app, stores, form, body, way)).await
}

/// What holds several events, or not plainly one.
async fn take_all(
    app: &App,
    stores: &Stores,
    form: Form,
    body: Bytes,
    mut way: WayIn,
) -> Result<Response, Problem> {
    let (verdicts, taken) = (Vec::new(), Vec::new());
    let mut batch = Batch { publishers: &app.publishers, stores, verdicts, taken };
    way.admitting();
    batch.admit(form, &body).await?;
    let verdicts = batch.append(&app.gatherer, &mut way).await?;
    Ok(verdicts.into_response())
}

/// What a body holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// One event or an array of them.
    Json,
    /// An event a line.
    Ndjson,
    /// A CloudEvent or an array of them.
    CloudEvents,
}

impl Form {
    fn of<B>(request: &hyper::Request<B>) -> Result<Self, Problem> {
        // Spelt as nearly everyone does.
        let mut values = request.headers().get_all(header::CONTENT_TYPE).into_iter();
        if let (Some(only), None) = (values.next(), values.next())
            && only == "application/json"
        {
            return Ok(Self::Json);
        }
        let text = header_text(request, header::CONTENT_TYPE);
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" => Ok(Self::Ndjson),
            cloudevents::STRUCTURED | cloudevents::BATCH => Ok(Self::CloudEvents),
            _ => Err(Problem::unsupported_type(&text, OFFERED)),
        }
    }
}

/// Refuses a body that doesn't say it is JSON.
pub(super) fn wants_json(request: &Request) -> Result<(), Problem> {
    plainly_coded(request)?;
    match Form::of(request) {
        Ok(Form::Json) => Ok(()),
        Ok(_) | Err(_) => {
            let found = header_text(request, header::CONTENT_TYPE);
            Err(Problem::unsupported_type(&found, "application/json"))
        }
    }
}

/// Refuses a body that is compressed or coded otherwise: unread, it could only be called garbage.
fn plainly_coded<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    if !request.headers().contains_key(header::CONTENT_ENCODING) {
        return Ok(());
    }
    let coding = header_text(request, header::CONTENT_ENCODING);
    let is_plain = coding.split(',').all(|coding| {
        let coding = coding.trim();
        coding.is_empty() || coding.eq_ignore_ascii_case("identity")
    });
    if is_plain { Ok(()) } else { Err(Problem::unsupported_encoding(&coding)) }
}

fn header_text<B>(request: &hyper::Request<B>, name: HeaderName) -> String {
    let values = request.headers().get_all(name).into_iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    clipped(&values.join(", "))
}

/// Reads a body up to the limits of size and time.
pub(super) async fn read<B>(mut body: B, http: &HttpConfig) -> Result<Bytes, Problem>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let limit = http.max_body;
    let too_large = || Problem::too_large(limit);
    let hint = body.size_hint();
    if hint.lower() > limit {
        return Err(too_large());
    }
    let known = usize::try_from(hint.exact().unwrap_or(0)).unwrap_or(0);
    let reading = async {
        let mut gathered = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::bad_request(format!("body: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if gathered.is_empty() && data.len() == known {
                // Until it is durable the event would keep the connection's whole buffer.
                let small = data.len() <= COPIED_OCTETS_MAX;
                return Ok(if small { Bytes::copy_from_slice(&data) } else { data });
            }
            if (gathered.len() + data.len()) as u64 > limit {
                return Err(too_large());
            }
            // As it comes: a length alone must not cost memory. Some room does no harm, and saves
            // copying what came each time there is too little.
            if gathered.is_empty() {
                gathered.reserve(known.min(ROOM_OCTETS).max(data.len()));
            }
            gathered.extend_from_slice(&data);
        }
        Ok(gathered.freeze())
    };
    let mut reading = std::pin::pin!(reading);
    // A body sent with its head is there at the second look, and needs no timer.
    let mut looked = false;
    let early = future::poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if looked => Poll::Ready(None),
        Poll::Pending => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    if let Some(body) = early.await {
        return body;
    }
    tokio::time::timeout(http.body_timeout, reading)
        .await
        .unwrap_or_else(|_| Err(Problem::timed_out()))
}

/// The events of one request.
struct Batch<'a> {
    publishers: &'a Publishers,
    /// Whose events they may be.
    stores: &'a Stores,
    verdicts: Vec<Verdict>,
    /// Those admitted, and where their verdicts stand.
    taken: Vec<(usize, crate::publish::Taken)>,
}

impl Batch<'_> {
    /// Looks at every event of the body.
    async fn admit(&mut self, form: Form, body: &Bytes) -> Result<(), Problem> {
        if form == Form::Ndjson {
            for line in Lines::new(body) {
                if self.verdicts.len() == EVENTS_MAX {
                    return Err(Problem::too_many(EVENTS_MAX));
                }
                self.one(body.slice(line.range), None, Some(line.number)).await;
            }
            return Ok(());
        }
        let whole = body.trim_ascii();
        if whole.is_empty() {
            return Err(Problem::bad_request("body: empty"));
        }
        if !whole.starts_with(b"[") {
            match form {
                Form::CloudEvents => self.enveloped(body, whole, None).await,
                Form::Json | Form::Ndjson => self.one(body.slice_ref(whole), None, None).await,
            }
            return Ok(());
        }
        for (place, event) in (1_usize..).zip(elements(whole)?) {
            let event = event.get().as_bytes();
            match form {
                Form::CloudEvents => self.enveloped(body, event, Some(place)).await,
                Form::Json | Form::Ndjson => self.one(body.slice_ref(event), None, None).await,
            }
        }
        Ok(())
    }

    /// One CloudEvent, and which of a list it is.
    async fn enveloped(&mut self, body: &Bytes, event: &[u8], place: Option<usize>) {
        match cloudevents::parse_one(event) {
            Err(InvalidCloudEvent::NotAnObject { found, .. }) => {
                self.reject_envelope(&InvalidCloudEvent::NotAnObject { found, place });
            }
            Err(error) => self.reject_envelope(&error),
            Ok(event) => {
                let identity = [event.source.as_str(), "\0", event.id.as_str()].concat();
                let json = body.slice_ref(event.json.as_bytes());
                self.one(json, Some(identity.as_bytes()), None).await;
            }
        }
    }

    async fn one(&mut self, json: Bytes, identity: Option<&[u8]>, line: Option<usize>) {
        match self.publishers.admit(self.stores, json, identity) {
            Ok(mut taken) => {
                let verdict = Verdict {
                    event_id: Some(EventId::from_u128(taken.entry.id.0)),
                    line,
                    repairs: std::mem::take(&mut taken.repairs),
                    ..Verdict::rejected()
                };
                self.taken.push((self.verdicts.len(), taken));
                self.verdicts.push(verdict);
            }
            Err(error) => self.verdicts.push(Verdict { line, ..Verdict::from(&error) }),
        }
        if self.verdicts.len().is_multiple_of(TURN_EVENTS) {
            tokio::task::yield_now().await;
        }
    }

    fn reject_envelope(&mut self, error: &InvalidCloudEvent) {
        self.publishers.reject();
        let parameter = match error {
            InvalidCloudEvent::Attribute { name, .. } => Some((*name).to_owned()),
            _ => None,
        };
        let error = Some(error.to_string());
        self.verdicts.push(Verdict { parameter, error, ..Verdict::rejected() });
    }

    /// Journals those admitted, all or none, and fills in their verdicts.
    async fn append(mut self, gatherer: &Gatherer, way: &mut WayIn) -> Result<Verdicts, Problem> {
        let (mut accepted, mut repeated) = (0, 0);
        if !self.taken.is_empty() {
            let (mut places, mut events) = (Vec::new(), Vec::new());
            let mut entries = Vec::with_capacity(self.taken.len());
            for (place, taken) in self.taken {
                places.push(place);
                events.push(taken.event);
                entries.push(taken.entry);
            }
            let refused = self.verdicts.len() - entries.len();
            way.journalling(entries.iter().map(|entry: &Entry| entry.id.0), refused);
            let result = gatherer.append(entries).await;
            way.journalled(result.as_ref().ok().map(|appended| &*appended.verdicts));
            self.publishers.count(events, &result);
            let appended = result.map_err(|error| not_taken(&error))?;
            for (place, appended) in places.into_iter().zip(appended.verdicts) {
                let Some(verdict) = self.verdicts.get_mut(place) else { continue };
                let kind = verdict.settle(appended);
                accepted += usize::from(kind == Kind::Accepted);
                repeated += usize::from(kind == Kind::Repeated);
            }
        }
        let rejected = self.verdicts.len() - accepted - repeated;
        Ok(Verdicts { accepted, repeated, rejected, verdicts: self.verdicts })
    }
}

/// The elements of a JSON array, each as it stands; no more than a body may hold.
fn elements(array: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    struct Bounded<'a>(Vec<&'a RawValue>);

    impl<'de: 'a, 'a> Deserialize<'de> for Bounded<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_seq(Gather).map(Bounded)
        }
    }

    struct Gather;

    impl<'de> Visitor<'de> for Gather {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = array.next_element()? {
                elements.push(element);
                if elements.len() > EVENTS_MAX {
                    return Err(A::Error::custom(TOO_MANY));
                }
            }
            Ok(elements)
        }
    }

    match serde_json::from_slice::<Bounded<'_>>(array) {
        Ok(Bounded(elements)) => Ok(elements),
        Err(error) if error.is_data() && error.to_string().starts_with(TOO_MANY) => {
            Err(Problem::too_many(EVENTS_MAX))
        }
        Err(error) => Err(Problem::bad_request(format!("body: {error}"))),
    }
}

/// What tells too many elements from other mistakes.
const TOO_MANY: &str = "too many events";

/// Nothing was taken, and why.
pub(super) fn not_taken(error: &AppendError) -> Problem {
    let problem = Problem::unavailable(error.to_string());
    match error {
        AppendError::Full { .. } => problem.retry_after(FULL_RETRY_SECONDS),
        AppendError::Busy { .. } => problem.retry_after(BUSY_RETRY_SECONDS),
        _ => problem,
    }
}

impl Verdicts {
    /// Of the only event, which is none.
    pub(super) fn refused(error: &Inadmissible) -> Self {
        let verdicts = vec![Verdict::from(error)];
        Self { accepted: 0, repeated: 0, rejected: 1, verdicts }
    }

    /// Of the only event.
    pub(super) fn lone(appended: Appended, id: EventId, repairs: Vec<Repair>) -> Self {
        let mut verdict = Verdict { event_id: Some(id), repairs, ..Verdict::rejected() };
        let kind = verdict.settle(appended);
        let accepted = usize::from(kind == Kind::Accepted);
        Self { accepted, repeated: 1 - accepted, rejected: 0, verdicts: vec![verdict] }
    }
}

impl IntoResponse for Verdicts {
    fn into_response(self) -> Response {
        let refused = self.rejected > 0 && self.rejected == self.verdicts.len();
        let status = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        (status, Json(self)).into_response()
    }
}

impl Verdict {
    /// Notes what the journal made of it.
    fn settle(&mut self, appended: Appended) -> Kind {
        let (kind, seq) = match appended {
            Appended::New(seq) => (Kind::Accepted, seq),
            Appended::Repeated(seq) => (Kind::Repeated, seq),
        };
        self.verdict = kind;
        self.seq = Some(seq.0);
        kind
    }

    fn rejected() -> Self {
        Self {
            verdict: Kind::Rejected,
            seq: None,
            event_id: None,
            line: None,
            repairs: Vec::new(),
            parameter: None,
            rule: None,
            error: None,
        }
    }
}

impl From<&Inadmissible> for Verdict {
    fn from(error: &Inadmissible) -> Self {
        Self {
            parameter: error.parameter().map(str::to_owned),
            rule: error.rule(),
            error: Some(error.to_string()),
            ..Self::rejected()
        }
    }
}

/// Without a text of its own: there may be thousands.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn event_id<S: Serializer>(id: &Option<EventId>, serializer: S) -> Result<S::Ok, S::Error> {
    let octets = id.map(EventId::to_bytes).unwrap_or_default();
    serializer.serialize_str(std::str::from_utf8(&octets).unwrap_or_default())
}

fn repairs<S: Serializer>(repairs: &[Repair], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(repairs.iter().map(ToString::to_string))
}

const OFFERED: &str = "application/json, application/x-ndjson, application/cloudevents+json, application/cloudevents-batch+json";

/// Events in one body. A verdict takes more memory than the smallest thing that needs one.
const EVENTS_MAX: usize = 100_000;

/// Room for a body in pieces of which the first came.
const ROOM_OCTETS: usize = 1024 * 1024;

/// Octets of a body that is copied rather than kept where it was read.
const COPIED_OCTETS_MAX: usize = 4 * 1024;

/// Events looked at before others have their turn: under a millisecond.
const TURN_EVENTS: usize = 512;

/// Seconds until a full disk is worth another try.
const FULL_RETRY_SECONDS: u32 = 10;

/// Seconds until a full queue is.
const BUSY_RETRY_SECONDS: u32 = 1;
