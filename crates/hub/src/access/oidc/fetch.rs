//! Where an issuer's keys come from: asked over HTTPS, or a file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use super::keys::KeySet;
use crate::config::{OidcConfig, is_http_here};
use crate::sources::chain;
use crate::tls::{TlsError, read_certificates};

/// Where the keys are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a file, which somebody else keeps up to date.
    File(PathBuf),
    /// Where the issuer says.
    Issuer {
        /// Who that is.
        issuer: String,
        client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    },
}

/// What an issuer says of itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Place {
    /// As it is configured. Reads the authorities' file.
    pub(super) fn open(config: &OidcConfig) -> Result<Self, TlsError> {
        if !config.jwks_file.as_os_str().is_empty() {
            return Ok(Self::File(config.jwks_file.clone()));
        }
        let tls = tls(config)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(ANSWER_MAX));
        http.enforce_http(false);
        // In clear on this machine alone: `get` sees to it.
        let connector = connector.https_or_http().enable_http1().wrap_connector(http);
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self::Issuer { issuer: config.issuer.clone(), client })
    }

    /// The keys as they are now. Redirections aren't followed.
    pub(super) async fn fetch(&self) -> io::Result<KeySet> {
        match tokio::time::timeout(ANSWER_MAX, self.read()).await {
            Ok(read) => read,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")),
        }
    }

    async fn read(&self) -> io::Result<KeySet> {
        let (octets, what) = match self {
            Self::File(path) => {
                let length = tokio::fs::metadata(path).await?.len();
                if length > ANSWER_OCTETS_MAX as u64 {
                    return Err(io::Error::other(format!("{length} octets are too many for keys")));
                }
                (Bytes::from(tokio::fs::read(path).await?), path.display().to_string())
            }
            Self::Issuer { issuer, .. } => {
                let url = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
                let found = self.get(&url).await?;
                let found: Discovered = serde_json::from_slice(&found)
                    .map_err(|error| io::Error::other(format!("{url}: {error}")))?;
                if found.issuer != *issuer {
                    let told = format!("{url}: it calls itself {:?}", found.issuer);
                    return Err(io::Error::other(told));
                }
                (self.get(&found.jwks_uri).await?, found.jwks_uri)
            }
        };
        KeySet::parse(&octets).map_err(|error| io::Error::other(format!("{what}: {error}")))
    }

    async fn get(&self, url: &str) -> io::Result<Bytes> {
        let Self::Issuer { issuer, client } = self else { return Ok(Bytes::new()) };
        let bad = |why: String| io::Error::other(format!("{url}: {why}"));
        let uri: Uri = url.parse().map_err(|error| bad(format!("{error}")))?;
        let is_safe = uri.scheme_str() == Some("https");
        if !(is_safe || is_http_here(issuer) && is_http_here(url)) {
            return Err(bad("is not https".to_owned()));
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| bad(error.to_string()))?;
        let answer = client.request(request).await.map_err(|error| bad(chain(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(bad(format!("it answers {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await;
        Ok(body.map_err(|error| bad(error.to_string()))?.to_bytes())
    }
}

fn tls(config: &OidcConfig) -> Result<ClientConfig, TlsError> {
    const KEY: &str = "oidc.ca";
    let malformed =
        |why: String| TlsError::Malformed { key: KEY.to_owned(), path: config.ca.clone(), why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| malformed(error.to_string()))?;
    if config.ca.as_os_str().is_empty() {
        return Ok(builder.with_webpki_roots().with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(KEY, &config.ca)? {
        roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Where an issuer tells of itself.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// How long the issuer may take for both answers.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Octets of one answer. The largest known, with a chain of certificates to each key, have 100 KiB.
const ANSWER_OCTETS_MAX: usize = 512 * 1024;
