//! Certificates shown to webhooks' receivers, taken anew while the hub runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use postbell_sinks::webhook::ClientCertificate;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::certificate::{read_certificates, read_key};
use super::client::Shown;
use super::files::Watched;
use super::{LOOK_EVERY, TlsError, in_full};
use crate::config::ClientCertificateConfig;
use crate::hub::stopped;

/// The certificates that webhooks' receivers may be shown, by name.
#[derive(Debug, Default)]
pub(crate) struct ClientCertificates {
    all: BTreeMap<String, One>,
    /// Somebody wants the files looked at now.
    asked: Notify,
}

#[derive(Debug)]
struct One {
    config: ClientCertificateConfig,
    shown: Arc<ClientCertificate>,
}

impl ClientCertificates {
    /// Reads each and its key. Waits for the disk.
    pub(crate) fn open(
        configs: &BTreeMap<String, ClientCertificateConfig>,
    ) -> Result<Self, TlsError> {
        let mut all = BTreeMap::new();
        for (name, config) in configs {
            let (chain, key, ends) = load(name, config)?;
            if ends <= Timestamp::now() {
                let file = config.certificate.display();
                warn!(certificate = %name, %file, %ends, "it has ended, and no receiver will take it");
            }
            let shown = ClientCertificate::new(chain, key);
            let shown = Arc::new(shown.map_err(|source| unfit(name, config, source))?);
            all.insert(name.clone(), One { config: config.clone(), shown });
        }
        Ok(Self { all, asked: Notify::new() })
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
    /// One that is no good is told of and kept out; the one before goes on.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let files = |one: &One| vec![one.config.certificate.clone(), one.config.key.clone()];
        let mut files: Vec<_> =
            self.all.iter().map(|(name, one)| (name.clone(), Watched::new(files(one)))).collect();
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.asked.notified() => true,
                () = stopped(&mut stopping) => return,
            };
            for (name, files) in &mut files {
                if files.have_changed() || is_asked {
                    let (this, name) = (Arc::clone(&self), name.clone());
                    // Only a panic ends it without an answer, and then the one before goes on too.
                    drop(spawn_blocking(move || this.take_anew(&name)).await);
                }
            }
        }
    }

    fn take_anew(&self, name: &str) {
        let Some(One { config, shown }) = self.all.get(name) else { return };
        let taken = load(name, config).and_then(|(chain, key, ends)| {
            if ends <= Timestamp::now() {
                let key = key_of(name, "certificate");
                let (path, why) = (config.certificate.clone(), "it has ended".to_owned());
                return Err(TlsError::Malformed { key, path, why });
            }
            shown.replace(chain, key).map_err(|source| unfit(name, config, source))?;
            Ok(ends)
        });
        match taken {
            Ok(ends) => info!(certificate = %name, %ends, "it was taken anew"),
            Err(error) => {
                error!(error = %in_full(&error), "the new certificate is not taken, and the one before goes on");
            }
        }
    }
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

    use super::*;

    fn configured(pair: &Pair) -> BTreeMap<String, ClientCertificateConfig> {
        let config = ClientCertificateConfig {
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
            services: vec!["crm".to_owned()],
        };
        [("partner".to_owned(), config)].into()
    }

    fn shown(certificates: &ClientCertificates) -> CertificateDer<'static> {
        let (certificate, _) = certificates.find("partner").unwrap();
        let key = certificate.resolve(&[], &[SignatureScheme::ECDSA_NISTP256_SHA256]);
        key.unwrap().cert[0].clone()
    }

    #[tokio::test]
    async fn a_certificate_is_taken_anew_once_its_files_have_changed_and_a_bad_one_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.client("partner", "hub", vec![], FAR).unwrap();
        let first = CertificateDer::from_pem_file(&pair.certificate).unwrap();
        let certificates = Arc::new(ClientCertificates::open(&configured(&pair)).unwrap());
        assert_eq!(shown(&certificates), first);
        let (stop, stopping) = watch::channel(false);
        let watching = tokio::spawn(Arc::clone(&certificates).watch(stopping));
        // It has seen the files as they are.
        tokio::task::yield_now().await;
        // Only half of another.
        let other = authority.client("other", "hub", vec![], FAR).unwrap();
        std::fs::copy(&other.certificate, &pair.certificate).unwrap();
        certificates.take_anew("partner");
        assert_eq!(shown(&certificates), first);
        std::fs::copy(&other.key, &pair.key).unwrap();
        let second = CertificateDer::from_pem_file(&other.certificate).unwrap();
        for _ in 0..3_000 {
            if shown(&certificates) == second {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(shown(&certificates), second);
        stop.send_replace(true);
        watching.await.unwrap();
        let ended = authority.client("partner", "hub", vec![], (2021, 1, 1)).unwrap();
        assert_eq!(ended, pair);
        certificates.take_anew("partner");
        assert_eq!(shown(&certificates), second);
    }

    #[test]
    fn what_is_wrong_with_a_clients_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "ca").unwrap();
        let pair = authority.client("partner", "hub", vec![], FAR).unwrap();
        let other = authority.client("other", "hub", vec![], FAR).unwrap();
        let told = |pair: &Pair| {
            let error = ClientCertificates::open(&configured(pair)).unwrap_err().to_string();
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
