//! The thread that keeps house: it seals full segments, drops old ones, writes cursors, and
//! tries a full disk again.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::commit::{Active, stopped, write_failure};
use crate::files::{locked, probe_room, remove_database, segment_path};
use crate::mark::MarkFile;
use crate::options::AGE_SHARE;
use crate::overlay::Overlay;
use crate::queue::{Failure, State as Accepts};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::state::{Sealed, State};

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
    /// What was logged as being in the way.
    in_the_way: Option<String>,
}

impl Keeper {
    /// A keeper over the segments that are sealed already.
    pub(crate) fn new(shared: Arc<Shared>, sealed: Vec<Sealed>, mark: MarkFile) -> Self {
        Self { shared, retired: VecDeque::new(), sealed: sealed.into(), mark, in_the_way: None }
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
        let mut trouble = None;
        // Each whatever became of the others: dropping may make the room that sealing needs.
        for step in [Self::end_old, Self::seal_waiting, Self::drop_old, Self::write_cursors] {
            match step(self) {
                Ok(()) => {}
                Err(Trouble::Broken(reason)) => return self.stop(reason),
                Err(other) => trouble = trouble.or_else(|| Some(other.to_string())),
            }
        }
        if trouble != self.in_the_way {
            if let Some(trouble) = &trouble {
                tracing::warn!(%trouble, "housekeeping is behind, and goes on trying");
            }
            self.in_the_way = trouble;
        }
        if matches!(self.shared.queue.state(), Accepts::Full { .. })
            && probe_room(&self.shared.folder).is_ok()
        {
            self.shared.queue.resume();
        }
    }

    /// Takes nothing more: what the disk holds is unknown.
    fn stop(&self, reason: String) {
        tracing::error!(%reason, "the journal has stopped");
        self.shared.queue.fail(&Failure::Stopped(reason));
    }

    /// Ends the active segment where retention by age asks for it: also in a journal to which
    /// nothing comes any more.
    fn end_old(&mut self) -> Result<(), Trouble> {
        let Some(age) = self.shared.options.retention.age else { return Ok(()) };
        let before_ms = before_ms(age / AGE_SHARE);
        locked(&self.shared.committer).end_old(&self.shared, before_ms).map_err(Trouble::from)
    }

    fn write_cursors(&mut self) -> Result<(), Trouble> {
        self.shared.write_cursors().map_err(|error| self.state_trouble(&error))
    }

    fn state_trouble(&self, error: &rusqlite::Error) -> Trouble {
        Trouble::from(write_failure(&State::path_in(&self.shared.folder), error))
    }

    /// Seals what waits, in order; what can't be sealed now stays the next.
    fn seal_waiting(&mut self) -> Result<(), Trouble> {
        while let Some(mut retired) = self.retired.pop_front() {
            if let Err(trouble) = self.try_seal(&mut retired) {
                self.retired.push_front(retired);
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Seals a segment: all of it into its one file, and its checkpoint changes into the state.
    fn try_seal(&mut self, retired: &mut Retired) -> Result<(), Trouble> {
        let number = retired.sealed.number;
        if let Some(segment) = self.shared.reader.segment(number) {
            segment.seal(|| close(&mut retired.segment))?;
        }
        let path = segment_path(&self.shared.folder, number);
        let estimate = retired.sealed.octets;
        let sealed = Sealed { octets: fs::metadata(&path)?.len(), ..retired.sealed };
        locked(&self.shared.state)
            .seal(sealed, &locked(&retired.overlay))
            .map_err(|error| self.state_trouble(&error))?;
        self.shared
            .layers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|layer| layer.number != number);
        let octets = &self.shared.counters.sealed_octets;
        octets.fetch_add(sealed.octets, Ordering::Relaxed);
        octets.fetch_sub(estimate, Ordering::Relaxed);
        self.shared.counters.unsealed.fetch_sub(1, Ordering::Relaxed);
        self.sealed.push_back(sealed);
        // Not needed for the law, but an old mark after a power cut would notice less.
        self.mark
            .sync()
            .map_err(|error| Trouble::from(stopped(self.mark.path(), "can't be synced", &error)))
    }

    /// Drops what retention no longer keeps: segments at the front, whole.
    fn drop_old(&mut self) -> Result<(), Trouble> {
        let retention = self.shared.options.retention;
        let oldest_ms = retention.age.map_or(0, before_ms);
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
        locked(&self.shared.state)
            .drop_up_to(last.number, last.end)
            .map_err(|error| self.state_trouble(&error))?;
        while let Some(sealed) = self.sealed.pop_front_if(|sealed| sealed.number <= last.number) {
            let octets = &self.shared.counters.sealed_octets;
            octets.fetch_sub(sealed.octets, Ordering::Relaxed);
            remove_database(&segment_path(&self.shared.folder, sealed.number))?;
            tracing::debug!(segment = sealed.number, "segment dropped");
        }
        Ok(())
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Trying again may help.
    #[error("no room left on the disk")]
    Full,
    /// Trying again may help.
    #[error(transparent)]
    Folder(#[from] io::Error),
    /// Trying again may help.
    #[error("a reader is in the way of sealing a segment")]
    Held,
    /// A write or an fsync failed, or a file is damaged: trying again could hide a loss.
    #[error("{0}")]
    Broken(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Stopped(reason) => Self::Broken(reason),
        }
    }
}

/// Seals and closes a segment; done already where it is `None`.
fn close(segment: &mut Option<Segment>) -> Result<bool, Trouble> {
    if let Some(open) = segment.as_mut() {
        if !open.seal().map_err(|error| write_failure(open.path(), &error))? {
            return Err(Trouble::Held);
        }
        if let Some(open) = segment.take() {
            let path = open.path().to_owned();
            open.close().map_err(|error| write_failure(&path, &error))?;
        }
    }
    Ok(true)
}

/// The time that was `age` ago, in milliseconds since 1970.
fn before_ms(age: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(u64::MAX)
}
