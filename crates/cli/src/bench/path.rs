//! The whole path: a publisher on the Unix stream, the journal, a subscriber on a stream.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memchr::memmem;

use super::USERS;
use super::events::Generator;
use super::fixture::Fixture;
use super::probe::{self, micros_each, millis};
use super::processor::{self, Charged};
use super::publisher::{self, Frames};
use super::table::{Row, Target};

/// As many events as the hub takes, written many at once.
pub(super) fn batches(folder: &Path, rounds: usize) -> anyhow::Result<Row> {
    let hub = Fixture::start(folder)?;
    let frames = frames(DIFFERENT)?;
    let count = frames.len() * rounds;
    let subscriber = subscribe(&hub, count)?;
    let mut writing = publisher::connect(&hub.socket)?;
    let mut reading = writing.try_clone()?;
    let before = processor::process();
    let begun = Instant::now();
    let writer = processor::charged(move || publisher::write_all(&mut writing, &frames, rounds));
    let reader = processor::charged(move || publisher::read_all(&mut reading, count));
    let ((), writer) = writer.join()?;
    let ((), reader) = reader.join()?;
    let (ended, subscriber) = subscriber.join()?;
    let spent = processor::since(before, writer + reader + subscriber);
    let took = ended.max(begun) - begun;
    hub.stop()?;
    let figure = probe::per_second(count, took);
    Ok(Row {
        metric: "whole path, in batches",
        figure,
        unit: "events/s",
        probe: None,
        judged: figure,
        target: Some(Target::at_least(400_000.0, 700_000.0)),
        note: format!(
            "{count} events, Unix stream to one NDJSON stream; {:.2} µs of CPU each, clients not counted",
            micros_each(spent, count)
        ),
    })
}

/// One event per write, with up to 256 on their way.
pub(super) fn single(folder: &Path, count: usize) -> anyhow::Result<Vec<Row>> {
    let hub = Fixture::start(folder)?;
    let frames = frames(count)?;
    let subscriber = subscribe(&hub, count)?;
    let mut stream = publisher::connect(&hub.socket)?;
    let before = processor::process();
    let begun = Instant::now();
    let publishing =
        processor::charged(move || publisher::one_by_one(&mut stream, &frames, WINDOW));
    let (mut times, publishing) = publishing.join()?;
    let (ended, subscriber) = subscriber.join()?;
    let spent = processor::since(before, publishing + subscriber);
    let figure = probe::per_second(count, ended.max(begun) - begun);
    let wide = Row {
        metric: "whole path, one event per write",
        figure,
        unit: "events/s",
        probe: None,
        judged: figure,
        target: Some(Target::at_least(150_000.0, 300_000.0)),
        note: format!(
            "window {WINDOW}; ack p50 {:.2} ms, p99 {:.2} ms; {:.2} µs of CPU each",
            millis(probe::median(&mut times)),
            millis(probe::quantile(&mut times, 99)),
            micros_each(spent, count)
        ),
    };
    let narrow = alone(&hub, folder)?;
    hub.stop()?;
    Ok(vec![wide, narrow])
}

/// One event on its way at a time.
fn alone(hub: &Fixture, folder: &Path) -> anyhow::Result<Row> {
    let events = Generator::new(12, USERS).list(ALONE);
    let mut stream = publisher::connect(&hub.socket)?;
    let (mut times, mut syncs) = (Vec::new(), Vec::new());
    for events in events.chunks(ALONE / ALONE_TURNS) {
        syncs.push(probe::sync(folder, events.len())?);
        times.extend(publisher::one_by_one(&mut stream, &Frames::new(events)?, 1)?);
    }
    let (p50, sync) = (probe::median(&mut times), probe::median(&mut syncs));
    Ok(Row {
        metric: "whole path, one at a time",
        figure: millis(p50),
        unit: "ms p50",
        probe: Some(super::table::Probe { name: "4 KiB and fdatasync, p50", figure: millis(sync) }),
        judged: p50.as_secs_f64() / sync.as_secs_f64().max(f64::EPSILON),
        target: None,
        note: format!(
            "window 1, until acknowledged; p99 {:.2} ms",
            millis(probe::quantile(&mut times, 99))
        ),
    })
}

fn frames(count: usize) -> anyhow::Result<Frames> {
    Frames::new(&Generator::new(11, USERS).list(count))
}

/// Follows the hub's stream on a thread of its own until `count` events have come; gives when
/// the last one did. The stream is open when this returns.
fn subscribe(hub: &Fixture, count: usize) -> anyhow::Result<Charged<Instant>> {
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         accept: application/x-ndjson\r\n\r\n",
        hub.token
    );
    let mut stream = TcpStream::connect(hub.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let (opened, is_open) = mpsc::channel();
    let following = processor::charged(move || {
        let mut counter = Counter::default();
        let mut buffer = vec![0; BUFFER_OCTETS];
        let mut head = Vec::new();
        while memmem::find(&head, HEAD_END).is_none() {
            let got = read(&mut stream, &mut buffer)?;
            head.extend_from_slice(buffer.get(..got).unwrap_or_default());
        }
        if !head.starts_with(b"HTTP/1.1 200") {
            bail!("the stream was refused: {}", String::from_utf8_lossy(&head));
        }
        let end = memmem::find(&head, HEAD_END).unwrap_or_default();
        counter.add(head.get(end..).unwrap_or_default());
        // Whoever waits for this has a failure of its own if it has gone.
        opened.send(()).unwrap_or_default();
        while counter.events < count {
            let got = read(&mut stream, &mut buffer)
                .with_context(|| format!("after {} of {count} events", counter.events))?;
            counter.add(buffer.get(..got).unwrap_or_default());
        }
        if counter.events != count {
            bail!("{} events came where {count} were published", counter.events);
        }
        Ok(Instant::now())
    });
    if is_open.recv().is_err() {
        following.join()?;
        bail!("the stream ended before it began");
    }
    Ok(following)
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let got = stream.read(buffer).context("waiting for the stream")?;
    if got == 0 {
        bail!("the stream ended");
    }
    Ok(got)
}

/// Counts lines that end an event, wherever the pieces are cut. The lengths that HTTP puts
/// between its chunks end with `\r\n` and never with `}\n`.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// How many came.
    pub(super) events: usize,
    ended_with_brace: bool,
}

impl Counter {
    /// Takes the next piece.
    pub(super) fn add(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        if self.ended_with_brace && piece.first() == Some(&b'\n') {
            self.events += 1;
        }
        self.events += memmem::find_iter(piece, b"}\n").count();
        self.ended_with_brace = *last == b'}';
    }
}

/// Events one at a time.
const ALONE: usize = 1_000;
/// How often those and their probe take turns.
const ALONE_TURNS: usize = 5;
/// Read at once from the stream.
const BUFFER_OCTETS: usize = 512 * 1024;
/// Different events, published again and again: more than are recognised as repeats.
const DIFFERENT: usize = 100_000;
/// What ends the head of an HTTP answer.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// How long the stream may be silent before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events on their way at once.
const WINDOW: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_cut_anywhere_are_counted_once() {
        let text = b"10\r\n{\"a\":{}}\n\r\n10\r\n{\"b\":1}\n{\"c\":2}\n\r\n";
        for cut in 0..text.len() {
            let mut counter = Counter::default();
            counter.add(&text[..cut]);
            counter.add(&text[cut..]);
            assert_eq!(counter.events, 3, "{cut}");
        }
    }

    #[test]
    fn every_event_published_comes_out_of_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let rows = single(folder.path(), 600).unwrap();
        assert!(rows.iter().all(|row| row.figure > 0.0), "{rows:?}");
    }
}
