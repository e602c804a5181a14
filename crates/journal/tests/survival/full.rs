//! A disk that is really full.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use postbell_journal::contract::append;
use postbell_journal::{
    AppendError, Entry, Journal as _, Options, RecordId, Seq, SqliteJournal, State,
};

/// Runs itself once more, with a small disk of its own to fill.
#[test]
#[expect(clippy::print_stdout, reason = "a test that can't run says so")]
fn a_full_disk_stops_intake_with_a_clear_state_and_room_lets_it_go_on() {
    if let Some(disk) = std::env::var_os(DISK) {
        return on(Path::new(&disk));
    }
    let disk = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script =
        "mount -t tmpfs -o size=8m tmpfs \"$1\" && echo mounted && exec \"$2\" --exact \"$3\"";
    let ran = command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg("full::a_full_disk_stops_intake_with_a_clear_state_and_room_lets_it_go_on")
        .env(DISK, disk.path())
        .output();
    let (text, passed) = match &ran {
        Ok(ran) => (String::from_utf8_lossy(&ran.stdout), ran.status.success()),
        Err(error) => (error.to_string().into(), false),
    };
    if !text.contains("mounted") && std::env::var_os("CI").is_none() {
        // Said only where it is asked for: a machine that forbids mounting is no failure of ours.
        println!("not tested: a small disk can't be mounted here: {ran:?}");
        return;
    }
    assert!(passed && text.contains("1 passed"), "{ran:?}");
}

const DISK: &str = "POSTBELL_SMALL_DISK";

fn on(disk: &Path) {
    let folder = disk.join("journal");
    let journal = open(&folder);
    let mut next = 1;
    // Nearly all of the disk is somebody else's, until they go.
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![1; 5 << 20]).unwrap();
    let error = append_until_refused(&journal, &mut next);
    assert!(matches!(&error, AppendError::Full { folder: named } if **named == *folder), "{error}");
    assert!(error.to_string().contains("no room left on the disk"), "{error}");
    assert!(matches!(journal.state(), State::Full { .. }), "{:?}", journal.state());
    // Meanwhile all that was acknowledged can be read, and readers move on.
    all_there(&journal, next);
    journal.set_cursor("reader", Some(Seq(next - 1))).unwrap();

    std::fs::remove_file(&filler).unwrap();
    goes_on(&journal);
    append(&journal, vec![noise(next)], None).unwrap();
    next += 1;
    all_there(&journal, next);

    // Full to the last octet, and opened again.
    std::fs::write(&filler, vec![1; 3 << 20]).unwrap();
    append_until_refused(&journal, &mut next);
    for (number, octets) in [1 << 16, 1 << 14, 1 << 12, 1 << 12, 1, 1].into_iter().enumerate() {
        // Until not even that fits: which of them fail is no matter.
        drop(std::fs::write(disk.join(format!("filler-{number}")), vec![1; octets]));
    }
    journal.close();
    match SqliteJournal::open(&folder, options()) {
        Ok(journal) => {
            all_there(&journal, next);
            journal.close();
        }
        Err(error) => assert!(error.to_string().contains("no room left"), "{error:?}"),
    }
    for entry in std::fs::read_dir(disk).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let journal = open(&folder);
    all_there(&journal, next);
    goes_on(&journal);
    append(&journal, vec![noise(next)], None).unwrap();
    all_there(&journal, next + 1);
    assert_eq!(journal.cursor("reader").unwrap().is_some(), next > 1);
}

fn options() -> Options {
    Options {
        segment_octets: 256 * 1024,
        housekeeping: Duration::from_millis(20),
        ..Options::default()
    }
}

fn open(folder: &Path) -> SqliteJournal {
    SqliteJournal::open(folder, options()).unwrap()
}

fn append_until_refused(journal: &SqliteJournal, next: &mut u64) -> AppendError {
    for _ in 0..2000 {
        match append(journal, vec![noise(*next)], None) {
            Ok(_) => *next += 1,
            Err(error) => return error,
        }
    }
    panic!("the disk takes everything");
}

/// Waits for the journal to take batches again.
fn goes_on(journal: &SqliteJournal) {
    let begun = Instant::now();
    while journal.state() != State::Accepting {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", journal.state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn all_there(journal: &SqliteJournal, end: u64) {
    let bounds = journal.bounds();
    assert_eq!((bounds.first, bounds.last), (Seq(1), Seq(end - 1)));
    let mut next = 1;
    while next < end {
        for record in &journal.read(Seq(next), 1 << 20).unwrap() {
            assert_eq!((record.seq.0, record.body), (next, &*noise(next).body));
            next += 1;
        }
    }
}

/// An entry that can't be compressed.
fn noise(number: u64) -> Entry {
    let mut dice = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice.to_le_bytes()
    });
    let body: Vec<u8> = words.take(2500).flatten().collect();
    Entry { id: RecordId(number.into()), head: [0; 24], body: body.into() }
}
