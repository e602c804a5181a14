//! TLS on the HTTP listener: a certificate that is taken anew while the hub runs.

mod authorities;
mod certificate;
mod client;
mod files;
mod outgoing;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use crate::config::TlsConfig;
use crate::hub::stopped;
use crate::lock::locked;
use crate::metrics::TlsMetrics;

pub(crate) use authorities::outward;
pub use certificate::Certificate;
pub(crate) use certificate::read_certificates;
use client::Clients;
pub(crate) use client::{Shown, Trust};
pub(crate) use outgoing::ClientCertificates;
use watch::{LOOK_EVERY, Watch};

/// Makes connections safe with the certificate of the moment.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    current: RwLock<Arc<Loaded>>,
    /// Those who showed a certificate; taken after `current`, where both are.
    clients: Mutex<Clients>,
    /// A name the first certificate is for.
    name: String,
    files: Mutex<Watch>,
    /// Somebody wants the files looked at now.
    asked: Notify,
    metrics: TlsMetrics,
}

/// The files as they were read.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Whose authorities clients' certificates are from, where they may show any.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Reads the certificate and its key. Waits for the disk.
    pub(crate) fn open(config: TlsConfig, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let files = Mutex::new(Watch::new(files_of(&config)));
        let (current, certificate) = load(&config)?;
        if certificate.has_ended() {
            warn!(certificate = %certificate, "it has ended, and no client will take it");
        }
        metrics.ends(certificate.ends());
        // One without any is for nobody, and whoever asks is told so.
        let name = certificate.name().unwrap_or_else(|| "localhost".to_owned());
        let current = RwLock::new(Arc::new(current));
        let clients = Mutex::default();
        Ok(Self { config, current, clients, name, files, asked: Notify::new(), metrics })
    }

    /// A name by which the hub can be asked.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// Shakes hands, and gives the certificate that was shown, if one was. Nothing of the client's is
    /// read beyond that.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<Shown>)> {
        let loaded = self.loaded();
        let shaken = TlsAcceptor::from(Arc::clone(&loaded.config)).accept(stream).await;
        let stream = shaken.inspect_err(|_| self.metrics.refused())?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = chain.first().and_then(Shown::read);
        if let Some(shown) = &shown {
            let chain: Vec<_> = chain.iter().map(|one| one.clone().into_owned()).collect();
            let mut clients = locked(&self.clients);
            clients.add(chain, &shown.trust);
            // The authorities may have become others during the handshake.
            let now = self.loaded();
            if !Arc::ptr_eq(&now, &loaded) {
                now.look_at(&mut clients);
            }
        }
        Ok((stream, shown))
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the files looked at, changed or not.
    pub(crate) fn reload(&self) {
        self.asked.notify_one();
    }

    /// Takes the certificate anew whenever its files have changed, or somebody asks for it, until
    /// the hub stops. A pair that is no good is told of and kept out; the one before goes on, and it
    /// is tried again: what kept it out may be over, and no file changed by that.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: Receiver<bool>) {
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.asked.notified() => true,
                () = stopped(&mut stopping) => return,
            };
            let tls = Arc::clone(&self);
            // Only a panic ends it without an answer, and then the one before goes on too.
            drop(spawn_blocking(move || tls.look(is_asked, Instant::now())).await);
        }
    }

    /// Takes the files where there is a reason to. Waits for the disk.
    fn look(&self, is_asked: bool, now: Instant) {
        let mut files = locked(&self.files);
        if let Some(why) = files.look(is_asked, now, || self.take_anew()) {
            self.metrics.kept_out();
            error!(error = %why, "the new certificate is not taken, and the one before goes on");
        }
    }

    /// Takes the files as they are now.
    fn take_anew(&self) -> Result<(), TlsError> {
        let (loaded, certificate) = load(&self.config)?;
        if certificate.has_ended() {
            return Err(TlsError::Ended { certificate });
        }
        let loaded = Arc::new(loaded);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
        self.metrics.ends(certificate.ends());
        info!(certificate = %certificate, "it was taken anew");
        let mut clients = locked(&self.clients);
        let ended = loaded.look_at(&mut clients);
        if ended > 0 {
            info!(certificates = ended, "clients are connected whose authority is none any more");
        }
        Ok(())
    }
}

impl Loaded {
    /// Ends what clients have opened whose authority is none any more; how many.
    fn look_at(&self, clients: &mut Clients) -> usize {
        self.verifier.as_deref().map_or(0, |verifier| clients.look(verifier))
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
fn load(config: &TlsConfig) -> Result<(Loaded, Certificate), TlsError> {
    let certificate = Certificate::read(&config.certificate)?;
    let key = certificate::read_key("tls.key", &config.key, 0o007)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |source: rustls::Error| TlsError::Unfit {
        named: "tls.key".to_owned(),
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source: Box::new(source),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let verifier = match config.client_ca.as_os_str().is_empty() {
        true => None,
        false => Some(client::verifier(&config.client_ca, provider)?),
    };
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut made = builder.with_single_cert(certificate.chain().to_vec(), key).map_err(unfit)?;
    // Nothing else is spoken here, and who wants HTTP/2 alone is told at once.
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Loaded { config: Arc::new(made), verifier }, certificate))
}

/// An error with its cause, for the log.
fn in_full(error: &TlsError) -> String {
    crate::sources::chain(error)
}

fn whom(change: &str) -> &'static str {
    if change == "o" { "everybody" } else { "others" }
}

/// What the listener's certificate is read from.
fn files_of(config: &TlsConfig) -> Vec<PathBuf> {
    let all = [&config.certificate, &config.key, &config.client_ca];
    all.into_iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect()
}

/// Why there is no TLS.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: {path}: can't be read", path = path.display())]
    Io {
        /// The key of the configuration that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{key}: {path}: holds no {wanted}", path = path.display())]
    Nothing {
        /// The key of the configuration that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// It holds a certificate that makes no sense.
    #[error("{key}: {path}: its certificate can't be read: {why}", path = path.display())]
    Malformed {
        /// The key of the configuration that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Others may read the key, so it may be known already.
    #[error("{key}: {path}: mode {mode:03o} lets {whom} read it (run: chmod {change}= {path}; better: have a new key made)", path = path.display(), whom = whom(change), change = change)]
    Exposed {
        /// The key of the configuration that names it.
        key: String,
        /// Who may not, as chmod knows them.
        change: &'static str,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The two don't belong together, or are of a kind that isn't used here.
    #[error("{named}: {key} does not fit the certificate {certificate}", key = key.display(), certificate = certificate.display())]
    Unfit {
        /// The key of the configuration that names the key.
        named: String,
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: Box<rustls::Error>,
    },
    /// It is over already.
    #[error("tls.certificate: {certificate}: has ended")]
    Ended {
        /// The certificate.
        certificate: Certificate,
    },
}

#[cfg(test)]
mod tests {
    use postbell_testkit::tls::{Authority, FAR};

    use super::watch::AGAIN;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_was_kept_out_is_tried_again_though_no_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.server("hub", &["localhost"], FAR).unwrap();
        let (certificate, key) = (pair.certificate.clone(), pair.key.clone());
        let config = TlsConfig { certificate, key, ..TlsConfig::default() };
        let tls = Tls::open(config, Metrics::new().tls()).unwrap();
        let first = tls.loaded();
        let is_first = || Arc::ptr_eq(&first, &tls.loaded());
        let away = folder.path().join("away");
        std::fs::rename(&pair.key, &away).unwrap();
        let now = Instant::now();
        tls.look(true, now);
        assert!(is_first());
        std::fs::rename(&away, &pair.key).unwrap();
        // Not at once, and then it is taken.
        tls.look(false, now);
        assert!(is_first());
        tls.look(false, now + 2 * AGAIN);
        assert!(!is_first());
        // Where nothing failed nothing is tried.
        let second = tls.loaded();
        tls.look(false, now + 4 * AGAIN);
        assert!(Arc::ptr_eq(&second, &tls.loaded()));
    }

    #[test]
    fn a_pair_replaced_while_the_hub_starts_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.server("hub", &["localhost"], FAR).unwrap();
        let (certificate, key) = (pair.certificate.clone(), pair.key.clone());
        let config = TlsConfig { certificate, key, ..TlsConfig::default() };
        let tls = Tls::open(config, Metrics::new().tls()).unwrap();
        let first = tls.loaded();
        // It was opened, and nobody watches yet.
        assert_eq!(authority.server("hub", &["localhost"], FAR).unwrap(), pair);
        let now = Instant::now();
        tls.look(false, now);
        assert!(Arc::ptr_eq(&first, &tls.loaded()), "a change has to stand");
        tls.look(false, now);
        assert!(!Arc::ptr_eq(&first, &tls.loaded()));
    }
}
