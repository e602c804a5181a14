//! `GET /v1/content/{ticket}`: content that was too large to travel in its event.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use mail_event::{MessageContent, json};
use postbell_engine::{Keys, Scope};
use postbell_sources::Place;

use super::query::Name;
use super::{App, Need, Peer, Problem, admitted};
use crate::access::Grant;
use crate::feed::Step;
use crate::links::{Holder, now_unix};

/// Where links lead.
pub(super) const PATH: &str = "/v1/content/{ticket}";

/// The content of a message, as `vnd.postbell.contentUrl` of an event leads to it.
///
/// Decided anew each time: whoever may not have the event any more, or not its content, has no
/// use of the link. Whatever is wrong is one and the same answer.
#[utoipa::path(get, path = "/v1/content/{ticket}", tag = "events",
    params(("ticket" = String, Path, description = "What the link ends in")),
    responses(
        (status = 200, description = "The message, every octet of it", content_type = "message/rfc822", body = String),
        (status = 404, description = "The link was changed, has expired, is another's, or leads to what is not there any more", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store can't be asked now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn content(
    State(app): State<Arc<App>>,
    Name(ticket): Name,
    request: Request,
) -> Result<Response, Problem> {
    let nothing = || Problem::not_found("no such content");
    let (seq, holder) = app.links.read(&ticket, now_unix()).ok_or_else(nothing)?;
    let grant = match &holder {
        Holder::Subscription(id) => app.subscriptions.holder(id),
        Holder::Owner(_) => {
            let peer = request.extensions().get::<Peer>().cloned().ok_or_else(nothing)?;
            let shown = admitted(&app, request.headers(), &peer, Need::Scope(Scope::Read));
            shown.ok().filter(|grant| Holder::of(grant) == holder)
        }
    };
    let grant = grant.filter(|grant| grant.is_good()).ok_or_else(nothing)?;
    let found = find(&app, seq, &grant).await?.ok_or_else(nothing)?;
    let mut response = Response::new(Body::from(found.as_bytes().to_vec()));
    for (name, value) in [
        (header::CONTENT_TYPE, "message/rfc822"),
        (header::CACHE_CONTROL, "private, no-store"),
        // A browser is to show nothing of it as a page of the hub's.
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// The content of a record's message, as far as whoever asks may have it.
async fn find(app: &App, seq: u64, grant: &Grant) -> Result<Option<MessageContent>, Problem> {
    let principal = grant.principal();
    let Some(max) = app.policy.for_role(principal.role()).content_had() else { return Ok(None) };
    let Some(body) = record(app, seq).await? else { return Ok(None) };
    let Some(keys) = Keys::find(&body) else { return Ok(None) };
    if !principal.may(&keys.view(&body), &body) {
        return Ok(None);
    }
    let Ok(parsed) = json::from_slice(&body) else { return Ok(None) };
    let event = parsed.event;
    let fits = |content: &MessageContent| content.as_bytes().len() as u64 <= max;
    if let Some(content) = event.message_content() {
        return Ok(Some(content.clone()).filter(fits));
    }
    let Some(uri) = event.uri().as_imap() else { return Ok(None) };
    // The sources know the hub's own store, and an event may have come from a publisher of another.
    if !uri.host().eq_ignore_ascii_case(app.store.host()) {
        return Ok(None);
    }
    let (Some(owner), Some(mailbox)) = (uri.user(), uri.mailbox()) else { return Ok(None) };
    let (Some(uid_validity), Some(uid)) = (uri.uid_validity(), uri.uid()) else { return Ok(None) };
    let (owner, mailbox) = (owner.to_owned(), mailbox.to_owned());
    let contents = app.contents.clone();
    // As many at once as a disk and a mail server bear beside their own work.
    let Ok(_permit) = app.fetches.acquire().await else { return Ok(None) };
    let fetched = tokio::task::spawn_blocking(move || {
        let place = Place { owner: &owner, mailbox: &mailbox, uid_validity, uid };
        contents.fetch(&place, max)
    });
    match fetched.await {
        Ok(Ok(content)) => {
            // Another message there would be another's content: the event says how large it was.
            let is_it = |content: &MessageContent| {
                let octets = content.as_bytes().len() as u64;
                event.message_size().is_none_or(|size| size == octets)
            };
            Ok(content.filter(fits).filter(is_it))
        }
        Ok(Err(why)) => {
            tracing::warn!(why, "content can't be fetched");
            Err(Problem::unavailable("the store can't be asked now").retry_after(RETRY_SECONDS))
        }
        Err(error) => {
            tracing::error!(%error, "fetching content panicked");
            Err(Problem::internal())
        }
    }
}

/// A record's event, if it is still kept.
async fn record(app: &App, seq: u64) -> Result<Option<Vec<u8>>, Problem> {
    match app.feed.reader(seq).try_next().await {
        Ok(Some(Step::Records(records))) => {
            let found = records.iter().find(|record| record.seq.0 == seq);
            Ok(found.map(|record| record.body.to_vec()))
        }
        Ok(Some(Step::Gap(_)) | None) => Ok(None),
        Err(error) => {
            tracing::error!(%error, "a record can't be read for its content");
            Err(Problem::internal())
        }
    }
}

/// When trying again makes sense: a source that failed to ask rests so long.
const RETRY_SECONDS: u32 = 10;
