//! What every source is given: where its observations go, when to stop, and a place to say how it is.

mod health;
mod stop;

use std::fmt;

use postbell_engine::{Demand, Observation};

pub use health::{Count, Health, Snapshot, State};
pub use stop::Stop;

/// Where a source's observations go.
///
/// A source has a thread of its own and may block here: that is how a full disk slows it down.
pub trait Intake: Send + Sync + fmt::Debug {
    /// Normalises a batch and journals the events with the checkpoint; returns when both are
    /// durable, together.
    ///
    /// Blocks while the disk is full. An observation that can't become a valid event is logged
    /// and left out; it never takes the others down.
    ///
    /// # Errors
    ///
    /// [`Stopped`] where the journal takes nothing any more: the source ends, and what it had
    /// not got through is seen again at the next start.
    fn take(&self, batch: Batch) -> Result<(), Stopped>;

    /// What anybody wants at this moment: what nobody wants needn't be found out. An observation of
    /// it may be handed over all the same.
    fn demand(&self) -> Demand {
        Demand::everything()
    }

    /// What this source has stored under keys beginning with `prefix`, in key order.
    ///
    /// # Errors
    ///
    /// [`Stopped`] where the journal can't be read.
    fn checkpoint(&self, prefix: &[u8]) -> Result<Vec<Pair>, Stopped>;
}

/// A key of a checkpoint and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Observations and the changes to the source's memory that go with them.
///
/// Either may be empty. Keys beginning with a zero octet are postbell's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What was seen, in order.
    pub observations: Vec<Observation>,
    /// Keys of the checkpoint to set, or with `None` to remove.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty() && self.changes.is_empty()
    }
}

/// The journal takes nothing any more.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the journal has stopped: {reason}")]
pub struct Stopped {
    /// Why, for a person.
    pub reason: String,
}

impl Stopped {
    /// Says why.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
