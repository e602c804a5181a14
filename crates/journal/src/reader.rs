//! Finding records: in the newest blocks, in a few older ones kept, or on disk.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rusqlite::Connection;

use crate::block::{Block, Row};
use crate::files::{damaged, locked, read_error};
use crate::records::Gathering;
use crate::segment::{block_at, open_reader, written_at};
use crate::state::Hole;
use crate::{Bounds, Options, ReadError, Records, Seq};

/// All that is needed to read, shared between threads.
#[derive(Debug)]
pub(crate) struct Reader {
    segments: RwLock<Vec<Arc<SegmentFile>>>,
    recent: Mutex<Kept>,
    cold: Mutex<Kept>,
    /// Segments with an open connection, the one opened last at the end.
    open: Mutex<VecDeque<Arc<SegmentFile>>>,
    holes: Vec<Hole>,
    first: AtomicU64,
    last: AtomicU64,
}

/// A segment as a reader sees it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    /// The first record it may hold.
    pub(crate) first: u64,
    path: PathBuf,
    access: Mutex<Access>,
}

/// How a segment is read.
#[derive(Debug)]
pub(crate) struct Access {
    connection: Option<Connection>,
    sealed: bool,
}

impl SegmentFile {
    /// The segment in `path`, beginning with record `first`.
    pub(crate) fn new(number: u64, first: u64, path: PathBuf, sealed: bool) -> Arc<Self> {
        let access = Mutex::new(Access { connection: None, sealed });
        Arc::new(Self { number, first, path, access })
    }

    /// Keeps readers out and closes what they had open, while `seal` runs; from then on the file
    /// is read as one that never changes if `seal` says so.
    pub(crate) fn seal<E>(&self, seal: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let mut access = locked(&self.access);
        access.connection = None;
        let sealed = seal()?;
        access.sealed = access.sealed || sealed;
        Ok(sealed)
    }
}

impl Reader {
    /// A reader over `segments`, in order.
    pub(crate) fn new(
        segments: Vec<Arc<SegmentFile>>,
        holes: Vec<Hole>,
        bounds: Bounds,
        options: &Options,
    ) -> Self {
        Self {
            segments: RwLock::new(segments),
            recent: Mutex::new(Kept::new(options.recent_octets)),
            cold: Mutex::new(Kept::new(options.cold_octets)),
            open: Mutex::new(VecDeque::new()),
            holes,
            first: AtomicU64::new(bounds.first.0),
            last: AtomicU64::new(bounds.last.0),
        }
    }

    /// The first record kept and the last one durable.
    pub(crate) fn bounds(&self) -> Bounds {
        // The last is read second, so that it is never less than one before the first.
        let first = self.first.load(Ordering::Acquire);
        let last = self.last.load(Ordering::Acquire);
        Bounds { first: Seq(first), last: Seq(last) }
    }

    /// Shows blocks that have become durable.
    pub(crate) fn publish(&self, blocks: Vec<Arc<Block>>, last: u64) {
        let mut recent = locked(&self.recent);
        for block in blocks {
            recent.push(block);
        }
        drop(recent);
        self.last.store(last, Ordering::Release);
    }

    /// A new segment begins.
    pub(crate) fn add(&self, segment: Arc<SegmentFile>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// The segment with a number, if it is kept.
    pub(crate) fn segment(&self, number: u64) -> Option<Arc<SegmentFile>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.iter().find(|segment| segment.number == number).cloned()
    }

    /// Segments up to `number` are no longer kept, nor any record before `first`.
    pub(crate) fn drop_up_to(&self, number: u64, first: u64) {
        self.first.fetch_max(first, Ordering::AcqRel);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.retain(|segment| segment.number > number);
        drop(segments);
        locked(&self.open).retain(|segment| segment.number > number);
        locked(&self.recent).drop_before(first);
        locked(&self.cold).drop_before(first);
    }

    /// Reads from `from` on; see [`Journal::read`](crate::Journal::read).
    pub(crate) fn read(&self, from: Seq, limit_octets: usize) -> Result<Records, ReadError> {
        let bounds = self.bounds();
        let from = from.0.max(1);
        if from < bounds.first.0 {
            return Err(ReadError::Dropped { first: bounds.first });
        }
        let mut gathering = Gathering::new(from, limit_octets);
        while gathering.next() <= bounds.last.0 && !gathering.is_full() {
            if locked(&self.recent).gather(&mut gathering) {
                continue;
            }
            match self.older(gathering.next()) {
                Ok(block) => gathering.take(&block),
                // What was found before the fault is good; the next read meets the fault first.
                Err(_) if !gathering.is_empty() => break,
                Err(error) => return Err(self.or_dropped(gathering.next(), error)),
            }
        }
        Ok(gathering.finish())
    }

    /// The block that holds `seq`, from those kept or from disk.
    fn older(&self, seq: u64) -> Result<Arc<Block>, ReadError> {
        if let Some(hole) = self.holes.iter().find(|hole| (hole.from..=hole.to).contains(&seq)) {
            return Err(ReadError::Lost { from: Seq(hole.from), to: Seq(hole.to) });
        }
        if let Some(block) = locked(&self.cold).find(seq) {
            return Ok(block);
        }
        let Some(segment) = self.holding(seq) else {
            return Err(ReadError::Dropped { first: self.bounds().first });
        };
        let block = Arc::new(self.load(&segment, seq)?);
        locked(&self.cold).push(Arc::clone(&block));
        Ok(block)
    }

    /// The segment that should hold `seq`.
    fn holding(&self, seq: u64) -> Option<Arc<SegmentFile>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.first <= seq);
        segments.get(after.checked_sub(1)?).cloned()
    }

    fn load(&self, segment: &Arc<SegmentFile>, seq: u64) -> Result<Block, ReadError> {
        let row = self.with_connection(segment, seq, |connection| block_at(connection, seq))?;
        let row = row.ok_or_else(|| damaged(&segment.path, seq, "missing"))?;
        read_row(&segment.path, &row, seq)
    }

    fn with_connection<T>(
        &self,
        segment: &Arc<SegmentFile>,
        seq: u64,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        let mut access = locked(&segment.access);
        let connection = match access.connection.take() {
            Some(connection) => connection,
            None => {
                if !segment.path.exists() {
                    return Err(damaged(&segment.path, seq, "the file is missing"));
                }
                self.make_room(segment);
                open_reader(&segment.path, access.sealed)
                    .map_err(|error| read_error(&segment.path, seq, error))?
            }
        };
        let answer = ask(&connection).map_err(|error| read_error(&segment.path, seq, error));
        // A connection that met an error is not trusted with another question.
        access.connection = answer.is_ok().then_some(connection);
        answer
    }

    /// The error met at `seq`, unless retention took the record a moment ago and its file with
    /// it.
    fn or_dropped(&self, seq: u64, error: ReadError) -> ReadError {
        let first = self.bounds().first;
        if seq < first.0 { ReadError::Dropped { first } } else { error }
    }

    /// Closes the connection opened longest ago where there are many.
    fn make_room(&self, opening: &Arc<SegmentFile>) {
        let mut open = locked(&self.open);
        open.retain(|segment| segment.number != opening.number);
        open.push_back(Arc::clone(opening));
        let mut excess = open.len().saturating_sub(OPEN_SEGMENTS_MAX);
        open.retain(|segment| {
            // One that is being read at this moment stays open and on the list.
            let Some(mut access) = (excess > 0).then(|| segment.access.try_lock().ok()).flatten()
            else {
                return true;
            };
            access.connection = None;
            excess -= 1;
            false
        });
    }

    /// The first record written at `unix_millis` or later, as far as blocks tell them apart.
    pub(crate) fn first_since(&self, unix_millis: u64) -> Result<Seq, ReadError> {
        let Bounds { first, last } = self.bounds();
        let (mut low, mut high) = (first.0, last.0.saturating_add(1));
        while low < high {
            let middle = u64::midpoint(low, high);
            let (written_ms, from, to) = match self.written(middle) {
                Ok(found) => found,
                Err(error) => match self.or_dropped(middle, error) {
                    // Dropped while we searched: what is left is newer.
                    ReadError::Dropped { first } => {
                        low = first.0.max(middle.saturating_add(1));
                        continue;
                    }
                    error => return Err(error),
                },
            };
            if written_ms < unix_millis {
                low = to.saturating_add(1);
            } else {
                high = from.max(low).min(middle);
            }
        }
        Ok(Seq(low))
    }

    /// When `seq` was written; see [`Journal::written_ms`](crate::Journal::written_ms).
    pub(crate) fn written_ms(&self, seq: Seq) -> Result<u64, ReadError> {
        let found = self.written(seq.0).map_err(|error| self.or_dropped(seq.0, error))?;
        Ok(found.0)
    }

    /// When `seq` was written, with the bounds of what was written then.
    fn written(&self, seq: u64) -> Result<(u64, u64, u64), ReadError> {
        if let Some(hole) = self.holes.iter().find(|hole| (hole.from..=hole.to).contains(&seq)) {
            // As though it had been written with what follows it.
            let after = hole.to.saturating_add(1);
            let is_last = after > self.bounds().last.0;
            let written_ms = if is_last { u64::MAX } else { self.written(after)?.0 };
            return Ok((written_ms, hole.from, hole.to));
        }
        if let Some(block) = locked(&self.recent).find(seq) {
            return Ok((block.written_ms(), block.first(), block.last()));
        }
        let Some(segment) = self.holding(seq) else {
            return Err(ReadError::Dropped { first: self.bounds().first });
        };
        self.with_connection(&segment, seq, |connection| written_at(connection, seq))?
            .filter(|(_, _, last)| *last >= seq)
            .ok_or_else(|| damaged(&segment.path, seq, "missing"))
    }
}

/// Turns a row into the block that holds `seq`, or says what is wrong with it.
pub(crate) fn read_row(path: &Path, row: &Row, seq: u64) -> Result<Block, ReadError> {
    let bad = |reason| damaged(path, seq, reason);
    if !row.is_whole() || row.content_crc != crc32fast::hash(&row.content) {
        return Err(bad("wrong checksum"));
    }
    if row.first > seq || row.last() < seq {
        return Err(bad("missing"));
    }
    let octets = usize::try_from(row.raw_octets).unwrap_or(usize::MAX);
    let raw = zstd::bulk::decompress(&row.content, octets)
        .map_err(|_| bad("the block can't be decompressed"))?;
    Block::from_row(row, raw).map_err(bad)
}

/// Blocks kept in memory, in order of their numbers, up to a limit of octets.
#[derive(Debug)]
struct Kept {
    blocks: VecDeque<Arc<Block>>,
    octets: usize,
    octets_max: usize,
}

impl Kept {
    fn new(octets_max: usize) -> Self {
        Self { blocks: VecDeque::new(), octets: 0, octets_max }
    }

    /// Adds a block, forgetting those kept longest. One block is kept whatever its size.
    fn push(&mut self, block: Arc<Block>) {
        self.octets += block.memory_octets();
        self.blocks.push_back(block);
        while self.octets > self.octets_max && self.blocks.len() > 1 {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            self.octets -= block.memory_octets();
        }
    }

    /// The block that holds `seq`, in whatever order they were added.
    fn find(&self, seq: u64) -> Option<Arc<Block>> {
        let holds = |block: &&Arc<Block>| (block.first()..=block.last()).contains(&seq);
        self.blocks.iter().find(holds).cloned()
    }

    /// Takes what is wanted from blocks that were added in order. Whether anything was.
    fn gather(&self, gathering: &mut Gathering) -> bool {
        let before = gathering.next();
        let start = self.blocks.partition_point(|block| block.last() < before);
        for block in self.blocks.range(start..) {
            if gathering.is_full() || block.first() > gathering.next() {
                break;
            }
            gathering.take(block);
        }
        gathering.next() > before || gathering.is_full()
    }

    fn drop_before(&mut self, first: u64) {
        self.blocks.retain(|block| block.last() >= first);
        self.octets = self.blocks.iter().map(|block| block.memory_octets()).sum();
    }
}

/// Segments that are open for reading at once: each costs a file or three and some memory.
const OPEN_SEGMENTS_MAX: usize = 8;
