//! The durable journal: numbered records, source checkpoints, cursors, retention, recovery.

mod door;

pub use door::{
    Appended, Batch, Bounds, Change, Checkpoint, Done, Entry, Head, Journal, Record, Records,
    RecordId, Seq, Verdict,
};
