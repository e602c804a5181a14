//! `GET /v1/content/{ticket}`: content that was too large to travel in its event.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use mail_event::{MessageContent, json};
use postbell_engine::{Keys, Scope};
use postbell_sources::Place as Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::query::Name;
use super::sending::Sending;
use super::{App, Need, Peer, Problem, admitted};
use crate::access::{Grant, Place, Places};
use crate::feed::Step;
use crate::links::{Holder, now_unix};

/// What bounds the contents that are held for those who follow links.
///
/// A link opens any number of times, and by itself where it is a webhook's, so that each content
/// counts from before it is looked for until it is sent.
#[derive(Debug)]
pub(crate) struct Fetches {
    /// Contents held at once.
    held: Arc<Semaphore>,
    /// Whose those are.
    places: Places,
    /// Contents being asked of the store.
    asking: Arc<Semaphore>,
}

impl Fetches {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            held: Arc::new(Semaphore::new(HELD_MAX)),
            places: Places::default(),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
        }
    }

    /// The places in which stores are asked.
    pub(crate) fn asking(&self) -> Arc<Semaphore> {
        Arc::clone(&self.asking)
    }

    /// A place for one more content of `owner`'s, who waits for it a while.
    pub(super) async fn place(&self, owner: String) -> Result<Held, Problem> {
        // The fewer are left, the fewer for one; the first is everybody's.
        let most = (self.held.available_permits() / 2).clamp(1, PER_OWNER_MAX);
        let Some(place) = self.places.take_for(owner, most) else {
            return Err(Problem::too_many_fetches());
        };
        match timeout(WAIT_MAX, Arc::clone(&self.held).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Held { _permit: permit, _place: place }),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// A content's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

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
        (status = 429, description = "The link's owner has as many contents sent to them as they may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store can't be asked now, or too much is being sent", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn content(
    State(app): State<Arc<App>>,
    Name(ticket): Name,
    request: Request,
) -> Result<Response, Problem> {
    let nothing = || Problem::not_found("no such content");
    let (seq, holder) = app.links.read(&ticket, now_unix()).ok_or_else(nothing)?;
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(nothing)?;
    let grant = match &holder {
        Holder::Subscription(id) => app.subscriptions.holder(id),
        Holder::Owner(_) => {
            let need = Need::Scope(Scope::Read);
            let shown = admitted(&app, request.headers(), &peer, need).await;
            shown.ok().filter(|grant| Holder::of(grant) == holder)
        }
    };
    let grant = grant.filter(|grant| grant.is_good()).ok_or_else(nothing)?;
    // Each subscription of whoever runs the hub is an owner here.
    let owner = grant.counted_as().unwrap_or_else(|| match &holder {
        Holder::Subscription(id) => format!("subscription:{id}"),
        Holder::Owner(owner) => owner.clone(),
    });
    let held = app.fetches.place(owner).await?;
    let (content, held) = find(&app, seq, &grant, held).await?.ok_or_else(nothing)?;
    if !grant.is_good() {
        return Err(nothing());
    }
    let stall = app.http.stall_timeout.min(STALL_MAX);
    let sending = Sending::new(content, held, stall, grant, Arc::clone(&peer.cut));
    let mut response = Response::new(sending.into());
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

/// The content of a record's message, as far as whoever asks may have it, and its place, which is not
/// free before nobody looks for the content any more: not even where the client has gone.
async fn find(
    app: &App,
    seq: u64,
    grant: &Grant,
    held: Held,
) -> Result<Option<(MessageContent, Held)>, Problem> {
    let principal = grant.principal();
    let Some(max) = app.policy.for_role(principal.role()).content_had() else { return Ok(None) };
    let Some(body) = record(app, seq).await? else { return Ok(None) };
    let Some(keys) = Keys::find(&body) else { return Ok(None) };
    let shared = app.sharing.of(principal).up_to(seq).await;
    if !principal.may_with(&keys.view(&body), &body, &shared) {
        return Ok(None);
    }
    let Ok(parsed) = json::from_slice(&body) else { return Ok(None) };
    let event = parsed.event;
    let fits = |content: &MessageContent| content.as_bytes().len() as u64 <= max;
    if let Some(content) = event.message_content() {
        return Ok(Some(content.clone()).filter(fits).map(|content| (content, held)));
    }
    let Some(uri) = event.uri().as_imap() else { return Ok(None) };
    // A source says so of what it did not read; of a publisher's event the store is not asked.
    if event.vendor_json("vnd.postbell.contentSuppressed") != Some("\"size\"") {
        return Ok(None);
    }
    // The sources know the hub's own store, and an event may have come from a publisher of another.
    if !uri.host().eq_ignore_ascii_case(app.store.host()) {
        return Ok(None);
    }
    let (Some(owner), Some(mailbox)) = (uri.user(), uri.mailbox()) else { return Ok(None) };
    let (Some(uid_validity), Some(uid)) = (uri.uid_validity(), uri.uid()) else { return Ok(None) };
    let (owner, mailbox) = (owner.to_owned(), mailbox.to_owned());
    let contents = app.contents.clone();
    let asking = Arc::clone(&app.fetches.asking).acquire_owned();
    let Ok(Ok(asking)) = timeout(WAIT_MAX, asking).await else {
        return Err(busy());
    };
    let fetched = tokio::task::spawn_blocking(move || {
        let place = Message { owner: &owner, mailbox: &mailbox, uid_validity, uid };
        let fetched = contents.fetch(&place, max);
        drop(asking);
        fetched.map(|content| (content, held))
    });
    match fetched.await {
        Ok(Ok((content, held))) => {
            // Another message there would be another's content: the event says how large it was.
            let is_it = |content: &MessageContent| {
                let octets = content.as_bytes().len() as u64;
                event.message_size().is_none_or(|size| size == octets)
            };
            Ok(content.filter(fits).filter(is_it).map(|content| (content, held)))
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

/// There is no place for one more content now.
fn busy() -> Problem {
    Problem::unavailable("too many contents are being sent").retry_after(RETRY_SECONDS)
}

/// When trying again makes sense: a source that failed to ask rests so long.
const RETRY_SECONDS: u32 = 10;

/// Contents held at once: of the largest there can be (16 MiB), a quarter of a gigabyte.
const HELD_MAX: usize = 16;

/// Those of one owner among them, while many are free, so that few don't take everybody's.
const PER_OWNER_MAX: usize = 4;

/// As many at once as a disk and a mail server bear beside their own work.
const ASKING_MAX: usize = 4;

/// How long a place is waited for. Longer, and those who wait hold the connections of others.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a client may take nothing, while it holds what others wait for; less where
/// `http.stall_timeout` is.
const STALL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse as _;

    use super::*;

    #[tokio::test]
    async fn r157_contents_held_are_bounded_and_one_owner_takes_no_others_place() {
        let fetches = Fetches::new();
        let mut held = Vec::new();
        for (owner, most) in ["a", "b", "c", "d", "e", "f", "g"].iter().zip([4, 4, 3, 2, 1, 1, 1]) {
            for _ in 0..most {
                held.push(fetches.place(owner.to_string()).await.unwrap());
            }
            let refused = fetches.place(owner.to_string()).await.unwrap_err().into_response();
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{owner}");
            assert!(refused.headers().contains_key(header::RETRY_AFTER));
        }
        assert_eq!(held.len(), HELD_MAX);
        let refused = fetches.place("user:late".to_owned()).await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        // Who waited in vain holds nothing.
        drop(held.pop());
        assert!(fetches.place("user:late".to_owned()).await.is_ok());
    }
}
