//! Receivers and collectors whose certificates are from an authority of the operator's own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use postbell_hub::Reach;
use postbell_testkit::Receiver;
use postbell_testkit::tls::{Authority, FAR, Pair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::world::{World, login, wait_until};

/// Takes TLS, and hands on what it holds to somebody who speaks without; the port.
pub(crate) async fn over_tls(pair: &Pair, to: SocketAddr) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut plain).await);
            });
        }
    });
    port
}

fn subscribe(world: &World, port: u16) -> String {
    let url = format!("https://localhost:{port}/");
    let body = json!({"name": "phone", "sink": {"kind": "webhook", "url": url}}).to_string();
    let json = ("Content-Type", "application/json");
    let made = world.ask("POST", "/v1/subscriptions", &[json], body.as_bytes());
    assert_eq!(made.status, 201, "{}", made.body);
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_and_a_collector_of_a_further_authority_are_delivered_to() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("receiver", &["localhost"], FAR).unwrap();
    let receiver = Receiver::start().unwrap();
    let plain = receiver.url().trim_start_matches("http://").split('/').next().unwrap().parse();
    let port = over_tls(&pair, plain.unwrap()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = over_tls(&pair, listener.local_addr().unwrap()).await;
    tokio::spawn(async {
        axum::serve(listener, Router::new().fallback(async || StatusCode::OK)).await
    });
    let world = World::start_with(|config| {
        config.webhooks.reach = Reach::Loopback;
        config.tls.authorities = folder.path().join("ca.pem");
        config.traces.endpoint = format!("https://localhost:{collector}/v1/traces");
    })
    .await;
    subscribe(&world, port);
    world.accept([1]);
    wait_until(|| receiver.taken().len() == 1).await;
    let told = || {
        let text = world.get("/metrics").body;
        let told = text.lines().find_map(|line| line.strip_prefix("postbell_spans_told_total "));
        told.is_some_and(|told| told != "0")
    };
    wait_until(told).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_of_an_authority_that_was_not_named_is_sent_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    Authority::new(folder.path(), "other").unwrap();
    let pair = authority.server("receiver", &["localhost"], FAR).unwrap();
    let receiver = Receiver::start().unwrap();
    let plain = receiver.url().trim_start_matches("http://").split('/').next().unwrap().parse();
    let port = over_tls(&pair, plain.unwrap()).await;
    let world = World::start_with(|config| {
        config.webhooks.reach = Reach::Loopback;
        config.tls.authorities = folder.path().join("other.pem");
    })
    .await;
    let id = subscribe(&world, port);
    let answer = world.publish("application/json", &login(1));
    assert_eq!(answer.json()["accepted"], 1);
    let path = format!("/v1/subscriptions/{id}");
    wait_until(|| world.get(&path).body.contains("certificate")).await;
    assert!(receiver.taken().is_empty());
    world.stop().await;
}
