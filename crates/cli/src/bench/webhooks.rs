//! Deliveries to a webhook, beside a bare hyper client that signs and sends the same bodies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::USERS;
use super::events::Generator;
use super::fixture::{self, Fixture};
use super::probe::{self, micros_each};
use super::processor::{self, Charged};
use super::publisher::{self, Frames};
use super::table::{Probe, Row, Target, short};
use super::wire::{self, Wire};

/// Delivers `count` journalled events to a receiver on this machine.
pub(super) fn deliver(folder: &Path, count: usize) -> anyhow::Result<Row> {
    let events = Generator::new(13, USERS).list(count);
    let (mut hubs, mut bares) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bares.push(bare(&events)?);
        hubs.push(hub(folder, &events)?);
    }
    let best = |loads: Vec<Load>| loads.into_iter().min_by_key(|load| load.spent);
    let (Some(hub), Some(bare)) = (best(hubs), best(bares)) else { bail!("nothing was measured") };
    let (figure, beside) =
        (probe::per_second(count, hub.spent), probe::per_second(count, bare.spent));
    Ok(Row {
        metric: "webhooks out, one per POST",
        figure,
        unit: "events/s/core",
        probe: Some(Probe { name: "a bare hyper client that signs", figure: beside }),
        judged: figure / beside,
        target: Some(Target::at_least(0.6, 0.9)),
        note: format!(
            "{LANES} connections; {:.1} µs of CPU each, bare {:.1}; on this machine {} per s, bare {}",
            micros_each(hub.spent, count),
            micros_each(bare.spent, count),
            short(probe::per_second(count, hub.took)),
            short(probe::per_second(count, bare.took)),
        ),
    })
}

/// What delivering all took.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Processor time of this process, the receiver's not counted.
    spent: Duration,
    took: Duration,
}

/// The hub delivers what was journalled before.
fn hub(folder: &Path, events: &[String]) -> anyhow::Result<Load> {
    let hub = Fixture::start(folder)?;
    let mut stream = publisher::connect(&hub.socket)?;
    publisher::one_by_one(&mut stream, &Frames::new(events)?, WINDOW)?;
    drop(stream);
    let receiver = Receiver::start(events.len())?;
    let body = format!(
        r#"{{"name":"bench","begin":{{"seq":1}},"sink":{{"kind":"webhook","url":"http://{}/"}}}}"#,
        receiver.address
    );
    let request = wire::post("/v1/subscriptions", &hub.token, "application/json", body.as_bytes());
    let before = processor::process();
    let begun = Instant::now();
    let status = fixture::runtime()?.block_on(async {
        let mut wire = Wire::connect(hub.address).await?;
        wire.send(&request).await?;
        wire.answer().await
    })?;
    if status != 201 {
        bail!("the hub answered {status} to a subscription");
    }
    let (ended, theirs) = receiver.join()?;
    let load =
        Load { spent: processor::process() - before - theirs, took: ended.max(begun) - begun };
    hub.stop()?;
    Ok(load)
}

/// A bare client sends the same.
fn bare(events: &[String]) -> anyhow::Result<Load> {
    let receiver = Receiver::start(events.len())?;
    let runtime = fixture::runtime()?;
    let lanes: Vec<Vec<Bytes>> = events
        .chunks(events.len().div_ceil(LANES))
        .map(|events| events.iter().map(|event| Bytes::from(cloud_event(event))).collect())
        .collect();
    let before = processor::process();
    let begun = Instant::now();
    let address = receiver.address;
    for lane in lanes {
        runtime.spawn(send_each(address, lane));
    }
    let (ended, theirs) = receiver.join()?;
    Ok(Load { spent: processor::process() - before - theirs, took: ended.max(begun) - begun })
}

/// Signs and sends one body after another over one connection.
async fn send_each(address: SocketAddr, bodies: Vec<Bytes>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end shows in the sender.
    tokio::spawn(connection);
    for body in bodies {
        let now = jiff::Timestamp::now().as_second();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a key of the bench's own")?;
        for part in [ID.as_bytes(), b".", now.to_string().as_bytes(), b".", &body] {
            mac.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let request = Request::post("/")
            .header("host", "localhost")
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", ID)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await?;
    }
    Ok(())
}

/// An event in the envelope the hub puts it in, about.
fn cloud_event(event: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","type":"org.ietf.rfc5423.MessageNew","source":"imap://imap.example.org","id":"{ID}","subject":"user01234%40example.org/INBOX","time":"2026-06-01T12:00:00+02:00","datacontenttype":"application/json","sequence":"00000000000000000001","partitionkey":"user01234%40example.org/INBOX","data":{event}}}"#
    )
}

/// A server that takes POSTs, counts them and answers 200.
struct Receiver {
    address: SocketAddr,
    counting: Charged<Instant>,
}

impl Receiver {
    /// Starts one that ends with the request number `count`.
    fn start(count: usize) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counting = processor::charged(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime
                .block_on(async { count_requests(TcpListener::from_std(listener)?, count).await })
        });
        Ok(Self { address, counting })
    }

    /// When the last request came, and what receiving took.
    fn join(self) -> anyhow::Result<(Instant, Duration)> {
        self.counting.join()
    }
}

async fn count_requests(listener: TcpListener, count: usize) -> anyhow::Result<Instant> {
    let (told, mut hears) = mpsc::unbounded_channel();
    let mut seen = 0;
    while seen < count {
        tokio::select! {
            taken = listener.accept() => {
                let (stream, _) = taken?;
                let told = told.clone();
                tokio::spawn(async move { answer_each(stream, &told).await });
            }
            got = hears.recv() => seen += got.unwrap_or_default(),
            () = tokio::time::sleep(PATIENCE) => {
                bail!("only {seen} of {count} deliveries came");
            }
        }
    }
    Ok(Instant::now())
}

/// Answers requests until the client goes away.
async fn answer_each(
    mut stream: TcpStream,
    told: &mpsc::UnboundedSender<usize>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(BUFFER_OCTETS);
    loop {
        let mut answered = 0;
        while let Some(total) = wire::message_octets(&held)? {
            held.drain(..total);
            stream.write_all(ANSWER).await?;
            answered += 1;
        }
        if answered > 0 {
            told.send(answered)?;
        }
        if stream.read_buf(&mut held).await.context("reading a request")? == 0 {
            return Ok(());
        }
    }
}

/// What the receiver answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Room for a few requests.
const BUFFER_OCTETS: usize = 16 * 1024;
/// An event id, as good as any.
const ID: &str = "01JBENCH0000000000000BENCH";
/// Connections of the bare client: as many as the hub's lanes by default.
const LANES: usize = 16;
/// How long no delivery may come before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often hub and probe take turns.
const TURNS: usize = 3;
/// Events on their way at once while the journal is filled.
const WINDOW: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_client_delivers_every_body() {
        let events = Generator::new(1, 10).list(100);
        let load = bare(&events).unwrap();
        assert!(load.spent > Duration::ZERO && load.took > Duration::ZERO);
    }

    #[test]
    fn the_hub_delivers_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let row = deliver(folder.path(), 100).unwrap();
        assert!(row.figure > 0.0, "{row:?}");
    }
}
