//! One event to many clients of the stream.

use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::USERS;
use super::crowd::Crowd;
use super::events::Generator;
use super::fixture::Fixture;
use super::machine;
use super::probe::{self, as_f64, micros_each};
use super::processor;
use super::publisher::{self, Frames};
use super::table::{Row, Target, short};

/// One client, a hundred, and ten thousand or as many as this machine lets a process have.
pub(super) fn fan_out(folder: &Path, deliveries: usize) -> anyhow::Result<Vec<Row>> {
    let files = raise_files();
    // Both ends of each connection are in this process.
    let most = files.saturating_sub(FILES_BESIDE) / 2;
    // The most first: what another has left would be taken for nothing.
    let sizes =
        [("fan-out to 10,000", 10_000), ("fan-out to 100", 100), ("fan-out to 1 SSE client", 1)];
    let rows = sizes.map(|(metric, clients)| to(folder, metric, clients.min(most), deliveries));
    rows.into_iter().rev().collect()
}

fn to(folder: &Path, metric: &'static str, clients: usize, total: usize) -> anyhow::Result<Row> {
    let places = u32::try_from(clients)? + PLACES_BESIDE;
    let hub = Fixture::start_with(folder, |config| {
        config.http.max_streams = places;
        config.http.max_connections = places;
    })?;
    let events = (total / clients.max(1)).max(EVENTS_MIN);
    let frames = Frames::new(&Generator::new(17, USERS).list(events))?;
    let mut stream = publisher::connect(&hub.socket)?;
    let before = machine::memory_octets().unwrap_or_default();
    let crowd = Crowd::start(hub.address, &hub.token, clients, events)?;
    let held = machine::memory_octets().unwrap_or_default().saturating_sub(before);
    let spent = processor::process();
    let begun = Instant::now();
    let mut times = publisher::one_by_one(&mut stream, &frames, WINDOW)?;
    let (ended, theirs) = crowd.join()?;
    let spent = processor::since(spent, theirs);
    drop(stream);
    hub.stop()?;
    let deliveries = clients * events;
    let figure = probe::per_second(deliveries, ended.max(begun) - begun);
    Ok(Row {
        metric,
        figure,
        unit: "deliveries/s",
        probe: None,
        judged: figure,
        // What a bare loop over a thousand SSE clients reached, and axum's own.
        target: (clients >= 100).then(|| Target::at_least(156_000.0, 200_000.0)),
        note: format!(
            "{clients} clients, {events} events, window {WINDOW}; {:.2} µs of CPU a delivery, clients not counted; ack p99 {:.1} ms; {} KiB a client, its own end included",
            micros_each(spent, deliveries),
            probe::millis(probe::quantile(&mut times, 99)),
            short(as_f64(held) / as_f64(clients.max(1)) / 1024.0),
        ),
    })
}

/// Has this process open as many files as the system lets it; how many that is.
pub(super) fn raise_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // What it has is what there is.
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Events at least, so that a rate can be told.
const EVENTS_MIN: usize = 20;
/// Files that are no connections of clients.
const FILES_BESIDE: usize = 200;
/// Places for others than the crowd.
const PLACES_BESIDE: u32 = 16;
/// Events on their way at once: few, so that clients are told of them one by one.
const WINDOW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let row = to(folder.path(), "a few", 5, 200).unwrap();
        assert!(row.figure > 0.0 && row.note.starts_with("5 clients, 40 events"), "{row:?}");
    }
}
