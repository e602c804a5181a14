//! Whether a request wants its stream over WebSocket (RFC 6455, section 4.2).

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Problem, origins};

/// A connection that is to become a WebSocket.
pub(super) struct Upgrade {
    /// The connection, once the answer has been sent.
    pub(super) on: OnUpgrade,
    /// The answer that says yes.
    pub(super) response: Response,
}

/// What a request asks for, where that is a WebSocket. Browsers let every page ask, so that the
/// page's origin has to be one that may.
pub(super) fn wanted(
    request: &mut Request,
    allowed: &[String],
) -> Result<Option<Upgrade>, Problem> {
    let headers = request.headers();
    if !names(headers, header::UPGRADE, "websocket") {
        return Ok(None);
    }
    if !names(headers, header::CONNECTION, "upgrade") {
        return Err(Problem::bad_header("Connection", "has no \"Upgrade\", and Upgrade is there"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(Problem::bad_header("Sec-WebSocket-Version", "is not 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_LETTERS);
    let Some(key) = key else {
        return Err(Problem::bad_header("Sec-WebSocket-Key", "is not 16 octets in base64"));
    };
    origins::check(headers, allowed)?;
    let accepted = derive_accept_key(key.as_bytes());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::try_from(accepted) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    Ok(Some(Upgrade { on: hyper::upgrade::on(request), response }))
}

/// Whether a header's list has a word in it.
fn names(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// The only version there is.
const VERSION: &str = "13";

/// Letters of base64 for 16 octets.
const KEY_LETTERS: usize = 24;
