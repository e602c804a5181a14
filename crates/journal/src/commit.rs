//! The two threads that write.
//!
//! They take turns hand over hand. One holds the encoder: it takes what is queued, numbers it and
//! compresses it. As soon as no commit is going on, it begins one with what it has and lets the
//! encoder go to the other. So there is one transaction at a time and no timer; a lone batch
//! passes from its caller to one thread and no further; and under load one core compresses
//! while the other writes.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::wal::CheckpointMode;

use crate::Seq;
use crate::chain::{Link, Tip};
use crate::encode::Group;
use crate::files::{CreateError, Meaning, lacks_room, locked, meaning, probe_room, segment_path};
use crate::keeper::Retired;
use crate::mark::{Mark, MarkFile};
use crate::options::{GROUP_OCTETS_MAX, OVERLAY_OCTETS_MAX, UNSEALED_MAX};
use crate::overlay::Overlay;
use crate::queue::Failure;
use crate::reader::SegmentFile;
use crate::segment::{ChangeRow, Position, Segment};
use crate::shared::{Layer, Shared};

/// What is written to; there is one, and whoever holds it commits.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) active: Active,
    pub(crate) mark: MarkFile,
    /// The disk was too full to write the mark after the last commit.
    pub(crate) is_mark_behind: bool,
    /// Takes segments that are full.
    pub(crate) keeper: Sender<Retired>,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    /// `None` once the journal is closed.
    pub(crate) segment: Option<Segment>,
    pub(crate) number: u64,
    /// The first record it may hold.
    pub(crate) first: u64,
    /// Where the journal stands.
    pub(crate) end: Position,
    /// Octets in it, about.
    pub(crate) octets: u64,
    /// When its first record was written, in milliseconds since 1970; `None` where it has none.
    pub(crate) oldest_ms: Option<u64>,
    /// When its last record was written; 0 where it has none.
    pub(crate) newest_ms: u64,
    pub(crate) overlay: Arc<Mutex<Overlay>>,
}

/// What a writing thread does until the journal is closed.
pub(crate) fn run(shared: &Shared) {
    let bereaved = Bereaved(shared);
    while let Some(group) = gather(shared) {
        commit(shared, group);
    }
    std::mem::forget(bereaved);
}

/// Stops the journal where a writing thread panics: others must not wait for it for ever.
struct Bereaved<'a>(&'a Shared);

impl Drop for Bereaved<'_> {
    fn drop(&mut self) {
        self.0.queue.fail(&Failure::Stopped("a writing thread ended unexpectedly".to_owned()));
        self.0.queue.lock().committing = false;
        self.0.queue.notify();
    }
}

/// Encodes until a commit may begin; `None` when all is written and no more will come.
fn gather(shared: &Shared) -> Option<Group> {
    let mut encoder = locked(&shared.encoder);
    loop {
        let mut inner = shared.queue.lock();
        if inner.epoch != encoder.epoch {
            let void = encoder.roll_back(inner.durable, inner.epoch);
            let failure = inner.failure.clone();
            drop(inner);
            void.refuse(&failure);
            continue;
        }
        let taken = if inner.committing {
            // Whole blocks only: what is less may yet grow while the disk is busy anyway.
            if !inner.has_block() || encoder.group_octets() >= GROUP_OCTETS_MAX {
                drop(shared.queue.wait(inner));
                continue;
            }
            inner.take_block()
        } else if encoder.has_group() {
            inner.committing = true;
            return Some(encoder.take_group());
        } else if !inner.is_empty() {
            inner.take_block()
        } else if inner.closed {
            return None;
        } else {
            drop(shared.queue.wait(inner));
            continue;
        };
        let durable = inner.durable.seq;
        drop(inner);
        if let Err(error) = encoder.encode(taken, durable) {
            shared.queue.fail(&Failure::Stopped(format!("can't compress: {error}")));
        }
    }
}

/// Makes a group durable and tells everyone.
fn commit(shared: &Shared, mut group: Group) {
    let begun = Instant::now();
    let mut committer = locked(&shared.committer);
    let written = if group.is_empty() { Ok(()) } else { committer.write(shared, &mut group) };
    let outcome = match written {
        Err(failure) => Err((failure, Some(group))),
        Ok(()) => {
            let end = committer.active.end;
            let blocks = std::mem::take(&mut group.blocks);
            let counters = &shared.counters;
            counters.blocks.fetch_add(blocks.len() as u64, Ordering::Relaxed);
            counters.commits.fetch_add(1, Ordering::Relaxed);
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            counters.last_commit_micros.store(micros, Ordering::Relaxed);
            shared.reader.publish(blocks, end.seq);
            let tip = committer.active.chain().map(|link| Tip { seq: Seq(end.seq), link });
            *locked(&shared.tip) = tip;
            shared.queue.lock().durable = end;
            group.acknowledge();
            shared.notice(end.seq);
            committer.tidy().map_err(|failure| (failure, None))
        }
    };
    drop(committer);
    if let Err((failure, group)) = outcome {
        if let Failure::Stopped(reason) = &failure {
            tracing::error!(%reason, "the journal has stopped");
        }
        let error = shared.queue.fail(&failure);
        if let Some(group) = group {
            group.refuse(&error);
        }
    }
    shared.queue.lock().committing = false;
    shared.queue.notify();
}

impl Committer {
    fn write(&mut self, shared: &Shared, group: &mut Group) -> Result<(), Failure> {
        self.make_room(shared)?;
        self.active.end = self.active.write(group)?;
        if let (Some(first), Some(last)) = (group.blocks.first(), group.blocks.last()) {
            self.active.oldest_ms.get_or_insert_with(|| first.written_ms());
            self.active.newest_ms = last.written_ms();
        }
        // Before anyone is told: a journal that is found shorter than this has lost something.
        self.write_mark()?;
        if !group.changes.is_empty() {
            let mut overlay = locked(&self.active.overlay);
            for changes in group.changes.drain(..) {
                overlay.apply(changes);
            }
        }
        shared.counters.active_octets.store(self.active.octets, Ordering::Relaxed);
        Ok(())
    }

    /// Writes where the journal stands.
    fn write_mark(&mut self) -> Result<(), Failure> {
        let Position { seq, change, .. } = self.active.end;
        match self.mark.write(Mark { seq, change }) {
            Ok(()) => self.is_mark_behind = false,
            // Some file systems need room to write over what is there. The group is durable and
            // acknowledged all the same; the mark follows when there is room.
            Err(error) if lacks_room(&error) => self.is_mark_behind = true,
            Err(error) => return Err(stopped(self.mark.path(), "can't be written", &error)),
        }
        Ok(())
    }

    /// Begins a new segment where the active one is full.
    ///
    /// Where the keeper can't keep up, the active one grows beyond its size instead: a file may,
    /// the list of those waiting may not.
    fn make_room(&mut self, shared: &Shared) -> Result<(), Failure> {
        let changes_octets = locked(&self.active.overlay).octets();
        let is_full = self.active.octets >= shared.options.segment_octets
            || changes_octets >= OVERLAY_OCTETS_MAX
            // What an earlier version began without a chain is ended: the chain begins at once.
            || self.active.is_unchained();
        if is_full && shared.counters.unsealed.load(Ordering::Relaxed) < UNSEALED_MAX {
            return self.roll(shared);
        }
        if changes_octets >= OVERLAY_OCTETS_MAX * UNSEALED_MAX {
            return Err(Failure::Stopped("checkpoints can't be merged, see the log".to_owned()));
        }
        Ok(())
    }

    /// Ends the active segment where its first record is so old that it would else keep newer
    /// ones from being dropped in time, or be kept too long itself.
    pub(crate) fn end_old(&mut self, shared: &Shared, before_ms: u64) -> Result<(), Failure> {
        let is_old = self.active.oldest_ms.is_some_and(|oldest_ms| oldest_ms < before_ms);
        let waiting = shared.counters.unsealed.load(Ordering::Relaxed);
        if is_old && self.active.segment.is_some() && waiting < UNSEALED_MAX {
            return self.roll(shared);
        }
        Ok(())
    }

    /// Begins a new segment, and hands the full one to the keeper.
    fn roll(&mut self, shared: &Shared) -> Result<(), Failure> {
        let number = self.active.number + 1;
        let path = segment_path(&shared.folder, number);
        let end = self.active.end;
        let chain = self.active.chain().unwrap_or(Link::START);
        let segment =
            Segment::create(&path, end, chain).map_err(|error| creation_failure(&path, &error))?;
        let first = end.seq + 1;
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let fresh = Active {
            segment: Some(segment),
            number,
            first,
            end,
            octets: 0,
            oldest_ms: None,
            newest_ms: 0,
            overlay: Arc::clone(&overlay),
        };
        let full = std::mem::replace(&mut self.active, fresh);
        shared.reader.add(SegmentFile::new(number, first, path, false));
        shared
            .layers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Layer { number, overlay });
        shared.counters.sealed_octets.fetch_add(full.octets, Ordering::Relaxed);
        shared.counters.active_octets.store(0, Ordering::Relaxed);
        shared.counters.unsealed.fetch_add(1, Ordering::Relaxed);
        self.keeper
            .send(Retired::from(full))
            .map_err(|_| Failure::Stopped("the housekeeping thread has ended".to_owned()))
    }

    /// Keeps the write-ahead log short, and says where the next group would find no room.
    fn tidy(&mut self) -> Result<(), Failure> {
        if self.is_mark_behind {
            self.write_mark()?;
        }
        if self.is_mark_behind {
            return Err(Failure::Full);
        }
        let Some(segment) =
            self.active.segment.as_mut().filter(|segment| segment.wants_checkpoint())
        else {
            return Ok(());
        };
        match segment.checkpoint(CheckpointMode::PASSIVE) {
            Ok(_) => Ok(()),
            Err(error) => Err(write_failure(segment.path(), &error)),
        }
    }
}

impl Active {
    /// The link with which the journal ends, where there is one.
    pub(crate) fn chain(&self) -> Option<Link> {
        self.segment.as_ref().and_then(Segment::chain)
    }

    fn is_unchained(&self) -> bool {
        self.segment.as_ref().is_some_and(|segment| segment.chain().is_none())
    }

    fn write(&mut self, group: &mut Group) -> Result<Position, Failure> {
        let Some(segment) = &mut self.segment else {
            return Err(Failure::Stopped("the journal is closed".to_owned()));
        };
        let mut end = self.end;
        let mut octets = 0;
        if let Some(row) = group.rows.last() {
            end.seq = row.last();
            end.block = row.number;
        }
        for row in &group.rows {
            octets += (row.content.len() + row.ids.len() + ROW_OVERHEAD_OCTETS) as u64;
        }
        let changes = (!group.changes.is_empty()).then(|| {
            end.change += 1;
            let content = std::mem::take(&mut group.changes_content);
            octets += (content.len() + ROW_OVERHEAD_OCTETS) as u64;
            ChangeRow { number: end.change, after: end.seq, content }
        });
        segment
            .commit(&group.rows, changes.as_ref())
            .map_err(|error| write_failure(segment.path(), &error))?;
        self.octets += octets;
        Ok(end)
    }
}

/// What a failed write means for the journal.
pub(crate) fn write_failure(path: &Path, error: &rusqlite::Error) -> Failure {
    if lacked_room(path, error) { Failure::Full } else { stopped(path, "can't be written", error) }
}

fn creation_failure(path: &Path, error: &CreateError) -> Failure {
    let is_full = match error {
        CreateError::Database(error) => lacked_room(path, error),
        CreateError::Folder(error) => lacks_room(error),
    };
    if is_full { Failure::Full } else { stopped(path, "can't be made", error) }
}

fn lacked_room(path: &Path, error: &rusqlite::Error) -> bool {
    match meaning(error) {
        Meaning::NoRoom => true,
        // A quota that is used up looks like this. Nothing was written, so nothing is unknown.
        Meaning::NotWritten => {
            let probed = path.parent().map_or(Ok(()), probe_room);
            probed.is_err_and(|error| lacks_room(&error))
        }
        Meaning::Damaged | Meaning::Other => false,
    }
}

pub(crate) fn stopped(path: &Path, what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Stopped(format!("{}: {what}: {error}", path.display()))
}

/// What a row costs in a segment beyond its contents, about, in octets.
const ROW_OVERHEAD_OCTETS: usize = 64;
