//! TLS on the HTTP listener: a certificate that is taken anew while the hub runs.

mod certificate;
mod client;
mod files;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::config::TlsConfig;
use crate::hub::stopped;
use crate::metrics::TlsMetrics;

pub use certificate::Certificate;
pub(crate) use certificate::read_certificates;
pub(crate) use client::Shown;

/// Makes connections safe with the certificate of the moment.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<ServerConfig>>,
    /// A name the first certificate is for.
    name: String,
    /// Somebody wants the files looked at now.
    asked: Notify,
    metrics: TlsMetrics,
}

impl Tls {
    /// Reads the certificate and its key. Waits for the disk.
    pub(crate) fn open(config: TlsConfig, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let (current, certificate) = load(&config)?;
        if certificate.has_ended() {
            warn!(certificate = %certificate, "it has ended, and no client will take it");
        }
        metrics.ends(certificate.ends());
        // One without any is for nobody, and whoever asks is told so.
        let name = certificate.name().unwrap_or_else(|| "localhost".to_owned());
        Ok(Self { config, current: RwLock::new(current), name, asked: Notify::new(), metrics })
    }

    /// A name by which the hub can be asked.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// Shakes hands. Nothing of the client's is read beyond that.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let shaken = TlsAcceptor::from(config).accept(stream).await;
        shaken.inspect_err(|_| self.metrics.refused())
    }

    /// Has the files looked at, changed or not.
    pub(crate) fn reload(&self) {
        self.asked.notify_one();
    }

    /// Takes the certificate anew whenever its files have changed, or somebody asks for it, until
    /// the hub stops. A pair that is no good is told of and kept out; the one before goes on.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut files = files::Watched::new(&self.config);
        loop {
            let is_due = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => files.have_changed(),
                () = self.asked.notified() => true,
                () = stopped(&mut stopping) => return,
            };
            if is_due {
                let tls = Arc::clone(&self);
                // Only a panic ends it without an answer, and then the one before goes on too.
                drop(spawn_blocking(move || tls.take_anew()).await);
            }
        }
    }

    fn take_anew(&self) {
        let taken = load(&self.config).and_then(|(config, certificate)| {
            if certificate.has_ended() {
                return Err(TlsError::Ended { certificate });
            }
            Ok((config, certificate))
        });
        match taken {
            Ok((config, certificate)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                self.metrics.ends(certificate.ends());
                info!(certificate = %certificate, "it was taken anew");
            }
            Err(error) => {
                self.metrics.kept_out();
                error!(error = %in_full(&error), "the new certificate is not taken, and the one before goes on");
            }
        }
    }
}

/// Whether a hub could start with these files, and what the certificate says of itself.
///
/// # Errors
///
/// Where a file can't be read, or the two don't fit.
pub fn examine(config: &TlsConfig) -> Result<Certificate, TlsError> {
    load(config).map(|(_, certificate)| certificate)
}

/// The files as they are now.
fn load(config: &TlsConfig) -> Result<(Arc<ServerConfig>, Certificate), TlsError> {
    let certificate = Certificate::read(&config.certificate)?;
    let key = certificate::read_key(&config.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |source| TlsError::Unfit {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let builder = match config.client_ca.as_os_str().is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_verifier(client::verifier(&config.client_ca, provider)?),
    };
    let mut made = builder.with_single_cert(certificate.chain().to_vec(), key).map_err(unfit)?;
    // Nothing else is spoken here, and who wants HTTP/2 alone is told at once.
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(made), certificate))
}

/// An error with its cause, for the log.
fn in_full(error: &TlsError) -> String {
    crate::sources::chain(error)
}

/// How often the files are looked at. A change is taken when it has stood for as long: who replaces
/// both files does it within that.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why there is no TLS.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: {path}: can't be read", path = path.display())]
    Io {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{key}: {path}: holds no {wanted}", path = path.display())]
    Nothing {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// It holds a certificate that makes no sense.
    #[error("{key}: {path}: its certificate can't be read: {why}", path = path.display())]
    Malformed {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Everybody may read the key, so it may be known already.
    #[error("tls.key: {path}: mode {mode:03o} lets everybody read it (run: chmod o= {path}; better: have a new key made)", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The two don't belong together, or are of a kind that isn't used here.
    #[error("tls.key: {key} does not fit the certificate {certificate}", key = key.display(), certificate = certificate.display())]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// It is over already.
    #[error("tls.certificate: {certificate}: has ended")]
    Ended {
        /// The certificate.
        certificate: Certificate,
    },
}
