//! `GET /v1/demand`: what publishers need make.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use postbell_engine::Demand;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::query::NoQuery;
use super::{App, Condition, Problem};

/// Which events, and which of their parameters that cost something, anybody may want.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownDemand {
    /// Registered events by name, and `vendor` for all others.
    events: Vec<&'static str>,
    /// The largest `messageContent` that anybody may get in an event, in octets; absent where nobody
    /// gets any.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_max_octets: Option<u64>,
    /// Whether anybody may get `bodyStructure`.
    body_structure: bool,
    /// Whether anybody may get `envelope`.
    envelope: bool,
}

impl From<Demand> for ShownDemand {
    fn from(demand: Demand) -> Self {
        Self {
            events: demand.events().collect(),
            content_max_octets: demand.content_max_octets(),
            body_structure: demand.body_structure(),
            envelope: demand.envelope(),
        }
    }
}

impl ShownDemand {
    /// As it is told on the publishers' stream.
    pub(crate) fn to_json(&self) -> String {
        // Plain texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What publishers need make, as it is now.
#[utoipa::path(get, path = "/v1/demand", tag = "events",
    params(("If-None-Match" = Option<String>, Header, description = "The entity tag of what is known already")),
    responses(
        (status = 200, description = "What anybody may want, with its entity tag", body = ShownDemand),
        (status = 304, description = "It is what is known already"),
        (status = 400, description = "A header is wrong", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn demand(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    _: NoQuery,
) -> Result<Response, Problem> {
    let shown = ShownDemand::from(app.demands.now());
    let tag = tag(&shown);
    let known = Condition::read(&headers)?;
    let mut response = match known.is_met(Some(&tag)) {
        true => Json(shown).into_response(),
        false => StatusCode::NOT_MODIFIED.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// The same for the same demand alone, whenever and by whichever hub it is told.
fn tag(shown: &ShownDemand) -> String {
    let hash = Sha256::digest(shown.to_json()).into_iter().take(TAG_OCTETS);
    format!("\"{}\"", hash.map(|octet| format!("{octet:02x}")).collect::<String>())
}

/// Octets of an entity tag: no two demands meet by chance.
const TAG_OCTETS: usize = 12;

pub(super) const PATH: &str = "/v1/demand";
