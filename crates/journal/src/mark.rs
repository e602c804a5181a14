//! The high-water mark: what was acknowledged last, in a file of its own.
//!
//! SQLite opens a write-ahead log that was cut short to the longest whole prefix and says
//! nothing. For a tail nobody was told about that is right; for acknowledged records it would be
//! silent loss. So the last acknowledged numbers are written here after each commit and before
//! the acknowledgement. It is not forced to disk each time: after a power cut an older mark may
//! be found, never a newer one than the journal reached.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::OpenError;
use crate::files::{NEW_SUFFIX, beside, corrupt, file_error, sync_folder};

/// The last acknowledged record and checkpoint change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) change: u64,
}

/// The file that holds the mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    path: PathBuf,
}

impl MarkFile {
    /// Where it is in a folder.
    pub(crate) fn path_in(folder: &Path) -> PathBuf {
        folder.join(ACKNOWLEDGED)
    }

    /// Makes the file, under another name first: where it exists, it is whole.
    pub(crate) fn create(folder: &Path, mark: Mark) -> Result<Self, OpenError> {
        let path = Self::path_in(folder);
        let failed = |error| file_error(&path, error);
        let unfinished = beside(&path, NEW_SUFFIX);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed)?;
        let made = Self { file, path: path.clone() };
        made.write(mark).and_then(|()| made.sync()).map_err(failed)?;
        std::fs::rename(&unfinished, &path).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        Ok(made)
    }

    /// Opens the file and reads the mark.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Mark), OpenError> {
        let path = Self::path_in(folder);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| file_error(&path, error))?;
        let mut octets = [0; MARK_OCTETS];
        let whole = file.metadata().map_err(|error| file_error(&path, error))?.len() == MARK_LEN
            && file.read_exact_at(&mut octets, 0).is_ok();
        let mark = if whole { decode(&octets) } else { None };
        let mark = mark.ok_or_else(|| {
            corrupt(&path, None, "not a whole mark; acknowledged records can't be vouched for")
        })?;
        Ok((Self { file, path }, mark))
    }

    /// Reads the mark of a folder that another process may hold.
    pub(crate) fn look(folder: &Path) -> Result<Mark, OpenError> {
        let path = Self::path_in(folder);
        let octets = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
        let mark = octets.as_slice().try_into().ok().and_then(decode);
        mark.ok_or_else(|| corrupt(&path, None, "not a whole mark"))
    }

    /// Writes the mark.
    pub(crate) fn write(&self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&encode(mark), 0)
    }

    /// Forces it to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// A second hold on the same file.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, path: self.path.clone() })
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn encode(mark: Mark) -> [u8; MARK_OCTETS] {
    let mut octets = [0; MARK_OCTETS];
    let fields = MAGIC.into_iter().chain(mark.seq.to_le_bytes()).chain(mark.change.to_le_bytes());
    for (octet, value) in octets.iter_mut().zip(fields) {
        *octet = value;
    }
    let crc = octets.split_last_chunk::<4>().map(|(front, _)| crc32fast::hash(front));
    if let (Some(last), Some(crc)) = (octets.last_chunk_mut(), crc) {
        *last = crc.to_le_bytes();
    }
    octets
}

fn decode(octets: &[u8; MARK_OCTETS]) -> Option<Mark> {
    let (magic, rest) = octets.split_first_chunk::<8>()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (change, _) = rest.split_first_chunk()?;
    let mark = Mark { seq: u64::from_le_bytes(*seq), change: u64::from_le_bytes(*change) };
    (*magic == MAGIC && *octets == encode(mark)).then_some(mark)
}

const ACKNOWLEDGED: &str = "acknowledged";

/// Names the file's purpose; the last octet is the version of its format.
const MAGIC: [u8; 8] = *b"PBACKED\x01";

const MARK_OCTETS: usize = 28;
const MARK_LEN: u64 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_changed_in_any_octet_is_not_read() {
        let mark = Mark { seq: 123_456_789, change: 42 };
        assert_eq!(decode(&encode(mark)), Some(mark));
        for at in 0..MARK_OCTETS {
            let mut octets = encode(mark);
            octets[at] ^= 0x10;
            assert_eq!(decode(&octets), None, "octet {at}");
        }
    }
}
