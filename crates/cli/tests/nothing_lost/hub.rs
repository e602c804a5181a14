//! The hub is killed, stopped, or out of the exporter's reach.

use std::thread;
use std::time::Duration;

use postbell_testkit::Error;

use crate::bench::{Bench, Exporter};
use crate::crowd::{self, Crowd};

fn crowd(seed: u64) -> Crowd {
    Crowd { name: "w", seed, deeds: 20, pause: Duration::from_millis(120) }
}

#[test]
fn killed_at_random_under_sixteen_clients_it_tells_each_thing_once() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Exporter::Heard)? else { return Ok(()) };
    let seed = crowd::seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let hub = &mut bench.hub;
    let (ok, outcome) = crowd::work(&bench.server, crowd(seed), || {
        for _ in 0..crowd::rounds(12) {
            thread::sleep(Duration::from_millis(dice.u64(50..1_500)));
            hub.kill();
            thread::sleep(Duration::from_millis(dice.u64(0..400)));
            hub.resume()?;
        }
        Ok::<(), Error>(())
    })?;
    outcome?;
    bench.assert_told(&ok);
    Ok(())
}

/// The clients do all their work, one command after the other, while the hub stands still.
#[test]
fn stopped_for_a_minute_it_delays_no_client_and_then_tells_all() -> Result<(), Error> {
    let Some(bench) = Bench::start(Exporter::Heard)? else { return Ok(()) };
    bench.hub.hold()?;
    let crowd = Crowd { pause: Duration::from_millis(500), ..crowd(crowd::seed()) };
    let (ok, ()) = crowd::work(&bench.server, crowd, || thread::sleep(MINUTE))?;
    // No answer came because it went on.
    assert!(bench.hub.is_held());
    bench.hub.release()?;
    bench.assert_told(&ok);
    Ok(())
}

#[test]
fn without_the_exporter_each_thing_is_told_with_less() -> Result<(), Error> {
    let Some(bench) = Bench::start(Exporter::Away)? else { return Ok(()) };
    let crowd = Crowd { deeds: 60, ..crowd(crowd::seed()) };
    let (ok, ()) = crowd::work(&bench.server, crowd, || ())?;
    bench.assert_told(&ok);
    let told = bench.told();
    let linked = |name: &str| told.iter().filter(|told| told.event.vendor(name).is_some()).count();
    // What the exporter alone knows.
    assert_eq!(linked("vnd.postbell.movedToMailboxID"), 0);
    assert_eq!(linked("vnd.postbell.copyFromMailboxID"), 0);
    Ok(())
}

const MINUTE: Duration = Duration::from_secs(60);
