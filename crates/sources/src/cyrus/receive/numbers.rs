//! A few numbers that outlive the process that writes them.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;

/// A file of numbers in the spool. In the kernel's memory they outlive any process; a machine that
/// loses power loses more. It has its size from the start, so that no disk that is full refuses them.
#[derive(Debug)]
pub(super) struct Numbers(File);

impl Numbers {
    /// The one of this name, with room for so many octets, and what is in it.
    ///
    /// # Errors
    ///
    /// Where there is no room for it.
    pub(super) fn open(
        spool: &Path,
        name: &str,
        octets_max: usize,
    ) -> io::Result<(Self, Vec<u64>)> {
        let folder = spool.join(OPEN_FOLDER);
        DirBuilder::new().recursive(true).mode(0o750).create(&folder)?;
        let mut how = File::options();
        how.read(true).write(true).create(true).truncate(false);
        let file = how.open(folder.join(name))?;
        let mut octets = vec![0; octets_max];
        let length = file.read_at(&mut octets, 0)?;
        if length < octets_max {
            file.write_all_at(&octets, 0)?;
        }
        Ok((Self(file), read(octets.get(..length).unwrap_or_default())))
    }

    /// Has these in it from now on.
    pub(super) fn write(&self, numbers: &[u64]) -> io::Result<()> {
        self.0.write_all_at(&written(numbers), 0)
    }
}

/// How many, and each: in one piece, so that no process is killed within it.
fn written(numbers: &[u64]) -> Vec<u8> {
    let count = u64::try_from(numbers.len()).unwrap_or(0);
    std::iter::once(&count).chain(numbers).flat_map(|number| number.to_be_bytes()).collect()
}

/// What [`written`] gave; nothing where it is none.
fn read(octets: &[u8]) -> Vec<u64> {
    let (numbers, _) = octets.as_chunks();
    let mut numbers = numbers.iter().copied().map(u64::from_be_bytes);
    let count = numbers.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    numbers.take(count).collect()
}

/// The folder in the spool that holds them: of the spool's own alone one is woken for each change.
pub const OPEN_FOLDER: &str = "open";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_has_nothing() {
        assert!(read(b"").is_empty() && read(b"short").is_empty());
        assert_eq!(read(&[&9_u64.to_be_bytes()[..], &4_u64.to_be_bytes()].concat()), [4]);
    }
}
