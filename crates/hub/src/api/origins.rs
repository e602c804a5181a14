//! Whose pages may ask from a browser: those of the origins the operator named, and the hub's own.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Problem;

/// What tells browsers that pages of other origins may ask and read the answers; none where no
/// origin is named. Cookies and the like play no part: whoever asks shows a token or a ticket.
pub(super) fn cors(allowed: &[String]) -> Option<CorsLayer> {
    // Every one was checked to be plain text when the configuration was read.
    let allowed: Vec<_> =
        allowed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if allowed.is_empty() {
        return None;
    }
    let asked = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        HeaderName::from_static("last-event-id"),
    ];
    let told = [header::ETAG, header::LOCATION, header::RETRY_AFTER];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let layer = CorsLayer::new().allow_origin(AllowOrigin::list(allowed));
    Some(layer.allow_methods(methods).allow_headers(asked).expose_headers(told).max_age(REMEMBERED))
}

/// Refuses a browser's page of an origin nobody named. What no browser sends needs no origin.
pub(super) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let Ok(origin) = origin.to_str() else { return Err(Problem::foreign_origin()) };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = origin.split_once("://").is_some_and(|(_, place)| Some(place) == own);
    match is_own || allowed.iter().any(|one| one == origin) {
        true => Ok(()),
        false => Err(Problem::foreign_origin()),
    }
}

/// How long a browser need not ask again whether it may: no longer than a person waits for a change
/// of the configuration.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);
