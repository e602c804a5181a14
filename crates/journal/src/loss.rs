//! Accepting a loss: what can't be read any more is set aside, so that the rest can be opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{beside, file_error, open_error, segment_path, segments_in, unusable};
use crate::lock::Lock;
use crate::mark::{Mark, MarkFile};
use crate::reader::read_row;
use crate::recover::{Tail, look_into, over_hole};
use crate::segment::{Position, block_at, open_reader};
use crate::state::{Hole, Sealed, State};
use crate::{OpenError, Seq};

/// What a person has accepted as lost.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AcceptedLoss {
    /// The records lost, as first and last of each run.
    pub records: Vec<(Seq, Seq)>,
    /// Files that are no longer part of the journal, under the names they now have.
    pub set_aside: Vec<PathBuf>,
}

/// Makes the journal in `folder` fit to be opened again without what was lost from it.
///
/// Only for a journal that [`SqliteJournal::open`](crate::SqliteJournal::open) refuses, that no
/// backup can replace, and with a copy of the folder kept. No number is given twice: lost ones
/// stay lost, and reading them says so ([`ReadError::Lost`](crate::ReadError::Lost)). A
/// checkpoint change that was lost makes its source look again from the one before. Where
/// nothing is lost, nothing is changed.
///
/// # Errors
///
/// Where the folder is held by another process, or its state file is not whole: checkpoints and
/// the list of segments are in it, and only a backup brings them back.
pub fn accept_loss(folder: impl AsRef<Path>) -> Result<AcceptedLoss, OpenError> {
    let folder = folder.as_ref();
    let _lock = Lock::take(folder)?;
    let mut state = State::open(folder)?;
    let acknowledged = match MarkFile::open(folder) {
        Ok((_, mark)) => mark,
        // What it vouched for is not known any more.
        Err(OpenError::Corrupt { .. }) => Mark::default(),
        Err(_) if !MarkFile::path_in(folder).exists() => Mark::default(),
        Err(error) => return Err(error),
    };
    let mut loss = AcceptedLoss::default();
    set_aside_sealed(folder, &mut state, &mut loss)?;
    seal_tail(folder, &mut state, &mut loss)?;
    let end = mark_holes(folder, &mut state, acknowledged, &mut loss)?;
    state.accept()?;
    MarkFile::create(folder, Mark { seq: end.seq, change: end.change })?;
    Ok(loss)
}

/// Takes sealed segments off the list that are not there as they were.
fn set_aside_sealed(
    folder: &Path,
    state: &mut State,
    loss: &mut AcceptedLoss,
) -> Result<(), OpenError> {
    for sealed in state.sealed()? {
        let path = segment_path(folder, sealed.number);
        let is_whole = fs::metadata(&path).is_ok_and(|about| about.len() == sealed.octets);
        if !is_whole {
            state
                .forget(sealed.number)
                .map_err(|error| open_error(&State::path_in(folder), None, error))?;
            set_aside(&path, loss).map_err(|error| file_error(&path, error))?;
        }
    }
    Ok(())
}

/// Seals what can be read of the segments that are not sealed, and sets the others aside.
fn seal_tail(folder: &Path, state: &mut State, loss: &mut AcceptedLoss) -> Result<(), OpenError> {
    let (dropped, dropped_end) = state.dropped()?;
    let last = state.sealed()?.last().copied();
    let listed = last.map_or(dropped, |sealed| sealed.number);
    let mut end = last.map_or(dropped_end, |sealed| sealed.end);
    let files = segments_in(folder).map_err(|error| unusable(folder, error))?;
    for number in files.into_iter().filter(|number| *number > listed) {
        let path = segment_path(folder, number);
        match look_into(&path, number, end.seq + 1) {
            Ok(tail) if tail.before.seq >= end.seq => {
                end = tail.end;
                seal(state, &path, tail)?;
            }
            Ok(_) | Err(OpenError::Corrupt { .. }) => {
                set_aside(&path, loss).map_err(|error| file_error(&path, error))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn seal(state: &mut State, path: &Path, mut tail: Tail) -> Result<(), OpenError> {
    let failed = |error| open_error(path, Some(tail.before.seq + 1), error);
    if !tail.segment.seal().map_err(failed)? {
        return Err(unusable(path, "something reads it"));
    }
    tail.segment.close().map_err(failed)?;
    let octets = fs::metadata(path).map_err(|error| file_error(path, error))?.len();
    let sealed = Sealed {
        number: tail.number,
        first: tail.before.seq + 1,
        end: tail.end,
        octets,
        newest_ms: tail.newest_ms,
    };
    state.seal(sealed, &tail.overlay).map_err(failed)
}

/// Notes which numbers are missing, and says where the journal goes on.
fn mark_holes(
    folder: &Path,
    state: &mut State,
    acknowledged: Mark,
    loss: &mut AcceptedLoss,
) -> Result<Position, OpenError> {
    let holes = state.holes()?;
    let mut end = over_hole(&holes, state.dropped()?.1);
    let mut missing = Vec::new();
    for sealed in state.sealed()? {
        missing.extend(hole_between(end.seq, sealed.first));
        damaged_runs(folder, sealed, &holes, &mut missing);
        end = over_hole(&holes, sealed.end);
    }
    missing.extend(hole_between(end.seq, acknowledged.seq.saturating_add(1)));
    end.seq = end.seq.max(acknowledged.seq);
    for hole in missing {
        state
            .add_hole(hole)
            .map_err(|error| open_error(&State::path_in(folder), Some(hole.from), error))?;
        loss.records.push((Seq(hole.from), Seq(hole.to)));
    }
    Ok(end)
}

/// Adds the runs of records in a sealed segment that can't be read.
fn damaged_runs(folder: &Path, sealed: Sealed, holes: &[Hole], missing: &mut Vec<Hole>) {
    let path = segment_path(folder, sealed.number);
    let connection = open_reader(&path, true).ok();
    // A block that is whole, by any of its records.
    let last_of = |seq| {
        let row = block_at(connection.as_ref()?, seq).ok()??;
        read_row(&path, &row, seq).ok().map(|block| block.last())
    };
    let mut next = sealed.first;
    let mut lost_from = None;
    while next <= sealed.end.seq {
        if let Some(hole) = holes.iter().find(|hole| (hole.from..=hole.to).contains(&next)) {
            missing.extend(lost_from.take().and_then(|from: u64| hole_between(from - 1, next)));
            next = hole.to.saturating_add(1);
        } else if let Some(last) = last_of(next) {
            missing.extend(lost_from.take().and_then(|from: u64| hole_between(from - 1, next)));
            next = last.saturating_add(1);
        } else {
            lost_from.get_or_insert(next);
            // Where the next block begins is in the part that can't be trusted.
            next += 1;
        }
    }
    missing.extend(lost_from.and_then(|from| hole_between(from - 1, sealed.end.seq + 1)));
}

fn hole_between(last: u64, next: u64) -> Option<Hole> {
    (last.saturating_add(1) < next).then(|| Hole { from: last + 1, to: next - 1 })
}

/// Gives a segment's files names that are not a segment's.
fn set_aside(path: &Path, loss: &mut AcceptedLoss) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let from = beside(path, suffix);
        let to = beside(&from, DAMAGED_SUFFIX);
        match fs::rename(&from, &to) {
            Ok(()) => loss.set_aside.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends the name of a file that was set aside.
const DAMAGED_SUFFIX: &str = ".damaged";
