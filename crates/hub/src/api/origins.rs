//! Whose pages may ask from a browser: those of the origins the operator named, and the hub's own.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Problem;

/// What tells browsers that pages of other origins may ask and read the answers; none where no
/// origin is named. Cookies and the like play no part: whoever asks shows a token or a ticket. A
/// client's certificate, which browsers show by themselves, is held to where the page is from.
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

/// Refuses what a foreign page has a browser ask in its user's name, where the certificate that the
/// browser shows by itself is what lets it in. What no browser sends says nothing of a site.
pub(super) fn check_certified(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let origin = headers.get(header::ORIGIN);
    if origin.is_some_and(|origin| allowed.iter().any(|one| origin == one.as_str())) {
        return Ok(());
    }
    check(headers, allowed)?;
    // There is no certificate without TLS: the same place without it is somebody else's, maybe.
    if origin.is_some_and(|origin| !origin.as_bytes().starts_with(b"https://")) {
        return Err(Problem::foreign_origin());
    }
    // A browser says so of every request; one that is too old to has said the origin.
    let site = headers.get(&SITE);
    match site.is_none_or(|site| site == "same-origin" || site == "none") {
        true => Ok(()),
        false => Err(Problem::foreign_site()),
    }
}

/// Where a request comes from, as browsers have it (Fetch Metadata, section 2.3).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long a browser need not ask again whether it may: no longer than a person waits for a change
/// of the configuration.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r165_a_foreign_page_changes_nothing_by_its_visitors_certificate() {
        let allowed = ["https://app.example.org".to_owned()];
        for (origin, site, may) in [
            // No browser, and one that says nothing of sites.
            (None, None, true),
            (Some("https://hub:5423"), None, true),
            (Some("https://hub:5423"), Some("same-origin"), true),
            (None, Some("same-origin"), true),
            (None, Some("none"), true),
            // One that the operator named is from another site.
            (Some("https://app.example.org"), Some("cross-site"), true),
            (Some("https://evil.example"), None, false),
            (Some("https://evil.example"), Some("cross-site"), false),
            (Some("null"), None, false),
            (None, Some("cross-site"), false),
            (None, Some("same-site"), false),
            // The same place without TLS, which somebody on the way can be.
            (Some("http://hub:5423"), Some("cross-site"), false),
            (Some("http://hub:5423"), None, false),
        ] {
            let mut headers = HeaderMap::from_iter([(header::HOST, "hub:5423".parse().unwrap())]);
            for (name, value) in [(header::ORIGIN, origin), (SITE, site)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let checked = check_certified(&headers, &allowed);
            assert_eq!(checked.is_ok(), may, "{origin:?} {site:?}");
        }
    }
}
