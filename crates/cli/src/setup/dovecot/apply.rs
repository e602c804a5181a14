//! Our files written, all or none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::facts::Found;
use super::order::Placement;
use super::{own, render, spool};
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
    mode: u32,
}

/// What is to be written, in this order: what takes effect comes last.
pub(super) fn changes(found: &Found, placement: &Placement) -> anyhow::Result<Vec<Change>> {
    let facts = &found.facts;
    let places = &facts.places;
    let exporter = facts.exporter.as_ref();
    let snippet = render::snippet(places, placement, exporter.is_some());
    let mut wanted = vec![
        (&places.script, Some(render::SCRIPT.to_owned()), 0o644),
        (&places.exporter, exporter.map(render::exporter), 0o600),
        (&placement.snippet, Some(snippet), 0o644),
    ];
    // An earlier run may have found another place better.
    let others = facts.candidates.iter().filter(|other| **other != placement.snippet);
    wanted.extend(others.map(|other| (other, None, 0o644)));
    let mut changes = Vec::new();
    for (path, new, mode) in wanted {
        let old = present(path)?;
        if old.is_some() || new.is_some() {
            changes.push(Change { path: path.clone(), old, new, mode });
        }
    }
    Ok(changes)
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

/// Writes all, then asks `check`; where either fails, everything is as it was.
pub(super) fn all(
    found: &Found,
    changes: &[Change],
    check: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut undo = Undo::default();
    match write(found, changes, &mut undo).and_then(|()| check()) {
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

fn write(found: &Found, changes: &[Change], undo: &mut Undo) -> anyhow::Result<()> {
    let facts = &found.facts;
    let at = |path: &Path, error: &io::Error| anyhow!("{}: {}", path.display(), advised(error));
    let made = spool::make(&facts.places.spool, found.hub);
    undo.folders = made.map_err(|(path, error)| at(&path, &error))?;
    if let Some(exporter) = &facts.exporter {
        let file = found.config.exporter_secret_file(&exporter.source);
        let is_new = own::keep_secret(&file, &exporter.secret, found.hub);
        if is_new.map_err(|error| at(&file, &error))? {
            undo.files.push((file, None));
        }
    }
    for change in changes {
        undo.files.push((change.path.clone(), change.old.clone().map(|old| (old, change.mode))));
        put(&change.path, change.new.as_deref(), change.mode)
            .map_err(|error| at(&change.path, &error))?;
    }
    Ok(())
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

/// Whoever reads the file meanwhile reads the old or the new, and nothing between.
fn put(path: &Path, text: Option<&str>, mode: u32) -> io::Result<()> {
    let Some(text) = text else {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
    };
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    // No pattern of Dovecot's takes this name in.
    let mut file = tempfile::Builder::new().prefix(".postbell-").suffix("~").tempfile_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// What was there before.
#[derive(Default)]
struct Undo {
    folders: Vec<PathBuf>,
    files: Vec<(PathBuf, Option<(String, u32)>)>,
}

impl Undo {
    fn run(self) -> Result<(), (PathBuf, io::Error)> {
        let mut left = Ok(());
        for (path, old) in self.files.into_iter().rev() {
            let (text, mode) = old.unzip();
            if let Err(error) = put(&path, text.as_deref(), mode.unwrap_or(0o600)) {
                left = Err((path, error));
            }
        }
        // Somebody may have put something there meanwhile; then it stays.
        self.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        left
    }
}
