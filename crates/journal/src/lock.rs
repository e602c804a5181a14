//! One process to a folder: the lock file, which says who holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::OpenError;
use crate::files::{lacks_room, unusable};

/// Holds a folder until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, or says which process has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unusable(&path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = holder(&mut file);
                return Err(OpenError::Held { folder: folder.to_owned(), holder });
            }
            Err(error) => return Err(unusable(&path, error)),
        }
        sign(&mut file).map_err(|error| unusable(&path, error))?;
        Ok(Self { _file: file })
    }
}

/// What the holder wrote about itself. It may not have got to writing it yet.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_OCTETS_MAX).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let text = format!("{} {}\n", std::process::id(), name.trim());
    file.set_len(0)?;
    file.rewind()?;
    match file.write_all(text.as_bytes()) {
        // On a full disk the lock holds all the same, it only doesn't say whose it is.
        Err(error) if lacks_room(&error) => Ok(()),
        other => other,
    }
}

const LOCK: &str = "lock";

/// A process id and a name of at most 15 octets fit many times over.
const HOLDER_OCTETS_MAX: u64 = 256;
