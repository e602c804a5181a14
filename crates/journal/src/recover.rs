//! Opening: what is there, whether it is whole, and where to go on.

use std::path::Path;

use rusqlite::Connection;

use crate::block::Row;
use crate::chain::Link;
use crate::files::{corrupt, open_error, segment_path, segments_in, unusable};
use crate::mark::{Mark, MarkFile};
use crate::overlay::{Overlay, decode};
use crate::segment::{
    Position, Segment, checked_ids, each_change, ids_before, last_block, open_reader, sealed_link,
    written_at,
};
use crate::state::{Hole, Sealed, State};
use crate::window::Window;
use crate::{OpenError, Seq};

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) state: State,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) holes: Vec<Hole>,
    /// Segments that are not sealed, in order; the last one is written on.
    pub(crate) tail: Vec<Tail>,
    /// The last segment retention has dropped.
    pub(crate) dropped: u64,
    /// Where the journal stands.
    pub(crate) end: Position,
    /// The link with which the journal ends; `None` where what it ends with has none.
    pub(crate) chain: Option<Link>,
    /// The first record that is kept, or would be.
    pub(crate) first: u64,
    pub(crate) mark: MarkFile,
}

/// A segment that is not sealed.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) segment: Segment,
    pub(crate) before: Position,
    pub(crate) end: Position,
    /// When its first record was written, in milliseconds since 1970; `None` where it has none.
    pub(crate) oldest_ms: Option<u64>,
    /// When its last record was written; 0 where it has none.
    pub(crate) newest_ms: u64,
    pub(crate) overlay: Overlay,
}

/// Looks into a folder and refuses it where something acknowledged is missing or changed.
/// Changes nothing but what makes a new journal.
pub(crate) fn survey(folder: &Path) -> Result<Survey, OpenError> {
    let files = segments_in(folder).map_err(|error| unusable(folder, error))?;
    let (state, mark, acknowledged) = open_or_create(folder, &files)?;
    let sealed = state.sealed()?;
    let holes = state.holes()?;
    let (dropped, dropped_end) = state.dropped()?;
    let mut end = check_sealed(folder, &sealed, &holes, (dropped, dropped_end))?;
    let listed = sealed.last().map_or(dropped, |sealed| sealed.number);
    let mut tail: Vec<Tail> = Vec::new();
    for number in files.iter().filter(|number| **number > listed) {
        let path = segment_path(folder, *number);
        let found = look_into(&path, *number, end.seq + 1)?;
        if !follows(found.before, end, &holes) {
            let expected = tail.last().map_or(listed, |tail| tail.number) + 1;
            let missing = segment_path(folder, expected);
            return Err(match *number == expected {
                true => corrupt(&path, Some(end.seq + 1), "does not follow on what is before it"),
                false => corrupt(&missing, Some(end.seq + 1), "missing"),
            });
        }
        end = found.end;
        tail.push(found);
    }
    if end.seq < acknowledged.seq || end.change < acknowledged.change {
        let number = tail.last().map_or(listed + 1, |tail| tail.number);
        return Err(OpenError::Lost {
            file: segment_path(folder, number),
            from: Seq(end.seq + 1),
            to: Seq(acknowledged.seq),
            change: acknowledged.change,
        });
    }
    let first = dropped_end.seq + 1;
    let chain = match (tail.last(), sealed.last()) {
        (Some(tail), _) => tail.segment.chain(),
        (None, Some(sealed)) => sealed_link(&segment_path(folder, sealed.number), sealed.first)?,
        (None, None) => None,
    };
    Ok(Survey { state, sealed, holes, tail, dropped, end, chain, first, mark })
}

/// Whether a segment that begins after `before` is the next where the journal stands at `end`.
pub(crate) fn follows(before: Position, end: Position, holes: &[Hole]) -> bool {
    // What was lost had blocks and changes of its own.
    let behind_hole = holes.iter().any(|hole| hole.to == before.seq);
    before == end || (behind_hole && before.seq == end.seq)
}

/// The state and the mark of a journal, or of a new one where the folder holds none.
fn open_or_create(folder: &Path, files: &[u64]) -> Result<(State, MarkFile, Mark), OpenError> {
    let marked = MarkFile::path_in(folder).exists();
    let state_path = State::path_in(folder);
    let state = match (state_path.exists(), marked || !files.is_empty()) {
        (true, _) => State::open(folder)?,
        (false, false) => State::create(folder)?,
        (false, true) => return Err(corrupt(&state_path, None, "missing")),
    };
    if marked {
        let (mark, acknowledged) = MarkFile::open(folder)?;
        return Ok((state, mark, acknowledged));
    }
    // The mark is made last; without it nothing can have been acknowledged.
    let is_new = files.is_empty()
        && state.sealed()?.is_empty()
        && state.holes()?.is_empty()
        && state.dropped()?.0 == 0;
    if !is_new {
        return Err(corrupt(&MarkFile::path_in(folder), None, "missing"));
    }
    let mark = MarkFile::create(folder, Mark::default())?;
    Ok((state, mark, Mark::default()))
}

/// Whether all sealed segments are there with the size they had, and where the journal goes on
/// after them.
fn check_sealed(
    folder: &Path,
    sealed: &[Sealed],
    holes: &[Hole],
    (mut number, dropped_end): (u64, Position),
) -> Result<Position, OpenError> {
    let mut end = dropped_end;
    for sealed in sealed {
        number += 1;
        // A segment without records may stand before a hole as well.
        let behind = over_hole(holes, end);
        if sealed.first != end.seq + 1 && sealed.first != behind.seq + 1 {
            let path = segment_path(folder, number);
            return Err(corrupt(&path, Some(end.seq + 1), "missing from the list of segments"));
        }
        let path = segment_path(folder, sealed.number);
        let octets = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(corrupt(&path, Some(sealed.first), "missing"));
            }
            Err(error) => return Err(unusable(&path, error)),
        };
        if octets != sealed.octets {
            let reason = format!("{octets} octets where {} were written", sealed.octets);
            return Err(corrupt(&path, Some(sealed.first), &reason));
        }
        number = sealed.number;
        end = sealed.end;
    }
    Ok(over_hole(holes, end))
}

/// Where the journal goes on after `end`: behind a hole, where one begins there.
pub(crate) fn over_hole(holes: &[Hole], end: Position) -> Position {
    let hole = holes.iter().find(|hole| hole.from == end.seq + 1);
    Position { seq: hole.map_or(end.seq, |hole| hole.to), ..end }
}

/// Opens a segment that is not sealed, should begin with record `first`, and finds where it ends.
pub(crate) fn look_into(path: &Path, number: u64, first: u64) -> Result<Tail, OpenError> {
    let (segment, before) = Segment::open(path, first)?;
    let row = last_block(segment.connection())
        .map_err(|error| open_error(path, Some(before.seq + 1), error))?;
    let mut end = before;
    let (mut oldest_ms, mut newest_ms) = (None, 0);
    if let Some(row) = row {
        check_last(path, &row, before)?;
        end.seq = row.last();
        end.block = row.number;
        newest_ms = row.written_ms;
        oldest_ms = written_at(segment.connection(), before.seq + 1)
            .map_err(|error| open_error(path, Some(before.seq + 1), error))?
            .map(|(written_ms, _, _)| written_ms);
    }
    let mut overlay = Overlay::default();
    end.change = each_change(segment.connection(), path, before, |row| {
        for changes in decode(&row.content).ok_or("can't be read")? {
            overlay.apply(changes);
        }
        Ok(())
    })?;
    Ok(Tail { number, segment, before, end, oldest_ms, newest_ms, overlay })
}

fn check_last(path: &Path, row: &Row, before: Position) -> Result<(), OpenError> {
    if !row.is_whole() || row.content_crc != crc32fast::hash(&row.content) {
        return Err(corrupt(path, Some(row.first.max(before.seq + 1)), "wrong checksum"));
    }
    if row.first <= before.seq || row.number <= before.block {
        return Err(corrupt(path, Some(before.seq + 1), "a record from before the segment"));
    }
    Ok(())
}

impl Survey {
    /// When the newest record was written, in milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> u64 {
        let sealed = self.sealed.iter().map(|sealed| sealed.newest_ms);
        sealed.chain(self.tail.iter().map(|tail| tail.newest_ms)).max().unwrap_or(0)
    }

    /// The ids of the last `records` records, read from the newest block back.
    pub(crate) fn window(&self, folder: &Path, records: usize) -> Result<Window, OpenError> {
        let mut window = Window::new(records, self.end.seq + 1);
        let mut next = self.end.seq + 1;
        for tail in self.tail.iter().rev() {
            let path = segment_path(folder, tail.number);
            let first = tail.before.seq + 1;
            let connection = tail.segment.connection();
            if !fill(&mut window, &mut next, connection, (&path, first), &self.holes)? {
                return Ok(window);
            }
        }
        for sealed in self.sealed.iter().rev() {
            // Numbers in the window are consecutive: it does not reach behind a hole.
            if window.is_full() || sealed.end.seq + 1 != next {
                break;
            }
            let path = segment_path(folder, sealed.number);
            let connection = open_reader(&path, true)
                .map_err(|error| open_error(&path, Some(sealed.first), error))?;
            let place = (path.as_path(), sealed.first);
            if !fill(&mut window, &mut next, &connection, place, &self.holes)? {
                break;
            }
        }
        Ok(window)
    }
}

/// Fills the window with the ids of one segment. Whether to go on with the one before.
fn fill(
    window: &mut Window,
    next: &mut u64,
    connection: &Connection,
    (path, first): (&Path, u64),
    holes: &[Hole],
) -> Result<bool, OpenError> {
    while *next > first && !window.is_full() {
        if holes.iter().any(|hole| hole.to == *next - 1) {
            return Ok(false);
        }
        let row = ids_before(connection, *next)
            .map_err(|error| open_error(path, Some(*next - 1), error))?
            .ok_or_else(|| corrupt(path, Some(*next - 1), "missing"))?;
        let ids = checked_ids(path, &row)?;
        if row.last() + 1 != *next {
            return Err(corrupt(path, Some(*next - 1), "missing"));
        }
        for id in ids.into_iter().rev() {
            window.push_older(id);
        }
        *next = row.first;
    }
    Ok(!window.is_full())
}
