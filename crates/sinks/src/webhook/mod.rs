//! Webhooks: one signed HTTP request for each delivery (Standard Webhooks 1.0.0).

mod body;
mod certificate;
pub(crate) mod connect;
pub(crate) mod connections;
mod handshake;
mod reach;
mod retry_after;
mod secret;
mod target;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_TYPE, HOST, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use mail_event::{EventId, cloudevents};
use postbell_engine::{Outcome, in_words};

pub use body::write_body;
pub use certificate::ClientCertificate;
pub use connect::Tls;
use connections::Connections;
pub use handshake::{Agreement, AnswerFrom};
pub use reach::Reach;
pub use secret::{InvalidSecret, Secret};
pub use target::{InvalidTarget, Target, URL_OCTETS_MAX};

/// One receiver: where it is and what its deliveries are signed with.
///
/// Connections are kept and used again. Redirects are not followed and proxies not asked: the
/// request goes to an address that was checked, or nowhere.
pub struct Webhook {
    target: Target,
    secret: Secret,
    /// What deliveries were signed with before, and until when they still are.
    previous: Option<(Secret, SystemTime)>,
    timeout: Duration,
    media_type: HeaderValue,
    /// The target's path, as it stands in a request.
    path: Uri,
    /// The target's host, and port where it isn't the usual one.
    host: HeaderValue,
    connections: Connections,
}

/// How an attempt ended, and in a few words why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What it means for the delivery.
    pub outcome: Outcome,
    /// The status, or what went wrong; nothing a receiver wrote.
    pub reason: String,
}

impl Webhook {
    /// A receiver that is given `timeout` for an answer, from the connection on.
    #[must_use]
    pub fn new(target: Target, secret: Secret, timeout: Duration, tls: &Tls) -> Self {
        let uri = target.uri();
        let path = uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
        let connections = Connections::new(connect::connector(&target, tls), uri.clone());
        Self {
            host: host(uri),
            path,
            secret,
            previous: None,
            timeout,
            media_type: HeaderValue::from_static(cloudevents::STRUCTURED),
            connections,
            target,
        }
    }

    /// The same, whose bodies hold several events each, as a JSON array.
    #[must_use]
    pub fn in_batches(mut self) -> Self {
        self.media_type = HeaderValue::from_static(cloudevents::BATCH);
        self
    }

    /// The same, whose deliveries are signed with `secret` as well until then: a receiver has so long
    /// to take the new one.
    #[must_use]
    pub fn signed_also(mut self, secret: Secret, until: SystemTime) -> Self {
        self.previous = Some((secret, until));
        self
    }

    /// Makes one attempt to deliver `body`, at `now`; `id` is the event's, or the batch's.
    pub async fn post(&self, id: EventId, body: Bytes, now: SystemTime) -> Answer {
        let request = match self.request(id, body, now) {
            Ok(request) => request,
            Err(error) => return failed(error.to_string()),
        };
        self.exchange(request, |response| judge(response, now))
            .await
            .unwrap_or_else(|answer| answer)
    }

    /// What `judge` makes of the answer to a request; how it failed where there is none in time.
    async fn exchange<T>(
        &self,
        request: Request<Full<Bytes>>,
        judge: impl Fn(&Response<Incoming>) -> T,
    ) -> Result<T, Answer> {
        let exchange = self.connections.exchange(request, judge);
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(root_cause(&*error))),
            Err(_) => Err(failed(format!("no answer within {:?}", self.timeout))),
        }
    }

    /// How many connections are kept for the next delivery.
    #[must_use]
    pub fn connections_kept(&self) -> usize {
        self.connections.kept()
    }

    /// Lets go of connections kept long enough, or closed by the receiver meanwhile. To be called
    /// every few seconds while any are kept: nobody else looks at them between two deliveries.
    pub fn sweep(&self) {
        self.connections.sweep();
    }

    /// How many attempts have a connection, so that the receiver may know of them. Others can be
    /// dropped, and nobody will see a repeat.
    #[must_use]
    pub fn attempts_seen(&self) -> usize {
        self.connections.exchanging()
    }

    fn request(
        &self,
        id: EventId,
        body: Bytes,
        now: SystemTime,
    ) -> Result<Request<Full<Bytes>>, InvalidHeaderValue> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (id, unix_seconds) = (id.to_string(), since.as_secs());
        let mut signature = self.secret.sign(&id, unix_seconds, &body);
        if let Some((previous, _)) = self.previous.as_ref().filter(|(_, until)| now < *until) {
            signature.push(' ');
            signature.push_str(&previous.sign(&id, unix_seconds, &body));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        // With the length, which is added later.
        headers.reserve(HEADERS + 1);
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, self.media_type.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ID, HeaderValue::try_from(id)?);
        headers.insert(TIMESTAMP, unix_seconds.into());
        headers.insert(SIGNATURE, HeaderValue::try_from(signature)?);
        Ok(request)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Webhook");
        text.field("target", &self.target).field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// The host as it stands in a request (RFC 9110, section 7.2).
pub(crate) fn host(uri: &Uri) -> HeaderValue {
    let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    let host = uri.host().unwrap_or_default();
    let text = match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // A URI's host holds nothing that a header may not.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn judge<B>(response: &Response<B>, now: SystemTime) -> Answer {
    let status = response.status();
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let outcome = match status {
        StatusCode::GONE => Outcome::Gone,
        status if status.is_success() => Outcome::Accepted,
        _ => {
            Outcome::Failed { retry_after: asked.and_then(|value| retry_after::parse(value, now)) }
        }
    };
    let reason = match status.canonical_reason() {
        Some(words) => [status.as_str(), words].join(" "),
        None => status.as_str().to_owned(),
    };
    Answer { outcome, reason }
}

fn failed(reason: String) -> Answer {
    Answer { outcome: Outcome::Failed { retry_after: None }, reason }
}

/// What lies at the bottom of an error: the layers above it only say that there was one.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    in_words(cause)
}

/// Who is asking.
pub(crate) const AGENT: &str = concat!("postbell/", env!("CARGO_PKG_VERSION"));

/// Headers of a request.
const HEADERS: usize = 6;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
