//! Appends seeded batches and says what became of each, until it is killed or done.
//!
//! `crash_writer FOLDER SEED FIRST BATCHES AHEAD KEEP_OCTETS`: batches of numbers from FIRST on,
//! AHEAD of them under way at once, keeping KEEP_OCTETS of records (0: all). It prints the number
//! after each acknowledged batch, how far its cursor is `durable`, `full` where the disk was, and at the
//! end `done` or why it stopped.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use postbell_journal::contract::{checkpoint_at, entry};
use postbell_journal::{AppendError, Batch, Journal as _, Options, Retention, Seq, SqliteJournal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [folder, numbers @ ..] = arguments.as_slice() else { return Err("no folder".into()) };
    let numbers: Vec<u64> = numbers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [mut dice, mut next, batches, ahead, keep_octets] = *numbers.as_slice() else {
        return Err("five numbers are needed".into());
    };
    dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let options = Options {
        // So small that segments begin, are sealed and are dropped all the time.
        segment_octets: 4 * 1024,
        retention: Retention { age: None, octets: (keep_octets > 0).then_some(keep_octets) },
        housekeeping: Duration::from_millis(2),
        ..Options::default()
    };
    let mut out = std::io::stdout().lock();
    let journal = match SqliteJournal::open(folder, options) {
        Ok(journal) => journal,
        Err(error) => {
            writeln!(out, "not opened: {error}")?;
            return Err(error.into());
        }
    };
    let mut left = batches;
    while left > 0 {
        let (told, answers) = mpsc::channel();
        let mut end = next;
        for _ in 0..ahead.min(left) {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let first = end;
            end += dice % 40 + 1;
            let entries = (first..end).map(|number| entry(number.into())).collect();
            let batch = Batch { entries, checkpoint: Some(checkpoint_at(end)) };
            let told = told.clone();
            let done = move |result: Result<_, _>| {
                told.send(result.map(|_| end)).unwrap_or_default();
            };
            journal.append(batch, Box::new(done));
        }
        drop(told);
        for answer in answers {
            match answer {
                Ok(end) => {
                    next = end;
                    left -= 1;
                    writeln!(out, "{end}")?;
                    if let Err(error) = journal.set_cursor("reader", Some(Seq(end - 1))) {
                        writeln!(out, "{error}")?;
                        return Err(error.into());
                    }
                    if let Some(Seq(done)) = journal.durable_cursor("reader")? {
                        writeln!(out, "durable {done}")?;
                    }
                }
                Err(AppendError::Full { .. }) => {
                    writeln!(out, "full")?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    writeln!(out, "{error}")?;
                    return Err(error.into());
                }
            }
            out.flush()?;
        }
    }
    journal.close();
    writeln!(out, "done")?;
    Ok(())
}
