//! Our files written, all or none.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::lines::plain;

/// What becomes of one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it holds; `None` where it is not there.
    pub(super) old: Option<String>,
    /// What it will hold; `None` where it goes.
    pub(super) new: Option<String>,
    /// Its rights.
    pub(super) mode: u32,
    /// Whose it is, by user and group; `None` for whoever runs this.
    pub(super) owner: Option<(u32, u32)>,
}

/// What a file of ours holds, which must be ours.
pub(super) fn present(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow!("{}: {}", path.display(), plain(&error))),
    };
    if text.is_empty() || text.lines().next().is_some_and(|line| line.contains("postbell")) {
        return Ok(Some(text));
    }
    Err(anyhow!("{}: not written by this command, and left alone (move it away)", path.display()))
}

/// Makes `first`, writes all, then asks `check`; where any of that fails, everything is as it was.
pub(super) fn all(
    first: impl FnOnce(&mut Undo) -> anyhow::Result<()>,
    changes: &[Change],
    check: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut undo = Undo::default();
    match first(&mut undo).and_then(|()| write(changes, &mut undo)).and_then(|()| check()) {
        Ok(()) => Ok(()),
        Err(error) => match undo.run() {
            Ok(()) => Err(error.context("everything is as it was before")),
            Err((path, left)) => Err(error.context(format!(
                "{}: {}; take it away yourself",
                path.display(),
                plain(&left)
            ))),
        },
    }
}

fn write(changes: &[Change], undo: &mut Undo) -> anyhow::Result<()> {
    for change in changes {
        let back = Change { old: change.new.clone(), new: change.old.clone(), ..change.clone() };
        undo.files.push(back);
        change.make().map_err(|error| at(&change.path, &error))?;
    }
    Ok(())
}

/// An error with the path at fault, and what to do where that is known.
pub(super) fn at(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("{}: {}", path.display(), advised(error))
}

fn advised(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{} (run this as root)", plain(error))
        }
        io::ErrorKind::Unsupported => {
            "its file system keeps no access lists, which a hub that isn't root needs (choose another with --spool)".to_owned()
        }
        _ => plain(error),
    }
}

impl Change {
    /// One to a file of ours, as it is now.
    pub(super) fn ours(path: &Path, new: Option<String>, mode: u32) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), old: present(path)?, new, mode, owner: None })
    }

    /// One to a file of the operator's, which stays whose it is.
    pub(super) fn theirs(path: &Path, old: String, new: String) -> io::Result<Self> {
        // A link goes on being one.
        let path = fs::canonicalize(path)?;
        let meta = fs::metadata(&path)?;
        let mode = meta.permissions().mode() & 0o7777;
        let owner = Some((meta.uid(), meta.gid()));
        Ok(Self { path, old: Some(old), new: Some(new), mode, owner })
    }

    /// Makes it. Whoever reads the file meanwhile reads the old or the new, and nothing between.
    pub(super) fn make(&self) -> io::Result<()> {
        let Some(text) = &self.new else {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        };
        let folder = self.path.parent().unwrap_or_else(|| Path::new("/"));
        // No pattern of Dovecot's takes this name in.
        let mut file =
            tempfile::Builder::new().prefix(".postbell-").suffix("~").tempfile_in(folder)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        if let Some((uid, gid)) = self.owner {
            let now = file.as_file().metadata()?;
            if (now.uid(), now.gid()) != (uid, gid) {
                chown(file.path(), Some(uid), Some(gid))?;
            }
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// What has to be done for everything to be as it was.
#[derive(Default)]
pub(super) struct Undo {
    /// Folders that were made, topmost first.
    pub(super) folders: Vec<PathBuf>,
    /// Files as they were, in the order they were changed.
    pub(super) files: Vec<Change>,
}

impl Undo {
    fn run(self) -> Result<(), (PathBuf, io::Error)> {
        let mut left = Ok(());
        for back in self.files.into_iter().rev() {
            if let Err(error) = back.make() {
                left = Err((back.path, error));
            }
        }
        // Somebody may have put something there meanwhile; then it stays.
        self.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        left
    }
}
