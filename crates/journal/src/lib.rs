//! The durable journal: numbered records, source checkpoints, cursors, retention, recovery.
//!
//! It knows nothing of mail: a record is an id, a head of 24 octets and an opaque body.
//! [`Journal`] is the door; [`SqliteJournal`] is what stands behind it.

mod block;
mod chain;
mod commit;
#[cfg(feature = "contract")]
pub mod contract;
mod door;
mod encode;
mod error;
mod files;
mod journal;
mod keeper;
mod lock;
mod loss;
mod mark;
mod options;
mod overlay;
mod queue;
mod reader;
mod records;
mod recover;
mod segment;
mod shared;
mod state;
mod verify;
mod walk;
mod window;

pub use chain::{Link, Tip};
pub use door::{
    Appended, Batch, Bounds, Change, Checkpoint, Done, Entry, Head, Journal, Pair, Record,
    RecordId, Seq, Verdict,
};
pub use error::{AppendError, OpenError, ReadError};
pub use journal::{SqliteJournal, Stats};
pub use loss::{AcceptedLoss, accept_loss};
pub use options::{ENTRY_OCTETS_MAX, Options, Retention};
pub use queue::State;
pub use records::{Iter, Records};
pub use verify::{FINDINGS_MAX, Finding, Verified, Wrong, verify};
