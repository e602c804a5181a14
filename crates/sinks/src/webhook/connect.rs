//! Connections that only ever lead to a checked address.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use super::{ClientCertificate, Target};

/// What webhooks need for TLS; made once, shared by all.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// TLS 1.2 or 1.3 with Mozilla's roots.
    ///
    /// # Errors
    ///
    /// Where the cryptography this was built with can't do that, which no build can.
    pub fn new() -> Result<Self, rustls::Error> {
        Self::trusting_also([])
    }

    /// The same, with further authorities beside Mozilla's.
    ///
    /// # Errors
    ///
    /// Where one of them is no certificate an authority can have.
    pub fn trusting_also(
        authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The same, that shows receivers a certificate where they ask for one.
    #[must_use]
    pub fn showing(&self, certificate: Arc<ClientCertificate>) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.client_auth_cert_resolver = certificate;
        // A session taken up again would be one of whoever began it, with the certificate of then.
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }
}

#[cfg(test)]
impl Tls {
    /// Trusts one certificate alone.
    pub(super) fn trusting(certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }
}

/// Makes connections, to checked addresses alone.
pub(crate) type Connector = HttpsConnector<HttpConnector<CheckedNames>>;

/// What it makes.
pub(crate) type Stream = <Connector as Service<Uri>>::Response;

/// A connector of its own for each target: what one is allowed to reach is no other's business.
pub(crate) fn connector(target: &Target, tls: &Tls) -> Connector {
    let mut http = HttpConnector::new_with_resolver(CheckedNames(target.clone()));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    HttpsConnector::from((http, Arc::clone(&tls.0)))
}

/// Resolves names, and keeps back every address the target may not lead to.
///
/// Addresses written in the URL itself never come here; [`Target::parse`] has checked them.
#[derive(Clone, Debug)]
pub(crate) struct CheckedNames(Target);

impl Service<Name> for CheckedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let target = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(in_reach(&target, name.as_str(), &found)?.into_iter())
        })
    }
}

/// Those addresses of a name that the target may lead to. The connection is made to one of them, and
/// the name is not asked again meanwhile.
fn in_reach(target: &Target, name: &str, found: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let allowed: Vec<_> =
        found.iter().copied().filter(|address| target.allows(address.ip())).collect();
    if allowed.is_empty() && !found.is_empty() {
        let message = format!("{name} leads only to addresses out of reach");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(allowed)
}

/// When TCP asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::Reach;

    #[test]
    fn r165_every_address_of_a_name_is_checked_and_only_those_in_reach_are_left() {
        let target = Target::parse("https://example.org/", Reach::Public).unwrap();
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let found = addresses(&[
            "10.0.0.1:0",
            "1.1.1.1:0",
            "[::ffff:169.254.169.254]:0",
            "[::1]:0",
            "[2606:4700::1111]:0",
            "[fd00::1]:0",
        ]);
        let left = in_reach(&target, "example.org", &found).unwrap();
        assert_eq!(left, addresses(&["1.1.1.1:0", "[2606:4700::1111]:0"]));
        let refused = in_reach(&target, "example.org", &addresses(&["10.0.0.1:0", "[::1]:0"]));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(in_reach(&target, "example.org", &[]).unwrap().is_empty());
    }
}
