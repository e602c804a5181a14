//! Which connections are open, written where it outlives the process that holds them.
//!
//! What came over a connection goes with that process when it is killed, and Cyrus doesn't say it
//! again. Whoever comes after it finds here what it left open, and tells what of it was not written
//! down. In the kernel's memory it outlives any process; a machine that loses power loses more.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;

use tracing::warn;

/// The moments at which connections were accepted that have no answer yet.
#[derive(Debug)]
pub(super) struct OpenList {
    file: File,
    /// What another process left open, until that is told.
    left: Vec<u64>,
    written: Vec<u64>,
    has_warned: bool,
}

impl OpenList {
    /// The one of a spool, with what was left open.
    ///
    /// # Errors
    ///
    /// Where there is no room for it.
    pub(super) fn open(spool: &Path) -> io::Result<Self> {
        let folder = spool.join(OPEN_FOLDER);
        DirBuilder::new().recursive(true).mode(0o750).create(&folder)?;
        let mut how = File::options();
        how.read(true).write(true).create(true).truncate(false);
        let file = how.open(folder.join("connections"))?;
        let mut octets = vec![0; OCTETS_MAX];
        let length = file.read_at(&mut octets, 0)?;
        if length < OCTETS_MAX {
            // Once, so that no disk that is full refuses a note.
            octets.truncate(length);
            octets.resize(OCTETS_MAX, 0);
            file.write_all_at(&octets, 0)?;
        }
        let left = read(octets.get(..length).unwrap_or_default());
        Ok(Self { file, written: left.clone(), left, has_warned: false })
    }

    /// What was left open by another.
    pub(super) fn left(&self) -> &[u64] {
        &self.left
    }

    /// What was left open is told.
    pub(super) fn forget_left(&mut self) {
        self.left.clear();
    }

    /// Notes which are open now.
    pub(super) fn note(&mut self, open: impl Iterator<Item = u64>) {
        let open: Vec<u64> = self.left.iter().copied().chain(open).collect();
        if open == self.written {
            return;
        }
        match self.file.write_all_at(&written(&open), 0) {
            Ok(()) => self.written = open,
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    warn!(%error, "open connections can't be noted: what is lost with this process is not told");
                }
            }
        }
    }
}

/// How many, and each: in one piece, so that no process is killed within it.
fn written(open: &[u64]) -> Vec<u8> {
    let count = u64::try_from(open.len()).unwrap_or(0);
    std::iter::once(&count).chain(open).flat_map(|number| number.to_be_bytes()).collect()
}

/// What [`written`] gave; nothing where it is none.
fn read(octets: &[u8]) -> Vec<u64> {
    let (numbers, _) = octets.as_chunks();
    let mut numbers = numbers.iter().copied().map(u64::from_be_bytes);
    let count = numbers.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    numbers.take(count).collect()
}

/// The folder in the spool that holds the list: of the spool's own alone one is woken for each change.
pub const OPEN_FOLDER: &str = "open";

/// More than that is never open, what was left included.
const OCTETS_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_is_found_by_the_next_until_it_is_told() {
        let spool = tempfile::tempdir().unwrap();
        let mut first = OpenList::open(spool.path()).unwrap();
        assert!(first.left().is_empty());
        first.note([3, 5, 7].into_iter());
        first.note([5, 7].into_iter());
        let mut second = OpenList::open(spool.path()).unwrap();
        assert_eq!(second.left(), [5, 7]);
        second.note([9].into_iter());
        let mut third = OpenList::open(spool.path()).unwrap();
        assert_eq!(third.left(), [5, 7, 9], "nobody told it");
        third.forget_left();
        third.note(std::iter::empty());
        assert!(OpenList::open(spool.path()).unwrap().left().is_empty());
    }

    #[test]
    fn what_is_no_list_has_nothing() {
        assert!(read(b"").is_empty() && read(b"short").is_empty());
        assert_eq!(read(&[&9_u64.to_be_bytes()[..], &4_u64.to_be_bytes()].concat()), [4]);
    }
}
