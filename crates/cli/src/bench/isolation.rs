//! Whether one receiver that hangs delays the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::USERS;
use super::events::Generator;
use super::fanout::raise_files;
use super::fixture::{self, Fixture};
use super::probe::{self, millis};
use super::publisher::{self, Frames};
use super::table::{Probe, Row, Target};
use super::wire::{self, Wire};

/// Delivers each event to `subscribers` webhooks, of which one hangs in every other turn; held
/// against each other is how long 99 of 100 deliveries to the others take.
pub(super) fn isolation(folder: &Path, subscribers: usize, events: usize) -> anyhow::Result<Row> {
    raise_files();
    let hub = Fixture::start(folder)?;
    let (fine, arrivals) = serve(Receiver::Answers)?;
    let (hangs, _) = serve(Receiver::Hangs)?;
    let runtime = fixture::runtime()?;
    let mut wire = runtime.block_on(Wire::connect(hub.address))?;
    let mut ask = |path: &str, body: &str, wanted: u16| {
        let request = wire::post(path, &hub.token, "application/json", body.as_bytes());
        let status = runtime.block_on(async {
            wire.send(&request).await?;
            wire.answer().await
        })?;
        if status != wanted {
            bail!("the hub answered {status} to POST {path}");
        }
        anyhow::Ok(())
    };
    for number in 1..subscribers {
        ask("/v1/subscriptions", &subscription(&format!("s{number}"), fine), 201)?;
    }
    ask("/v1/subscriptions", &subscription("hangs", hangs), 201)?;
    let mut stream = publisher::connect(&hub.socket)?;
    let others = subscribers.saturating_sub(1);
    let mut generator = Generator::new(19, USERS);
    let mut round = |times: &mut Vec<Duration>| -> anyhow::Result<()> {
        let frames = Frames::new(&generator.list(1))?;
        let begun = Instant::now();
        publisher::one_by_one(&mut stream, &frames, 1)?;
        for came in 0..others {
            let arrived = arrivals.recv_timeout(PATIENCE);
            let arrived = arrived.with_context(|| format!("{came} of {others} deliveries came"))?;
            times.push(arrived.saturating_duration_since(begun));
        }
        Ok(())
    };
    // Connections are opened, and none of that is counted.
    for _ in 0..WARMING {
        round(&mut Vec::new())?;
    }
    let (mut beside, mut alone) = (Vec::new(), Vec::new());
    let each = (events / TURNS / 2).max(1);
    for _ in 0..TURNS {
        ask("/v1/subscriptions/hangs/resume", "", 200)?;
        for _ in 0..each {
            round(&mut beside)?;
        }
        ask("/v1/subscriptions/hangs/pause", "", 200)?;
        for _ in 0..each {
            round(&mut alone)?;
        }
    }
    drop(stream);
    drop(wire);
    hub.stop()?;
    let (p99, without) = (probe::quantile(&mut beside, 99), probe::quantile(&mut alone, 99));
    Ok(Row {
        metric: "1,000 webhooks, one hangs",
        figure: millis(p99),
        unit: "ms p99",
        probe: Some(Probe { name: "the same while that one is paused", figure: millis(without) }),
        judged: p99.as_secs_f64() / without.as_secs_f64().max(f64::EPSILON),
        target: Some(Target::at_most(1.2, 1.05)),
        note: format!(
            "{subscribers} subscriptions to every event, one event at a time until all others have it; {} deliveries each way in {TURNS} turns; p50 {:.1} and {:.1} ms",
            beside.len(),
            millis(probe::median(&mut beside)),
            millis(probe::median(&mut alone)),
        ),
    })
}

pub(super) fn subscription(name: &str, to: SocketAddr) -> String {
    format!(r#"{{"name":"{name}","sink":{{"kind":"webhook","url":"http://{to}/"}}}}"#)
}

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Receiver {
    Answers,
    /// It takes it, and never says so.
    Hangs,
}

/// Serves on a thread of its own until the process ends; where, and when each request came.
pub(super) fn serve(kind: Receiver) -> anyhow::Result<(SocketAddr, std_mpsc::Receiver<Instant>)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (told, arrivals) = std_mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(accept_each(listener, kind, told))
    });
    Ok((address, arrivals))
}

async fn accept_each(
    listener: std::net::TcpListener,
    kind: Receiver,
    told: std_mpsc::Sender<Instant>,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer_each(stream, kind, told.clone()));
    }
}

async fn answer_each(
    mut stream: TcpStream,
    kind: Receiver,
    told: std_mpsc::Sender<Instant>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(BUFFER_OCTETS);
    while stream.read_buf(&mut held).await? > 0 {
        while let Some(total) = wire::message_octets(&held)? {
            held.drain(..total);
            if kind == Receiver::Answers {
                told.send(Instant::now())?;
                stream.write_all(ANSWER).await?;
            }
        }
    }
    Ok(())
}

/// What the receiver answers.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Room for a few requests.
const BUFFER_OCTETS: usize = 4 * 1024;
/// How long a delivery may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the one hangs and is paused in turn.
const TURNS: usize = 5;
/// Events before any is counted.
const WARMING: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_get_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let row = isolation(folder.path(), 4, 10).unwrap();
        assert!(row.figure > 0.0 && row.judged > 0.0, "{row:?}");
        assert!(row.note.contains("15 deliveries each way"), "{row:?}");
    }
}
