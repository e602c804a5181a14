//! TLS to the hub: whom this command trusts, and why a certificate is no good, in words.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Unreachable;

/// How a hub is reached safely: for which name, and trusted by whom.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the authorities in `ca`, or without one those of this machine; and, where this is the
    /// machine's own hub, what stands in its own certificate's file. Shows the certificate in the
    /// first file of `shown`, whose key is in the second.
    pub(crate) fn new(
        host: &str,
        ca: Option<&Path>,
        own: Option<&Path>,
        shown: Option<(&Path, &Path)>,
    ) -> anyhow::Result<Self> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .with_context(|| format!("{host:?} is not a name a certificate can be for"))?;
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                let (taken, _) = roots.add_parsable_certificates(certificates(path)?);
                anyhow::ensure!(taken > 0, "{}: holds no authority's certificate", path.display());
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        if let Some(path) = own {
            roots.add_parsable_certificates(certificates(path)?);
        }
        anyhow::ensure!(
            !roots.is_empty(),
            "this machine trusts no authority at all (give the hub's with --ca FILE)"
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS can't be spoken")?
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .with_context(|| format!("{}: can't be shown", certificate.display()))?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands; `url` is who is spoken to, for messages.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        url: &str,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let shaken = self.connector.connect(self.name.clone(), stream).await;
        shaken.map_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            match cause {
                // Asked again it would show the same.
                Some(rustls::Error::InvalidCertificate(why)) => {
                    anyhow!("{url}: {}", in_words(why, &self.name.to_str()))
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    anyhow!("{url}: what answers there speaks no TLS (is it http://?)")
                }
                Some(cause) => anyhow!("{url}: {cause}"),
                None => {
                    let what = crate::lines::plain(&error);
                    Unreachable::new(&format!("{url}: no TLS with it: {what}")).into()
                }
            }
        })
    }
}

/// Why a certificate is no good.
fn in_words(why: &CertificateError, asked: &str) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has ended (have a new one made)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate does not hold yet (is the clock right?)".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate is from nobody this machine trusts (give its authority's with --ca FILE)"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            format!("its certificate is for {}, and not for {asked}", names.join(", "))
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for {asked}")
        }
        other => format!("its certificate is no good: {other}"),
    }
}

/// A name out of how rustls writes it, `DnsName("hub.example.org")`.
fn bare(presented: &str) -> &str {
    let inside = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(presented).trim_matches('"')
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let shown = path.display();
    let text =
        std::fs::read(path).map_err(|error| anyhow!("{shown}: {}", crate::lines::plain(&error)))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| anyhow!("{shown}: holds no private key in PEM without a password"))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let text =
        std::fs::read(path).map_err(|error| anyhow!("{shown}: {}", crate::lines::plain(&error)))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| anyhow!("{shown}: holds no certificate in PEM"))
}
