//! Folders and files read without ever leaving the Maildir: below its top no link is followed,
//! not even one put there between two system calls.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens the operator's own path, whose links are meant.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, FOLDER, Mode::empty())?))
    }

    /// Opens a folder in this one, if it is a folder and no link to one.
    pub(super) fn sub(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let flags = FOLDER | OFlags::NOFOLLOW;
        Ok(Self(rustix::fs::openat(&self.0, name.as_ref(), flags, Mode::empty())?))
    }

    /// Opens a file in this folder, if it is a regular one.
    pub(super) fn file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name.as_ref(), flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, NOT_REGULAR)),
        }
    }

    /// The text of a small file; nothing where there is none, or it is too long to be one.
    pub(super) fn text(&self, name: &str) -> io::Result<Option<(String, Facts)>> {
        let file = match self.file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let facts = Facts::of(&rustix::fs::fstat(&file)?);
        let mut octets = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, TEXT_OCTETS_MAX + 1), &mut octets)?;
        if octets.len() as u64 > TEXT_OCTETS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long for what it is"));
        }
        Ok(Some((String::from_utf8_lossy(&octets).into_owned(), facts)))
    }

    /// What the system says of this folder.
    pub(super) fn facts(&self) -> io::Result<Facts> {
        Ok(Facts::of(&rustix::fs::fstat(&self.0)?))
    }

    /// What the system says of something in this folder; of a link itself.
    pub(super) fn facts_of(&self, name: impl AsRef<OsStr>) -> io::Result<Facts> {
        let stat = rustix::fs::statat(&self.0, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Facts::of(&stat))
    }

    /// What tells this folder from every other, whatever its name: device, inode, and the time
    /// it was made, as inodes are used again.
    pub(super) fn print(&self) -> io::Result<u64> {
        let facts = self.facts()?;
        let born = rustix::fs::statx(&self.0, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok();
        let born = born.filter(|stat| stat.stx_mask & StatxFlags::BTIME.bits() != 0);
        let born = born.map_or((0, 0), |stat| (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        Ok(hash(&(facts.device, facts.inode, born)))
    }

    /// Calls `each` with every name in this folder and what kind of thing it is.
    pub(super) fn each(&self, mut each: impl FnMut(&OsStr, Kind)) -> io::Result<()> {
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.facts_of(name) {
                    Ok(facts) => facts.kind,
                    // Gone meanwhile.
                    Err(_) => continue,
                },
                known => Kind::of(known),
            };
            each(name, kind);
        }
        Ok(())
    }
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    Folder,
    Other,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            _ => Self::Other,
        }
    }
}

/// What the system says of a file or folder. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) octets: u64,
    pub(super) links: u64,
    /// When its content changed; for a message, when it was received.
    pub(super) modified: i128,
    /// When its name or anything else about it changed last.
    pub(super) changed: i128,
    pub(super) kind: Kind,
}

impl Facts {
    #[expect(clippy::useless_conversion, reason = "the fields' types differ from system to system")]
    fn of(stat: &Stat) -> Self {
        let nanos = |seconds: i128, nanos: i128| seconds * 1_000_000_000 + nanos;
        Self {
            device: u64::from(stat.st_dev),
            inode: u64::from(stat.st_ino),
            octets: u64::try_from(stat.st_size).unwrap_or(0),
            links: u64::from(stat.st_nlink),
            modified: nanos(i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec)),
            changed: nanos(i128::from(stat.st_ctime), i128::from(stat.st_ctime_nsec)),
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
        }
    }

    /// What tells this file from others whatever its name, as far as 32 bits can; compared
    /// together with the size.
    pub(super) fn print(&self) -> u32 {
        u32::try_from(hash(&(self.device, self.inode, self.modified, self.octets)) >> 32)
            .unwrap_or(0)
    }
}

/// A hash that is the same in each run: it is kept on disk.
fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    std::hash::Hasher::finish(&hasher)
}

/// FNV-1a with a last stir. The standard library's own may change between its versions.
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let stirred = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        stirred ^ (stirred >> 32)
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Said of a FIFO, socket, device or link where a message is expected.
pub(super) const NOT_REGULAR: &str = "not a regular file (links are not followed)";

/// The longest list read into memory: a subscription list of ten thousand long names.
const TEXT_OCTETS_MAX: u64 = 4 << 20;
