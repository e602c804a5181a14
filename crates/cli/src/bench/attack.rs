//! Whether somebody who tries to wear the hub out delays those who don't.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::{HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;

use super::USERS;
use super::attackers::{Answers, Attackers, IDLE, attacks};
use super::events::Generator;
use super::fanout::raise_files;
use super::fixture::{self, Bare, Fixture};
use super::isolation::{self, Receiver};
use super::machine;
use super::probe::{self, as_f64, millis};
use super::publisher::{self, Frames};
use super::table::{Probe, Row, Target};
use super::wire::{Wire, post_json};

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
    let attacks = runtime.block_on(async {
        let mut wire = Wire::connect(hub.address).await?;
        for number in 0..SUBSCRIBERS {
            let body = isolation::subscription(&format!("s{number}"), receiver);
            let request = post_json("/v1/subscriptions", &hub.token, &body);
            wire.send(&request).await?;
            if wire.answer().await? != 201 {
                bail!("a subscription was not made");
            }
        }
        attacks(&mut wire, &hub.token).await
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
        let attackers = Attackers::start(hub.address, &attacks, Answers::AsDocumented)?;
        for _ in 0..each {
            round(&mut beside)?;
        }
        held = held.max(machine::memory_octets().unwrap_or_default().saturating_sub(before));
        asked += attackers.stop()?;
        let attackers = Attackers::start(bare.address, &attacks, Answers::AnyRefusal)?;
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
            "{IDLE} connections that say little or nothing, and {asked} requests refused as documented; {} deliveries each way in {TURNS} turns; p50 {:.2} and {:.2} ms",
            beside.len(),
            millis(probe::median(&mut beside)),
            millis(probe::median(&mut elsewhere)),
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
    let memory = Row {
        metric: "memory that the attack takes",
        figure: as_f64(held >> 20),
        unit: "MiB",
        probe: None,
        judged: as_f64(held >> 20),
        target: Some(Target::at_most(256.0, 128.0)),
        note: "resident, both ends of the connections included".to_owned(),
    };
    Ok(vec![attacked, at_all, memory])
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

/// Webhooks that are served meanwhile.
const SUBSCRIBERS: usize = 10;
/// How long a head may take, so that connections are let go within a turn.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest body.
const BODY_OCTETS_MAX: u64 = 1 << 20;
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
        assert!(
            rows.len() == 3 && rows[..2].iter().all(|row| row.figure > 0.0 && row.judged > 0.0)
        );
        assert!(rows[0].note.contains("150 deliveries each way"), "{rows:?}");
    }
}
