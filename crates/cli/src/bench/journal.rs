//! The journal alone: groups of events, lone events, octets on disk, opening a long one.

use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use postbell_engine::Keys;
use postbell_journal::{
    AppendError, Appended, Batch, Entry, Journal, Options, RecordId, SqliteJournal,
};

use super::USERS;
use super::events::Generator;
use super::probe::{self, as_f64, millis};
use super::table::{Probe, Row, Target};

/// Appends in groups, beside the bare file growing at the same pace.
///
/// Probe and journal take turns, and the best turn of each counts, so that a slow moment of the
/// disk does not fall on one of them only.
pub(super) fn append(folder: &Path, events: usize) -> anyhow::Result<Row> {
    let entries = entries(events)?;
    let octets = mean_octets(&entries);
    let record = vec![b'x'; octets];
    let (mut best, mut bare) = (0.0_f64, 0.0_f64);
    for _ in 0..TURNS {
        bare = bare.max(probe::append(folder, &record, events / GROUP, GROUP)?);
        let place = folder.join("append");
        let journal = SqliteJournal::open(&place, Options::default())?;
        let batches: Vec<_> = entries.chunks(GROUP).map(batch).collect();
        let begun = Instant::now();
        append_all(&journal, batches)?;
        best = best.max(probe::per_second(events, begun.elapsed()));
        journal.close();
        remove(&place)?;
    }
    Ok(Row {
        metric: "durable append, groups of 256",
        figure: best,
        unit: "events/s",
        probe: Some(Probe { name: "a growing file, 256 records per fdatasync", figure: bare }),
        judged: best / bare,
        target: Some(Target::at_least(0.5, 0.9)),
        note: format!("{octets} octets an event, best of {TURNS} turns"),
    })
}

/// What events take on disk.
pub(super) fn octets(folder: &Path, events: usize) -> anyhow::Result<Row> {
    let entries = entries(events)?;
    let place = folder.join("octets");
    let journal = SqliteJournal::open(&place, Options::default())?;
    append_all(&journal, entries.chunks(GROUP).map(batch).collect())?;
    journal.close();
    let on_disk = as_f64(usize::try_from(folder_octets(&place)?)?) / as_f64(events);
    remove(&place)?;
    Ok(Row {
        metric: "log octets per event",
        figure: on_disk,
        unit: "octets",
        probe: Some(Probe { name: "as handed in", figure: as_f64(mean_octets(&entries)) }),
        judged: on_disk,
        target: Some(Target::at_most(200.0, 110.0)),
        note: format!("all files of the folder after {events} events, closed"),
    })
}

/// One event at a time, each waiting for its acknowledgement.
pub(super) fn lone(folder: &Path, rounds: usize) -> anyhow::Result<Row> {
    let place = folder.join("lone");
    let journal = SqliteJournal::open(&place, Options::default())?;
    let mut times = Vec::with_capacity(rounds);
    let mut syncs = Vec::new();
    for chunk in entries(rounds)?.chunks(rounds.div_ceil(LONE_TURNS)) {
        syncs.push(probe::sync(folder, chunk.len())?);
        for entry in chunk {
            let one = batch(std::slice::from_ref(entry));
            let begun = Instant::now();
            append_all(&journal, vec![one])?;
            times.push(begun.elapsed());
        }
    }
    journal.close();
    remove(&place)?;
    let (p50, p99) = (probe::median(&mut times), probe::quantile(&mut times, 99));
    let sync = probe::median(&mut syncs);
    Ok(Row {
        metric: "lone event, acknowledged",
        figure: millis(p50),
        unit: "ms p50",
        probe: Some(Probe { name: "4 KiB and fdatasync, p50", figure: millis(sync) }),
        judged: p50.as_secs_f64() / sync.as_secs_f64().max(f64::EPSILON),
        target: Some(Target::at_most(3.0, 1.5)),
        note: format!("p99 {:.3} ms, {rounds} rounds", millis(p99)),
    })
}

/// Opens a journal of `records` records.
pub(super) fn opening(folder: &Path, records: usize) -> anyhow::Result<Row> {
    let place = folder.join("opening");
    let journal = SqliteJournal::open(&place, Options::default())?;
    let different = entries(FILLING.min(records))?;
    let mut written = 0;
    while written < records {
        let chunk = different.get(..different.len().min(records - written)).unwrap_or_default();
        append_all(&journal, chunk.chunks(GROUP).map(batch).collect())?;
        written += chunk.len();
    }
    journal.close();
    drop(journal);
    let begun = Instant::now();
    let journal = SqliteJournal::open(&place, Options::default())?;
    let spent = begun.elapsed();
    let last = journal.bounds().last.0;
    journal.close();
    remove(&place)?;
    if usize::try_from(last)? != records {
        bail!("{last} records after opening, where {records} were written");
    }
    Ok(Row {
        metric: "opening the journal",
        figure: spent.as_secs_f64(),
        unit: "s",
        probe: None,
        judged: spent.as_secs_f64(),
        target: Some(Target::at_most(1.0, 0.1)),
        note: format!("{records} records in it"),
    })
}

/// Hands in all batches, a bounded number at once, and waits for every acknowledgement.
fn append_all(journal: &SqliteJournal, batches: Vec<Batch>) -> anyhow::Result<()> {
    let (told, answers) = mpsc::channel::<Result<Appended, AppendError>>();
    let mut under_way = 0;
    for batch in batches {
        if under_way == UNDER_WAY_MAX {
            answers.recv()??;
            under_way -= 1;
        }
        let told = told.clone();
        // A receiver that has gone away has seen an earlier failure and needs no more of them.
        journal.append(batch, Box::new(move |answer| told.send(answer).unwrap_or_default()));
        under_way += 1;
    }
    for _ in 0..under_way {
        answers.recv()??;
    }
    Ok(())
}

/// Entries as the hub makes them.
fn entries(count: usize) -> anyhow::Result<Vec<Entry>> {
    Generator::new(5423, USERS)
        .list(count)
        .into_iter()
        .enumerate()
        .map(|(place, text)| {
            let checked = mail_event::json::check(text.as_bytes())
                .map_err(|error| anyhow!("{error}: {text}"))?;
            let place = place.to_be_bytes();
            let id = postbell_engine::event_id("bench", &place, 0, checked.unix_millis);
            Ok(Entry {
                id: RecordId(id.as_u128()),
                head: Keys::new(&checked, text.as_bytes()).to_head(),
                body: Bytes::from(text),
            })
        })
        .collect()
}

fn batch(entries: &[Entry]) -> Batch {
    Batch { entries: entries.to_vec(), checkpoint: None }
}

fn mean_octets(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.body.len()).sum::<usize>() / entries.len().max(1)
}

fn folder_octets(folder: &Path) -> anyhow::Result<u64> {
    let mut octets = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        octets += if is_folder { folder_octets(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(octets)
}

fn remove(place: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(place).with_context(|| place.display().to_string())
}

/// Events in one group, as in the published targets.
const GROUP: usize = 256;
/// Different events made for filling a long journal, told again and again: more than a journal
/// recognises as repeats.
const FILLING: usize = 100_000;
/// How often the lone events and their probe take turns.
const LONE_TURNS: usize = 10;
/// How often probe and journal take turns.
const TURNS: usize = 3;
/// Batches handed in and not yet acknowledged; enough to keep the writer busy.
const UNDER_WAY_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_journal_comes_with_a_figure() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [
            append(folder.path(), 512).unwrap(),
            octets(folder.path(), 512).unwrap(),
            lone(folder.path(), 10).unwrap(),
            opening(folder.path(), 1_000).unwrap(),
        ];
        for row in rows {
            assert!(row.figure > 0.0 && row.judged > 0.0, "{row:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
