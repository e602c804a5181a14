//! Certificates shown to webhooks' receivers, taken anew while the hub runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use postbell_sinks::webhook::ClientCertificate;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::TlsError;
use super::certificate::{read_certificates, read_key};
use super::client::Shown;
use super::watch::{LOOK_EVERY, Watch};
use crate::config::ClientCertificateConfig;
use crate::hub::stopped;
use crate::lock::locked;
use crate::metrics::TlsMetrics;

/// The certificates that webhooks' receivers may be shown, by name.
#[derive(Debug)]
pub(crate) struct ClientCertificates {
    all: BTreeMap<String, One>,
    /// Somebody wants the files looked at now.
    asked: Notify,
    metrics: TlsMetrics,
}

#[derive(Debug)]
struct One {
    files: Mutex<Watch>,
    config: ClientCertificateConfig,
    shown: Arc<ClientCertificate>,
}

impl ClientCertificates {
    /// Reads each and its key. Waits for the disk.
    pub(crate) fn open(
        configs: &BTreeMap<String, ClientCertificateConfig>,
        metrics: TlsMetrics,
    ) -> Result<Self, TlsError> {
        let mut all = BTreeMap::new();
        for (name, config) in configs {
            let files = Mutex::new(Watch::new(files_of(config)));
            let (chain, key, ends) = load(name, config)?;
            if ends <= Timestamp::now() {
                let file = config.certificate.display();
                warn!(certificate = %name, %file, %ends, "it has ended, and no receiver will take it");
            }
            let shown = ClientCertificate::new(chain, key);
            let shown = Arc::new(shown.map_err(|source| unfit(name, config, source))?);
            all.insert(name.clone(), One { files, config: config.clone(), shown });
        }
        Ok(Self { all, asked: Notify::new(), metrics })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one of this name, and the services that may have it shown.
    pub(crate) fn find(&self, name: &str) -> Option<(&Arc<ClientCertificate>, &[String])> {
        let one = self.all.get(name)?;
        Some((&one.shown, &one.config.services))
    }

    /// Has the files looked at, changed or not.
    pub(crate) fn reload(&self) {
        self.asked.notify_one();
    }

    /// Takes each anew whenever its files have changed, or somebody asks for it, until the hub stops.
    /// One that is no good is told of and kept out; the one before goes on, and it is tried again.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: Receiver<bool>) {
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.asked.notified() => true,
                () = stopped(&mut stopping) => return,
            };
            let this = Arc::clone(&self);
            // Only a panic ends it without an answer, and then those before go on too.
            drop(spawn_blocking(move || this.look(is_asked, Instant::now())).await);
        }
    }

    /// Takes the files of each where there is a reason to. Waits for the disk.
    fn look(&self, is_asked: bool, now: Instant) {
        for (name, one) in &self.all {
            let mut files = locked(&one.files);
            if let Some(why) = files.look(is_asked, now, || one.take_anew(name)) {
                self.metrics.kept_out();
                error!(error = %why, "the new certificate is not taken, and the one before goes on");
            }
        }
    }
}

impl One {
    fn take_anew(&self, name: &str) -> Result<(), TlsError> {
        let Self { config, shown, .. } = self;
        let (chain, key, ends) = load(name, config)?;
        if ends <= Timestamp::now() {
            let key = key_of(name, "certificate");
            let (path, why) = (config.certificate.clone(), "it has ended".to_owned());
            return Err(TlsError::Malformed { key, path, why });
        }
        shown.replace(chain, key).map_err(|source| unfit(name, config, source))?;
        info!(certificate = %name, %ends, "it was taken anew");
        Ok(())
    }
}

fn files_of(config: &ClientCertificateConfig) -> Vec<PathBuf> {
    vec![config.certificate.clone(), config.key.clone()]
}

type Loaded = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Timestamp);

/// The files as they are now, and when the certificate ends.
fn load(name: &str, config: &ClientCertificateConfig) -> Result<Loaded, TlsError> {
    let named = key_of(name, "certificate");
    let chain = read_certificates(&named, &config.certificate)?;
    let shown = chain.first().and_then(Shown::read).ok_or_else(|| TlsError::Malformed {
        key: named,
        path: config.certificate.clone(),
        why: "it is no X.509 certificate".to_owned(),
    })?;
    // Whoever has it speaks for the operator to others.
    let key = read_key(&key_of(name, "key"), &config.key, 0o077)?;
    Ok((chain, key, shown.ends))
}

fn key_of(name: &str, key: &str) -> String {
    format!("webhooks.client_certificates.{name}.{key}")
}

fn unfit(name: &str, config: &ClientCertificateConfig, source: rustls::Error) -> TlsError {
    TlsError::Unfit {
        named: key_of(name, "key"),
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use postbell_testkit::tls::{Authority, FAR, Pair};
    use rustls::SignatureScheme;
    use rustls::client::ResolvesClientCert as _;
    use rustls::pki_types::pem::PemObject as _;

    use super::super::watch::AGAIN;
    use super::*;
    use crate::metrics::Metrics;

    fn configured(pair: &Pair) -> BTreeMap<String, ClientCertificateConfig> {
        let config = ClientCertificateConfig {
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
            services: vec!["crm".to_owned()],
        };
        [("partner".to_owned(), config)].into()
    }

    fn opened(pair: &Pair) -> Result<ClientCertificates, TlsError> {
        ClientCertificates::open(&configured(pair), Metrics::new().tls())
    }

    fn shown(certificates: &ClientCertificates) -> CertificateDer<'static> {
        let (certificate, _) = certificates.find("partner").unwrap();
        let key = certificate.resolve(&[], &[SignatureScheme::ECDSA_NISTP256_SHA256]);
        key.unwrap().cert[0].clone()
    }

    #[tokio::test]
    async fn a_certificate_is_taken_anew_once_its_files_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.client("partner", "hub", vec![], FAR).unwrap();
        let certificates = Arc::new(opened(&pair).unwrap());
        // It was opened, and nobody watches yet.
        let other = authority.client("other", "hub", vec![], FAR).unwrap();
        std::fs::copy(&other.certificate, &pair.certificate).unwrap();
        std::fs::copy(&other.key, &pair.key).unwrap();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(Arc::clone(&certificates).watch(stopping));
        let second = CertificateDer::from_pem_file(&other.certificate).unwrap();
        for _ in 0..6_000 {
            if shown(&certificates) == second {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(shown(&certificates), second);
        stop.send_replace(true);
        watching.await.unwrap();
    }

    #[test]
    fn half_of_a_pair_is_kept_out_and_tried_again_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.client("partner", "hub", vec![], FAR).unwrap();
        let first = CertificateDer::from_pem_file(&pair.certificate).unwrap();
        let certificates = opened(&pair).unwrap();
        assert_eq!(shown(&certificates), first);
        let other = authority.client("other", "hub", vec![], FAR).unwrap();
        std::fs::copy(&other.certificate, &pair.certificate).unwrap();
        let now = Instant::now();
        certificates.look(true, now);
        assert_eq!(shown(&certificates), first);
        let second = CertificateDer::from_pem_file(&other.certificate).unwrap();
        std::fs::copy(&other.key, &pair.key).unwrap();
        certificates.look(false, now + AGAIN);
        assert_eq!(shown(&certificates), second);
        // One that has ended is kept out as well.
        let ended = authority.client("partner", "hub", vec![], (2021, 1, 1)).unwrap();
        assert_eq!(ended, pair);
        certificates.look(true, now);
        assert_eq!(shown(&certificates), second);
    }

    #[test]
    fn what_is_wrong_with_a_clients_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.client("partner", "hub", vec![], FAR).unwrap();
        let other = authority.client("other", "hub", vec![], FAR).unwrap();
        let told = |pair: &Pair| {
            let error = opened(pair).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "@")
        };
        let missing = Pair { certificate: folder.path().join("none.pem"), ..pair.clone() };
        assert_eq!(
            told(&missing),
            "webhooks.client_certificates.partner.certificate: @/none.pem: can't be read"
        );
        let misfit = Pair { key: other.key, ..pair.clone() };
        assert_eq!(
            told(&misfit),
            "webhooks.client_certificates.partner.key: @/other.key does not fit the certificate @/partner.pem"
        );
        std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(
            told(&pair),
            "webhooks.client_certificates.partner.key: @/partner.key: mode 640 lets others read it (run: chmod go= @/partner.key; better: have a new key made)"
        );
    }
}
