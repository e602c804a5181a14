//! What the journal's threads and its callers share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::chain::Tip;
use crate::commit::Committer;
use crate::encode::Encoder;
use crate::files::locked;
use crate::overlay::Overlay;
use crate::queue::Queue;
use crate::reader::Reader;
use crate::state::State;
use crate::{Options, Pair, ReadError, Seq};

/// Everything, once.
///
/// Locks are taken in this order, and never the other way round: encoder, committer, state,
/// layers, a layer, queue, cursors.
pub(crate) struct Shared {
    pub(crate) folder: Arc<Path>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) encoder: Mutex<Encoder>,
    pub(crate) committer: Mutex<Committer>,
    pub(crate) reader: Reader,
    pub(crate) state: Mutex<State>,
    /// Checkpoint changes not yet merged into the state, oldest segment first.
    pub(crate) layers: RwLock<Vec<Layer>>,
    /// Cursors set since they were last written.
    pub(crate) cursors: Mutex<BTreeMap<String, Option<Seq>>>,
    pub(crate) notices: RwLock<Vec<Notice>>,
    pub(crate) counters: Counters,
    /// Where the chain stands; `None` before the first block that is in it.
    pub(crate) tip: Mutex<Option<Tip>>,
}

/// Told the last durable record after each commit.
pub(crate) type Notice = Box<dyn Fn(Seq) + Send + Sync>;

/// The checkpoint changes of one segment.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) number: u64,
    pub(crate) overlay: Arc<Mutex<Overlay>>,
}

/// Figures since the journal was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) last_commit_micros: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) sealed_octets: AtomicU64,
    pub(crate) active_octets: AtomicU64,
    /// Full segments waiting to be sealed.
    pub(crate) unsealed: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Shared {
    /// All of a source's checkpoint under `prefix`: the state, and over it what is not merged.
    pub(crate) fn checkpoint(&self, source: &str, prefix: &[u8]) -> Result<Vec<Pair>, ReadError> {
        // Nothing is merged while the state is held, so that a layer is in the state or in the
        // list, or in both, which changes nothing. The list is not held while reading: a commit
        // that begins a segment waits for it.
        let state = locked(&self.state);
        let layers = self.layers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = state.checkpoint(source, prefix)?;
        drop(state);
        for layer in &layers {
            locked(&layer.overlay).lay_over(source, prefix, &mut found);
        }
        Ok(found.into_iter().collect())
    }

    /// How many keys a source's checkpoint has: those of the state, and what the layers change.
    pub(crate) fn checkpoint_keys(&self, source: &str) -> Result<u64, ReadError> {
        // Held to the end: a layer merged meanwhile would be counted twice.
        let state = locked(&self.state);
        let layers = self.layers.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut changed = BTreeMap::new();
        for layer in &layers {
            locked(&layer.overlay).lay_presence_over(source, &mut changed);
        }
        let mut count = state.count_keys(source)?;
        for (key, is_there) in changed {
            match (state.has_key(source, &key)?, is_there) {
                (false, true) => count += 1,
                (true, false) => count = count.saturating_sub(1),
                (true, true) | (false, false) => {}
            }
        }
        Ok(count)
    }

    /// Where a cursor is.
    pub(crate) fn cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        if let Some(done) = locked(&self.cursors).get(name) {
            return Ok(*done);
        }
        locked(&self.state).cursor(name)
    }

    /// Writes the cursors that were set.
    pub(crate) fn write_cursors(&self) -> rusqlite::Result<()> {
        let cursors = locked(&self.cursors).clone();
        if cursors.is_empty() {
            return Ok(());
        }
        locked(&self.state).set_cursors(&cursors)?;
        // Only what was written is forgotten; a cursor set meanwhile waits for the next time.
        locked(&self.cursors).retain(|name, done| cursors.get(name) != Some(done));
        Ok(())
    }

    /// Tells everyone who asked.
    pub(crate) fn notice(&self, last: u64) {
        for notice in self.notices.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let told = std::panic::AssertUnwindSafe(|| notice(Seq(last)));
            if std::panic::catch_unwind(told).is_err() {
                tracing::error!("a function called after a commit panicked");
            }
        }
    }

    /// Octets of all segments.
    pub(crate) fn octets(&self) -> u64 {
        self.counters.sealed_octets.load(Ordering::Relaxed)
            + self.counters.active_octets.load(Ordering::Relaxed)
    }
}
