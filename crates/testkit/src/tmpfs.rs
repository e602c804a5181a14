//! A file system small enough to fill.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Error, process, server};

/// A small file system in memory, mounted on a temporary folder; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one of `size_octets`.
    ///
    /// `None`, after a loud line, where this account may not mount.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it may not and `CI` is set.
    pub fn mount(size_octets: u64) -> Result<Option<Self>, Error> {
        let folder = process::workspace("tmpfs")?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size_octets}"), "postbell-test"]);
        match process::run(mount.arg(folder.path()), b"") {
            Ok(_) => Ok(Some(Self { folder })),
            Err(refusal) => server::absent("a small file system", refusal.to_string()),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last octet, with a file that can be removed again.
    ///
    /// # Errors
    /// [`Error::Io`] on anything but a full disk.
    pub fn fill(&self) -> Result<PathBuf, Error> {
        use std::io::Write;
        let path = self.path().join("ballast");
        let doing = format!("fill {}", path.display());
        let mut file = std::fs::File::create(&path).map_err(Error::io(&doing))?;
        for length in [64 * 1024, 4096, 1] {
            let block = vec![b'x'; length];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(Error::io(doing)(error)),
                }
            }
        }
        Ok(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        if process::run(unmount.arg(self.path()), b"").is_err() {
            // Somebody still has a file open: it goes when they do.
            let _left = process::run(Command::new("umount").arg("-l").arg(self.path()), b"");
        }
    }
}
