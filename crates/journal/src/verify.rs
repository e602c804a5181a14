//! Looking whether a journal is what was written: every block, and the chain over them.
//!
//! Reads only, and may go on beside the process that holds the folder.

use std::path::{Path, PathBuf};

use crate::files::{beside, corrupt, segment_path, segments_in, unusable};
use crate::mark::{Mark, MarkFile};
use crate::state::{Hole, Sealed, State};
use crate::walk::Walk;
use crate::{OpenError, Seq, Tip};

/// What was found in a journal.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// The first record kept; one past `last` where there is none.
    pub first: Seq,
    /// The last record found.
    pub last: Seq,
    /// The first record in the chain of hashes; those before it were written without.
    pub chained_from: Option<Seq>,
    /// Where the chain ends.
    pub tip: Option<Tip>,
    /// Records whose loss a person had accepted before.
    pub lost: Vec<(Seq, Seq)>,
    /// How many of the tips that were handed in were met as they should be.
    pub tips_met: usize,
    /// How many could not be looked for: what they speak of is no longer kept, or lost.
    pub tips_gone: usize,
    /// What is not as it was written, in order, [`FINDINGS_MAX`] at most.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub findings_left_out: usize,
}

/// One run of records that are not what was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What kind of wrong it is.
    pub kind: Wrong,
    /// The file at fault.
    pub file: PathBuf,
    /// The first record it concerns. Hashes and checksums are a block's: any record of it may be
    /// the one.
    pub from: Seq,
    /// The last.
    pub to: Seq,
    /// What was found.
    pub reason: String,
}

/// How records are wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Wrong {
    /// A checksum doesn't fit: a disk's fault, or a careless hand's.
    Damaged,
    /// They are not there.
    Missing,
    /// Checksums fit and hashes don't: it was changed on purpose.
    Changed,
}

/// Looks through the whole journal in `folder`, and whether it passes every one of `tips`, which
/// were noted before. Calls `progress` with the records looked at and those there are.
///
/// # Errors
///
/// Where the folder, the list of segments or the mark can't be read, or a file is of a later
/// format. What is wrong with records is no error: it is what was asked.
pub fn verify(
    folder: impl AsRef<Path>,
    tips: &[Tip],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, OpenError> {
    let folder = folder.as_ref();
    let state = State::path_in(folder);
    if !state.try_exists().map_err(|error| unusable(&state, error))? {
        return Err(corrupt(&state, None, "missing"));
    }
    // In this order: what was acknowledged is in what was listed later.
    let mark = MarkFile::read(folder)?;
    let listed = Listed::read(folder)?;
    let files = segments_in(folder).map_err(|error| unusable(folder, error))?;
    let mut walk = Walk::new(listed.dropped.1, listed.holes, tips, mark.seq, progress);
    let mut last_listed = listed.dropped.0;
    for sealed in &listed.sealed {
        let path = segment_path(folder, sealed.number);
        if !path.exists() && is_dropped(folder, sealed.number)? {
            walk.skip(sealed.end);
        } else {
            walk.segment(&path, Some(*sealed))?;
        }
        last_listed = sealed.number;
    }
    for number in files.into_iter().filter(|number| *number > last_listed) {
        tail(folder, number, &mut walk)?;
    }
    let newest = segment_path(folder, last_segment(folder, last_listed));
    Ok(walk.finish(&newest, mark.seq))
}

/// Walks a segment that was not sealed when it was listed. It may be sealed, or even dropped,
/// while it is read: what is found wrong is looked at again.
fn tail(folder: &Path, number: u64, walk: &mut Walk<'_>) -> Result<(), OpenError> {
    let path = segment_path(folder, number);
    for turn in 0..TURNS {
        let before = walk.memory();
        if path.exists() {
            walk.segment(&path, None)?;
        } else if let Some(sealed) = Listed::read(folder)?.end_of(number) {
            walk.skip(sealed);
            return Ok(());
        } else {
            walk.absent(&path);
        }
        if walk.memory().findings() == before.findings() || turn + 1 == TURNS {
            return Ok(());
        }
        walk.restore(before);
    }
    Ok(())
}

fn is_dropped(folder: &Path, number: u64) -> Result<bool, OpenError> {
    Ok(Listed::read(folder)?.dropped.0 >= number)
}

/// The segment that comes last, whether it is there or not: behind those that are listed there is
/// always one that is written on.
fn last_segment(folder: &Path, listed: u64) -> u64 {
    let last = segments_in(folder).ok().and_then(|files| files.last().copied());
    last.unwrap_or_default().max(listed + 1)
}

/// What the state says of segments.
struct Listed {
    sealed: Vec<Sealed>,
    holes: Vec<Hole>,
    dropped: (u64, crate::segment::Position),
}

impl Listed {
    fn read(folder: &Path) -> Result<Self, OpenError> {
        let state = State::open_to_read(folder)?;
        Ok(Self { sealed: state.sealed()?, holes: state.holes()?, dropped: state.dropped()? })
    }

    /// Where the journal stood after a segment that was dropped.
    fn end_of(&self, number: u64) -> Option<crate::segment::Position> {
        (self.dropped.0 >= number).then_some(self.dropped.1)
    }
}

/// Whether SQLite keeps something beside a segment that belongs to it.
pub(crate) fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|about| about.len() > 0)
}

impl Verified {
    /// The worst of what was found, if anything was.
    #[must_use]
    pub fn worst(&self) -> Option<Wrong> {
        self.findings.iter().map(|finding| finding.kind).max()
    }
}

impl MarkFile {
    /// The mark, from a file that another process may be writing.
    fn read(folder: &Path) -> Result<Mark, OpenError> {
        let mut read = Self::look(folder);
        for _ in 1..TURNS {
            if read.is_ok() {
                break;
            }
            read = Self::look(folder);
        }
        read
    }
}

/// How often something is looked at before it is believed to be wrong, where another process may
/// be changing it.
const TURNS: usize = 4;

/// The most findings that are told one by one.
pub const FINDINGS_MAX: usize = 100;
