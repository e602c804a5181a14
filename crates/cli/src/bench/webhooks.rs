//! Deliveries to a webhook, beside a bare hyper client that signs and sends the same requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
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
use memchr::memmem;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::USERS;
use super::events::Generator;
use super::fixture::{self, Fixture};
use super::probe::{self, micros_each};
use super::processor::{self, Charged};
use super::publisher::{self, Frames};
use super::table::{Probe, Row, Target, short};
use super::wire::{self, Wire};

/// Delivers `count` journalled events to a receiver on this machine, each by itself and several
/// together.
pub(super) fn deliver(folder: &Path, count: usize) -> anyhow::Result<Vec<Row>> {
    [Way::OneByOne, Way::InBatches].map(|way| measure(folder, count, way)).into_iter().collect()
}

/// How events go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// Each in a request of its own.
    OneByOne,
    /// Many in one, and which is on disk before it is sent.
    InBatches,
}

impl Way {
    fn metric(self) -> &'static str {
        match self {
            Self::OneByOne => "webhooks out, one per POST",
            Self::InBatches => "webhooks out, 100 per POST",
        }
    }

    /// What the subscription's sink says of it.
    fn asked_for(self) -> &'static str {
        match self {
            Self::OneByOne => "",
            Self::InBatches => r#","batch":{"maxEvents":100,"maxDelay":"20ms"}"#,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::OneByOne => "application/cloudevents+json",
            Self::InBatches => "application/cloudevents-batch+json",
        }
    }

    /// A bare client makes no JSON, which with a hundred events in a body is nearly all there is to
    /// do: nothing was promised of that.
    fn target(self) -> Option<Target> {
        match self {
            Self::OneByOne => Some(Target::at_least(0.6, 0.9)),
            Self::InBatches => None,
        }
    }
}

/// The bare client sends what the hub sent before: the same ids, the same bodies, the same headers.
/// Both take turns, and of each the median counts; the ratio is the median of the turns' ratios,
/// since the machine changes its speed between them.
fn measure(folder: &Path, count: usize, way: Way) -> anyhow::Result<Row> {
    let events = Generator::new(13, USERS).list(count);
    let (_, sent) = hub(folder, &events, way, Keep::All)?;
    let (mut hubs, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (bare, _) = bare(&sent, way, Keep::Nothing)?;
        let (hub, _) = hub(folder, &events, way, Keep::Nothing)?;
        ratios.push(bare.spent.as_secs_f64() / hub.spent.as_secs_f64().max(f64::EPSILON));
        bares.push(bare);
        hubs.push(hub);
    }
    let (hub, bare) = (Load::median(&hubs), Load::median(&bares));
    ratios.sort_unstable_by(f64::total_cmp);
    let (Some(least), Some(judged), Some(most)) =
        (ratios.first(), ratios.get(TURNS / 2), ratios.last())
    else {
        bail!("nothing was measured")
    };
    Ok(Row {
        metric: way.metric(),
        figure: probe::per_second(count, hub.spent),
        unit: "events/s/core",
        probe: Some(Probe {
            name: "a bare hyper client that signs and sends the same",
            figure: probe::per_second(count, bare.spent),
        }),
        judged: *judged,
        target: way.target(),
        note: format!(
            "{LANES} connections, {} requests; {:.1} µs of CPU each event, bare {:.1}: {} to {} of it in {TURNS} turns; on this machine {} per s, bare {}",
            sent.len(),
            micros_each(hub.spent, count),
            micros_each(bare.spent, count),
            short(*least),
            short(*most),
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

impl Load {
    /// The middle one of each.
    fn median(loads: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> Duration| {
            probe::median(&mut loads.iter().map(of).collect::<Vec<_>>())
        };
        Self { spent: middle(|load| load.spent), took: middle(|load| load.took) }
    }
}

/// The hub delivers what was journalled before; beside it what it sent, where that is kept.
fn hub(
    folder: &Path,
    events: &[String],
    way: Way,
    keep: Keep,
) -> anyhow::Result<(Load, Vec<Sent>)> {
    let hub = Fixture::start(folder)?;
    let mut stream = publisher::connect(&hub.socket)?;
    publisher::one_by_one(&mut stream, &Frames::new(events)?, WINDOW)?;
    drop(stream);
    let receiver = Receiver::start(events.len(), keep)?;
    let body = format!(
        r#"{{"name":"bench","begin":{{"seq":1}},"sink":{{"kind":"webhook","url":"http://{}/"{}}}}}"#,
        receiver.address,
        way.asked_for(),
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
    let (received, theirs) = receiver.join()?;
    let spent = processor::since(before, theirs);
    let load = Load { spent, took: received.ended.max(begun) - begun };
    hub.stop()?;
    Ok((load, received.kept))
}

/// A bare client sends the same; beside that what came of it, where it is kept.
fn bare(sent: &[Sent], way: Way, keep: Keep) -> anyhow::Result<(Load, Vec<Sent>)> {
    let count = sent.iter().map(|one| events_in(&one.body)).sum();
    let receiver = Receiver::start(count, keep)?;
    let lanes: Vec<Vec<Sent>> =
        sent.chunks(sent.len().div_ceil(LANES).max(1)).map(<[Sent]>::to_vec).collect();
    let before = processor::process();
    let begun = Instant::now();
    let address = receiver.address;
    let sending = std::thread::spawn(move || {
        // One thread, as a subscription of the hub has.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut sending: JoinSet<_> =
                lanes.into_iter().map(|lane| send_each(address, lane, way)).collect();
            while let Some(sent) = sending.join_next().await {
                sent??;
            }
            anyhow::Ok(())
        })
    });
    let (received, theirs) = receiver.join()?;
    match sending.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("the bare client panicked"),
    }
    let spent = processor::since(before, theirs);
    Ok((Load { spent, took: received.ended.max(begun) - begun }, received.kept))
}

/// Signs and sends one body after another over one connection.
async fn send_each(address: SocketAddr, lane: Vec<Sent>, way: Way) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end shows in the sender.
    tokio::spawn(connection);
    let host = address.to_string();
    for Sent { id, body, .. } in lane {
        let now = jiff::Timestamp::now().as_second();
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY)?;
        for part in [id.as_bytes(), b".", now.to_string().as_bytes(), b".", &body] {
            mac.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let request = Request::post("/")
            .header("host", host.as_str())
            .header("content-type", way.content_type())
            .header("user-agent", AGENT)
            .header("webhook-id", &*id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await?;
    }
    Ok(())
}

/// A request as it came.
#[derive(Clone, Debug)]
struct Sent {
    id: Arc<str>,
    /// Down to the empty line; only tests look at it.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests look at it"))]
    head: Arc<str>,
    body: Bytes,
}

impl Sent {
    fn parse(request: &[u8]) -> anyhow::Result<Self> {
        let end = memmem::find(request, b"\r\n\r\n").context("a request without an end")? + 4;
        let (head, body) = request.split_at_checked(end).context("a request cut off")?;
        let head = std::str::from_utf8(head)?;
        let id = head.lines().find_map(|line| line.strip_prefix("webhook-id: "));
        let id = id.context("a delivery without an id")?;
        Ok(Self { id: id.into(), head: head.into(), body: Bytes::copy_from_slice(body) })
    }
}

/// Whether a receiver keeps what it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keep {
    /// Every request.
    All,
    /// Their number alone.
    Nothing,
}

/// What a receiver got.
#[derive(Debug)]
struct Received {
    /// When the last request came.
    ended: Instant,
    kept: Vec<Sent>,
}

/// A server that takes POSTs, counts them and answers 200.
struct Receiver {
    address: SocketAddr,
    counting: Charged<Received>,
}

impl Receiver {
    /// Starts one that ends with the event number `count`.
    fn start(count: usize, keep: Keep) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counting = processor::charged(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                count_requests(TcpListener::from_std(listener)?, count, keep).await
            })
        });
        Ok(Self { address, counting })
    }

    /// What came, and what receiving took.
    fn join(self) -> anyhow::Result<(Received, Duration)> {
        self.counting.join()
    }
}

async fn count_requests(
    listener: TcpListener,
    count: usize,
    keep: Keep,
) -> anyhow::Result<Received> {
    let (told, mut hears) = mpsc::unbounded_channel();
    let (mut seen, mut kept) = (0, Vec::new());
    while seen < count {
        tokio::select! {
            taken = listener.accept() => {
                let (stream, _) = taken?;
                let told = told.clone();
                tokio::spawn(async move { answer_each(stream, keep, &told).await });
            }
            got = hears.recv() => {
                let (answered, requests) = got.unwrap_or_default();
                seen += answered;
                kept.extend(requests);
            }
            () = tokio::time::sleep(PATIENCE) => {
                bail!("only {seen} of {count} deliveries came");
            }
        }
    }
    Ok(Received { ended: Instant::now(), kept })
}

/// How many CloudEvents are in a request.
fn events_in(request: &[u8]) -> usize {
    memmem::find_iter(request, br#""specversion":"#).count()
}

/// Answers requests until the client goes away; tells how many events were in them, and which they
/// were where they are kept.
async fn answer_each(
    mut stream: TcpStream,
    keep: Keep,
    told: &mpsc::UnboundedSender<(usize, Vec<Sent>)>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(BUFFER_OCTETS);
    loop {
        let (mut answered, mut kept) = (0, Vec::new());
        while let Some(total) = wire::message_octets(&held)? {
            let request = held.get(..total).unwrap_or_default();
            if keep == Keep::All {
                kept.push(Sent::parse(request)?);
            }
            answered += events_in(request);
            held.drain(..total);
            stream.write_all(ANSWER).await?;
        }
        if answered > 0 {
            told.send((answered, kept))?;
        }
        if stream.read_buf(&mut held).await.context("reading a request")? == 0 {
            return Ok(());
        }
    }
}

/// Who the bare client says it is: a text as long as the hub's.
const AGENT: &str = concat!("postbell/", env!("CARGO_PKG_VERSION"));
/// What the receiver answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Room for a few requests.
const BUFFER_OCTETS: usize = 16 * 1024;
/// What the bare client signs with: a key as long as the hub's.
const KEY: &[u8] = &[0x5a; 32];
/// Connections of the bare client: as many as the hub's lanes by default.
const LANES: usize = 16;
/// How long no delivery may come before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often hub and probe take turns.
const TURNS: usize = 5;
/// Events on their way at once while the journal is filled.
const WINDOW: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_client_sends_what_the_hub_sends() {
        for way in [Way::OneByOne, Way::InBatches] {
            let folder = tempfile::tempdir().unwrap();
            let events = Generator::new(1, 10).list(100);
            let (_, theirs) = hub(folder.path(), &events, way, Keep::All).unwrap();
            let (load, ours) = bare(&theirs, way, Keep::All).unwrap();
            assert!(load.spent > Duration::ZERO && load.took > Duration::ZERO);
            assert_eq!(bodies(&theirs), bodies(&ours));
            let together = theirs.iter().filter(|one| events_in(&one.body) > 1).count();
            assert_eq!(theirs.iter().map(|one| events_in(&one.body)).sum::<usize>(), 100);
            assert_eq!(together > 0, way == Way::InBatches);
            // Ports, times and signatures differ, but not in their length.
            assert_eq!(head(&theirs), head(&ours));
        }
    }

    /// Ids and bodies, in order.
    fn bodies(of: &[Sent]) -> Vec<(Arc<str>, Bytes)> {
        let mut all: Vec<_> = of.iter().map(|one| (one.id.clone(), one.body.clone())).collect();
        all.sort_unstable();
        all
    }

    /// What stands before the first of these bodies, and how long it is.
    fn head(of: &[Sent]) -> Vec<String> {
        let id = bodies(of).remove(0).0;
        let head = &of.iter().find(|one| one.id == id).unwrap().head;
        let shape = |line: &str| match line.split_once(": ") {
            Some((name, value)) => format!("{name}: {}", value.len()),
            None => line.to_owned(),
        };
        head.lines().map(shape).collect()
    }

    #[test]
    fn the_hub_delivers_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let rows = deliver(folder.path(), 100).unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.figure > 0.0 && row.judged > 0.0), "{rows:?}");
    }
}
