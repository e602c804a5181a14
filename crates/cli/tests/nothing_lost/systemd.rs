//! Systemd holds the sockets, and all of `postbell notifyd` is killed, or stopped in order, while clients
//! of a Cyrus change flags.

use postbell_testkit::cyrus::Form;
use postbell_testkit::{EndedBy, Error, Hub};

use crate::bench::{Bench, Handed};
use crate::crowd;
use crate::cyrus::{CLIENTS, Free, Work};
use crate::facts::Ledger;

#[test]
fn handed_its_sockets_and_killed_whole_it_tells_each_change_once() -> Result<(), Error> {
    let killed = killed(Form::Datagrams, &Work::of(1_000), crowd::rounds(60))?;
    killed.into_iter().for_each(|(bench, ok)| bench.assert_told(&ok));
    Ok(())
}

/// What Cyrus says at this moment goes with the connection; where it was not written down, that is
/// told.
#[test]
fn handed_its_stream_and_killed_whole_it_tells_each_change_once_or_that_it_is_lost()
-> Result<(), Error> {
    let Some((bench, ok)) = killed(Form::Streams, &Work::of(400), crowd::rounds(40))? else {
        return Ok(());
    };
    bench.wait_for("all to be told", || {
        let lost = ok.without(&bench.ledger()).count();
        bench.is_settled() && (lost == 0 || bench.lost() >= lost)
    });
    let told = bench.ledger();
    let more: Vec<_> = told.without(&ok).facts().map(str::to_owned).collect();
    assert!(more.iter().all(|fact| fact.contains("vnd.postbell.Gap")), "{more:#?}");
    Ok(())
}

/// As `systemctl restart` does it.
#[test]
fn handed_its_sockets_and_stopped_in_order_it_tells_each_change_once() -> Result<(), Error> {
    let stopped = stopped(Form::Datagrams, &Work::of(1_000), crowd::rounds(60))?;
    stopped.into_iter().for_each(|(bench, ok)| bench.assert_told(&ok));
    Ok(())
}

/// Over the stream as well: what Cyrus says at this moment is answered before.
#[test]
fn handed_its_stream_and_stopped_in_order_it_tells_each_change_once() -> Result<(), Error> {
    let stopped = stopped(Form::Streams, &Work::of(400), crowd::rounds(40))?;
    stopped.into_iter().for_each(|(bench, ok)| bench.assert_told(&ok));
    Ok(())
}

/// In each of so many parts of the work, at any moment of it, it is told to end, and started again
/// when it has.
fn stopped(form: Form, work: &Work, parts: u64) -> Result<Option<(Bench<Handed>, Ledger)>, Error> {
    let mut starts = 1;
    while_working(form, work, parts, |server, hub, dice| {
        // A process that hasn't begun to listen for signals is killed by them.
        work.wait_until("it to begin", || {
            server.notifyd().log().matches("notifications are taken").count() == starts
        });
        starts += 1;
        let how = EndedBy::ALL[dice.usize(0..EndedBy::ALL.len())];
        server.notifyd().tell_to_end(how)?;
        let status = server.notifyd().wait_for_end()?;
        assert_eq!(status.code(), Some(0), "{how:?}: {}", server.notifyd().log());
        server.start_again(hub)
    })
}

/// In each of so many parts of the work, at any moment of it, one of its processes is killed, or both
/// at once; and started again. Gives what was answered with OK.
fn killed(form: Form, work: &Work, parts: u64) -> Result<Option<(Bench<Handed>, Ledger)>, Error> {
    while_working(form, work, parts, |server, hub, dice| {
        match dice.u32(0..3) {
            0 => {
                work.wait_until("a reader to be killed", || server.notifyd().kill_reader());
                return Ok(());
            }
            1 => server.notifyd().kill_holder(),
            _ => server.notifyd().kill(),
        }
        server.start_again(hub)
    })
}

/// Does something in each of so many parts of the work, at any moment of it.
fn while_working(
    form: Form,
    work: &Work,
    parts: u64,
    mut act: impl FnMut(&Handed, &Hub, &mut fastrand::Rng) -> Result<(), Error> + Send,
) -> Result<Option<(Bench<Handed>, Ledger)>, Error> {
    let Some(bench) = Bench::handed(form)? else { return Ok(None) };
    let seed = crowd::seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let Bench { server, hub, .. } = &bench;
    let (ok, outcome) = crowd::together(
        CLIENTS,
        |number| work.one(server, seed, number),
        || {
            let _free = Free(work);
            for part in 0..parts {
                work.go_on(part, parts, &mut dice);
                act(server, hub, &mut dice)?;
            }
            Ok::<(), Error>(())
        },
    )?;
    outcome?;
    Ok(Some((bench, ok)))
}
