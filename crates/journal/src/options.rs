//! What a journal can be told when it is opened, and its limits.

use std::time::Duration;

/// How a journal is to be kept. The default suits a hub with a few gigabytes to spare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// A segment ends when it has about this many octets. Retention takes whole segments, so
    /// this is how finely it works; each costs one file and one fsync of the folder.
    pub segment_octets: u64,
    /// What is dropped, and when.
    pub retention: Retention,
    /// An id among this many last records is a repeat.
    pub window_records: usize,
    /// Entries that may wait to be written; beyond, appending is refused as busy.
    pub queue_entries: usize,
    /// Octets that may wait to be written; beyond, appending is refused as busy. A single batch
    /// larger than this is taken when nothing else waits.
    pub queue_octets: usize,
    /// Octets of the newest blocks kept in memory, so that followers need no disk.
    pub recent_octets: usize,
    /// Octets of older blocks kept in memory after they were read from disk.
    pub cold_octets: usize,
    /// How often cursors are written, retention is looked at and a full disk is tried again.
    pub housekeeping: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_octets: 64 * 1024 * 1024,
            retention: Retention::default(),
            // What a source may repeat after a crash, with room to spare.
            window_records: 65_536,
            queue_entries: 65_536,
            queue_octets: 64 * 1024 * 1024,
            recent_octets: 32 * 1024 * 1024,
            cold_octets: 8 * 1024 * 1024,
            housekeeping: Duration::from_secs(1),
        }
    }
}

/// When a segment is dropped.
///
/// The one being written never is; but where an age is given, a segment also ends at a quarter
/// of it, whether or not it is full, so that no record outlives its age by more than that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retention {
    /// A segment goes when its newest record is older than this.
    pub age: Option<Duration>,
    /// The oldest segments go while all together have more octets than this.
    pub octets: Option<u64>,
}

/// The most one body, or the checkpoint of one batch, may have, in octets: the largest message
/// a mail system takes, in base64, and far below what a row can hold.
pub const ENTRY_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Records in a block, about. More compress no better and make a reader decompress more.
pub(crate) const BLOCK_RECORDS: usize = 256;

/// Octets of bodies after which a block ends.
pub(crate) const BLOCK_OCTETS: usize = 256 * 1024;

/// Octets that may be encoded ahead while a commit goes on.
pub(crate) const GROUP_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Octets of checkpoint changes after which a segment ends: they are in memory until it is
/// merged.
pub(crate) const OVERLAY_OCTETS_MAX: usize = 16 * 1024 * 1024;

/// Full segments that may wait to be sealed: each has files open and its checkpoint changes in
/// memory.
pub(crate) const UNSEALED_MAX: usize = 4;

/// A segment ends when its first record has this share of the age at which records are dropped,
/// so that none is kept longer than that much again.
pub(crate) const AGE_SHARE: u32 = 4;
