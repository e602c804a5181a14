//! `POST /v1/tickets`: what opens one stream for a page that can send no header.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::{NoQuery, raw_values};
use super::{App, Problem};
use crate::access::Grant;

/// A ticket, shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownTicket {
    /// The ticket: the query parameter `ticket` of `GET /v1/events`.
    ticket: String,
    /// Until when it may be used (RFC 3339).
    expires: String,
}

/// Gives a ticket that opens one stream, once.
#[utoipa::path(post, path = "/v1/tickets", tag = "events", responses(
    (status = 201, description = "A ticket that opens one stream as the token would, once and within half a minute", body = ShownTicket),
    (status = 503, description = "There are enough tickets", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(grant): Extension<Arc<Grant>>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let given = app.tokens.ticket(&grant).map_err(|source| {
        tracing::error!(error = %source, "no ticket can be made");
        Problem::internal()
    })?;
    let Ok((ticket, expires)) = given else {
        return Err(Problem::unavailable("there are enough tickets that nobody has used yet")
            .retry_after(RETRY_SECONDS));
    };
    let mut response = (StatusCode::CREATED, Json(ShownTicket { ticket, expires })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The ticket in a query, where there is one; more than one is none that opens anything.
pub(super) fn shown(uri: &Uri) -> Option<String> {
    let mut values = raw_values(uri, PARAMETER);
    let first = values.next()?;
    Some(if values.next().is_some() { String::new() } else { first })
}

/// The query parameter a ticket stands in.
pub(super) const PARAMETER: &str = "ticket";

/// Seconds until those that nobody used have ended.
const RETRY_SECONDS: u32 = 30;
