//! Appends seeded batches and prints what was acknowledged, until it is killed.

use std::io::Write as _;

use postbell_journal::contract::{append, entry};
use postbell_journal::{Change, Checkpoint, Options, SqliteJournal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("crash_writer FOLDER SEED FIRST")?;
    let mut dice: u64 = arguments.next().ok_or("no seed")?.parse()?;
    let mut next: u128 = arguments.next().ok_or("no first number")?.parse()?;
    let options = Options { segment_octets: 64 * 1024, ..Options::default() };
    let journal = SqliteJournal::open(std::path::Path::new(&folder), options)?;
    let mut out = std::io::stdout().lock();
    loop {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let count = u128::from(dice % 40 + 1);
        let change = Change { key: b"at".to_vec(), value: Some((next + count).to_string().into()) };
        let checkpoint = Checkpoint { source: "writer".to_owned(), changes: vec![change] };
        append(&journal, (next..next + count).map(entry).collect(), Some(checkpoint))?;
        next += count;
        writeln!(out, "{next}")?;
        out.flush()?;
    }
}
