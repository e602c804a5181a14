//! The certificate a receiver is shown, where it asks who is there.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate shown to receivers that ask for one, and its key. Another may take its place while
/// deliveries go on: connections made from then on show that.
pub struct ClientCertificate(RwLock<Arc<CertifiedKey>>);

impl ClientCertificate {
    /// One with those that lead to its authority behind it.
    ///
    /// # Errors
    ///
    /// Where the two don't belong together, or are of a kind that isn't used here.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self(RwLock::new(certified(chain, key)?)))
    }

    /// Has this one take its place.
    ///
    /// # Errors
    ///
    /// As [`ClientCertificate::new`]; then the one before stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        let new = certified(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let provider = rustls::crypto::ring::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.key.choose_scheme(schemes).map(|_| Arc::clone(&current))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use mail_event::EventId;
    use postbell_engine::Outcome;
    use postbell_testkit::tls::{Authority, FAR, Pair};
    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::WebPkiClientVerifier;
    use tokio::net::TcpListener;

    use super::super::{Answer, Reach, Secret, Target, Tls, Webhook};
    use super::*;

    fn read(pair: &Pair) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&pair.certificate).unwrap();
        (certificate, PrivateKeyDer::from_pem_file(&pair.key).unwrap())
    }

    /// A server that demands a certificate of the authority `ca.pem`, and whom it has seen.
    async fn demanding(
        folder: &Path,
        pair: &Pair,
    ) -> (u16, Arc<Mutex<Vec<CertificateDer<'static>>>>) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let (certificate, key) = read(pair);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(builder.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, keep) = (acceptor.clone(), Arc::clone(&keep));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                    keep.lock().unwrap().push(shown.into_owned());
                    // One answer a connection, so that the next is made anew.
                    let service = service_fn(|_| async {
                        let answer = Response::builder().header("connection", "close");
                        Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
                    });
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    connection.await.unwrap_or_default();
                });
            }
        });
        (port, seen)
    }

    fn webhook(port: u16, tls: &Tls) -> Webhook {
        let target = Target::parse(&format!("https://localhost:{port}/"), Reach::Loopback).unwrap();
        Webhook::new(target, Secret::new([7; 32]), Duration::from_secs(30), tls)
    }

    async fn post(webhook: &Webhook) -> Answer {
        webhook.post(EventId::new(1, 1), Bytes::from_static(b"{}"), SystemTime::now()).await
    }

    #[tokio::test]
    async fn r163_a_receiver_that_demands_a_certificate_is_shown_the_one_of_the_moment() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let server = authority.server("hook", &["localhost"], FAR).unwrap();
        let (port, seen) = demanding(folder.path(), &server).await;
        let root = CertificateDer::from_pem_file(folder.path().join("ca.pem")).unwrap();
        let tls = Tls::trusting(root);

        let without = post(&webhook(port, &tls)).await;
        assert!(matches!(without.outcome, Outcome::Failed { .. }), "{}", without.reason);
        assert!(seen.lock().unwrap().is_empty());

        let first = read(&authority.client("first", "hub", vec![], FAR).unwrap());
        let second = read(&authority.client("second", "hub", vec![], FAR).unwrap());
        let certificate = ClientCertificate::new(vec![first.0.clone()], first.1).unwrap();
        let certificate = Arc::new(certificate);
        let with = webhook(port, &tls.showing(Arc::clone(&certificate)));
        let answer = post(&with).await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{}", answer.reason);
        let misfit = certificate.replace(vec![first.0.clone()], second.1.clone_key());
        assert!(misfit.is_err(), "they don't belong together");
        certificate.replace(vec![second.0.clone()], second.1).unwrap();
        let answer = post(&with).await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{}", answer.reason);
        assert_eq!(*seen.lock().unwrap(), [first.0, second.0]);

        let other = tempfile::tempdir().unwrap();
        let stranger = Authority::new(other.path(), "other").unwrap();
        let (chain, key) = read(&stranger.client("stranger", "hub", vec![], FAR).unwrap());
        let stranger = Arc::new(ClientCertificate::new(vec![chain], key).unwrap());
        let answer = post(&webhook(port, &tls.showing(stranger))).await;
        assert!(matches!(answer.outcome, Outcome::Failed { .. }), "{}", answer.reason);
        assert_eq!(format!("{certificate:?}"), "ClientCertificate(…)");
    }
}
