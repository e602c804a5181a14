//! What a read hands out: consecutive records, shared with the journal's memory.

use std::fmt;
use std::sync::Arc;

use crate::block::Block;
use crate::{Record, Seq};

/// A run of consecutive records, shared without copying.
///
/// Cloning shares the same blocks; a block stays in memory for as long as someone holds it.
///
/// ```
/// use postbell_journal::Records;
///
/// assert!(Records::default().is_empty());
/// assert_eq!(Records::default().last(), None);
/// ```
#[derive(Clone, Default)]
pub struct Records {
    runs: Arc<[Run]>,
    len: usize,
}

/// Some records of one block, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    block: Arc<Block>,
    from: usize,
    to: usize,
}

impl Records {
    /// The records in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { runs: self.runs.iter(), current: None }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: the end of the journal was reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// These without any after `seq`.
    #[must_use]
    pub fn up_to(self, seq: Seq) -> Self {
        if self.last().is_none_or(|last| last <= seq) {
            return self;
        }
        let mut runs = Vec::new();
        for run in self.runs.iter() {
            // One behind the last that stays.
            let end = (seq.0 + 1).saturating_sub(run.block.first());
            let to = usize::try_from(end).unwrap_or(usize::MAX).min(run.to);
            if to > run.from {
                runs.push(Run { to, ..run.clone() });
            }
        }
        Self { len: runs.iter().map(|run| run.to - run.from).sum(), runs: runs.into() }
    }

    /// The number of the first one.
    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.runs.first().map(|run| Seq(run.block.first() + run.from as u64))
    }

    /// The number of the last one.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.runs.last().map(|run| Seq(run.block.first() + run.to as u64 - 1))
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Records");
        text.field("first", &self.first()).field("last", &self.last()).finish()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Record<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The records of [`Records`], in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    runs: std::slice::Iter<'a, Run>,
    current: Option<(&'a Block, usize, usize)>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            if let Some((block, at, to)) = &mut self.current
                && at < to
            {
                let record = block.record(*at);
                *at += 1;
                return record;
            }
            let run = self.runs.next()?;
            self.current = Some((&run.block, run.from, run.to));
        }
    }
}

/// Gathers runs until a limit of octets is reached.
#[derive(Debug)]
pub(crate) struct Gathering {
    runs: Vec<Run>,
    len: usize,
    next: u64,
    octets_left: Option<usize>,
}

impl Gathering {
    /// Gathers from `next` on, at most about `limit_octets`, but at least one record.
    pub(crate) fn new(next: u64, limit_octets: usize) -> Self {
        Self { runs: Vec::new(), len: 0, next, octets_left: Some(limit_octets) }
    }

    /// The record wanted next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether the limit is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.octets_left.is_none()
    }

    /// Whether nothing was gathered yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes what fits of a block that holds the record wanted next.
    pub(crate) fn take(&mut self, block: &Arc<Block>) {
        let Some(left) = self.octets_left else { return };
        let skipped = self.next.saturating_sub(block.first());
        let from = usize::try_from(skipped).unwrap_or(usize::MAX).min(block.len());
        let to = self.fitting(block, from, left);
        if from == to {
            self.octets_left = None;
            return;
        }
        let octets = block.bodies_octets(from, to);
        self.octets_left = left.checked_sub(octets).filter(|left| *left > 0 && to == block.len());
        self.next += (to - from) as u64;
        self.len += to - from;
        self.runs.push(Run { block: Arc::clone(block), from, to });
    }

    /// Where to stop in `block` so that no more than `left` octets are taken.
    fn fitting(&self, block: &Block, from: usize, left: usize) -> usize {
        if block.bodies_octets(from, block.len()) <= left {
            return block.len();
        }
        let (mut fits, mut exceeds) = (from, block.len());
        while fits + 1 < exceeds {
            let middle = usize::midpoint(fits, exceeds);
            if block.bodies_octets(from, middle) <= left {
                fits = middle;
            } else {
                exceeds = middle;
            }
        }
        // One record always goes, however large, or a reader would never get past it.
        if self.is_empty() { fits.max(from + 1).min(block.len()) } else { fits }
    }

    /// What was gathered.
    pub(crate) fn finish(self) -> Records {
        Records { len: self.len, runs: self.runs.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, RecordId};
    use bytes::Bytes;

    fn block(first: u64, lengths: &[usize]) -> Arc<Block> {
        let entries: Vec<_> = lengths
            .iter()
            .map(|length| Entry {
                id: RecordId(1),
                head: [0; 24],
                body: Bytes::from(vec![b'x'; *length]),
            })
            .collect();
        Arc::new(Block::new(first, 0, &entries).unwrap())
    }

    fn gathered(from: u64, limit_octets: usize, blocks: &[Arc<Block>]) -> Vec<u64> {
        let mut gathering = Gathering::new(from, limit_octets);
        for block in blocks {
            if gathering.is_full() {
                break;
            }
            gathering.take(block);
        }
        let records = gathering.finish();
        assert_eq!(records.len(), records.iter().count());
        let numbers: Vec<_> = records.iter().map(|record| record.seq.0).collect();
        assert_eq!(records.first().map(|seq| seq.0), numbers.first().copied());
        assert_eq!(records.last().map(|seq| seq.0), numbers.last().copied());
        for seq in from.saturating_sub(1)..from + 10 {
            let cut = records.clone().up_to(Seq(seq));
            let fewer: Vec<_> = cut.iter().map(|record| record.seq.0).collect();
            assert!(fewer.iter().eq(numbers.iter().filter(|one| **one <= seq)), "{seq}");
            assert_eq!(cut.len(), fewer.len());
            assert_eq!(cut.last().map(|seq| seq.0), fewer.last().copied());
        }
        numbers
    }

    #[test]
    fn a_read_may_begin_and_end_inside_a_block() {
        let blocks = [block(1, &[10, 10, 10]), block(4, &[10, 10, 10])];
        assert_eq!(gathered(2, 30, &blocks), [2, 3, 4]);
        assert_eq!(gathered(2, 39, &blocks), [2, 3, 4]);
        assert_eq!(gathered(1, 1000, &blocks), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn one_record_is_read_however_large_it_is() {
        assert_eq!(gathered(2, 0, &[block(1, &[5, 1000, 5])]), [2]);
        assert_eq!(gathered(3, 0, &[block(1, &[0, 0, 0])]), [3]);
    }

    #[test]
    fn a_limit_reached_at_a_blocks_end_takes_nothing_of_the_next() {
        assert_eq!(gathered(1, 20, &[block(1, &[10, 10]), block(3, &[50])]), [1, 2]);
        assert_eq!(gathered(1, 30, &[block(1, &[10, 10]), block(3, &[50])]), [1, 2]);
    }
}
