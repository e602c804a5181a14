//! Whether somebody who tries to wear the hub out delays those who don't.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::{HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::USERS;
use super::events::Generator;
use super::fanout::raise_files;
use super::fixture::{self, Bare, Fixture};
use super::isolation::{self, Receiver};
use super::machine;
use super::probe::{self, millis};
use super::publisher::{self, Frames};
use super::table::{Probe, Row, Target};
use super::wire::{self, Wire};

/// Delivers each event to ten webhooks, while the hub is attacked in all the ways below, while a
/// server beside it is, and while nobody is; held against each other is how long 99 of 100
/// deliveries take. What the attack on the other server costs is the attackers' own work, on the
/// same processors, and no hub's.
pub(super) fn attack(folder: &Path, events: usize) -> anyhow::Result<Vec<Row>> {
    raise_files();
    let hub = Fixture::start_with(folder, |config| {
        config.http.header_timeout = HEADER_TIMEOUT;
        config.http.max_body = BODY_OCTETS_MAX;
    })?;
    let (receiver, arrivals) = isolation::serve(Receiver::Answers)?;
    let runtime = fixture::runtime()?;
    runtime.block_on(async {
        let mut wire = Wire::connect(hub.address).await?;
        for number in 0..SUBSCRIBERS {
            let body = isolation::subscription(&format!("s{number}"), receiver);
            let request = post("/v1/subscriptions", &hub.token, &body);
            wire.send(&request).await?;
            if wire.answer().await? != 201 {
                bail!("a subscription was not made");
            }
        }
        anyhow::Ok(())
    })?;
    let mut stream = publisher::connect(&hub.socket)?;
    let mut generator = Generator::new(23, USERS);
    let mut round = |times: &mut Vec<Duration>| -> anyhow::Result<()> {
        let frames = Frames::new(&generator.list(1))?;
        let begun = Instant::now();
        publisher::one_by_one(&mut stream, &frames, 1)?;
        for came in 0..SUBSCRIBERS {
            let arrived = arrivals.recv_timeout(PATIENCE);
            let arrived = arrived.with_context(|| format!("{came} of {SUBSCRIBERS} came"))?;
            times.push(arrived.saturating_duration_since(begun));
        }
        Ok(())
    };
    for _ in 0..WARMING {
        round(&mut Vec::new())?;
    }
    let before = machine::memory_octets().unwrap_or_default();
    let bare = Bare::start(Router::new().fallback(refuse))?;
    let (mut beside, mut elsewhere, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut asked, mut held) = (0, 0);
    let each = (events / TURNS / 2).max(1);
    for _ in 0..TURNS {
        let attackers = Attackers::start(hub.address, &hub.token)?;
        for _ in 0..each {
            round(&mut beside)?;
        }
        held = held.max(machine::memory_octets().unwrap_or_default().saturating_sub(before));
        asked += attackers.stop()?;
        let attackers = Attackers::start(bare.address, &hub.token)?;
        for _ in 0..each {
            round(&mut elsewhere)?;
        }
        attackers.stop()?;
        for _ in 0..each {
            round(&mut alone)?;
        }
    }
    drop(stream);
    hub.stop()?;
    drop(bare);
    let p99 = probe::quantile(&mut beside, 99);
    let held_against = |name, times: &mut [Duration]| {
        let other = probe::quantile(times, 99);
        let judged = p99.as_secs_f64() / other.as_secs_f64().max(f64::EPSILON);
        (Some(Probe { name, figure: millis(other) }), judged)
    };
    let (probe, judged) = held_against("while a bare server beside is attacked", &mut elsewhere);
    let attacked = Row {
        metric: "10 webhooks under attack",
        figure: millis(p99),
        unit: "ms p99",
        probe,
        judged,
        target: Some(Target::at_most(1.2, 1.05)),
        note: format!(
            "{IDLE} connections that say little or nothing, and {asked} requests refused as documented; {} deliveries each way in {TURNS} turns; p50 {:.2} and {:.2} ms; {} MiB more memory, both ends included",
            beside.len(),
            millis(probe::median(&mut beside)),
            millis(probe::median(&mut elsewhere)),
            held >> 20,
        ),
    };
    let (probe, judged) = held_against("while nobody attacks", &mut alone);
    let at_all = Row {
        metric: "the same, with what attackers take",
        figure: millis(p99),
        unit: "ms p99",
        probe,
        judged,
        target: None,
        note: format!(
            "they have their own work on the same processors; p50 {:.2} ms while nobody attacks",
            millis(probe::median(&mut alone)),
        ),
    };
    Ok(vec![attacked, at_all])
}

/// Reads what the hub would, and says no.
async fn refuse(request: Request) -> StatusCode {
    let body = request.into_body();
    if body.size_hint().lower() > BODY_OCTETS_MAX {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    // It says no whatever comes.
    drop(to_bytes(body, usize::try_from(BODY_OCTETS_MAX).unwrap_or(usize::MAX)).await);
    StatusCode::BAD_REQUEST
}

/// All who attack, on one thread.
struct Attackers {
    ended: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Attackers {
    fn start(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let (ended, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (ended, asked, requests) =
                (Arc::clone(&ended), Arc::clone(&asked), requests(token));
            move || {
                // Of this thread alone, in Linux: what attackers do themselves they do elsewhere.
                rustix::process::setpriority_process(None, LEAST_PRIORITY)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(attack_until(&ended, address, &requests, &asked))
            }
        });
        let begun = Instant::now();
        // All connections are open, and each request was answered once, before anything is timed.
        while asked.load(Ordering::Acquire) == 0 {
            if thread.is_finished() || begun.elapsed() > PATIENCE {
                ended.store(true, Ordering::Release);
                bail!("the attack didn't begin: {:?}", thread.join());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Self { ended, asked, thread })
    }

    /// Ends it; how many requests were refused.
    fn stop(self) -> anyhow::Result<usize> {
        self.ended.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(ended) => ended.context("an attack")?,
            Err(_) => bail!("an attack panicked"),
        }
        Ok(self.asked.load(Ordering::Acquire))
    }
}

async fn attack_until(
    ended: &AtomicBool,
    address: SocketAddr,
    requests: &[Vec<u8>],
    asked: &AtomicUsize,
) -> anyhow::Result<()> {
    let mut idle = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut stream = TcpStream::connect(address).await?;
        if number % 2 == 0 {
            // A head that never ends.
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nX: ").await?;
        }
        idle.push(stream);
    }
    for at in 0.. {
        for request in requests {
            let mut wire = Wire::connect(address).await?;
            // The hub may have said no and closed before all was sent.
            drop(wire.send(request).await);
            let status = wire.answer().await?;
            if !(400..500).contains(&status) {
                let line = request.get(..60).unwrap_or(request);
                bail!("{status} to {:?}", String::from_utf8_lossy(line));
            }
            asked.fetch_add(1, Ordering::AcqRel);
            if ended.load(Ordering::Acquire) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        // Those that were let go come again.
        let count = idle.len();
        if let Some(one) = idle.get_mut(at % count.max(1)) {
            *one = TcpStream::connect(address).await?;
        }
    }
    Ok(())
}

/// What is asked, by somebody who has a token and by others.
fn requests(token: &str) -> Vec<Vec<u8>> {
    let sum = vec!["messageSize"; 200].join("+");
    let condition = |text: &str| {
        let sink = r#"{"kind":"webhook","url":"http://127.0.0.1:9/"}"#;
        // All else about it is in order.
        let body = format!(r#"{{"name":"costly","where":"{text}","sink":{sink}}}"#);
        post("/v1/subscriptions", token, &body)
    };
    let get = |path: &str, token: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
        head.into_bytes()
    };
    let endless = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 1099511627776\r\n\r\n"
    );
    vec![
        endless.into_bytes(),
        post("/v1/subscriptions", token, &"[".repeat(DEPTH)),
        post("/v1/subscriptions", token, &r#"{"a":"#.repeat(10_000)),
        condition(&format!("{sum}>1")),
        condition("[1,2,3,4,5,6,7,8,9].all(a,[1,2,3,4,5,6,7,8,9].all(b,[1,2,3].all(c,a+b+c>0)))"),
        condition(r#"user.matches(\"(a+)+$\")"#),
        get("/v1/status", "postbell_guessed"),
        get("/v1/content/AQIAAAAAAAAAGQ", token),
        get("/v1/events?ticket=postbell_ticket_guessed", "none"),
    ]
}

fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    wire::post(path, token, "application/json", body.as_bytes())
}

/// Webhooks that are served meanwhile.
const SUBSCRIBERS: usize = 10;
/// Connections that say little or nothing.
const IDLE: usize = 1_000;
/// Between two requests: the attackers' own work, on the same processors, is not to be measured.
const PAUSE: Duration = Duration::from_millis(5);
/// The attackers' own nice value.
const LEAST_PRIORITY: i32 = 19;
/// How long a head may take, so that connections are let go within a turn.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest body.
const BODY_OCTETS_MAX: u64 = 1 << 20;
/// Nested deeper than anything may be, in a body that is just not too long.
const DEPTH: usize = 500_000;
/// How long a delivery may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the attack begins anew: often, as a machine's pace changes within seconds.
const TURNS: usize = 15;
/// Events before any is counted.
const WARMING: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_delivered_and_every_attack_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rows = attack(folder.path(), 2 * TURNS).unwrap();
        assert!(rows.len() == 2 && rows.iter().all(|row| row.figure > 0.0 && row.judged > 0.0));
        assert!(rows[0].note.contains("150 deliveries each way"), "{rows:?}");
    }
}
