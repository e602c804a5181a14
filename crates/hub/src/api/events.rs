//! `GET /v1/events`: the stream.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use postbell_engine::{Demand, FlagForm, FlagForms, InvalidSelection, Selection};
use postbell_journal::Journal as _;
use postbell_sinks::stream::Form;

use super::query::{Query, clipped};
use super::upgrade::{self, Upgrade};
use super::{App, Peer, Problem, tickets};
use crate::access::Grant;
use crate::aside::compiled;
use crate::outlet::Sent;
use crate::stream::{BODIES_OCTETS, Follower, Paced};
use crate::websocket::Socket;

/// Events as they come, from where the client says.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(
        ("events" = Option<String>, Query, description = "Events and groups of events, between commas; all where absent. As every list it may be given several times, and a comma within a name is written `\\,`"),
        ("users" = Option<String>, Query, description = "Users, between commas: who owns the mailbox, or who acted"),
        ("mailboxes" = Option<String>, Query, description = "Mailboxes, between commas; `*` stands for anything, `%` for anything without a `/`"),
        ("where" = Option<String>, Query, description = "A condition on the event's parameters (docs/subscriptions.md), such as `messageSize > 1000000`"),
        ("parameters" = Option<String>, Query, description = "Parameters, between commas; `*` is every one that is not private"),
        ("parameters.*" = Option<String>, Query, description = "The same of one event or group, in the place of `parameters`, such as `parameters.MessageNew=*,envelope`; an event's own name goes before its group"),
        ("tags" = Option<String>, Query, description = "Tags put on each delivery, between commas"),
        ("seenForm" = Option<String>, Query, description = "In which form it is told that `\\Seen` was set: `simple` (MessageRead) or `flags` (FlagsSet); as the policy has it where absent"),
        ("deletedForm" = Option<String>, Query, description = "The same of `\\Deleted`: `simple` (MessageTrash) or `flags`"),
        ("since" = Option<u64>, Query, description = "Records after this number; 0 is from the oldest. From now where neither this nor the others say"),
        ("sinceTime" = Option<String>, Query, description = "Records journalled at this time (RFC 3339) or later"),
        ("follow" = Option<bool>, Query, description = "Whether to go on with new records; true where absent"),
        ("limit" = Option<u64>, Query, description = "End after so many deliveries"),
        ("signed" = Option<bool>, Query, description = "Whether each event carries the hub's signature of it (`vnd.postbell.signature`); false where absent"),
        ("ticket" = Option<String>, Query, description = "A ticket of `POST /v1/tickets`, in the place of the token's header"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Records after this number; goes before `since`"),
    ),
    responses(
        (status = 200, description = "The stream; docs/stream.md says what is in it. Where the journal can't be read, or the client takes nothing for too long, NDJSON ends with a line that is a `Problem` and no event", content(
            (String = "text/event-stream"), (String = "application/x-ndjson"),
        )),
        (status = 101, description = "The stream over WebSocket, where `Upgrade` asks for it: a delivery a message"),
        (status = 400, description = "A parameter or header is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "Neither form is accepted", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The token's owner follows as many streams as they may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "There are enough streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Problem> {
    let upgrade = upgrade::wanted(&mut request, &app.http.allowed_origins)?;
    let form = match &upgrade {
        // Each line becomes a message.
        Some(_) => Form::Ndjson,
        None => form(request.headers())?,
    };
    let query = Query::read(request.uri(), &PARAMETERS)?;
    let by_event = query.lists_by(BY_EVENT)?;
    let selection = Selection {
        events: query.list("events")?,
        users: query.list("users")?,
        mailboxes: query.list("mailboxes")?,
        condition: query.text("where").map(str::to_owned),
        parameters: query.list("parameters")?,
        parameters_of: (!by_event.is_empty()).then(|| by_event.into_iter().collect()),
        tags: query.list("tags")?,
        flag_forms: FlagForms {
            seen: form_of_flag(&query, "seenForm")?,
            deleted: form_of_flag(&query, "deletedForm")?,
        },
    };
    let policy = app.policy.for_role(grant.principal().role());
    let compiled = compiled(&selection, &policy).await;
    let (filter, projection) = compiled.map_err(|invalid| wrong(&invalid))?;
    let begin = begin(&app, &query, request.headers()).await?;
    let until = match query.truth("follow")? {
        Some(false) => app.feed.last(),
        Some(true) | None => u64::MAX,
    };
    let left = query.number("limit")?.unwrap_or(u64::MAX);
    let key = query.truth("signed")?.unwrap_or(false).then(|| Arc::clone(&app.key));
    let own_max = policy.ceiling().map_or(usize::MAX, |ceiling| ceiling.streams);
    let Some(place) = app.places.take(&grant, own_max) else {
        app.metrics.streams_refused.increment(1);
        return Err(Problem::too_many_streams(own_max));
    };
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        app.metrics.streams_refused.increment(1);
        let max = app.http.max_streams;
        return Err(Problem::unavailable(format!(
            "{max} streams are open, and no more are served"
        ))
        .retry_after(RETRY_SECONDS));
    };
    // What is there already may be of others, too.
    let reads = app.sharing.of(grant.principal()).present();
    reads.begin().await;
    // From before the answer on everything is there.
    let held = match until {
        u64::MAX => Some(app.demands.hold(Demand::of(&filter, &projection)).await),
        _ => None,
    };
    let mut reader = app.feed.reader(begin.next).reading(BODIES_OCTETS);
    if until == u64::MAX {
        // One that ends has to see where the end is.
        let done = begin.next.saturating_sub(1);
        reader = reader.led(reads.join(&app.feed, &filter, grant.principal(), done));
    }
    let name = match (&upgrade, form) {
        (Some(_), _) => "websocket",
        (None, Form::Sse) => "sse",
        (None, Form::Ndjson) => "ndjson",
    };
    let sent = Arc::new(Sent::new(peer.client.address(), name, Arc::clone(&app.metrics)));
    let follower = Follower {
        reader,
        form,
        sent: Arc::clone(&sent),
        heartbeat: app.heartbeat,
        filter,
        projection,
        prev_seq: begin.prev_seq,
        left,
        until,
        key,
        grant: Arc::clone(&grant),
        reads,
        store: app.store.clone(),
        links: Arc::clone(&app.links),
        metrics: Arc::clone(&app.metrics),
        stopping: app.stopping.clone(),
        paced: policy.events_per_minute().map(Paced::new),
        _permit: permit,
        _place: place,
        _held: held,
    };
    if let Some(Upgrade { on, response }) = upgrade {
        let (stopping, stall) = (app.stopping.clone(), app.http.stall_timeout);
        let socket = Socket { upgrade: on, grant, stopping, stall, sent };
        tokio::spawn(socket.serve(follower.into_stream()));
        return Ok(response);
    }
    peer.outlet.carry(Some(sent));
    let mut response = Response::new(Body::from_stream(follower.into_stream()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx gathers answers before it passes them on, unless told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What is wrong with a selection, under the name that the query has for it.
fn wrong(invalid: &InvalidSelection) -> Problem {
    let name = match (invalid.event(), invalid.member()) {
        (Some(event), _) => clipped(&format!("{BY_EVENT}{event}")),
        (None, "parametersOf") => format!("{BY_EVENT}*"),
        (None, member) => member.to_owned(),
    };
    Problem::bad_query(&name, &invalid.message)
}

/// The form in which it is to be told that a flag was set, where one is asked for.
fn form_of_flag(query: &Query, name: &str) -> Result<Option<FlagForm>, Problem> {
    let Some(text) = query.text(name) else { return Ok(None) };
    let wrong = |why| Problem::bad_query(name, format!("{:?} is {why}", clipped(text)));
    text.parse().map(Some).map_err(wrong)
}

/// Where a stream begins.
struct Begin {
    next: u64,
    prev_seq: Option<u64>,
}

/// `Last-Event-ID` before `since` before `sinceTime`; from now without any.
async fn begin(app: &App, query: &Query, headers: &HeaderMap) -> Result<Begin, Problem> {
    let last = app.feed.last();
    let since = query.number("since")?;
    let since_time = query.time("sinceTime")?;
    if let Some(told) = last_event_id(headers)? {
        past(told, last).map_err(|why| Problem::bad_header("Last-Event-ID", why))?;
        let next = oldest_or(app, told);
        return Ok(Begin { next, prev_seq: Some(told).filter(|told| *told > 0) });
    }
    if let Some(since) = since {
        past(since, last).map_err(|why| Problem::bad_query("since", why))?;
        return Ok(Begin { next: oldest_or(app, since), prev_seq: None });
    }
    let Some(millis) = since_time else { return Ok(Begin { next: last + 1, prev_seq: None }) };
    let journal = Arc::clone(&app.journal);
    let first = tokio::task::spawn_blocking(move || journal.first_since(millis)).await;
    match first {
        Ok(Ok(first)) => Ok(Begin { next: first.0, prev_seq: None }),
        Ok(Err(error)) => {
            tracing::error!(%error, "a time can't be looked up in the journal");
            Err(Problem::internal())
        }
        Err(error) => {
            tracing::error!(%error, "looking up a time panicked");
            Err(Problem::internal())
        }
    }
}

/// The record after `since`; for 0 the oldest there is, without telling of those before it.
fn oldest_or(app: &App, since: u64) -> u64 {
    match since {
        0 => app.journal.bounds().first.0,
        since => since.saturating_add(1),
    }
}

/// A number beyond the newest record comes from another journal: waiting for it would leave out
/// everything up to there in silence.
fn past(since: u64, last: u64) -> Result<(), String> {
    match since > last {
        true => Err(format!("{since} is past the newest record, {last}")),
        false => Ok(()),
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.trim().parse().map(Some).map_err(|_| {
        let text = clipped(&text);
        Problem::bad_header("Last-Event-ID", format!("{text:?} is not a record's number"))
    })
}

/// Which form the client likes best; server-sent events where it likes both the same.
fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let accepted = headers.get_all(header::ACCEPT);
    let mut best = (0, None);
    let mut named = false;
    for value in accepted {
        named = true;
        let text = String::from_utf8_lossy(value.as_bytes());
        for range in text.split(',') {
            let (range, weight) = weighed(range);
            let form = match range.to_ascii_lowercase().as_str() {
                "text/event-stream" | "text/*" | "*/*" => Form::Sse,
                "application/x-ndjson" | "application/ndjson" | "application/*" => Form::Ndjson,
                _ => continue,
            };
            if weight > best.0 || (weight == best.0 && weight > 0 && form == Form::Sse) {
                best = (weight, Some(form));
            }
        }
    }
    match best.1 {
        Some(form) => Ok(form),
        None if !named => Ok(Form::Sse),
        None => Err(Problem::not_acceptable("text/event-stream or application/x-ndjson")),
    }
}

/// A media range and its weight in thousandths (RFC 9110, section 12.4.2).
fn weighed(range: &str) -> (&str, u16) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q="));
    let weight = match quality.map(str::parse::<f32>) {
        None => 1000,
        Some(Err(_)) => 0,
        // Rounded: a client that weighs finer than that has no preference.
        Some(Ok(quality)) => {
            (0_u16..=1000).find(|w| f32::from(*w) >= quality * 1000.0).unwrap_or(1000)
        }
    };
    (name, weight)
}

/// What stands before the event or group in the name of a list of parameters by event.
const BY_EVENT: &str = "parameters.";

const PARAMETERS: [&str; 15] = [
    "events",
    "users",
    "mailboxes",
    "where",
    "parameters",
    "parameters.*",
    "tags",
    "seenForm",
    "deletedForm",
    "since",
    "sinceTime",
    "follow",
    "limit",
    "signed",
    tickets::PARAMETER,
];

/// Seconds after which a refused stream may try again.
const RETRY_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        form(&headers).ok()
    }

    #[test]
    fn the_form_is_the_one_the_client_likes_best() {
        assert_eq!(form(&HeaderMap::new()).ok(), Some(Form::Sse));
        assert_eq!(chosen("*/*"), Some(Form::Sse));
        assert_eq!(chosen("application/x-ndjson"), Some(Form::Ndjson));
        assert_eq!(chosen("application/x-ndjson, */*"), Some(Form::Sse));
        assert_eq!(chosen("text/event-stream;q=0.5, application/x-ndjson"), Some(Form::Ndjson));
        assert_eq!(chosen("text/event-stream;q=0"), None);
        assert_eq!(chosen("text/html"), None);
    }
}
