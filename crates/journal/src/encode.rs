//! From batches to rows: repeats are taken out, records numbered, blocks laid out and compressed.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zstd::bulk::Compressor;

use crate::block::{Block, Row};
use crate::options::{BLOCK_OCTETS, BLOCK_RECORDS};
use crate::overlay::{self, Changes};
use crate::queue::Waiting;
use crate::segment::Position;
use crate::window::Window;
use crate::{AppendError, Appended, Done, Entry, Seq, Verdict};

/// What becomes durable together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) rows: Vec<Row>,
    pub(crate) blocks: Vec<Arc<Block>>,
    pub(crate) changes: Vec<Changes>,
    /// The changes as they go into a row.
    pub(crate) changes_content: Vec<u8>,
    pub(crate) verdicts: Vec<(Done, Vec<Verdict>)>,
    /// What its batches weighed in the queue.
    octets: usize,
}

/// Numbers and compresses; there is one, and whoever holds it writes next.
pub(crate) struct Encoder {
    window: Window,
    compressor: Compressor<'static>,
    scratch: Vec<u8>,
    group: Group,
    /// The last block laid out.
    block: u64,
    written_ms: u64,
    /// The epoch of the queue in which the group was begun.
    pub(crate) epoch: u64,
}

impl Encoder {
    /// Goes on after `durable`, of which the newest was written at `written_ms`.
    pub(crate) fn new(window: Window, durable: Position, written_ms: u64) -> std::io::Result<Self> {
        Ok(Self {
            window,
            compressor: Compressor::new(LEVEL)?,
            scratch: Vec::new(),
            group: Group::default(),
            block: durable.block,
            written_ms,
            epoch: 0,
        })
    }

    /// Adds batches to the group; all up to record `durable` is on disk.
    ///
    /// # Errors
    ///
    /// Where a block can't be laid out or compressed, which no batch can cause.
    pub(crate) fn encode(&mut self, taken: Vec<Waiting>, durable: u64) -> std::io::Result<()> {
        let mut fresh = Vec::new();
        self.window.settle(durable);
        let first = self.window.next();
        for Waiting { batch, done, octets, .. } in taken {
            // As it was weighed in the queue: what repeats or has no entries still takes memory.
            self.group.octets += octets;
            let mut verdicts = Vec::with_capacity(batch.entries.len());
            for entry in batch.entries {
                if let Some(seq) = self.window.find(entry.id) {
                    verdicts.push(Verdict::Repeated(Seq(seq)));
                } else {
                    verdicts.push(Verdict::New(Seq(self.window.push(entry.id))));
                    fresh.push(entry);
                }
            }
            if let Some(checkpoint) = batch.checkpoint {
                let changes = Changes { source: checkpoint.source, changes: checkpoint.changes };
                overlay::encode(&changes, &mut self.group.changes_content);
                self.group.changes.push(changes);
            }
            self.group.verdicts.push((done, verdicts));
        }
        self.lay_out(first, &fresh)
    }

    /// Cuts records into blocks of about equal size.
    fn lay_out(&mut self, mut first: u64, fresh: &[Entry]) -> std::io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // Written times never go back, so that they can be searched.
        self.written_ms = self.written_ms.max(now_ms);
        let blocks = (fresh.len() + BLOCK_RECORDS / 2) / BLOCK_RECORDS;
        let records = fresh.len().div_ceil(blocks.max(1));
        let mut rest = fresh;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(block_end(rest, records));
            self.add(first, part)?;
            first += part.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn add(&mut self, first: u64, entries: &[Entry]) -> std::io::Result<()> {
        let block = Block::new(first, self.written_ms, entries)
            .ok_or_else(|| std::io::Error::other("a block is too large"))?;
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(block.raw().len()));
        self.compressor.compress_to_buffer(block.raw(), &mut self.scratch)?;
        self.block += 1;
        let row = block.row(self.block, self.scratch.clone());
        self.group.rows.push(row);
        self.group.blocks.push(Arc::new(block));
        Ok(())
    }

    /// The group as it stands; a new one begins.
    pub(crate) fn take_group(&mut self) -> Group {
        std::mem::take(&mut self.group)
    }

    /// Whether the group has anything to write or anyone to tell.
    pub(crate) fn has_group(&self) -> bool {
        !self.group.verdicts.is_empty()
    }

    /// What the group takes in memory, about.
    pub(crate) fn group_octets(&self) -> usize {
        self.group.octets
    }

    /// Forgets what did not become durable, the group included, which is handed back.
    pub(crate) fn roll_back(&mut self, durable: Position, epoch: u64) -> Group {
        self.window.roll_back(durable.seq);
        self.block = durable.block;
        self.epoch = epoch;
        self.take_group()
    }
}

impl Group {
    /// Whether there is anything to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.changes.is_empty()
    }

    /// Tells everyone that it is durable.
    pub(crate) fn acknowledge(self) {
        for (done, verdicts) in self.verdicts {
            tell(done, Ok(Appended { verdicts }));
        }
    }

    /// Tells everyone that it is not.
    pub(crate) fn refuse(self, error: &AppendError) {
        for (done, _) in self.verdicts {
            tell(done, Err(error.clone()));
        }
    }
}

/// Calls a caller's function, whose panic must not take the journal's thread with it.
fn tell(done: Done, result: Result<Appended, AppendError>) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a function called on acknowledgement panicked");
    }
}

/// Where the first block of `entries` ends: after `records`, or sooner if they are large.
fn block_end(entries: &[Entry], records: usize) -> usize {
    let mut octets = 0;
    for (index, entry) in entries.iter().enumerate() {
        if index == records || octets >= BLOCK_OCTETS {
            return index;
        }
        octets += entry.body.len();
    }
    entries.len()
}

/// Compression level: 1 is fast enough not to be what limits appending.
const LEVEL: i32 = 1;
