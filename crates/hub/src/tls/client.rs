//! Certificates that clients show in a token's place.

use std::path::Path;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::TlsError;
use super::certificate::read_certificates;

/// A client's certificate, after the handshake has proved it: whom it names, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Every name in it that one can be known by.
    pub(crate) names: Vec<String>,
    /// When it ends, which a connection may outlive.
    pub(crate) ends: Timestamp,
    /// Whether its authority is still one, which a connection may outlive too.
    pub(crate) trust: Arc<Trust>,
}

/// Whether a certificate's authority is still one.
#[derive(Debug)]
pub(crate) struct Trust(watch::Sender<bool>);

impl Default for Trust {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Trust {
    /// Whether it is none any more.
    pub(crate) fn is_over(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is none any more.
    pub(crate) async fn over(&self) {
        // We hold the sender, so that only its being over ends the wait.
        drop(self.0.subscribe().wait_for(|over| *over).await);
    }

    /// Says so to whoever was let in by it.
    pub(crate) fn end(&self) {
        self.0.send_replace(true);
    }
}

/// Certificates that were shown by whoever is still connected, or still has what they opened.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<(Vec<CertificateDer<'static>>, Weak<Trust>)>);

impl Clients {
    /// Remembers one, with those between it and its authority.
    pub(super) fn add(&mut self, chain: Vec<CertificateDer<'static>>, trust: &Arc<Trust>) {
        // Those that are gone cost nothing but their room.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|(_, trust)| trust.strong_count() > 0);
        }
        self.0.push((chain, Arc::downgrade(trust)));
    }

    /// Ends what those have opened whose authority is none for `verifier`; how many.
    pub(super) fn look(&mut self, verifier: &dyn ClientCertVerifier) -> usize {
        self.keep(|chain| is_trusted(chain, verifier))
    }

    /// Ends what those have opened that are not to stay; how many. Who is gone already is forgotten.
    fn keep(&mut self, stays: impl Fn(&[CertificateDer<'static>]) -> bool) -> usize {
        let mut ended = 0;
        self.0.retain(|(chain, trust)| {
            let Some(trust) = trust.upgrade() else { return false };
            let stays = stays(chain);
            if !stays {
                trust.end();
                ended += 1;
            }
            stays
        });
        ended
    }
}

/// Whether a chain leads to an authority of `verifier`'s now.
pub(super) fn is_trusted(chain: &[CertificateDer<'_>], verifier: &dyn ClientCertVerifier) -> bool {
    let Some((own, between)) = chain.split_first() else { return false };
    verifier.verify_client_cert(own, between, UnixTime::now()).is_ok()
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
        Some(Self { names, ends, trust: Arc::default() })
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
    let malformed =
        |why: String| TlsError::Malformed { key: KEY.to_owned(), path: path.to_owned(), why };
    for certificate in read_certificates(KEY, path)? {
        roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(|error| malformed(error.to_string()))
}

/// Names looked at: each costs a look-up.
const NAMES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_still_connected_is_counted_among_those_that_end() {
        let mut clients = Clients::default();
        let (stays, ends) = (Arc::new(Trust::default()), Arc::new(Trust::default()));
        clients.add(vec![CertificateDer::from(vec![1])], &stays);
        clients.add(vec![CertificateDer::from(vec![2])], &ends);
        clients.add(vec![CertificateDer::from(vec![3])], &Arc::default());
        let ended = clients.keep(|chain| chain.first().is_some_and(|own| own.as_ref() == [1]));
        assert_eq!((ended, clients.0.len()), (1, 1));
        assert!(ends.is_over() && !stays.is_over());
        drop(stays);
        assert_eq!((clients.keep(|_| false), clients.0.len()), (0, 0));
    }
}
