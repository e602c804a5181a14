//! A small HTTP client for the hub's API: one connection, kept while it is good.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::Tls;

/// A hub's API, asked in the name of a token.
pub(crate) struct Client {
    place: Place,
    token: Option<Secret>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Where a hub is.
#[derive(Clone)]
pub(crate) struct Place {
    /// Host and port, as they are told and asked for.
    pub(crate) authority: String,
    /// Where the connection goes, where that is elsewhere than the name says.
    pub(crate) address: Option<SocketAddr>,
    /// TLS with it, if so.
    pub(crate) tls: Option<Tls>,
}

impl Place {
    /// A hub at `authority` (host and port) without TLS.
    pub(crate) fn plain(authority: String) -> Self {
        Self { authority, address: None, tls: None }
    }
}

/// The token, and where it came from for messages about it. Printing it shows `…`.
pub(crate) struct Secret {
    /// The `Authorization` header.
    pub(crate) header: HeaderValue,
    /// Where it was found.
    pub(crate) origin: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A request but for what every one has.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    pub(crate) accept: &'static str,
    /// The body and its type.
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// The last event heard, for a stream that goes on.
    pub(crate) last_event_id: Option<u64>,
}

impl<'a> Call<'a> {
    /// A request without a body for JSON.
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, accept: "application/json", body: None, last_event_id: None }
    }

    /// Asks for something.
    pub(crate) fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path)
    }

    /// Sends JSON.
    pub(crate) fn post(path: &'a str, body: &Value) -> Self {
        Self::sending(Method::POST, path, body)
    }

    /// Has something be as this JSON says.
    pub(crate) fn put(path: &'a str, body: &Value) -> Self {
        Self::sending(Method::PUT, path, body)
    }

    fn sending(method: Method, path: &'a str, body: &Value) -> Self {
        let body = Some(("application/json", Bytes::from(body.to_string())));
        Self { body, ..Self::new(method, path) }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// The pause the hub asks for before another try.
    pub(crate) retry_after: Option<Duration>,
}

impl Answer {
    /// The body as JSON, or the hub's problem as an error.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        self.refusal()?;
        serde_json::from_slice(&self.body).context("the hub's answer is not JSON")
    }

    /// Nothing, or the hub's problem as an error.
    pub(crate) fn refusal(&self) -> anyhow::Result<()> {
        if self.status.is_success() { Ok(()) } else { Err(Refused::new(self).into()) }
    }
}

/// What the hub said instead of doing it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    message: String,
}

impl Refused {
    /// Reads the problem document (RFC 9457), or what there is.
    fn new(answer: &Answer) -> Self {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let member = |name: &str| problem.get(name).and_then(Value::as_str);
        let what = member("detail").or_else(|| member("title"));
        let what = what.map_or_else(|| in_short(answer), str::to_owned);
        let message = match member("pointer") {
            Some(pointer) => {
                format!("{}: {what}", pointer.trim_start_matches('/').replace('/', "."))
            }
            None => what,
        };
        Self { status: answer.status, message: crate::show::clean(&message) }
    }
}

/// An answer that is no problem document: what little text it holds, or its status.
fn in_short(answer: &Answer) -> String {
    let text = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
    match text.lines().count() {
        1 if text.len() <= SHORT_OCTETS_MAX => text.to_owned(),
        _ => format!("the hub answers {}", answer.status),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// The hub is not there: nothing listens, or it went away.
#[derive(Debug)]
pub(crate) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

impl Unreachable {
    /// What is told of it.
    pub(crate) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl Client {
    /// A client of the hub at `place`.
    pub(crate) fn new(place: Place, token: Option<Secret>) -> Self {
        Self { place, token, sender: None }
    }

    /// The same with a token.
    pub(crate) fn with_token(self, token: Secret) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Where the hub is.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.place.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.place.authority)
    }

    /// Asks, and takes the whole answer.
    pub(crate) async fn ask(&mut self, call: Call<'_>) -> anyhow::Result<Answer> {
        let response = self.send(call).await?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = timeout(ANSWER_WITHIN, collect(response.into_body())).await;
        let body = body.map_err(|_| self.silent())??;
        Ok(Answer { status, body, retry_after })
    }

    /// Asks for JSON.
    pub(crate) async fn json(&mut self, call: Call<'_>) -> anyhow::Result<Value> {
        self.ask(call).await?.json()
    }

    /// Asks, and gives the body as it comes; an answer other than success is an error.
    pub(crate) async fn open(&mut self, call: Call<'_>) -> anyhow::Result<Incoming> {
        let response = self.send(call).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let body = timeout(ANSWER_WITHIN, collect(response.into_body())).await;
        let body = body.map_err(|_| self.silent())??;
        Err(Refused::new(&Answer { status, body, retry_after: None }).into())
    }

    async fn send(&mut self, call: Call<'_>) -> anyhow::Result<Response<Incoming>> {
        let request = self.request(call)?;
        let kept = self.sender.take().filter(|sender| !sender.is_closed());
        let response = match kept {
            // A hub may end an idle connection just now; every request may be repeated.
            Some(sender) => match self.exchange(sender, request.clone()).await {
                Ok(response) => response,
                Err(_) => self.exchange(self.connect().await?, request).await?,
            },
            None => self.exchange(self.connect().await?, request).await?,
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            bail!("{}: {}", self.url(), self.token_refused());
        }
        Ok(response)
    }

    fn token_refused(&self) -> String {
        match &self.token {
            Some(token) => format!("the hub does not accept the token from {}", token.origin),
            None => "the hub wants a token (give --token-file or POSTBELL_TOKEN)".to_owned(),
        }
    }

    fn request(&self, call: Call<'_>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(HOST, &self.place.authority)
            .header(USER_AGENT, concat!("postbell/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, call.accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, &token.header);
        }
        if let Some(seq) = call.last_event_id {
            request = request.header("last-event-id", seq);
        }
        let mut body = Bytes::new();
        if let Some((kind, octets)) = call.body {
            request = request.header(CONTENT_TYPE, kind);
            body = octets;
        }
        request.body(Full::new(body)).with_context(|| self.url())
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let connecting = async {
            match self.place.address {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect(&self.place.authority).await,
            }
        };
        let stream = match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.silent()),
        };
        stream.set_nodelay(true).with_context(|| self.url())?;
        let Some(tls) = &self.place.tls else { return self.begin(stream).await };
        match timeout(CONNECT_WITHIN, tls.connect(stream, &self.url())).await {
            Ok(shaken) => self.begin(shaken?).await,
            Err(_) => Err(self.silent()),
        }
    }

    async fn begin(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.with_context(|| self.url())?;
        // Its end shows in the request under way, which tells it better.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    async fn exchange(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(response)) => {
                self.sender = Some(sender);
                Ok(response)
            }
            Ok(Err(error)) => {
                Err(Unreachable(format!("{}: {}", self.url(), in_words(&error))).into())
            }
            Err(_) => Err(self.silent()),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> anyhow::Error {
        let what = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "no hub answers there (start it with: postbell serve)".to_owned()
            }
            _ => error.to_string(),
        };
        Unreachable(format!("{}: {what}", self.url())).into()
    }

    fn silent(&self) -> anyhow::Error {
        Unreachable(format!("{}: no answer in time", self.url())).into()
    }
}

/// Why there is no answer on a connection that was made.
fn in_words(error: &hyper::Error) -> String {
    if error.is_parse() {
        return format!("what answers there is no hub ({error})");
    }
    "no hub answers there any more (start it with: postbell serve)".to_owned()
}

/// The whole body, up to a bound.
async fn collect(mut body: Incoming) -> anyhow::Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unreachable(format!("the answer broke off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > ANSWER_OCTETS_MAX {
                return Err(anyhow!("the hub's answer is over {ANSWER_OCTETS_MAX} octets"));
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// What may stand in a path or a query's value as it is; the rest is percent-encoded.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// More than this is a page, not a reason.
const SHORT_OCTETS_MAX: usize = 300;

/// A hub on this machine takes a connection at once, or is in trouble.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A batch is acknowledged when it is on disk, and a slow disk is no reason to give up.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Verdicts of a full batch, or ten thousand dead letters, fit several times over.
const ANSWER_OCTETS_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_leave_its_place_in_a_path() {
        assert_eq!(encode("a/b?c d%\u{e4}"), "a%2Fb%3Fc%20d%25%C3%A4");
        assert_eq!(encode("phone-1"), "phone-1");
    }

    #[test]
    fn a_problem_is_told_with_the_place_it_points_to() {
        let answer = Answer {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: Bytes::from_static(
                br#"{"title":"no","detail":"\"MessageGnu\" is no event","pointer":"/events/0"}"#,
            ),
            retry_after: None,
        };
        assert_eq!(answer.json().unwrap_err().to_string(), "events.0: \"MessageGnu\" is no event");
    }

    #[test]
    fn r161_a_token_prints_as_an_ellipsis() {
        let header = HeaderValue::from_static("Bearer abc");
        assert_eq!(format!("{:?}", Secret { header, origin: String::new() }), "…");
    }
}
