//! OpenTelemetry's collector: spans go there by OTLP over HTTP, as protobuf.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};

use crate::webhook::connections::Connections;
use crate::webhook::{AGENT, InvalidTarget, Reach, Target, Tls, connect, host, root_cause};

/// Where a collector takes spans, and what it wants to see of whoever sends them.
#[derive(Clone, Debug)]
pub struct Endpoint {
    target: Target,
    headers: HeaderMap,
}

impl Endpoint {
    /// Checks a URL: `https`, or `http` on this machine. What is told isn't private, and yet no
    /// passer-by's; and the headers may hold a key.
    ///
    /// # Errors
    ///
    /// Where it is not a URL, or would cross the network in clear.
    ///
    /// ```
    /// use postbell_sinks::collector::Endpoint;
    ///
    /// assert!(Endpoint::parse("http://127.0.0.1:4318/v1/traces").is_ok());
    /// assert!(Endpoint::parse("http://192.0.2.7:4318/v1/traces").is_err());
    /// ```
    pub fn parse(url: &str) -> Result<Self, InvalidEndpoint> {
        let mut target = Target::parse(url, Reach::Anywhere)?;
        if target.uri().scheme_str() == Some("http") {
            if !target.is_here() {
                return Err(InvalidEndpoint::Plain);
            }
            // The name is looked up with each connection, and leads here or nowhere.
            target = Target::parse(url, Reach::Loopback)?;
        }
        Ok(Self { target, headers: HeaderMap::new() })
    }

    /// The same with headers from a text: a `name: value` on each line; empty lines and those that
    /// begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidHeader`] names the line, and not what stands on it.
    pub fn with_headers(mut self, text: &str) -> Result<Self, InvalidHeader> {
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let header = line.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                let mut value = HeaderValue::from_str(value.trim()).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            let (name, value) = header.ok_or(InvalidHeader { line: number })?;
            self.headers.append(name, value);
        }
        Ok(self)
    }
}

/// A collector, and the connection to it.
pub struct Collector {
    endpoint: Endpoint,
    path: Uri,
    host: HeaderValue,
    timeout: Duration,
    connections: Connections,
}

impl Collector {
    /// A collector that is given `timeout` for an answer, from the connection on.
    #[must_use]
    pub fn new(endpoint: Endpoint, timeout: Duration, tls: &Tls) -> Self {
        let uri = endpoint.target.uri();
        let path = uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
        let connections = Connections::new(connect::connector(&endpoint.target, tls), uri.clone());
        Self { host: host(uri), path, timeout, connections, endpoint }
    }

    /// Sends an `ExportTraceServiceRequest`.
    ///
    /// # Errors
    ///
    /// Says in words why it was not taken, and nothing that the collector wrote.
    pub async fn post(&self, body: Bytes) -> Result<(), NotTaken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.extend(self.endpoint.headers.clone());
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        self.connections.sweep();
        let exchange = self.connections.exchange(request, |response| response.status());
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(NotTaken(format!("it answered {status}"))),
            Ok(Err(error)) => Err(NotTaken(root_cause(&*error))),
            Err(_) => Err(NotTaken(format!("no answer within {:?}", self.timeout))),
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Host and port.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.target.fmt(f)
    }
}

/// Why spans can't be sent to a URL.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is none, or has a part that a collector's can't have, such as a password.
    #[error("is not a URL that spans can be sent to")]
    Url(#[from] InvalidTarget),
    /// It leads off this machine without TLS.
    #[error("is not this machine, and would be told in clear (only https may leave it)")]
    Plain,
}

/// A line that holds no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: is not a header (try \"Authorization: Bearer KEY\")")]
pub struct InvalidHeader {
    /// Its number, from 1.
    pub line: u32,
}

/// Why a collector did not take spans.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NotTaken(String);

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://127.0.0.1:4318/v1/traces";

    #[test]
    fn only_https_leaves_this_machine() {
        for fine in [HERE, "http://localhost/", "http://[::1]:4318/", "https://192.0.2.7/v1/traces"]
        {
            assert!(Endpoint::parse(fine).is_ok(), "{fine}");
        }
        for plain in ["http://collector.example.org/v1/traces", "http://10.0.0.1:4318/"] {
            assert!(matches!(Endpoint::parse(plain), Err(InvalidEndpoint::Plain)), "{plain}");
        }
        for wrong in ["127.0.0.1:4318", "ftp://127.0.0.1/", "https://user:pass@example.org/"] {
            assert!(matches!(Endpoint::parse(wrong), Err(InvalidEndpoint::Url(_))), "{wrong}");
        }
    }

    #[test]
    fn headers_never_print() {
        let endpoint = Endpoint::parse(HERE).unwrap();
        let endpoint =
            endpoint.with_headers("# of the collector\n\nAuthorization: Bearer hunter2\n").unwrap();
        assert_eq!(endpoint.headers.len(), 1);
        let collector = Collector::new(endpoint, Duration::ZERO, &Tls::new().unwrap());
        let printed = format!("{collector:?} {collector}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("127.0.0.1:4318"), "{printed}");
    }

    #[test]
    fn a_line_that_is_no_header_is_named_and_not_shown() {
        for text in ["x: y\nhunter2", "x: y\nhun ter2: 1", "x: y\nx: hunter\u{1}2"] {
            let error = Endpoint::parse(HERE).unwrap().with_headers(text).unwrap_err();
            assert_eq!(error, InvalidHeader { line: 2 });
            assert!(!error.to_string().contains("hunter"));
        }
    }
}
