//! Events handed in over HTTP, beside a bare axum server that takes the same bodies and looks at
//! none of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::bail;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use bytes::Bytes;

use super::USERS;
use super::events::Generator;
use super::fixture::{Bare, Fixture};
use super::probe::{self, as_f64, micros_each};
use super::processor;
use super::table::{Probe, Row, Target, short};
use super::wire::{self, Wire};

/// One event in each POST.
pub(super) fn single(folder: &Path, requests: usize) -> anyhow::Result<Row> {
    let bodies = Generator::new(8, USERS).list(requests * TURNS);
    let bodies = bodies.into_iter().map(String::into_bytes).collect();
    let Turns { hub, bare, judged } = alternate(folder, bodies, "application/json")?;
    let (least, middle, most) = spread(judged);
    Ok(Row {
        metric: "HTTP in, one event per POST",
        figure: hub.per_core(),
        unit: "events/s/core",
        probe: Some(Probe { name: "a bare axum server", figure: bare.per_core() }),
        judged: middle,
        target: Some(Target::at_least(0.6, 0.95)),
        note: format!(
            "{CONNECTIONS} connections; {:.1} µs of CPU each, bare {:.1}; judged {} to {} in {TURNS} turns; on this machine {} per s, bare {}",
            micros_each(hub.spent, hub.requests),
            micros_each(bare.spent, bare.requests),
            short(least),
            short(most),
            short(probe::per_second(hub.requests, hub.took)),
            short(probe::per_second(bare.requests, bare.took)),
        ),
    })
}

/// A hundred events in each POST.
pub(super) fn hundreds(folder: &Path, requests: usize) -> anyhow::Result<Row> {
    let events = Generator::new(9, USERS).list(requests * TURNS * HUNDRED);
    let bodies = events.chunks(HUNDRED).map(|lines| lines.join("\n").into_bytes()).collect();
    let Turns { hub, bare, judged } = alternate(folder, bodies, "application/x-ndjson")?;
    let hundred = as_f64(HUNDRED);
    Ok(Row {
        metric: "HTTP in, 100 events per POST",
        figure: hub.per_core() * hundred,
        unit: "events/s/core",
        probe: Some(Probe { name: "a bare axum server", figure: bare.per_core() * hundred }),
        judged: spread(judged).1,
        target: None,
        note: format!(
            "{:.2} µs of CPU an event; on this machine {} events per s",
            micros_each(hub.spent, hub.requests * HUNDRED),
            short(probe::per_second(hub.requests * HUNDRED, hub.took)),
        ),
    })
}

/// What came of hub and bare server taking turns: the middle turn of each, and what each pair of
/// turns is judged.
struct Turns {
    hub: Load,
    bare: Load,
    judged: Vec<f64>,
}

/// Hub and bare server in turns. Each begins its turn with some requests that are not measured:
/// what memory it gave back while the other worked costs a running server nothing.
fn alternate(folder: &Path, bodies: Vec<Vec<u8>>, content_type: &str) -> anyhow::Result<Turns> {
    let each = bodies.len() / TURNS;
    let (mut hubs, mut bares) = (Vec::new(), Vec::new());
    let hub = Fixture::start(folder)?;
    let bare = bare()?;
    for turn in bodies.chunks(each) {
        let (warming, measured) = turn.split_at(each / WARMING_SHARE);
        let taken = |address, token: &str| {
            load(address, requests(warming, token, content_type))?;
            load(address, requests(measured, token, content_type))
        };
        bares.push(taken(bare.address, "none")?);
        hubs.push(taken(hub.address, &hub.token)?);
    }
    hub.stop()?;
    drop(bare);
    let judged = hubs.iter().zip(&bares).map(|(hub, bare)| hub.per_core() / bare.per_core());
    let judged = judged.collect();
    match (middle(hubs), middle(bares)) {
        (Some(hub), Some(bare)) => Ok(Turns { hub, bare, judged }),
        _ => bail!("nothing was measured"),
    }
}

/// The middle one by what a request cost.
fn middle(mut loads: Vec<Load>) -> Option<Load> {
    loads.sort_by(|one, other| one.per_core().total_cmp(&other.per_core()));
    loads.get(loads.len() / 2).copied()
}

/// The least, the middle one and the most.
fn spread(mut ratios: Vec<f64>) -> (f64, f64, f64) {
    ratios.sort_by(f64::total_cmp);
    let at = |place: usize| ratios.get(place).copied().unwrap_or_default();
    (at(0), at(ratios.len() / 2), at(ratios.len().saturating_sub(1)))
}

/// The requests of each connection.
fn requests(bodies: &[Vec<u8>], token: &str, content_type: &str) -> Vec<Vec<Vec<u8>>> {
    bodies
        .chunks(bodies.len().div_ceil(CONNECTIONS).max(1))
        .map(|bodies| {
            bodies.iter().map(|body| wire::post(PATH, token, content_type, body)).collect()
        })
        .collect()
}

/// What serving some requests took.
#[derive(Clone, Copy, Debug)]
struct Load {
    requests: usize,
    /// Processor time of this process, the client's not counted.
    spent: Duration,
    took: Duration,
}

impl Load {
    fn per_core(&self) -> f64 {
        probe::per_second(self.requests, self.spent)
    }
}

/// Sends all requests, each connection its own, one at a time. All are connected before the
/// measuring begins.
fn load(address: SocketAddr, requests: Vec<Vec<Vec<u8>>>) -> anyhow::Result<Load> {
    let count = requests.iter().map(Vec::len).sum();
    let (connected, is_connected) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let client = processor::charged(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut wires = Vec::with_capacity(requests.len());
        for requests in requests {
            wires.push((runtime.block_on(Wire::connect(address))?, requests));
        }
        // Whoever waits for this would rather hear why nothing comes.
        connected.send(processor::thread()).unwrap_or_default();
        started.recv()?;
        runtime.block_on(async {
            let sending: Vec<_> =
                wires.into_iter().map(|wire| tokio::spawn(send_each(address, wire))).collect();
            for connection in sending {
                connection.await??;
            }
            Ok(())
        })
    });
    let Ok(connecting) = is_connected.recv() else {
        client.join()?;
        bail!("{address} took no connection");
    };
    let before = processor::process();
    let begun = Instant::now();
    start.send(())?;
    let ((), client) = client.join()?;
    let took = begun.elapsed();
    let client = client.saturating_sub(connecting);
    Ok(Load { requests: count, spent: processor::since(before, client), took })
}

async fn send_each(
    address: SocketAddr,
    (mut wire, requests): (Wire, Vec<Vec<u8>>),
) -> anyhow::Result<()> {
    for request in requests {
        wire.send(&request).await?;
        let status = wire.answer().await?;
        if status != 200 {
            bail!("{address} answered {status} to an event");
        }
    }
    Ok(())
}

/// A server that takes a body and answers as the hub does, and does nothing else.
fn bare() -> anyhow::Result<Bare> {
    Bare::start(Router::new().route(PATH, post(take)))
}

async fn take(_body: Bytes) -> impl axum::response::IntoResponse {
    ([(CONTENT_TYPE, "application/json")], BARE_ANSWER)
}

/// What the hub answers to one event, about.
const BARE_ANSWER: &str = r#"{"accepted":1,"repeated":0,"rejected":0,"verdicts":[{"verdict":"accepted","seq":1,"eventId":"01JBENCH0000000000000BENCH"}]}"#;
/// Connections held at once. Each waits for the disk, so that many are needed to keep a core busy.
const CONNECTIONS: usize = 256;
/// Events in a large POST.
const HUNDRED: usize = 100;
/// Where events are handed in.
const PATH: &str = "/v1/events";
/// How often hub and probe take turns.
const TURNS: usize = 9;
/// The share of a turn's requests that come before those measured.
const WARMING_SHARE: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_server_answers_every_request() {
        let bare = bare().unwrap();
        let bodies = Generator::new(1, 10).list(130);
        let bodies: Vec<_> = bodies.into_iter().map(String::into_bytes).collect();
        let load = load(bare.address, requests(&bodies, "none", "application/json")).unwrap();
        assert_eq!(load.requests, 130);
        assert!(load.per_core() > 0.0);
    }

    #[test]
    fn the_hub_takes_every_event_of_a_load() {
        let folder = tempfile::tempdir().unwrap();
        let row = single(folder.path(), 200).unwrap();
        assert!(row.figure > 0.0 && row.judged > 0.0, "{row:?}");
        let row = hundreds(folder.path(), 3).unwrap();
        assert!(row.figure > 0.0, "{row:?}");
    }
}
