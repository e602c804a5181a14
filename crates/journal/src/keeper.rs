//! The thread that keeps house: it seals full segments, drops old ones, writes cursors, and
//! tries a full disk again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::commit::Active;
use crate::files::{locked, remove_database, segment_path};
use crate::mark::MarkFile;
use crate::overlay::Overlay;
use crate::queue::State as Accepts;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::state::Sealed;

/// A segment that nothing will be added to.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) segment: Option<Segment>,
    /// Its octets are known once it is sealed.
    pub(crate) sealed: Sealed,
    pub(crate) overlay: Arc<Mutex<Overlay>>,
}

impl From<Active> for Retired {
    fn from(active: Active) -> Self {
        let sealed = Sealed {
            number: active.number,
            first: active.first,
            end: active.end,
            octets: active.octets,
            newest_ms: active.newest_ms,
        };
        Self { segment: active.segment, sealed, overlay: active.overlay }
    }
}

/// What the thread holds.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    retired: VecDeque<Retired>,
    sealed: VecDeque<Sealed>,
    mark: MarkFile,
}

impl Keeper {
    /// A keeper over the segments that are sealed already.
    pub(crate) fn new(shared: Arc<Shared>, sealed: Vec<Sealed>, mark: MarkFile) -> Self {
        Self { shared, retired: VecDeque::new(), sealed: sealed.into(), mark }
    }

    /// What the thread does until the other end of `incoming` is gone.
    pub(crate) fn run(mut self, incoming: &Receiver<Retired>) {
        loop {
            let next = incoming.recv_timeout(self.shared.options.housekeeping);
            let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
            self.retired.extend(next);
            self.keep();
            if ended {
                return;
            }
        }
    }

    fn keep(&mut self) {
        if matches!(self.shared.queue.state(), Accepts::Stopped { .. }) {
            // What the disk holds is unknown: everything waits until the journal is opened again.
            return;
        }
        while let Some(retired) = self.retired.pop_front() {
            if let Err((retired, error)) = self.seal(retired) {
                tracing::warn!(segment = retired.sealed.number, %error, "not sealed, will try again");
                self.retired.push_front(*retired);
                break;
            }
        }
        if let Err(error) = self.drop_old() {
            tracing::warn!(%error, "old segments not dropped, will try again");
        }
        if let Err(error) = self.shared.write_cursors() {
            tracing::warn!(%error, "cursors not written, will try again");
        }
        if matches!(self.shared.queue.state(), Accepts::Full { .. })
            && has_room(&self.shared.folder)
        {
            self.shared.queue.resume();
        }
    }

    /// Seals a segment: all of it into its one file, and its checkpoint changes into the state.
    fn seal(&mut self, mut retired: Retired) -> Result<(), (Box<Retired>, Trouble)> {
        match self.try_seal(&mut retired) {
            Ok(()) => Ok(()),
            Err(error) => Err((Box::new(retired), error)),
        }
    }

    fn try_seal(&mut self, retired: &mut Retired) -> Result<(), Trouble> {
        let number = retired.sealed.number;
        if let Some(segment) = self.shared.reader.segment(number) {
            segment.seal(|| close(&mut retired.segment))?;
        }
        let path = segment_path(&self.shared.folder, number);
        let estimate = retired.sealed.octets;
        let sealed = Sealed { octets: fs::metadata(&path)?.len(), ..retired.sealed };
        locked(&self.shared.state).seal(sealed, &locked(&retired.overlay))?;
        self.shared
            .layers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|layer| layer.number != number);
        let octets = &self.shared.counters.sealed_octets;
        octets.fetch_add(sealed.octets, Ordering::Relaxed);
        octets.fetch_sub(estimate, Ordering::Relaxed);
        self.sealed.push_back(sealed);
        // Not needed for the law, but an old mark after a power cut would notice less.
        self.mark.sync()?;
        Ok(())
    }

    /// Drops what retention no longer keeps: segments at the front, whole.
    fn drop_old(&mut self) -> Result<(), Trouble> {
        let retention = self.shared.options.retention;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest_ms = retention.age.map_or(0, |age| {
            u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(u64::MAX)
        });
        let mut octets = self.shared.octets();
        let mut last = None;
        for sealed in &self.sealed {
            let too_many = retention.octets.is_some_and(|limit| octets > limit);
            if !too_many && sealed.newest_ms >= oldest_ms {
                break;
            }
            octets = octets.saturating_sub(sealed.octets);
            last = Some(*sealed);
        }
        last.map_or(Ok(()), |last| self.drop_up_to(last))
    }

    fn drop_up_to(&mut self, last: Sealed) -> Result<(), Trouble> {
        // Readers are told first, the list is changed next, the files go last: wherever this
        // ends, no list names a file that is gone.
        self.shared.reader.drop_up_to(last.number, last.end.seq + 1);
        locked(&self.shared.state).drop_up_to(last.number, last.end)?;
        while let Some(sealed) = self.sealed.pop_front_if(|sealed| sealed.number <= last.number) {
            let octets = &self.shared.counters.sealed_octets;
            octets.fetch_sub(sealed.octets, Ordering::Relaxed);
            remove_database(&segment_path(&self.shared.folder, sealed.number))?;
            tracing::debug!(segment = sealed.number, "segment dropped");
        }
        Ok(())
    }
}

/// Why something has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Folder(#[from] io::Error),
    #[error("a reader is in the way")]
    Held,
}

/// Seals and closes a segment; done already where it is `None`.
fn close(segment: &mut Option<Segment>) -> Result<bool, Trouble> {
    if let Some(open) = segment.as_mut() {
        if !open.seal()? {
            return Err(Trouble::Held);
        }
        if let Some(open) = segment.take() {
            open.close()?;
        }
    }
    Ok(true)
}

/// Whether the disk takes about what a commit may need.
fn has_room(folder: &Path) -> bool {
    let path = folder.join("room.new");
    let written = write_probe(&path);
    let removed = fs::remove_file(&path);
    written.is_ok() && removed.is_ok()
}

fn write_probe(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = [0x5a; 64 * 1024];
    for _ in 0..PROBE_OCTETS / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Room that must be there before a full disk counts as having room again, in octets: a large
/// commit and the files around it.
const PROBE_OCTETS: usize = 2 * 1024 * 1024;
