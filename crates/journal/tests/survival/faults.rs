//! What the journal does when the disk fails it, and when it dies between any two system calls.
//!
//! The faults are real as far as the journal and SQLite can tell: a small library in C, loaded
//! before all others, makes the system calls fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Running, Writer, check, check_cursor, rounds};

const WRITER: Writer = Writer { seed: 7, first: 1, batches: 100, ahead: 1, keep_octets: 16 * 1024 };

/// A folder for a journal, and the library beside it.
struct Faults {
    place: tempfile::TempDir,
}

impl Faults {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/survival/faults.c");
        let library = place.path().join("faults.so");
        let made = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library.as_path(), Path::new(source), Path::new("-ldl")])
            .status();
        // SQLite was just compiled with it.
        assert!(made.is_ok_and(|status| status.success()), "no C compiler: {source}");
        Self { place }
    }

    /// Where the `number`-th journal of this test is.
    fn folder(&self, number: u64) -> PathBuf {
        let folder = self.place.path().join(format!("journal-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Starts the writer; from the `at`-th of `calls` on, `count` of them meet `fault`.
    fn start(
        &self,
        folder: &Path,
        (fault, calls): (&str, &str),
        (at, count): (u64, u64),
        writer: Writer,
    ) -> Running {
        writer.start(
            folder,
            &[
                ("LD_PRELOAD", &self.place.path().join("faults.so").display().to_string()),
                ("FAULT_FOLDER", &folder.display().to_string()),
                ("FAULT", fault),
                ("FAULT_CALLS", calls),
                ("FAULT_AT", &at.to_string()),
                ("FAULT_COUNT", &count.min(1 << 40).to_string()),
            ],
        )
    }
}

const EVERY_CALL: &str = "write sync truncate rename unlink";

/// Each journal dies twice: while it is made and written, and while it is opened again. A write
/// is cut in half. `scripts/crash-test` tries every call.
#[test]
fn a_writer_killed_in_any_system_call_loses_nothing_acknowledged() {
    let faults = Faults::new();
    let step = rounds("POSTBELL_FAULT_STEP", 61);
    let (mut at, mut died) = (1, 0);
    loop {
        let what = format!("killed in call {at}");
        let folder = faults.folder(at);
        let said = faults.start(&folder, ("kill", EVERY_CALL), (at, 1), WRITER).end();
        if said.last == "done" {
            break;
        }
        died += 1;
        // The journal is not opened in between: the second death meets what the first left.
        let first = said.acknowledged.unwrap_or(1);
        let again = Writer { first, ..WRITER };
        let second = faults.start(&folder, ("kill", EVERY_CALL), (1 + at % 61, 1), again).end();
        let acknowledged = second.acknowledged.or(said.acknowledged);
        check(&folder, 1, acknowledged, &what);
        check_cursor(&folder, &said, &what);
        check_cursor(&folder, &second, &what);
        std::fs::remove_dir_all(&folder).unwrap();
        // The first calls one by one: they make the journal.
        at += if at < 40 { step.min(3) } else { step };
    }
    assert!(died >= 20, "the writer died only {died} times");
}

#[test]
fn a_failed_fsync_stops_the_journal_until_it_is_opened_again() {
    let faults = Faults::new();
    let step = rounds("POSTBELL_FAULT_STEP", 17);
    let (mut at, mut stopped) = (1, 0);
    loop {
        let what = format!("fsync {at} failed");
        let folder = faults.folder(at);
        let said = faults.start(&folder, ("eio", "sync"), (at, 1), WRITER).end();
        if said.last == "done" {
            break;
        }
        // Opening may have failed as well, and says so elsewhere.
        let told = said.last.contains("the journal has stopped");
        assert!(told || said.acknowledged.is_none(), "{what}: {said:?}");
        stopped += u64::from(told);
        check(&folder, 1, said.acknowledged, &what);
        check_cursor(&folder, &said, &what);
        std::fs::remove_dir_all(&folder).unwrap();
        at += if at < 20 { 1 } else { step };
    }
    assert!(stopped >= 10, "the journal stopped only {stopped} times");
}

#[test]
fn a_disk_that_is_full_for_a_while_stops_intake_for_that_while() {
    let faults = Faults::new();
    let step = rounds("POSTBELL_FAULT_STEP", 41);
    let mut full = 0;
    for at in (15..600).step_by(usize::try_from(step).unwrap()) {
        let what = format!("no room from write {at} on");
        let folder = faults.folder(at);
        let said = faults.start(&folder, ("enospc", "write"), (at, 20), WRITER).end();
        // A new journal can't be made without room, and says so.
        let not_made = said.last.starts_with("not opened: ") && said.acknowledged.is_none();
        assert!(said.last == "done" || not_made, "{what}: {said:?}");
        full += said.full;
        check(&folder, 1, said.acknowledged, &what);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    assert!(full > 10, "only {full} batches were refused");
}

#[test]
fn a_quota_used_up_is_a_full_disk() {
    let faults = Faults::new();
    for at in [120, 151, 182, 213] {
        let folder = faults.folder(at);
        let running = faults.start(&folder, ("edquot", "write"), (at, u64::MAX), WRITER);
        running.wait_until_full(2);
        let said = running.kill();
        assert!(said.last == "full" && said.full > 1, "no room from write {at} on: {said:?}");
        check(&folder, 1, said.acknowledged, "when there was room again");
    }
}
