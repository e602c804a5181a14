//! TLS: who gets in, who doesn't, and certificates that change while the hub runs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postbell_hub::{Config, Hub};
use postbell_testkit::tls::{Authority, FAR, Pair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::forms::publish_more_than_fits;
use crate::world::{PATIENCE, World, wait_until};

/// What a client trusts.
fn client(authority: &Path) -> Arc<ClientConfig> {
    client_showing(authority, None)
}

/// The same with a certificate of its own.
fn client_showing(authority: &Path, pair: Option<&Pair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Stream {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, socket)
}

/// The status of an answer; what is wrong with the handshake where there is none.
fn ask(stream: &mut Stream, token: &str) -> std::io::Result<String> {
    let request = format!(
        "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    Ok(String::from_utf8_lossy(&first).into_owned())
}

fn set(config: &mut Config, pair: &Pair) {
    config.tls.certificate.clone_from(&pair.certificate);
    config.tls.key.clone_from(&pair.key);
}

/// The serial number a new client is shown.
fn shown(config: &Arc<ClientConfig>, world: &World) -> Vec<u8> {
    let mut stream = connect(config, world.address());
    assert_eq!(ask(&mut stream, &world.token).unwrap(), "HTTP/1.1 200");
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r163_with_a_certificate_the_hub_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        // Others may reach it now.
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], world.address().port()));
    let mut stream = connect(&client(&folder.path().join("ca.pem")), address);
    assert_eq!(ask(&mut stream, &world.token).unwrap(), "HTTP/1.1 200");
    // Somebody else's authority is not believed, and clear text is not answered.
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path(), "other").unwrap();
    let mut stream = connect(&client(&other.path().join("other.pem")), address);
    assert!(ask(&mut stream, &world.token).unwrap_err().to_string().contains("UnknownIssuer"));
    let mut plain = TcpStream::connect(address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // Cut with or without an alert, but never answered.
    drop(plain.read_to_end(&mut said));
    assert!(!said.windows(4).any(|four| four == b"HTTP"), "{said:?}");
    // Beside it this machine's programs go on without.
    let local = world.hub.local_listener().unwrap();
    let answer = postbell_testkit::http::get(local, "/v1/status", Some(&world.token)).unwrap();
    assert_eq!(answer.status, 200);
    let told = |line: &str| {
        let metrics = postbell_testkit::http::get(local, "/metrics", Some(&world.token)).unwrap();
        metrics.body.contains(line)
    };
    assert!(told("postbell_tls_certificate_ends_seconds 3786912000\n"));
    wait_until(|| told("postbell_tls_handshakes_failed_total 2\n")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r163_a_websocket_goes_over_tls_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| set(config, &pair)).await;
    let stream = connect(&client(&folder.path().join("ca.pem")), world.address());
    let url = "wss://localhost/v1/events?follow=false&since=0";
    let mut request = url.into_client_request().unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", world.token)).unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no farewell") };
    assert_eq!(frame.reason, "done");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_over_tls_who_takes_nothing_is_told_the_number_and_cut_off_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let plain = World::start().await;
    publish_more_than_fits(&plain);
    let world = World::start_in(plain.stop().await, |config| {
        set(config, &pair);
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
        config.http.stall_timeout = Duration::from_secs(2);
    })
    .await;
    let mut stream = connect(&client(&folder.path().join("ca.pem")), world.address());
    let head = format!(
        "GET /v1/events?since=0&parameters=* HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
        world.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    let local = world.hub.local_listener().unwrap();
    let is_cut = || {
        let metrics = postbell_testkit::http::get(local, "/metrics", Some(&world.token)).unwrap();
        metrics.body.contains("postbell_stream_slow_total 1\n")
    };
    wait_until(is_cut).await;
    let mut said = Vec::new();
    // Cut without a word of TLS.
    drop(stream.read_to_end(&mut said));
    let said = String::from_utf8(said).unwrap();
    let (before, last) = said.rsplit_once("\n: too slow: come back; last sent: ").unwrap();
    let last: u64 = last.strip_suffix("\n\n").unwrap().parse().unwrap();
    let (_, reached) = before.rsplit_once("\nid: ").unwrap();
    assert!(reached.starts_with(&format!("{last}\n")) && last < 600, "{last}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r163_only_http_1_1_is_offered_and_no_tls_before_1_2() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| set(config, &pair)).await;
    let mut config = client(&folder.path().join("ca.pem"));
    for (offered, taken) in [(&b"http/1.1"[..], true), (b"h2", false)] {
        Arc::get_mut(&mut config).unwrap().alpn_protocols = vec![offered.to_vec()];
        let mut stream = connect(&config, world.address());
        let answer = ask(&mut stream, &world.token);
        assert_eq!(answer.is_ok(), taken, "{answer:?}");
        if taken {
            assert_eq!(stream.conn.alpn_protocol(), Some(offered));
        }
        drop(stream);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_while_the_hub_runs_and_a_bad_one_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let config = client(&folder.path().join("ca.pem"));
    let first = shown(&config, &world);
    let mut open = connect(&config, world.address());
    // By itself, when the files change.
    authority.server("hub", &["localhost"], FAR).unwrap();
    wait_until(|| shown(&config, &world) != first).await;
    let second = shown(&config, &world);
    // At once, when it is told to.
    authority.server("hub", &["localhost"], FAR).unwrap();
    assert!(world.hub.reload_certificate());
    wait_until(|| shown(&config, &world) != second).await;
    let third = shown(&config, &world);
    // Another's key, nothing at all, and one that has ended.
    let local = world.hub.local_listener().unwrap();
    let kept_out = || -> u32 {
        let metrics = postbell_testkit::http::get(local, "/metrics", Some(&world.token)).unwrap();
        let mut lines = metrics.body.lines();
        let count = lines.find_map(|line| line.strip_prefix("postbell_tls_reloads_failed_total "));
        count.unwrap().parse().unwrap()
    };
    let before = kept_out();
    let other = authority.server("other", &["localhost"], FAR).unwrap();
    std::fs::copy(&other.key, &pair.key).unwrap();
    world.hub.reload_certificate();
    wait_until(|| kept_out() > before).await;
    let before = kept_out();
    std::fs::write(&pair.certificate, "").unwrap();
    world.hub.reload_certificate();
    wait_until(|| kept_out() > before).await;
    assert_eq!(shown(&config, &world), third);
    // Who was connected all the while goes on.
    assert_eq!(ask(&mut open, &world.token).unwrap(), "HTTP/1.1 200");
    authority.server("hub", &["localhost"], FAR).unwrap();
    wait_until(|| shown(&config, &world) != third).await;
    let (fourth, before) = (shown(&config, &world), kept_out());
    authority.server("hub", &["localhost"], (2021, 1, 1)).unwrap();
    world.hub.reload_certificate();
    wait_until(|| kept_out() > before).await;
    assert_eq!(shown(&config, &world), fourth);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_who_shakes_hands_slowly_or_says_nothing_loses_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        // Enough for whoever isn't slow, also on a loaded machine.
        config.http.header_timeout = Duration::from_secs(3);
        config.http.max_connections = 4;
    })
    .await;
    let config = client(&folder.path().join("ca.pem"));
    let mut slow: Vec<_> = (0..8)
        .map(|number| {
            let mut stream = TcpStream::connect(world.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if number % 2 == 0 {
                // The beginning of a handshake that never goes on.
                stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
            }
            stream
        })
        .collect();
    let begun = Instant::now();
    let mut stream = connect(&config, world.address());
    assert_eq!(ask(&mut stream, &world.token).unwrap(), "HTTP/1.1 200");
    assert!(begun.elapsed() < PATIENCE);
    for stream in &mut slow {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_can_not_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let other = authority.server("other", &["localhost"], FAR).unwrap();
    let nothing = folder.path().join("nothing");
    let open = folder.path().join("open.key");
    std::fs::copy(&pair.key, &open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut told = String::new();
    for (certificate, key) in [
        (&pair.certificate, &other.key),
        (&pair.certificate, &nothing),
        (&pair.certificate, &pair.certificate),
        (&pair.certificate, &open),
        (&pair.key, &pair.key),
        (&nothing, &pair.key),
    ] {
        let mut config = Config {
            data: folder.path().join("data"),
            listen: "0.0.0.0:0".parse().unwrap(),
            ..Config::default()
        };
        set(&mut config, &Pair { certificate: certificate.clone(), key: key.clone() });
        let error = Hub::start(config).await.unwrap_err();
        let place = folder.path().display().to_string();
        told.push_str(&format!("{error}\n").replace(&place, "FOLDER"));
    }
    insta::assert_snapshot!(told);
    assert!(!folder.path().join("data").exists());
}

/// The status of `GET path` by whoever shows this certificate and no token.
fn by_certificate(config: &Arc<ClientConfig>, world: &World, path: &str) -> Option<u16> {
    asked_by_certificate(config, world, &format!("GET {path}"), "")
}

/// The status of a request by the same.
fn asked_by_certificate(
    config: &Arc<ClientConfig>,
    world: &World,
    what: &str,
    headers: &str,
) -> Option<u16> {
    let mut stream = connect(config, world.address());
    let request = format!("{what} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).ok()?;
    String::from_utf8_lossy(&first).split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r161_a_clients_certificate_opens_what_its_token_does_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let clients = Authority::new(folder.path(), "clients").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        config.tls.client_ca = folder.path().join("clients.pem");
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let local = world.hub.local_listener().unwrap();
    let made = |new: &str| {
        postbell_testkit::http::post(local, "/v1/tokens", Some(&world.token), new).unwrap()
    };
    let answer =
        made(r#"{"name":"crm","role":"service","scope":["read"],"certificate":"crm.example.org"}"#);
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(!answer.body.contains("\"token\""), "{}", answer.body);
    let again = made(r#"{"name":"c","role":"admin","certificate":"crm.example.org"}"#);
    assert_eq!(again.status, 409, "{}", again.body);
    let named = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let signed = |file: &str, by: &Authority, name: &str, names, ends| {
        let pair = by.client(file, name, names, ends).unwrap();
        client_showing(&folder.path().join("ca.pem"), Some(&pair))
    };
    let by_name = signed("a", &clients, "x", named("crm.example.org"), FAR);
    let by_common_name = signed("b", &clients, "crm.example.org", Vec::new(), FAR);
    let unknown = signed("c", &clients, "other", named("other.example.org"), FAR);
    let foreign = signed("d", &authority, "crm.example.org", Vec::new(), FAR);
    let ended = signed("e", &clients, "crm.example.org", Vec::new(), (2021, 1, 1));
    let events = "/v1/events?follow=false";
    for config in [&by_name, &by_common_name] {
        assert_eq!(by_certificate(config, &world, events), Some(200));
        assert_eq!(by_certificate(config, &world, "/v1/status"), Some(403));
    }
    assert_eq!(by_certificate(&unknown, &world, events), Some(401));
    // Another authority's, and one that is over, don't come as far as asking.
    assert_eq!(by_certificate(&foreign, &world, events), None);
    assert_eq!(by_certificate(&ended, &world, events), None);
    // A token goes before a certificate, and none is needed.
    assert_eq!(ask(&mut connect(&unknown, world.address()), &world.token).unwrap(), "HTTP/1.1 200");
    let plain = client(&folder.path().join("ca.pem"));
    assert_eq!(ask(&mut connect(&plain, world.address()), &world.token).unwrap(), "HTTP/1.1 200");
    assert_eq!(by_certificate(&plain, &world, events), Some(401));

    // What it has opened ends with the token.
    let mut open = connect(&by_name, world.address());
    open.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 12];
    open.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.0 200");
    assert_eq!(revoked(local, &world.token), 204);
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    assert_eq!(by_certificate(&by_name, &world, events), Some(401));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_an_authority_that_is_taken_away_takes_along_what_its_certificates_opened() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let [gone, stays] = ["gone", "stays"].map(|name| Authority::new(folder.path(), name).unwrap());
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let pem = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let authorities = folder.path().join("both.pem");
    std::fs::write(&authorities, pem("gone.pem") + &pem("stays.pem")).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        config.tls.client_ca.clone_from(&authorities);
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let local = world.hub.local_listener().unwrap();
    let new = r#"{"name":"crm","role":"service","scope":["read"],"certificate":"crm.example.org"}"#;
    let made = postbell_testkit::http::post(local, "/v1/tokens", Some(&world.token), new).unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    let config_of = |file: &str, by: &Authority| {
        let pair = by.client(file, "crm.example.org", Vec::new(), FAR).unwrap();
        client_showing(&folder.path().join("ca.pem"), Some(&pair))
    };
    let configs = [config_of("a", &gone), config_of("b", &stays)];
    let follow = |config| {
        let mut stream = connect(config, world.address());
        stream.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.0 200");
        stream
    };
    let [mut ends, goes_on] = configs.each_ref().map(follow);
    // One that was let in before asks again on the same connection.
    let asks = |stream: &mut Stream| {
        let request = b"GET /v1/events?follow=false HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).unwrap();
        let (mut head, mut one) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n0\r\n\r\n") && !head.ends_with(b"}") {
            stream.read_exact(&mut one).unwrap();
            head.push(one[0]);
        }
        String::from_utf8_lossy(&head[9..12]).into_owned()
    };
    let mut asking = configs.each_ref().map(|config| connect(config, world.address()));
    assert_eq!(asking.each_mut().map(asks), ["200", "200"]);

    std::fs::write(&authorities, pem("stays.pem")).unwrap();
    world.hub.reload_certificate();
    let mut rest = Vec::new();
    ends.read_to_end(&mut rest).unwrap();
    // One certificate is looked at after the other.
    let begun = Instant::now();
    let [refused, let_in] = &mut asking;
    while asks(refused) != "401" {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(asks(let_in), "200");
    assert_eq!(by_certificate(&configs[0], &world, "/v1/events?follow=false"), None);
    assert_eq!(by_certificate(&configs[1], &world, "/v1/events?follow=false"), Some(200));
    drop(goes_on);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r165_a_page_of_another_site_changes_nothing_by_its_visitors_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let world = World::start_with(|config| {
        set(config, &pair);
        config.tls.client_ca = folder.path().join("ca.pem");
        config.tls.local_listen = Some("127.0.0.1:0".parse().unwrap());
        config.http.allowed_origins = vec!["https://app.example.org".to_owned()];
    })
    .await;
    let local = world.hub.local_listener().unwrap();
    let new = r#"{"name":"ann","role":"user","users":["ann"],"certificate":"ann@example.org"}"#;
    let made = postbell_testkit::http::post(local, "/v1/tokens", Some(&world.token), new).unwrap();
    assert_eq!(made.status, 201, "{}", made.body);
    let pair = authority.client("ann", "ann@example.org", Vec::new(), FAR).unwrap();
    let ann = client_showing(&folder.path().join("ca.pem"), Some(&pair));
    let ask = |what: &str, headers: &str| asked_by_certificate(&ann, &world, what, headers);
    let empty = "Content-Length: 0\r\n";
    for (headers, ticket, paused, seen) in [
        ("", 201, 404, 200),
        ("Origin: https://localhost\r\nSec-Fetch-Site: same-origin\r\n", 201, 404, 200),
        ("Origin: https://app.example.org\r\nSec-Fetch-Site: cross-site\r\n", 201, 404, 200),
        ("Origin: http://localhost\r\n", 403, 403, 403),
        ("Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n", 403, 403, 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403, 403, 403),
        ("Origin: null\r\n", 403, 403, 403),
    ] {
        let headers = format!("{headers}{empty}");
        assert_eq!(ask("POST /v1/tickets", &headers), Some(ticket), "{headers}");
        assert_eq!(ask("POST /v1/subscriptions/x/pause", &headers), Some(paused), "{headers}");
        // Looking changes nothing, but a stream that is held open takes a place of its user's.
        assert_eq!(ask("GET /v1/subscriptions", &headers), Some(seen), "{headers}");
    }
    // A token is shown by nobody but who has it.
    let foreign = "Origin: https://evil.example\r\nContent-Length: 0\r\n";
    let with_token = format!("Authorization: Bearer {}\r\n{foreign}", world.token);
    assert_eq!(ask("POST /v1/tickets", &with_token), Some(201));
    world.stop().await;
}

/// Revokes the token `crm`.
fn revoked(address: SocketAddr, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "DELETE /v1/tokens/crm HTTP/1.0\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
