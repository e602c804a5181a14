//! Webhooks against a real HTTP server on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use postbell_engine::{Keys, Policy, Selection, Stamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use http_body_util::BodyExt as _;

use super::connections::ANSWER_OCTETS_MAX;
use super::*;

/// Starts a server that answers as `answer` says, and keeps what it was sent.
async fn server(
    answer: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<Request<Bytes>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, keep) = (answer.clone(), Arc::clone(&keep));
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, keep) = (answer.clone(), Arc::clone(&keep));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let request = Request::from_parts(parts, body);
                    let response = answer(&request);
                    keep.lock().unwrap().push(request);
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, kept)
}

fn webhook(url: &str, reach: Reach) -> Webhook {
    webhook_within(PATIENCE, url, reach)
}

fn webhook_within(timeout: Duration, url: &str, reach: Reach) -> Webhook {
    let target = Target::parse(url, reach).unwrap();
    Webhook::new(target, Secret::new([7; 32]), timeout, &Tls::new().unwrap())
}

/// Far more than an answer needs on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until it is so.
async fn wait_until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn post(url: &str) -> Answer {
    let id = EventId::new(1_787_225_654_000, 7);
    webhook(url, Reach::Loopback).post(id, Bytes::from_static(b"{}"), SystemTime::now()).await
}

async fn answered(status: u16, headers: &'static [(&'static str, &'static str)]) -> Answer {
    let (address, _) = server(move |_| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Full::default()).unwrap()
    })
    .await;
    post(&format!("http://{address}/")).await
}

const FAILED: Outcome = Outcome::Failed { retry_after: None };

#[tokio::test]
async fn each_status_means_what_the_page_says() {
    for (status, outcome) in [
        (200, Outcome::Accepted),
        (204, Outcome::Accepted),
        (299, Outcome::Accepted),
        (301, FAILED),
        (307, FAILED),
        (400, FAILED),
        (404, FAILED),
        (410, Outcome::Gone),
        (429, FAILED),
        (500, FAILED),
        (502, FAILED),
        (503, FAILED),
        (504, FAILED),
    ] {
        let answer = answered(status, &[("location", "http://127.0.0.1:1/elsewhere")]).await;
        assert_eq!(answer.outcome, outcome, "{status}");
        assert!(answer.reason.starts_with(&status.to_string()), "{}", answer.reason);
    }
}

#[tokio::test]
async fn a_pause_is_understood_as_seconds_and_as_a_date() {
    let asked = |seconds| Outcome::Failed { retry_after: Some(Duration::from_secs(seconds)) };
    assert_eq!(answered(503, &[("retry-after", "120")]).await.outcome, asked(120));
    let past = answered(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]).await;
    assert_eq!(past.outcome, asked(0));
    assert_eq!(answered(503, &[("retry-after", "soon")]).await.outcome, FAILED);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, kept) = server(|_| Response::new(Full::default())).await;
    let (address, _) = server(move |_| {
        let to = format!("http://{elsewhere}/");
        Response::builder().status(308).header("location", to).body(Full::default()).unwrap()
    })
    .await;
    assert_eq!(post(&format!("http://{address}/")).await.outcome, FAILED);
    assert!(kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hasty = webhook_within(Duration::from_millis(500), &url, Reach::Loopback);
    let answer = hasty.post(EventId::new(1, 1), Bytes::new(), SystemTime::now()).await;
    assert_eq!((answer.outcome, answer.reason.as_str()), (FAILED, "no answer within 500ms"));
    // Held, so that nobody else can come to listen there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let answer = post(&format!("http://{}/", held.local_addr().unwrap())).await;
    assert_eq!(answer.outcome, FAILED);
    assert!(answer.reason.contains("refused"), "{}", answer.reason);
}

#[tokio::test]
async fn a_long_answer_is_not_read() {
    const LONG: usize = 10 << 20;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // So that what could be sent is what was read, and little more.
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 64 * 1024]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        while sent < LONG {
            let Ok(octets) = stream.write(&[b'x'; 4 * 1024]).await else { break };
            sent += octets;
        }
        sent
    });
    assert_eq!(post(&format!("http://{address}/")).await.outcome, Outcome::Accepted);
    let sent = receiver.await.unwrap();
    // What the system and hyper take in before anybody reads it.
    assert!(sent < LONG / 4, "{sent} octets");
}

#[tokio::test]
async fn one_connection_serves_many_deliveries() {
    let ports = Arc::new(Mutex::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::clone(&ports);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            let service = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"thanks"))))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let webhook = webhook(&format!("http://{address}/"), Reach::Loopback);
    for own in 0..20 {
        let id = EventId::new(1, own);
        let answer = webhook.post(id, Bytes::from_static(b"{}"), SystemTime::now()).await;
        assert_eq!(answer.outcome, Outcome::Accepted);
    }
    assert_eq!(*ports.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_connection_the_receiver_closed_meanwhile_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        // One answer a connection, then the end without a word of it.
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let webhook = webhook(&format!("http://{address}/"), Reach::Loopback);
    for at in 0..3 {
        let (id, now) = (EventId::new(1_787_225_654_000, at), SystemTime::now());
        let answer = webhook.post(id, Bytes::from_static(b"{}"), now).await;
        assert_eq!(answer.outcome, Outcome::Accepted, "{}: {}", at, answer.reason);
        is_closed.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Answers once on each connection, then ends it when told to; counts connections.
async fn closing_server() -> (SocketAddr, Arc<Mutex<usize>>, Arc<tokio::sync::Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, close) = (Arc::new(Mutex::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (counted, told) = (Arc::clone(&count), Arc::clone(&close));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                told.notified().await;
            });
        }
    });
    (address, count, close)
}

#[tokio::test]
async fn a_connection_the_receiver_closed_is_let_go_of_at_the_next_sweep() {
    let (address, _, close) = closing_server().await;
    let webhook = webhook(&format!("http://{address}/"), Reach::Loopback);
    let answer = webhook.post(EventId::new(1, 1), Bytes::from_static(b"{}"), SystemTime::now());
    assert_eq!(answer.await.outcome, Outcome::Accepted);
    webhook.sweep();
    assert_eq!(webhook.connections_kept(), 1, "an open one stays");
    close.notify_one();
    wait_until(|| {
        webhook.sweep();
        webhook.connections_kept() == 0
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_costs_no_attempt_though_the_tasks_budget_is_used_up() {
    let (address, count, close) = closing_server().await;
    let webhook = webhook(&format!("http://{address}/"), Reach::Loopback);
    let post =
        |own| webhook.post(EventId::new(1, own), Bytes::from_static(b"{}"), SystemTime::now());
    assert_eq!(post(1).await.outcome, Outcome::Accepted);
    close.notify_one();
    // Long enough for it to be looked at.
    tokio::time::sleep(Duration::from_millis(150)).await;
    // Without a budget no socket tells its end, so that the connection looks open.
    std::future::poll_fn(|context| {
        while std::pin::pin!(tokio::task::consume_budget()).poll(context).is_ready() {}
        std::task::Poll::Ready(())
    })
    .await;
    let answer = post(2).await;
    assert_eq!((answer.outcome, answer.reason.as_str()), (Outcome::Accepted, "204 No Content"));
    assert_eq!(*count.lock().unwrap(), 2, "another one took its place");
}

#[tokio::test]
async fn a_connection_whose_answer_was_not_read_to_its_end_is_not_kept() {
    let long = Bytes::from(vec![b'x'; ANSWER_OCTETS_MAX + 1]);
    let (address, _) = server(move |_| Response::new(Full::new(long.clone()))).await;
    let too_long = webhook(&format!("http://{address}/"), Reach::Loopback);
    let answer = too_long.post(EventId::new(1, 1), Bytes::new(), SystemTime::now()).await;
    assert_eq!((answer.outcome, too_long.connections_kept()), (Outcome::Accepted, 0));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stalling = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n-").await.unwrap();
        // The other end is the first to go.
        stream.read(&mut [0; 1024]).await.unwrap()
    });
    let target = Target::parse(&format!("http://{address}/"), Reach::Loopback).unwrap();
    let patient =
        Webhook::new(target, Secret::new([7; 32]), Duration::from_secs(5), &Tls::new().unwrap());
    let answer = patient.post(EventId::new(1, 1), Bytes::new(), SystemTime::now()).await;
    assert_eq!((answer.outcome, patient.connections_kept()), (Outcome::Accepted, 0));
    assert_eq!(stalling.await.unwrap(), 0);
}

#[tokio::test]
async fn an_attempt_is_seen_only_once_it_has_a_connection() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let webhook = webhook(&format!("http://{address}/"), Reach::Loopback);
    let post = || webhook.post(EventId::new(1, 1), Bytes::new(), SystemTime::now());
    {
        let mut taken = std::pin::pin!(post());
        tokio::select! {
            answer = taken.as_mut() => panic!("{answer:?}"),
            () = wait_until(|| webhook.attempts_seen() == 1) => {}
        }
    }
    assert_eq!(webhook.attempts_seen(), 0);
    // Nobody takes what queues up here, and then there is no room for more.
    let mut queued = Vec::new();
    while let Ok(one) =
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address))
            .await
    {
        queued.push(one.unwrap());
    }
    let mut waiting = std::pin::pin!(post());
    let soon = tokio::time::timeout(Duration::from_millis(500), waiting.as_mut());
    assert!(soon.await.is_err());
    assert_eq!(webhook.attempts_seen(), 0);
}

#[tokio::test]
async fn r165_a_name_that_leads_here_is_not_followed_from_outside() {
    let (address, kept) = server(|_| Response::new(Full::default())).await;
    // This machine's own name for itself, as a hostile DNS would give it to any name.
    let mut target = Target::parse("http://localhost/", Reach::Loopback).unwrap();
    let url = format!("http://localhost:{}/", address.port());
    assert_eq!(post(&url).await.outcome, Outcome::Accepted);
    target.pretend(&url, Reach::Public);
    let webhook = Webhook::new(target, Secret::new([7; 32]), PATIENCE, &Tls::new().unwrap());
    let id = EventId::new(1, 1);
    let answer = webhook.post(id, Bytes::from_static(b"{}"), SystemTime::now()).await;
    assert_eq!(answer.outcome, FAILED);
    assert_eq!(answer.reason, "localhost leads only to addresses out of reach");
    assert_eq!(kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn r163_a_receiver_is_believed_by_its_certificate_alone() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let folder = Folder::new("tls");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(&folder.0)
        .output();
    // Where there is no openssl there is nothing to make a certificate with.
    let Ok(made) = made else { return };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = CertificateDer::from_pem_file(folder.0.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.0.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|_| async {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.await.unwrap_or_default();
            });
        }
    });
    let ask = async |host: &str, tls: Tls| {
        let target = Target::parse(&format!("https://{host}:{port}/"), Reach::Loopback).unwrap();
        let webhook = Webhook::new(target, Secret::new([7; 32]), PATIENCE, &tls);
        webhook.post(EventId::new(1, 1), Bytes::from_static(b"{}"), SystemTime::now()).await
    };
    let trusted = ask("localhost", Tls::trusting(certificate.clone())).await;
    assert_eq!(trusted.outcome, Outcome::Accepted, "{}", trusted.reason);
    for (host, tls) in
        [("localhost", Tls::new().unwrap()), ("127.0.0.1", Tls::trusting(certificate))]
    {
        let answer = ask(host, tls).await;
        assert_eq!(answer.outcome, FAILED);
        assert!(answer.reason.contains("certificate"), "{host}: {}", answer.reason);
    }
}

/// A folder that goes with the test.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("postbell-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A delivery as the hub makes it.
fn delivery() -> (EventId, Bytes) {
    let json = r#"{"event":"MessageNew","uri":"imap://john%40example.org@imap.example.org/INBOX;UIDVALIDITY=1411487714/;UID=6","timestamp":"2026-08-20T13:34:14.966+02:00","user":"john@example.org","messageSize":976,"messages":5,"service":"lmtp","uidnext":7}"#;
    let selection = Selection { tags: vec!["home".to_owned()], ..Selection::default() };
    let (_, projection) = selection.compile(&Policy::default()).unwrap();
    let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
    let stamp = Stamp { id: EventId::new(1_787_225_654_966, 0xbe11), seq: 42, prev_seq: Some(40) };
    let (mut data, mut body) = (Vec::new(), Vec::new());
    projection.write(&mut data, json.as_bytes(), &view, &stamp);
    write_body(&mut body, &data, &view, &stamp, "imap://elsewhere/");
    (stamp.id, body.into())
}

#[tokio::test]
async fn a_delivery_looks_like_this() {
    let (address, kept) = server(|_| Response::new(Full::default())).await;
    let (id, body) = delivery();
    let url = format!("http://{address}/hook?x=1");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_787_225_655);
    let answer = webhook(&url, Reach::Loopback).post(id, body, at).await;
    assert_eq!(answer, Answer { outcome: Outcome::Accepted, reason: "200 OK".to_owned() });

    let request = kept.lock().unwrap().remove(0);
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let text = text.replace(&address.to_string(), "[host]");
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    insta::assert_snapshot!(format!("{text}\n{body:#}"));

    let signed =
        webhook(&url, Reach::Loopback).secret.sign(&id.to_string(), 1_787_225_655, request.body());
    assert_eq!(request.headers()["webhook-signature"], signed);
}

/// The first block of the page in `language`.
fn block(language: &str) -> &'static str {
    let page = include_str!("../../../../docs/webhook.md");
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_pages_example_is_what_is_sent() {
    let (_, body) = delivery();
    let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let shown: serde_json::Value = serde_json::from_str(block("json")).unwrap();
    assert_eq!(shown, sent);
}

#[test]
fn r164_openssl_finds_the_same_signature_as_the_page_says() {
    use std::process::Command;
    let (id, body) = delivery();
    let signature = Secret::new([7; 32]).sign(&id.to_string(), 1_787_225_655, &body);
    assert!(block("http").contains(&format!("webhook-signature: {signature}\n")));
    if Command::new("openssl").arg("version").output().is_err() {
        // Then the vector of the reference implementation must do.
        return;
    }
    let folder = Folder::new("openssl");
    std::fs::write(folder.0.join("body.json"), &body).unwrap();
    let output = Command::new("sh")
        .args(["-c", block("sh")])
        .current_dir(&folder.0)
        .env("SECRET", Secret::new([7; 32]).reveal())
        .env("ID", id.to_string())
        .env("TIMESTAMP", "1787225655")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(signature, format!("v1,{}", printed.trim()));
}

/// Asks a server that answers so, in the name of `imap.example.org`.
async fn asked(status: u16, headers: &'static [(&'static str, &'static str)]) -> Agreement {
    let (address, kept) = server(move |_| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Full::default()).unwrap()
    })
    .await;
    let webhook = webhook(&format!("http://{address}/hook?x=1"), Reach::Loopback);
    let agreement = webhook.ask("imap.example.org", SystemTime::now()).await;
    let request = kept.lock().unwrap().remove(0);
    assert_eq!(
        (request.method().as_str(), request.uri().to_string().as_str()),
        ("OPTIONS", "/hook?x=1")
    );
    assert_eq!(request.headers()["webhook-request-origin"], "imap.example.org");
    assert!(request.body().is_empty() && !request.headers().contains_key("webhook-signature"));
    agreement
}

#[tokio::test]
async fn r165_only_a_receiver_that_names_us_or_everybody_agrees() {
    const ALLOWED: (&str, &str) = ("WebHook-Allowed-Origin", "*");
    let agreed = async |headers| asked(200, headers).await;
    for (headers, per_minute) in [
        (&[ALLOWED][..], None),
        (&[("WebHook-Allowed-Origin", "IMAP.example.org"), ("WebHook-Allowed-Rate", "*")], None),
        (&[ALLOWED, ("WebHook-Allowed-Rate", "120")], Some(120)),
    ] {
        let agreement = agreed(headers).await;
        assert_eq!(agreement.answer.outcome, Outcome::Accepted, "{headers:?}");
        assert_eq!(agreement.per_minute.map(u32::from), per_minute, "{headers:?}");
    }
    for (status, headers, reason) in [
        (200, &[][..], "200 OK without WebHook-Allowed-Origin"),
        (204, &[("Allow", "OPTIONS, POST")], "204 No Content without WebHook-Allowed-Origin"),
        (
            200,
            &[("WebHook-Allowed-Origin", "example.org")],
            "200 OK with another WebHook-Allowed-Origin",
        ),
        (
            200,
            &[ALLOWED, ("WebHook-Allowed-Rate", "0")],
            "200 OK with a WebHook-Allowed-Rate that is no number from 1",
        ),
        (405, &[ALLOWED], "405 Method Not Allowed"),
        (302, &[ALLOWED, ("Location", "/elsewhere")], "302 Found"),
    ] {
        let Answer { outcome, reason: told } = asked(status, headers).await.answer;
        assert_eq!((outcome, told.as_str()), (FAILED, reason));
    }
    assert_eq!(asked(410, &[]).await.answer.outcome, Outcome::Gone);
}

#[tokio::test]
async fn r165_the_question_goes_to_no_address_out_of_reach() {
    let (address, kept) = server(|_| Response::new(Full::default())).await;
    let mut target = Target::parse("http://localhost/", Reach::Loopback).unwrap();
    assert!(target.is_here());
    target.pretend(&format!("http://localhost:{}/", address.port()), Reach::Public);
    let webhook = Webhook::new(target, Secret::new([7; 32]), PATIENCE, &Tls::new().unwrap());
    let agreement = webhook.ask("imap.example.org", SystemTime::now()).await;
    assert_eq!(agreement.answer.reason, "localhost leads only to addresses out of reach");
    assert!(kept.lock().unwrap().is_empty());
}
