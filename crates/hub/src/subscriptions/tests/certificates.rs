//! Whose subscriptions may have the operator's certificate shown.

use postbell_testkit::tls::{Authority, FAR};

use super::*;
use crate::ClientCertificateConfig;
use crate::metrics::Metrics;

/// The certificate `partner` in a folder, for the service `crm`, where there is one.
pub(super) fn in_folder(folder: &Path) -> ClientCertificates {
    let [certificate, key] = ["partner.pem", "partner.key"].map(|name| folder.join(name));
    let there = certificate.exists().then(|| {
        let services = vec!["crm".to_owned()];
        ("partner".to_owned(), ClientCertificateConfig { certificate, key, services })
    });
    let metrics = Metrics::new().tls();
    ClientCertificates::open(&there.into_iter().collect(), metrics).unwrap()
}

fn showing(name: &str, url: &str, certificate: &str) -> NewSubscription {
    let sink = NewSink::Webhook {
        url: url.to_owned(),
        signature: Signature::V1,
        secret: None,
        verify: None,
        batch: None,
        client_certificate: Some(certificate.to_owned()),
    };
    NewSubscription { sink, ..wanted(name, "") }
}

const URL: &str = "https://localhost:9/hook";

#[tokio::test(flavor = "multi_thread")]
async fn r163_the_operators_certificate_is_shown_for_the_operator_and_services_named_alone() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    authority.client("partner", "hub", vec![], FAR).unwrap();
    let bench = Bench::open(folder.path()).await;
    let told = async |grant: &Arc<Grant>, new: NewSubscription| match bench
        .subscriptions
        .create(new, grant)
        .await
    {
        Ok(made) => match made.sink {
            ShownSink::Webhook { client_certificate, .. } => client_certificate.unwrap(),
            ShownSink::Command { .. } => panic!("a command was made"),
        },
        Err(CreateError::Invalid { pointer, message }) => format!("{pointer}: {message}"),
        Err(error) => panic!("{error}"),
    };
    let no = |name: &str| {
        format!(
            "/sink/clientCertificate: {name:?} is no client certificate that may be shown for it"
        )
    };
    let (crm, other) = (bench.service("crm"), bench.service("other"));
    let (user, _) = bench.user("john", "john");
    assert_eq!(told(&bench.admin, showing("a", URL, "partner")).await, "partner");
    assert_eq!(told(&crm, showing("a", URL, "partner")).await, "partner");
    for grant in [&other, &user] {
        assert_eq!(told(grant, showing("a", URL, "partner")).await, no("partner"));
        assert_eq!(told(grant, showing("a", URL, "nobody")).await, no("nobody"));
    }
    assert_eq!(told(&crm, showing("b", URL, "nobody")).await, no("nobody"));
    assert_eq!(
        told(&bench.admin, showing("b", URL, "nobody")).await,
        "/sink/clientCertificate: there is no [webhooks.client_certificates.nobody]"
    );
    assert_eq!(
        told(&bench.admin, showing("b", "http://localhost:9/", "partner")).await,
        "/sink/clientCertificate: is shown over https alone"
    );
    bench.close().await;

    // What the configuration doesn't have any more isn't delivered without.
    std::fs::remove_file(folder.path().join("partner.pem")).unwrap();
    let bench = Bench::open(folder.path()).await;
    let detail = bench.shown("a").detail;
    assert_eq!(detail.as_deref(), Some("there is no [webhooks.client_certificates.partner]"));
}

impl Bench {
    fn service(&self, name: &str) -> Arc<Grant> {
        let new: NewToken = serde_json::from_value(serde_json::json!({
            "name": name, "role": "service", "scope": ["subscribe"],
        }))
        .unwrap();
        let made = self.tokens.create(new).unwrap();
        self.tokens.grant(&made.id).unwrap()
    }
}
