//! The disk with the journal runs full, and room returns.

use std::time::{Duration, Instant};

use postbell_acceptance::Bench;
use postbell_testkit::{Agent, Error, Tmpfs, mail};

#[test]
fn a_full_disk_stops_intake_until_room_returns_and_loses_nothing() -> Result<(), Error> {
    let Some(agent) = Agent::maildrop()? else { return Ok(()) };
    let Some(disk) = Tmpfs::mount(DISK_OCTETS)? else { return Ok(()) };
    let mut bench = Bench::start_in(&disk.path().join("data"), &agent.mail())?;
    bench.hear_out()?;
    agent.deliver(&mail::plain("before"))?;
    bench.hear(1)?;

    let ballast = disk.fill()?;
    for number in 0..DELIVERIES {
        agent.deliver(&mail::plain(&format!("during-{number}")))?;
    }
    let answer = wait_for(&bench, 503)?;
    assert!(answer.contains("full"), "the state must say why: {answer}");

    std::fs::remove_file(&ballast).map_err(Error::io("make room"))?;
    bench.hear(DELIVERIES)?;
    wait_for(&bench, 200)?;
    assert!(bench.hear_out()?.is_empty(), "each delivery is told once");
    let mut uids: Vec<_> =
        bench.heard().iter().filter_map(postbell_acceptance::Told::uid).collect();
    uids.sort_unstable();
    assert_eq!(uids.len(), DELIVERIES + 1);
    uids.dedup();
    assert_eq!(uids.len(), DELIVERIES + 1, "each delivery is told once");
    Ok(())
}

/// What `/readyz` answers once it answers `status`.
fn wait_for(bench: &Bench, status: u16) -> Result<String, Error> {
    let begun = Instant::now();
    loop {
        let answer = bench.get("/readyz")?;
        if answer.status == status {
            return Ok(answer.body);
        }
        if begun.elapsed() > PATIENCE {
            let expected = format!("{status} from /readyz");
            return Err(Error::Answer { expected, answer: format!("{answer:?}") });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Room for the hub's files and some more.
const DISK_OCTETS: u64 = 24 * 1024 * 1024;
/// More than fit into what may be left in files already there.
const DELIVERIES: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);
