//! What can go wrong, for the one who appends, the one who reads and the one who opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Seq;

/// Why a batch did not become records.
///
/// Nothing of a refused batch is acknowledged. After [`AppendError::Stopped`] it may still be
/// there when the journal is opened again; appending it once more then yields
/// [`Verdict::Repeated`](crate::Verdict::Repeated).
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The queue is at its limit; the batch was not taken. Try again when something drained.
    #[error("the journal's queue is full ({entries} entries, {octets} octets)")]
    Busy {
        /// Entries waiting.
        entries: usize,
        /// Octets waiting.
        octets: usize,
    },
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// The disk is full. The journal accepts again by itself once there is room.
    #[error("{}: no room left on the disk", folder.display())]
    Full {
        /// The journal's folder.
        folder: Arc<Path>,
    },
    /// A write failed in a way that leaves it unknown what the disk holds. Nothing is accepted
    /// until the journal is opened again.
    #[error("{}: the journal has stopped: {reason}", folder.display())]
    Stopped {
        /// The journal's folder.
        folder: Arc<Path>,
        /// What failed.
        reason: Arc<str>,
    },
    /// One body, or one batch's checkpoint, is larger than a row may be.
    #[error("{octets} octets in one entry or checkpoint, where {limit_octets} is the limit")]
    TooLarge {
        /// Its size.
        octets: usize,
        /// The limit, [`ENTRY_OCTETS_MAX`](crate::ENTRY_OCTETS_MAX).
        limit_octets: usize,
    },
}

/// Why records, a checkpoint or a cursor could not be read.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file no longer holds what was written.
    #[error("{}: record {}: {reason}", file.display(), seq.0)]
    Corrupt {
        /// The file at fault.
        file: PathBuf,
        /// The first record that can't be trusted.
        seq: Seq,
        /// What was found.
        reason: String,
    },
    /// Retention has taken these records; `first` is the oldest still kept.
    #[error("records before {} are no longer kept", first.0)]
    Dropped {
        /// The oldest record still kept.
        first: Seq,
    },
    /// These records were lost by damage that a person has accepted; reading goes on at `to` + 1.
    #[error("records {} to {} were lost", from.0, to.0)]
    Lost {
        /// The first record lost.
        from: Seq,
        /// The last record lost.
        to: Seq,
    },
    /// The disk could not be read now.
    #[error("{}: can't be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a journal could not be opened.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file no longer holds what was written.
    #[error("{}: {}{reason}", file.display(), record_prefix(*seq))]
    Corrupt {
        /// The file at fault.
        file: PathBuf,
        /// The first record that can't be trusted, where the file holds records.
        seq: Option<Seq>,
        /// What was found.
        reason: String,
    },
    /// Another process holds the folder.
    #[error("{}: held by process {holder}", folder.display())]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Process id and name, as that process wrote them.
        holder: String,
    },
    /// The SQLite library is older than the first version this journal trusts.
    #[error("SQLite {found} is too old: {needed} or later is needed")]
    Library {
        /// The version found.
        found: &'static str,
        /// The oldest version accepted.
        needed: &'static str,
    },
    /// Acknowledged records are missing from the end of the journal.
    ///
    /// Restore the file, or call [`accept_loss`](crate::accept_loss).
    #[error(
        "{}: record {}: missing, though acknowledged up to record {} (checkpoint change {})",
        file.display(), from.0, to.0, change
    )]
    Lost {
        /// The file in which the first missing record belongs.
        file: PathBuf,
        /// The first record missing.
        from: Seq,
        /// The last record that was acknowledged; before `from` where only a checkpoint is
        /// missing.
        to: Seq,
        /// The last checkpoint change that was acknowledged.
        change: u64,
    },
    /// The disk is full, and the journal has no file yet that it could go on with.
    #[error("{}: no room left on the disk", folder.display())]
    Full {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or a file can't be used.
    #[error("{}: can't be used", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file was written by a version this one doesn't know.
    #[error("{}: format {found}, where this version knows {known}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The format it has.
        found: i64,
        /// The newest format this version reads.
        known: i64,
    },
}

impl OpenError {
    /// Whether [`accept_loss`](crate::accept_loss) can help: it can't where checkpoints and the list of
    /// segments are not whole, which only a backup has.
    #[must_use]
    pub fn can_be_accepted(&self) -> bool {
        match self {
            Self::Corrupt { file, .. } => !file.ends_with(STATE),
            Self::Lost { .. } => true,
            Self::Full { .. }
            | Self::Held { .. }
            | Self::Library { .. }
            | Self::Unusable { .. }
            | Self::Version { .. } => false,
        }
    }
}

/// The file with checkpoints and the list of segments.
pub(crate) const STATE: &str = "state.db";

fn record_prefix(seq: Option<Seq>) -> String {
    seq.map_or_else(String::new, |seq| format!("record {}: ", seq.0))
}
