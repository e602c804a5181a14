//! Many messages, and more notices than the kernel keeps.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use postbell_engine::What;
use postbell_sources::maildir::{Options, run};
use postbell_sources::{Batch, Health, Intake, Pair, State, Stop, Stopped};

use crate::rig::{Rig, maildir, options, wait_until};

fn fill(root: &Path, count: usize) {
    for number in 0..count {
        let name =
            format!("{}.M{number}P4242.mail.example.org,S=0,W=0:2,S", 1_700_000_000 + number);
        fs::write(root.join("cur").join(name), "").unwrap();
    }
}

/// Takes everything and keeps nothing, so that only the source's own memory is measured.
#[derive(Debug)]
struct Forgetful;

impl Intake for Forgetful {
    fn take(&self, _: Batch) -> Result<(), Stopped> {
        Ok(())
    }

    fn checkpoint(&self, _: &[u8]) -> Result<Vec<Pair>, Stopped> {
        Ok(Vec::new())
    }
}

/// A line of this process's status, in octets: `VmRSS` now, `VmHWM` at its peak.
fn memory(line: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|found| found.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Octets of memory for each message: at rest, and at the peak of the first look.
fn octets_each(options: &Options, count: usize) -> (u64, u64) {
    let (before, health, stop) = (memory("VmRSS"), Health::new(), Stop::new().unwrap());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| run(options, &Forgetful, &health, &stop));
        wait_until("the first look", || health.snapshot().state == State::Running);
        let each = |now: u64| now.saturating_sub(before) / count as u64;
        let measured = (each(memory("VmRSS")), each(memory("VmHWM")));
        stop.set();
        thread.join().unwrap().unwrap();
        measured
    })
}

fn follow(count: usize) {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    fill(&root, count);
    let options = Options { scan_interval: Duration::from_millis(500), ..options(&root) };
    let (rest, peak) = octets_each(&options, count);
    let begun = Instant::now();
    let mut rig = Rig::start(options);
    let baseline = begun.elapsed();
    assert!(rig.kept.pairs() > count);
    assert_eq!(rig.health.snapshot().messages, count as u64);
    assert!(rig.kept.largest().1 <= 10_010, "{:?}", rig.kept.largest());

    let begun = Instant::now();
    fs::write(root.join("new/1900000000.M1P1.h"), "x").unwrap();
    wait_until("the delivery", || rig.kept.count() == 1);
    let delivery = begun.elapsed();
    let begun = Instant::now();
    let entry = fs::read_dir(root.join("cur")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&entry, entry.with_extension("org,S=0,W=0:2,FS")).unwrap();
    wait_until("the flag", || rig.kept.count() == 2);
    let flag = begun.elapsed();
    rig.stop();
    let begun = Instant::now();
    rig.resume();
    let restart = begun.elapsed();
    rig.stop();
    for entry in fs::read_dir(root.join("cur")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let begun = Instant::now();
    rig.resume();
    let emptied = begun.elapsed();
    assert_eq!(rig.kept.count() - 2, count.div_ceil(10_000));
    assert!(rig.kept.largest().0 <= 1_000 && rig.kept.largest().1 <= 20_010);
    println!(
        "{count} messages: {rest} octets of memory each, {peak} at the peak; first look \
         {baseline:?}, a delivery told after {delivery:?}, a flag after {flag:?}, restart {restart:?}, all gone told \
         after {emptied:?}"
    );
}

/// `POSTBELL_SCALE_MESSAGES=1000000` asks for more: minutes, and as many files in the temporary
/// folder.
#[test]
fn a_hundred_thousand_messages_are_followed() {
    let wanted = std::env::var("POSTBELL_SCALE_MESSAGES").ok().and_then(|text| text.parse().ok());
    follow(wanted.unwrap_or(100_000));
}

#[test]
fn more_notices_than_the_kernel_keeps_end_in_a_rescan() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let rig = Rig::start(options(&root));
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        println!("skipped: the kernel keeps {limit} notices");
        return;
    }
    // Held up at its first batch, as by a full disk, the source hears nothing of what follows.
    let gate = rig.kept.gate.lock().unwrap();
    fs::write(root.join("cur/first.h:2,S"), "x").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let count = limit;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let root = &root;
            scope.spawn(move || {
                for number in 0..count / 4 {
                    let name = root.join(format!("new/{part}-{number}.a.h"));
                    fs::write(&name, "x").unwrap();
                    fs::rename(&name, root.join(format!("cur/{part}-{number}.a.h:2,S"))).unwrap();
                }
            });
        }
    });
    drop(gate);
    let made = count / 4 * 4 + 1;
    let came = || {
        let told = rig.kept.told();
        let came = told
            .iter()
            .filter(|told| matches!(told.what, What::Delivered { .. } | What::Appended(_)));
        came.count()
    };
    wait_until("all of them", || rig.health.snapshot().messages == made as u64);
    assert_eq!(came(), made, "each is told once");
    assert!(rig.health.snapshot().rescans > 0);
    println!("{made} messages told, {} rescans", rig.health.snapshot().rescans);
}
