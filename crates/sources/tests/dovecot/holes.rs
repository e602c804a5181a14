//! What the real Dovecot could not write down: found over IMAP, or told as a gap.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postbell_engine::{Certainty, Demand, What};
use postbell_testkit::{ALICE, Error, Imap, mail};

use crate::real::{Bench, With};
use crate::rig::wait_until;

/// A way to a server that can be shut.
struct Gate {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_open = Arc::new(AtomicBool::new(true));
        let passing = Arc::new(Mutex::new(Vec::new()));
        let (opened, kept) = (Arc::clone(&is_open), Arc::clone(&passing));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Held until it is among those that pass: whoever shuts cuts it off, too.
                let mut passing = kept.lock().unwrap();
                if !opened.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                passing.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(passing);
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        drop(io::copy(&mut from, &mut to));
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { address, is_open, passing }
    }

    fn shut(&self) {
        let mut passing = self.passing.lock().unwrap();
        self.is_open.store(false, Ordering::SeqCst);
        for stream in passing.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }
}

/// A Dovecot with a session of alice's, whose mailboxes were looked at once.
fn bench(hole_window: Duration) -> Result<Option<(Bench, Gate, Imap)>, Error> {
    let mut gate = None;
    let bench = Bench::start_as(With::ExporterAndMaster, |options| {
        let master = options.master.as_mut().unwrap();
        master.address = gate.insert(Gate::before(master.address)).address;
        options.hole_window = hole_window;
    })?;
    let Some(bench) = bench else { return Ok(None) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    bench.told(0, "appended INBOX 1");
    wait_until(|| bench.rig.kept.keys().contains(&format!("box/{ALICE}\0")));
    wait_until(|| !bench.rig.health.snapshot().detail.contains("looks"));
    Ok(Some((bench, gate.unwrap(), imap)))
}

/// The file that the script writes to.
fn spool_file(bench: &Bench) -> PathBuf {
    let folder = std::fs::read_dir(&bench.rig.options.spool).unwrap();
    let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn set_mode(path: &PathBuf, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Appends message 2, whose line can't be written, and message 3, whose line can.
fn lose_a_line(bench: &Bench, imap: &mut Imap) -> Result<(), Error> {
    let file = spool_file(bench);
    set_mode(&file, 0o400);
    imap.append("INBOX", "", &mail::plain("two"))?;
    set_mode(&file, 0o600);
    imap.append("INBOX", "", &mail::plain("three"))?;
    // Another of its processes writes the log.
    wait_until(|| bench.dovecot.whole_log().contains("can't open the spool"));
    Ok(())
}

/// The messages told as inferred, and the gaps of alice's.
fn inferred(bench: &Bench) -> (Vec<u32>, Vec<String>) {
    let told = bench.rig.kept.told();
    let of_alice = told.iter().filter(|seen| seen.owner.as_deref() == Some(ALICE));
    let (mut uids, mut gaps) = (Vec::new(), Vec::new());
    for seen in of_alice.filter(|seen| seen.certainty == Certainty::Inferred) {
        match &seen.what {
            What::Appended(message) => uids.push(message.uid),
            What::Missed { reason, .. } => gaps.push(reason.clone()),
            other => panic!("{other:?}"),
        }
    }
    (uids, gaps)
}

#[test]
fn a_line_that_could_not_be_written_is_found_over_imap() -> Result<(), Error> {
    let Some((bench, _gate, mut imap)) = bench(Duration::from_secs(600))? else { return Ok(()) };
    lose_a_line(&bench, &mut imap)?;
    wait_until(|| inferred(&bench).0 == [2]);
    bench.told(0, "appended INBOX 3");
    wait_until(|| !bench.rig.kept.keys().iter().any(|key| key.starts_with("hole/")));
    assert_found(&bench);
    Ok(())
}

/// The message was found, and what a mailbox doesn't show of a transaction is told to be missing.
fn assert_found(bench: &Bench) {
    let (uids, gaps) = inferred(bench);
    assert_eq!(uids, [2]);
    let [gap] = &gaps[..] else { panic!("one gap: {gaps:#?}") };
    assert!(gap.contains("was not written down: what mailboxes show of it was told"), "{gap}");
}

#[test]
fn a_hole_waits_for_imap_that_is_away_over_a_restart() -> Result<(), Error> {
    let Some((mut bench, gate, mut imap)) = bench(Duration::from_secs(600))? else {
        return Ok(());
    };
    gate.shut();
    lose_a_line(&bench, &mut imap)?;
    bench.told(0, "appended INBOX 3");
    wait_until(|| bench.rig.kept.keys().iter().any(|key| key.starts_with("hole/")));
    assert_eq!(inferred(&bench), (vec![], vec![]));
    bench.rig.stop();
    gate.open();
    bench.rig.start();
    wait_until(|| !bench.rig.kept.keys().iter().any(|key| key.starts_with("hole/")));
    assert_found(&bench);
    Ok(())
}

#[test]
fn a_hole_is_told_where_imap_stays_away_and_found_when_it_is_back() -> Result<(), Error> {
    let Some((bench, gate, mut imap)) = bench(Duration::from_secs(1))? else { return Ok(()) };
    gate.shut();
    lose_a_line(&bench, &mut imap)?;
    let told = bench.told(0, "was not written down");
    let wanted = |text: &String| text.starts_with(&format!("{ALICE} missed: transaction "));
    assert_eq!(told.iter().filter(|text| wanted(text)).count(), 1, "{told:#?}");
    gate.open();
    // Nobody is asked for ten seconds after there was no answer.
    wait_until(|| inferred(&bench).0 == [2]);
    Ok(())
}

#[test]
fn a_spool_that_cannot_be_written_to_is_told_and_everything_looked_at_afterwards()
-> Result<(), Error> {
    let Some((bench, _gate, imap)) = bench(Duration::from_secs(600))? else { return Ok(()) };
    imap.logout()?;
    bench.told(0, "logout");
    let folder = bench.rig.options.spool.clone();
    let mode = folder.metadata().unwrap().permissions().mode() & 0o7777;
    let file = spool_file(&bench);
    set_mode(&file, 0o400);
    set_mode(&folder, 0o555);
    bench.told(0, "not all may write there who might before");
    // A whole session of which no line is written, so that no number is missing.
    let others = bench.dovecot.processes("imap");
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("two"))?;
    let is_its = |pid: &u32| !others.contains(pid);
    let its: Vec<_> = bench.dovecot.processes("imap").into_iter().filter(is_its).collect();
    imap.logout()?;
    wait_until(|| !bench.dovecot.processes("imap").iter().any(|pid| its.contains(pid)));
    set_mode(&file, 0o600);
    set_mode(&folder, mode);
    wait_until(|| inferred(&bench).0 == [2]);
    Ok(())
}

/// Changes flags of message 1, and has the process die that couldn't write of it: the one that wrote
/// of the last message that was appended.
fn die(bench: &Bench, imap: &mut Imap, sign: &str) -> Result<(), Error> {
    let file = spool_file(bench);
    let lines = std::fs::read_to_string(&file).unwrap();
    let last = lines.lines().rfind(|line| line.contains("\"append\"")).unwrap();
    let pid = last.split_once("\"pid\":").unwrap().1.split(',').next().unwrap();
    set_mode(&file, 0o400);
    imap.store("1", sign, "\\Seen")?;
    bench.dovecot.kill_process(pid.parse().unwrap())?;
    set_mode(&file, 0o600);
    Ok(())
}

#[test]
fn r24_flags_in_a_hole_are_missed_until_a_look_can_tell_them_from_those_nobody_wanted()
-> Result<(), Error> {
    let Some((bench, gate, mut imap)) = bench(Duration::from_secs(600))? else { return Ok(()) };
    let (kept, demand) = (&bench.rig.kept, bench.rig.options.spool.join("demand"));
    let hearing = || kept.value("hearing/flags");
    let gaps = || {
        let told = kept.told().into_iter();
        let gaps = told.filter_map(|seen| match seen.what {
            What::Missed { reason, .. } => Some(reason),
            _ => None,
        });
        gaps.collect::<Vec<_>>()
    };
    imap.select("INBOX")?;
    *kept.wants_then.lock().unwrap() = Demand::nothing();
    std::fs::write(&demand, "postbell-demand 1\nend\n").unwrap();
    wait_until(|| hearing().as_deref() == Some(""));
    imap.store("1", "+FLAGS", "\\Flagged")?;
    gate.shut();
    wait_until(|| bench.dovecot.processes("imap").len() == 1);
    *kept.wants_then.lock().unwrap() = Demand::everything();
    std::fs::remove_file(&demand).unwrap();
    wait_until(|| hearing().is_some_and(|text| text.ends_with(" 0")));
    // The mailbox wasn't looked at since somebody wants flags.
    die(&bench, &mut imap, "+FLAGS")?;
    bench.told(0, "died; its last transaction may be missing");
    gate.open();
    wait_until(|| hearing().is_some_and(|text| !text.ends_with(" 0")));
    assert_eq!(gaps().len(), 1, "what nobody wanted isn't missed: {:#?}", gaps());
    // Now it was, and a look tells which.
    std::thread::sleep(Duration::from_secs(1));
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("two"))?;
    imap.select("INBOX")?;
    bench.told(0, "appended INBOX 2");
    die(&bench, &mut imap, "-FLAGS")?;
    bench.told(0, "flags changed, which ones nobody knows: UID 1");
    assert_eq!(gaps().len(), 2, "{:#?}", gaps());
    Ok(())
}
