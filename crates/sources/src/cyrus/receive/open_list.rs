//! Which connections are open, written where it outlives the process that holds them.
//!
//! What came over a connection goes with that process when it is killed, and Cyrus doesn't say it
//! again. Whoever comes after it finds here what it left open, and tells what of it was not written
//! down.

use std::io;
use std::path::Path;

use tracing::warn;

use super::numbers::Numbers;

/// The moments at which connections were accepted that have no answer yet.
#[derive(Debug)]
pub(super) struct OpenList {
    file: Numbers,
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
        let (file, left) = Numbers::open(spool, "connections", OCTETS_MAX)?;
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
        match self.file.write(&open) {
            Ok(()) => self.written = open,
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    warn!(%error, "open connections can't be noted: what is lost with this process is not told");
                }
            }
        }
    }
}

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
}
