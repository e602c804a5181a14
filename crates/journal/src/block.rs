//! A block: some consecutive records compressed together, in memory and as a row.
//!
//! Compressed are, in this order, the heads by columns (the first octet of each, then the second
//! of each, …), the lengths by columns, and the bodies. Columns of near-equal octets shrink to
//! almost nothing, which is why the heads are in there. The ids stand beside, uncompressed,
//! because opening a journal reads only them.

use std::fmt;

use crate::{Entry, Head, Record, RecordId, Seq};

/// A block in memory.
pub(crate) struct Block {
    first: u64,
    written_ms: u64,
    ids: Box<[RecordId]>,
    heads: Box<[Head]>,
    /// Where each body ends in `raw`.
    ends: Box<[u32]>,
    /// What was compressed; the bodies are its last part.
    raw: Vec<u8>,
    /// Where the bodies begin in `raw`.
    bodies_at: u32,
}

/// A block as it goes into a row.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Which block of the journal it is, from 1.
    pub(crate) number: u64,
    pub(crate) written_ms: u64,
    pub(crate) raw_octets: u32,
    /// Checksum of `content`.
    pub(crate) content_crc: u32,
    /// Checksum of all else, `content_crc` included.
    pub(crate) row_crc: u32,
    pub(crate) ids: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl Block {
    /// Lays out `entries` (of which there is at least one) from number `first` on.
    ///
    /// `None` where they are together more than [`RAW_OCTETS_MAX`].
    pub(crate) fn new(first: u64, written_ms: u64, entries: &[Entry]) -> Option<Self> {
        let bodies: usize = entries.iter().map(|entry| entry.body.len()).sum();
        let bodies_at = entries.len() * SIDE_OCTETS;
        let total = bodies_at + bodies;
        if total > RAW_OCTETS_MAX {
            return None;
        }
        let mut raw = Vec::with_capacity(total);
        for column in 0..HEAD_OCTETS {
            raw.extend(entries.iter().filter_map(|entry| entry.head.get(column)));
        }
        let lengths = entries.iter().map(|entry| octets32(entry.body.len()).to_le_bytes());
        for column in 0..LENGTH_OCTETS {
            raw.extend(lengths.clone().filter_map(|length| length.get(column).copied()));
        }
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries {
            raw.extend_from_slice(&entry.body);
            ends.push(octets32(raw.len()));
        }
        Some(Self {
            first,
            written_ms,
            ids: entries.iter().map(|entry| entry.id).collect(),
            heads: entries.iter().map(|entry| entry.head).collect(),
            ends: ends.into(),
            raw,
            bodies_at: octets32(bodies_at),
        })
    }

    /// The row for this block; `content` is its [`Block::raw`] compressed.
    pub(crate) fn row(&self, number: u64, content: Vec<u8>) -> Row {
        let mut ids = Vec::with_capacity(self.ids.len() * ID_OCTETS);
        for id in &self.ids {
            ids.extend_from_slice(&id.0.to_be_bytes());
        }
        let mut row = Row {
            first: self.first,
            count: octets32(self.ids.len()),
            number,
            written_ms: self.written_ms,
            raw_octets: octets32(self.raw.len()),
            content_crc: crc32fast::hash(&content),
            row_crc: 0,
            ids,
            content,
        };
        row.row_crc = row.crc();
        row
    }

    /// Reads a row whose checksums were found right, given its content decompressed.
    ///
    /// # Errors
    ///
    /// Says what does not fit.
    pub(crate) fn from_row(row: &Row, raw: Vec<u8>) -> Result<Self, &'static str> {
        let count = usize::try_from(row.count).map_err(|_| "an impossible count")?;
        let bodies_at = count.checked_mul(SIDE_OCTETS).ok_or("an impossible count")?;
        if raw.len() != size(row.raw_octets) {
            return Err("the block has another size than it should");
        }
        let side = raw.get(..bodies_at).ok_or("the block is too short for its records")?;
        let (head_columns, length_columns) = side.split_at(count * HEAD_OCTETS);
        let heads = rows_of::<HEAD_OCTETS>(head_columns, count);
        let lengths = rows_of::<LENGTH_OCTETS>(length_columns, count);
        let mut end = bodies_at;
        let mut ends = Vec::with_capacity(count);
        for length in lengths {
            end = end.saturating_add(size(u32::from_le_bytes(length)));
            ends.push(octets32(end));
        }
        if end != raw.len() {
            return Err("the bodies' lengths don't add up to the block's");
        }
        Ok(Self {
            first: row.first,
            written_ms: row.written_ms,
            ids: row.ids()?.into(),
            heads: heads.into(),
            ends: ends.into(),
            raw,
            bodies_at: octets32(bodies_at),
        })
    }

    /// What is to be compressed.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The number of its first record.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of its last record.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.ids.len() as u64 - 1
    }

    /// When it was written, in milliseconds since 1970.
    pub(crate) fn written_ms(&self) -> u64 {
        self.written_ms
    }

    /// How many records it has: at least one.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// What it costs to keep in memory.
    pub(crate) fn memory_octets(&self) -> usize {
        self.raw.capacity() + self.ids.len() * (ID_OCTETS + SIDE_OCTETS) + BLOCK_OVERHEAD_OCTETS
    }

    /// The octets of the bodies of the records at `from..to`.
    pub(crate) fn bodies_octets(&self, from: usize, to: usize) -> usize {
        self.start(to).saturating_sub(self.start(from))
    }

    /// The record at a position in the block.
    pub(crate) fn record(&self, index: usize) -> Option<Record<'_>> {
        let (start, end) = (self.start(index), size(*self.ends.get(index)?));
        Some(Record {
            seq: Seq(self.first + index as u64),
            id: *self.ids.get(index)?,
            head: self.heads.get(index)?,
            body: self.raw.get(start..end)?,
        })
    }

    /// Where the body at `index` begins.
    fn start(&self, index: usize) -> usize {
        let before = index.checked_sub(1).and_then(|before| self.ends.get(before));
        size(before.copied().unwrap_or(self.bodies_at))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("first", &self.first).field("len", &self.len()).finish()
    }
}

impl Row {
    /// Whether the row is what was written, content aside.
    pub(crate) fn is_whole(&self) -> bool {
        self.row_crc == self.crc()
            && self.count > 0
            && self.first > 0
            && self.ids.len() == size(self.count) * ID_OCTETS
            && size(self.raw_octets) <= RAW_OCTETS_MAX
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count)).saturating_sub(1)
    }

    /// The ids, in order.
    pub(crate) fn ids(&self) -> Result<Vec<RecordId>, &'static str> {
        let (ids, rest) = self.ids.as_chunks::<ID_OCTETS>();
        if !rest.is_empty() || ids.len() != size(self.count) {
            return Err("the ids don't fit the count");
        }
        Ok(ids.iter().map(|id| RecordId(u128::from_be_bytes(*id))).collect())
    }

    fn crc(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.first.to_le_bytes());
        crc.update(&self.count.to_le_bytes());
        crc.update(&self.number.to_le_bytes());
        crc.update(&self.written_ms.to_le_bytes());
        crc.update(&self.raw_octets.to_le_bytes());
        crc.update(&self.content_crc.to_le_bytes());
        crc.update(&self.ids);
        crc.finalize()
    }
}

/// Turns columns back into rows of `N` octets.
fn rows_of<const N: usize>(columns: &[u8], count: usize) -> Vec<[u8; N]> {
    let mut rows = vec![[0; N]; count];
    for (at, column) in columns.chunks_exact(count.max(1)).enumerate() {
        for (row, octet) in rows.iter_mut().zip(column) {
            if let Some(cell) = row.get_mut(at) {
                *cell = *octet;
            }
        }
    }
    rows
}

/// A size as it stands in a row. Every size here is at most [`RAW_OCTETS_MAX`], which fits.
fn octets32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// A size from a row, to count with.
fn size(octets: u32) -> usize {
    usize::try_from(octets).unwrap_or(usize::MAX)
}

const HEAD_OCTETS: usize = size_of::<Head>();
const ID_OCTETS: usize = 16;
const LENGTH_OCTETS: usize = 4;
const SIDE_OCTETS: usize = HEAD_OCTETS + LENGTH_OCTETS;

/// What a block costs in memory beyond its octets: the structure, its allocations, its count.
const BLOCK_OVERHEAD_OCTETS: usize = 256;

/// The most a block holds uncompressed, in octets: far below SQLite's limit of 1,000,000,000 for
/// a row, and what damage to a row can make us allocate.
pub(crate) const RAW_OCTETS_MAX: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let body = proptest::collection::vec(any::<u8>(), 0..200);
        let entry = (any::<u128>(), any::<Head>(), body).prop_map(|(id, head, body)| Entry {
            id: RecordId(id),
            head,
            body: Bytes::from(body),
        });
        proptest::collection::vec(entry, 1..40)
    }

    proptest! {
        #[test]
        fn a_block_read_from_its_row_holds_the_same_records(entries in entries(), first in 1_u64..1 << 60) {
            let block = Block::new(first, 7, &entries).unwrap();
            let row = block.row(3, Vec::new());
            prop_assert!(row.is_whole());
            let back = Block::from_row(&row, block.raw().to_vec()).unwrap();
            prop_assert_eq!(back.len(), entries.len());
            prop_assert_eq!(back.last(), first + entries.len() as u64 - 1);
            for (index, entry) in entries.iter().enumerate() {
                let record = back.record(index).unwrap();
                prop_assert_eq!(record.seq, Seq(first + index as u64));
                prop_assert_eq!((record.id, record.head, record.body), (entry.id, &entry.head, &*entry.body));
                prop_assert_eq!(Some(record), block.record(index));
            }
            prop_assert_eq!(back.record(entries.len()), None);
        }

        #[test]
        fn a_row_changed_anywhere_is_not_whole(entries in entries(), flip in any::<prop::sample::Index>()) {
            let block = Block::new(1, 7, &entries).unwrap();
            let mut row = block.row(3, Vec::new());
            let at = flip.index(row.ids.len());
            row.ids[at] ^= 1;
            prop_assert!(!row.is_whole());
            row.ids[at] ^= 1;
            row.number += 1;
            prop_assert!(!row.is_whole());
        }
    }
}
