//! The journal as the rest of postbell sees it; every provider passes the same contract suite.

use std::fmt;

use bytes::Bytes;

use crate::{AppendError, ReadError, Records};

/// A durable queue of numbered records.
///
/// Appending is acknowledged once the records and the checkpoint that came with them are on
/// disk, together or not at all. Numbers are contiguous and start at 1.
pub trait Journal: Send + Sync + fmt::Debug {
    /// Queues a batch and calls `done` when it is durable, or can't become so.
    ///
    /// Never blocks for the disk: where the queue is full, `done` gets
    /// [`AppendError::Busy`] at once and the batch is not taken.
    fn append(&self, batch: Batch, done: Done);

    /// Queues a batch as [`Journal::append`] does, but where the queue is full gives both back,
    /// to be offered again. Any other refusal goes to `done`.
    ///
    /// # Errors
    ///
    /// The batch and `done`, untouched.
    fn offer(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)>;

    /// Reads records from `from` on, at most about `limit_octets` of bodies but at least one
    /// record where there is one; an empty answer means the end was reached.
    ///
    /// # Errors
    ///
    /// [`ReadError::Dropped`] where retention has taken `from`, [`ReadError::Lost`] where it is
    /// in a hole that a person has accepted, and [`ReadError::Corrupt`] naming file and record
    /// where the disk no longer holds what was written. Never skips a record in silence.
    fn read(&self, from: Seq, limit_octets: usize) -> Result<Records, ReadError>;

    /// The first record still kept and the last one durable.
    fn bounds(&self) -> Bounds;

    /// The first record kept that was written at `unix_millis` or later; one past the last where
    /// none was. Exact to a commit.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`].
    fn first_since(&self, unix_millis: u64) -> Result<Seq, ReadError>;

    /// When the record `seq` was written, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// As [`Journal::read`]; a record that isn't there yet is [`ReadError::Corrupt`].
    fn written_ms(&self, seq: Seq) -> Result<u64, ReadError>;

    /// Calls `notice` after each commit with the last durable number, from the journal's own
    /// thread: it must not block.
    fn on_commit(&self, notice: Box<dyn Fn(Seq) + Send + Sync>);

    /// All that `source` has stored under keys beginning with `prefix`, in key order.
    ///
    /// # Errors
    ///
    /// Where the disk can't be read.
    fn checkpoint(&self, source: &str, prefix: &[u8]) -> Result<Vec<Pair>, ReadError>;

    /// How many keys `source` has stored. Reads no value, but may look at each key.
    ///
    /// # Errors
    ///
    /// Where the disk can't be read.
    fn checkpoint_keys(&self, source: &str) -> Result<u64, ReadError>;

    /// Where the reader called `name` has got to: the last record it is done with.
    ///
    /// # Errors
    ///
    /// Where the disk can't be read.
    fn cursor(&self, name: &str) -> Result<Option<Seq>, ReadError>;

    /// Where the cursor `name` stands on disk for certain: after a crash it is found there, or where it
    /// was set since. That is behind [`Journal::cursor`] until what was set is written, and ahead of it
    /// where the cursor was moved back.
    ///
    /// # Errors
    ///
    /// Where the disk can't be read.
    fn durable_cursor(&self, name: &str) -> Result<Option<Seq>, ReadError>;

    /// Moves the cursor `name`, or with `None` forgets it. Durable soon, not at once: after a
    /// crash a cursor may stand earlier than it was set, never later.
    ///
    /// # Errors
    ///
    /// Where the disk can't be written.
    fn set_cursor(&self, name: &str, done: Option<Seq>) -> Result<(), AppendError>;
}

/// A key of a checkpoint and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Called once with what became of a batch, from the journal's own thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// A record's number: contiguous, from 1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(pub u64);

/// What identifies a record's event; a repeat within the journal's window is not stored again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId(pub u128);

/// A few octets a reader needs in order to pass over a record without reading its body.
///
/// The journal keeps them as they are; the engine owns their meaning (`engine::Keys`).
pub type Head = [u8; 24];

/// What is to become a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its identity.
    pub id: RecordId,
    /// What to match on.
    pub head: Head,
    /// The event, opaque here.
    pub body: Bytes,
}

/// Entries and the checkpoint of the source they come from: durable together or not at all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// How far the source has got with them.
    pub checkpoint: Option<Checkpoint>,
}

/// A source's own memory of how far it has got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The source's name.
    pub source: String,
    /// What changed in it.
    pub changes: Vec<Change>,
}

/// One key of a checkpoint, set or removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The key; its order is the order of [`Journal::checkpoint`].
    pub key: Vec<u8>,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// What became of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appended {
    /// One verdict for each entry, in order.
    pub verdicts: Vec<Verdict>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the record with this number.
    New(Seq),
    /// It was there already, under this number.
    Repeated(Seq),
}

/// The first record still kept and the last one durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The oldest record kept; one past `last` where none is.
    pub first: Seq,
    /// The newest durable record; 0 where there never was one.
    pub last: Seq,
}

/// One record, borrowed from [`Records`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Its number.
    pub seq: Seq,
    /// Its identity.
    pub id: RecordId,
    /// What to match on.
    pub head: &'a Head,
    /// The event.
    pub body: &'a [u8],
}
