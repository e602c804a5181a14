//! Going through the blocks of a journal one by one, and what is found on the way.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use crate::block::Row;
use crate::chain::Link;
use crate::files::{open_error, unusable};
use crate::reader::read_row;
use crate::segment::{
    Position, begins_after, each_block, each_change, open_log_reader, open_reader,
};
use crate::state::{Hole, Sealed};
use crate::verify::{FINDINGS_MAX, Finding, Verified, Wrong, has_log};
use crate::{OpenError, Seq, Tip};

/// A walk through a journal, from its first kept record to its last.
pub(crate) struct Walk<'a> {
    holes: Vec<Hole>,
    /// Tips to be met, by the record they end with.
    tips: BTreeMap<u64, Link>,
    progress: &'a mut dyn FnMut(u64, u64),
    expected: u64,
    memory: Memory,
}

/// What a walk knows of what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    verified: Verified,
    end: Position,
    behind: Behind,
    /// Whether what follows the end was too damaged to tell how many records it had.
    is_astray: bool,
    /// How many tips were handed in for records that were passed.
    tips_passed: usize,
}

/// The link of what is behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Behind {
    /// Nothing is kept: the next segment says where its chain begins.
    Nothing,
    /// It was written without a chain.
    Unchained,
    /// This one.
    Link(Link),
    /// Too damaged to tell.
    Unknown,
}

impl Memory {
    /// How many findings there were.
    pub(crate) fn findings(&self) -> usize {
        self.verified.findings.len() + self.verified.findings_left_out
    }
}

impl<'a> Walk<'a> {
    /// A walk that begins after `end`, in a journal of about `expected` records.
    pub(crate) fn new(
        end: Position,
        holes: Vec<Hole>,
        tips: &[Tip],
        expected: u64,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let lost = holes.iter().map(|hole| (Seq(hole.from), Seq(hole.to))).collect();
        let verified = Verified { first: Seq(end.seq + 1), lost, ..Verified::default() };
        let tips = tips.iter().map(|tip| (tip.seq.0, tip.link)).collect();
        let memory =
            Memory { verified, end, behind: Behind::Nothing, is_astray: false, tips_passed: 0 };
        let expected = expected.saturating_sub(end.seq);
        Self { holes, tips, progress, expected, memory }
    }

    /// What the walk knows, to go back to.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// Goes back.
    pub(crate) fn restore(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// What was kept until now has been dropped meanwhile; it ended at `end`.
    pub(crate) fn skip(&mut self, end: Position) {
        self.memory.end = end;
        self.memory.behind = Behind::Nothing;
        self.memory.verified.first = Seq(end.seq + 1);
    }

    /// A segment's file is not there.
    pub(crate) fn absent(&mut self, path: &Path) {
        let from = self.memory.end.seq + 1;
        self.find(Wrong::Missing, path, (from, from), "the file is missing");
        self.memory.behind = Behind::Unknown;
    }

    /// Looks through one segment; `sealed` says what it should be, where it is sealed.
    ///
    /// # Errors
    ///
    /// Where it can't be looked into for a reason that is not its content.
    pub(crate) fn segment(&mut self, path: &Path, sealed: Option<Sealed>) -> Result<(), OpenError> {
        let first = sealed.map_or(self.memory.end.seq + 1, |sealed| sealed.first);
        if !path.exists() {
            let to = sealed.map_or(first, |sealed| sealed.end.seq.max(first));
            self.find(Wrong::Missing, path, (first, to), "the file is missing");
            self.lose(sealed);
            return Ok(());
        }
        match self.look_into(path, first, sealed.is_some()) {
            Ok(()) => {}
            Err(OpenError::Corrupt { seq, reason, .. }) => {
                let from = seq.map_or(first, |seq| seq.0);
                let to = sealed.map_or(from, |sealed| sealed.end.seq.max(from));
                self.find(Wrong::Damaged, path, (from, to), &reason);
                self.lose(sealed);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(sealed) = sealed {
            self.compare(path, sealed);
        }
        Ok(())
    }

    /// Goes on after a segment that could not be read to its end.
    fn lose(&mut self, sealed: Option<Sealed>) {
        if let Some(sealed) = sealed {
            self.memory.end = sealed.end;
        }
        self.memory.behind = Behind::Unknown;
    }

    fn look_into(&mut self, path: &Path, first: u64, is_sealed: bool) -> Result<(), OpenError> {
        let failed = |error| open_error(path, Some(first), error);
        let connection = match is_sealed || !has_log(path) {
            true => open_reader(path, true).map_err(failed)?,
            false => open_log_reader(path).map_err(failed)?,
        };
        // One moment of a file that may be growing.
        connection.execute_batch("BEGIN").map_err(failed)?;
        let (before, chain) = begins_after(&connection, path, first)?;
        self.begin(path, before, chain);
        self.blocks(&connection, path, chain.is_some())?;
        self.memory.end.change = each_change(&connection, path, before, |_| Ok(()))?;
        connection.close().map_err(|(_, error)| unusable(path, error))
    }

    /// Whether a segment begins where the one before it ended.
    fn begin(&mut self, path: &Path, before: Position, chain: Option<Link>) {
        let end = self.memory.end;
        let next = end.seq + 1;
        if before.seq > end.seq {
            if !self.is_lost(next, before.seq) {
                self.find(Wrong::Missing, path, (next, before.seq), "missing before this file");
            }
            // What is not there had links of its own.
            self.memory.behind = Behind::Unknown;
        } else if before.seq < end.seq {
            self.find(Wrong::Changed, path, (before.seq + 1, end.seq), "begins too early");
        }
        self.memory.end = before;
        let wrong = match (self.memory.behind, chain) {
            (Behind::Link(link), Some(chain)) if link != chain => {
                "the hash it begins after is not that of what is before it"
            }
            (Behind::Link(_), None) => "has no hashes, though what is before it has",
            (Behind::Unchained, Some(chain)) if chain != Link::START => {
                "begins after a hash, though what is before it has none"
            }
            (Behind::Nothing, Some(chain)) if before.block == 0 && chain != Link::START => {
                "begins after a hash, though nothing is before it"
            }
            _ => "",
        };
        if !wrong.is_empty() {
            self.find(Wrong::Changed, path, (before.seq + 1, before.seq + 1), wrong);
        }
        self.memory.behind = chain.map_or(Behind::Unchained, Behind::Link);
        if let Some(chain) = chain {
            let from = self.memory.verified.chained_from.get_or_insert(Seq(before.seq + 1));
            // What retention has left begins after a link that may have been noted.
            if *from == Seq(before.seq + 1) {
                self.meet(path, before.seq, before.seq, chain);
            }
        }
    }

    fn blocks(
        &mut self,
        connection: &Connection,
        path: &Path,
        is_chained: bool,
    ) -> Result<(), OpenError> {
        let read = each_block(connection, is_chained, |row, stored| {
            self.block(path, row, stored, is_chained);
        });
        read.map_err(|error| open_error(path, Some(self.memory.end.seq + 1), error))
    }

    fn block(&mut self, path: &Path, row: &Row, stored: &[u8], is_chained: bool) {
        let next = self.memory.end.seq + 1;
        let is_whole = row.is_whole() && row.content_crc == crc32fast::hash(&row.content);
        let run = if is_whole { (row.first, row.last()) } else { (next, next) };
        if is_whole {
            self.place(path, row, next);
        } else if !self.memory.is_astray {
            self.find(Wrong::Damaged, path, run, "wrong checksum");
        }
        if is_chained {
            self.link(path, row, stored, is_whole.then_some(run));
        }
        if is_whole {
            if read_row(path, row, row.first).is_err() {
                self.find(Wrong::Damaged, path, run, "can't be read, though its checksums fit");
            }
            self.memory.end.seq = row.last();
            self.memory.end.block = row.number;
        }
        // The row's own numbers can't be trusted either: what follows says where it ended.
        self.memory.is_astray = !is_whole;
        let done = self.memory.end.seq.saturating_sub(self.memory.verified.first.0 - 1);
        (self.progress)(done, self.expected.max(done));
    }

    /// Whether a block that is whole stands where it should.
    fn place(&mut self, path: &Path, row: &Row, next: u64) {
        if row.first > next && self.memory.is_astray {
            self.reach(row.first - 1);
        } else if row.first > next && !self.is_lost(next, row.first - 1) {
            self.find(Wrong::Missing, path, (next, row.first - 1), "missing");
        } else if row.first < next {
            self.find(Wrong::Changed, path, (row.first, next - 1), "there twice");
        }
    }

    /// Whether a block's link is its own; `run` is its records where it is whole.
    fn link(&mut self, path: &Path, row: &Row, stored: &[u8], run: Option<(u64, u64)>) {
        let computed = match self.memory.behind {
            Behind::Link(behind) if run.is_some() => Some(behind.next(row)),
            _ => None,
        };
        let Some(link) = Link::from_stored(stored) else {
            let from = run.map_or(self.memory.end.seq + 1, |run| run.0);
            self.find(Wrong::Damaged, path, (from, from), "its hash has a wrong checksum");
            self.memory.behind = computed.map_or(Behind::Unknown, Behind::Link);
            return;
        };
        self.memory.behind = Behind::Link(link);
        let Some((first, last)) = run else { return };
        if computed.is_some_and(|computed| computed != link) {
            self.find(Wrong::Changed, path, (first, last), "its hash is not that of what it holds");
        }
        self.meet(path, first, last, link);
        self.memory.verified.tip = Some(Tip { seq: Seq(last), link });
    }

    /// Compares what was noted of the records `first` to `last` with the link they end with.
    fn meet(&mut self, path: &Path, first: u64, last: u64, link: Link) {
        let noted: Vec<_> =
            self.tips.range(first..=last).map(|(seq, link)| (*seq, *link)).collect();
        for (seq, noted) in noted {
            self.memory.tips_passed += 1;
            if seq == last && noted == link {
                self.memory.verified.tips_met += 1;
            } else {
                let reason = format!("not what a signed checkpoint says of record {seq}");
                self.find(Wrong::Changed, path, (first, last), &reason);
            }
        }
    }

    /// Whether a sealed segment ends where the list says.
    fn compare(&mut self, path: &Path, sealed: Sealed) {
        let (end, listed) = (self.memory.end, sealed.end);
        if end.seq < listed.seq && self.memory.is_astray {
            self.reach(listed.seq);
        } else if end.seq < listed.seq {
            self.find(Wrong::Missing, path, (end.seq + 1, listed.seq), "missing at its end");
            self.memory.behind = Behind::Unknown;
        } else if end != listed {
            let reason = "does not end where the list of segments says";
            self.find(Wrong::Changed, path, (end.seq, end.seq), reason);
        }
        self.memory.end = listed;
        self.memory.is_astray = false;
    }

    /// What was last found damaged goes on up to `to`.
    fn reach(&mut self, to: u64) {
        let next = self.memory.end.seq + 1;
        let last = self.memory.verified.findings.last_mut();
        if let Some(finding) = last.filter(|finding| finding.from.0 == next) {
            finding.to = Seq(to);
        }
    }

    /// What was found; `newest` is the file in which what is missing at the end belongs.
    pub(crate) fn finish(mut self, newest: &Path, acknowledged: u64) -> Verified {
        let hole = self.holes.iter().find(|hole| hole.from == self.memory.end.seq + 1);
        let end = hole.map_or(self.memory.end.seq, |hole| hole.to);
        let noted = self.tips.last_key_value().map_or(0, |(seq, _)| *seq);
        if noted > end && noted > acknowledged {
            let reason =
                format!("missing, though a signed checkpoint says there is record {noted}");
            self.find(Wrong::Missing, newest, (end + 1, noted), &reason);
        } else if acknowledged > end && self.memory.is_astray {
            self.reach(acknowledged);
        } else if acknowledged > end {
            let reason = format!("missing, though acknowledged up to record {acknowledged}");
            self.find(Wrong::Missing, newest, (end + 1, acknowledged), &reason);
        }
        self.unchained(newest, end);
        let after = self.tips.range(end.saturating_add(1)..).count();
        self.memory.verified.last = Seq(end);
        let passed = self.memory.tips_passed + after;
        self.memory.verified.tips_gone = self.tips.len().saturating_sub(passed);
        self.memory.verified
    }

    /// What was noted must have been in the chain: who takes the hashes away is found out.
    fn unchained(&mut self, newest: &Path, end: u64) {
        let verified = &self.memory.verified;
        let to = verified.chained_from.map_or(end, |from| from.0.saturating_sub(2));
        let noted: Vec<_> = self.tips.range(verified.first.0..).map(|(seq, _)| *seq).collect();
        let noted: Vec<_> = noted.into_iter().filter(|seq| *seq <= to).collect();
        self.memory.tips_passed += noted.len();
        if let Some(seq) = noted.first() {
            let reason =
                format!("has no hash, though a signed checkpoint says one of record {seq}");
            self.find(Wrong::Changed, newest, (*seq, *seq), &reason);
        }
    }

    /// Whether the loss of these records was accepted.
    fn is_lost(&self, from: u64, to: u64) -> bool {
        let mut next = from;
        for hole in &self.holes {
            if hole.from <= next && next <= hole.to {
                next = hole.to.saturating_add(1);
            }
        }
        next > to
    }

    fn find(&mut self, kind: Wrong, file: &Path, (from, to): (u64, u64), reason: &str) {
        if self.is_lost(from, to) {
            return;
        }
        let verified = &mut self.memory.verified;
        if verified.findings.len() == FINDINGS_MAX {
            verified.findings_left_out += 1;
            return;
        }
        let (file, reason) = (file.to_owned(), reason.to_owned());
        verified.findings.push(Finding { kind, file, from: Seq(from), to: Seq(to), reason });
    }
}
