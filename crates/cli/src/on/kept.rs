//! The file that says up to where all is done.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::lines::plain;

/// A number in a file of its own, written whole or not at all.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    done: Option<u64>,
}

impl Kept {
    /// Reads the file, if it is there.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let done = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|_| {
                anyhow!(
                    "{}: holds no record's number; take the file away to begin anew",
                    path.display()
                )
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(anyhow!("{}: {}", path.display(), plain(&error))),
        };
        Ok(Self { path, done })
    }

    /// Up to which record all was done when it was kept last.
    pub(super) fn done(&self) -> Option<u64> {
        self.done
    }

    /// Keeps it.
    pub(super) fn set(&mut self, done: u64) -> anyhow::Result<()> {
        if self.done == Some(done) {
            return Ok(());
        }
        write(&self.path, done).with_context(|| {
            format!("{}: up to where all is done can't be kept", self.path.display())
        })?;
        self.done = Some(done);
        Ok(())
    }
}

fn write(path: &Path, done: u64) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{done}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done");
        let mut kept = Kept::open(path.clone()).unwrap();
        assert_eq!(kept.done(), None);
        kept.set(7).unwrap();
        assert_eq!(Kept::open(path.clone()).unwrap().done(), Some(7));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "seven").unwrap();
        let told = Kept::open(path.clone()).unwrap_err().to_string();
        assert!(told.ends_with("done: holds no record's number; take the file away to begin anew"));
        let mut nowhere = Kept::open(folder.path().join("no/done")).unwrap();
        assert!(nowhere.set(1).is_err());
    }
}
