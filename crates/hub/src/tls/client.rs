//! Certificates that clients show in a token's place.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::TlsError;
use super::certificate::read_certificates;

/// A client's certificate, after the handshake has proved it: whom it names, and until when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Shown {
    /// Every name in it that one can be known by.
    pub(crate) names: Vec<String>,
    /// When it ends, which a connection may outlive.
    pub(crate) ends: Timestamp,
}

impl Shown {
    /// What a certificate says; nothing of one that can't be read.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let ends = Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?;
        let named = parsed.subject_alternative_name().ok()?;
        let named = named.iter().flat_map(|names| &names.value.general_names);
        let mut names: Vec<_> = named
            .filter_map(|name| match name {
                GeneralName::DNSName(name)
                | GeneralName::RFC822Name(name)
                | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        // Where there is no other, it is the name of people and devices; beside others an authority
        // may not have checked it.
        if names.is_empty() {
            let common = parsed.subject().iter_common_name();
            names.extend(common.filter_map(|name| name.as_str().ok()).map(str::to_owned));
        }
        names.truncate(NAMES_MAX);
        Some(Self { names, ends })
    }
}

/// Asks clients for a certificate from one of the authorities in the file at `path`, and lets those
/// go on that have none: they may have a token.
pub(super) fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const KEY: &str = "tls.client_ca";
    let mut roots = RootCertStore::empty();
    let malformed = |why: String| TlsError::Malformed { key: KEY, path: path.to_owned(), why };
    for certificate in read_certificates(KEY, path)? {
        roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(|error| malformed(error.to_string()))
}

/// Names looked at: each costs a look-up.
const NAMES_MAX: usize = 16;
