//! Errors as clients see them: `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use postbell_engine::in_words;
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong with a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:postbell:problem:invalid-subscription",
    "title": "the subscription can't be made",
    "status": 422,
    "detail": "\"MessageGnu\" is not an event or a group",
    "pointer": "/events/0"
}))]
pub(crate) struct Problem {
    /// Which kind of problem; stable, for programs.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What was wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Where in the request's JSON, as a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Seconds after which trying again makes sense; also the `Retry-After` header.
    #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    #[serde(skip)]
    allow: Option<&'static str>,
    /// Whether `WWW-Authenticate` says what is wrong as well (RFC 6750, section 3).
    #[serde(skip)]
    is_refusal: bool,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str) -> Self {
        Self {
            kind: format!("urn:postbell:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: None,
            pointer: None,
            retry_after: None,
            allow: None,
            is_refusal: false,
        }
    }

    /// Says what was wrong with this request.
    pub(crate) fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(in_words(&detail.into()));
        self
    }

    /// Says where in the request's JSON.
    pub(crate) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into()).filter(|pointer| !pointer.is_empty());
        self
    }

    /// Asks for a pause before the next try.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 400: the request can't be read.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "the request can't be read")
            .because(detail)
    }

    /// 400: a query parameter is wrong.
    pub(crate) fn bad_query(name: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-query", "a query parameter is wrong")
            .because(format!("{name}: {detail}"))
    }

    /// 400: a header is wrong.
    pub(crate) fn bad_header(name: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-header", "a header is wrong")
            .because(format!("{name}: {detail}"))
    }

    /// 401: no token, or another one. Says the same either way.
    pub(crate) fn unauthorised() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", "a bearer token is needed")
    }

    /// 401: a JWT that isn't good, and why.
    pub(crate) fn refused_token(why: impl std::fmt::Display) -> Self {
        let title = "the token is not good";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "refused-token", title);
        problem.is_refusal = true;
        problem.because(why.to_string())
    }

    /// 403: the token is good, and not for this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "the token is not for this").because(detail)
    }

    /// 401: no password the store takes. Says the same whether or not there is such a user.
    pub(crate) fn no_password() -> Self {
        let title = "a user and a password that the store takes are needed";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", title)
    }

    /// 403: a browser's page that comes from elsewhere.
    pub(crate) fn foreign_origin() -> Self {
        let title = "pages of that origin may not ask this";
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", title)
            .because("Origin: not in http.allowed_origins")
    }

    /// 403: a browser asks for a page of another site, by a certificate it shows by itself.
    pub(crate) fn foreign_site() -> Self {
        let title = "pages of that origin may not ask this";
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", title)
            .because("Sec-Fetch-Site: neither \"same-origin\" nor \"none\"")
    }

    /// 429: too many wrong tokens from one address.
    pub(crate) fn too_many_guesses(pause: Duration) -> Self {
        let seconds = u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let title = "too many wrong tokens came from there";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-guesses", title).retry_after(seconds)
    }

    /// 409: there are as many subscriptions as there may be.
    pub(crate) fn too_many_subscriptions(detail: impl Into<String>) -> Self {
        let title = "there are enough subscriptions";
        Self::new(StatusCode::CONFLICT, "too-many-subscriptions", title).because(detail)
    }

    /// 429: whoever asks follows as many streams as they may.
    pub(crate) fn too_many_streams(max: usize) -> Self {
        let title = "the token's owner follows enough streams";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", title)
            .because(format!("{max} are open: end one first"))
    }

    /// 429: so much is being sent to a link's owner already.
    pub(crate) fn too_many_fetches() -> Self {
        let title = "the link's owner fetches enough contents";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-fetches", title)
            .because("as many of theirs are being sent as may be now: take one first")
            .retry_after(1)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is no such thing").because(detail)
    }

    /// 405.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "this path has no such method",
        )
        .because(format!("it has {allow}"));
        problem.allow = Some(allow);
        problem
    }

    /// 406.
    pub(crate) fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "no such form is offered")
            .because(detail)
    }

    /// 408: the body did not come in time.
    pub(crate) fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed-out", "the body did not come in time")
    }

    /// 409: something else has that name, or is in the way.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "something else is in the way").because(detail)
    }

    /// 412: what is to be changed is not as whoever asks knows it.
    pub(crate) fn changed(detail: impl Into<String>) -> Self {
        let title = "it is not as the request says";
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title).because(detail)
    }

    /// 413.
    pub(crate) fn too_large(limit_octets: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large")
            .because(format!("at most {limit_octets} octets"))
    }

    /// 413: more events than one body may hold.
    pub(crate) fn too_many(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large")
            .because(format!("at most {limit} events"))
    }

    /// 415.
    pub(crate) fn unsupported_type(found: &str, offered: &str) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported-type", "the body's type is not one that is read")
            .because(format!("{found:?} is not one of {offered}"))
    }

    /// 415: a body that is compressed, or coded otherwise.
    pub(crate) fn unsupported_encoding(found: &str) -> Self {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported-encoding", "the body's encoding is not one that is read")
            .because(format!(
                "content-encoding: {found:?} is not read here: send the body as it is"
            ))
    }

    /// 422: a subscription that can't be.
    pub(crate) fn invalid_subscription(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid-subscription", "the subscription can't be made").because(detail)
    }

    /// 422: a token that can't be.
    pub(crate) fn invalid_token(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid-token", "the token can't be made").because(detail)
    }

    /// 422: a denial that can't be.
    pub(crate) fn invalid_denial(detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid-denial", "nobody can be denied like this").because(detail)
    }

    /// 500: our own fault, told in the log.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the hub failed")
            .because("the hub's log says more")
    }

    /// 500: the journal no longer holds what was written; in a stream, its last line.
    pub(crate) fn unreadable(detail: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "unreadable", "the journal can't be read").because(detail)
    }

    /// 503: a stream's client took nothing for long; only a stream's last line.
    pub(crate) fn too_slow(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "too-slow", "nothing was taken for too long").because(detail)
    }

    /// 503: not now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not now").because(detail)
    }

    /// As it is sent, on one line.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Plain data serialises; were it ever not to, the status still says it.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            let plain = HeaderValue::from_static("Bearer realm=\"postbell\"");
            let challenge = self.detail.filter(|_| self.is_refusal).and_then(|why| {
                // Fixed words without quotes.
                HeaderValue::try_from(format!(
                    "Bearer realm=\"postbell\", error=\"invalid_token\", error_description=\"{why}\""
                ))
                .ok()
            });
            headers.insert(header::WWW_AUTHENTICATE, challenge.unwrap_or(plain));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
