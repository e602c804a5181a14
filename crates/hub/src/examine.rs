//! Whether a hub that is stopped could be started: its files are opened, in copies.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use postbell_journal::{Options, SqliteJournal};

use crate::state::StateDb;
use crate::token::CONTENT_KEY;
use crate::{SigningKey, StartError, Token, TokenError};

/// Opens a copy of what is in the data folder `data`, made in `scratch`, as a start would; `data`
/// itself is only read. Messages name the files in `scratch`.
///
/// Of the journal's older segments only the sizes are looked at, as at a start.
///
/// # Errors
///
/// What would keep the hub from starting: a damaged journal or `hub.db`.
pub fn examine(data: &Path, scratch: &Path) -> Result<(), StartError> {
    let (journal, copy) = (data.join("journal"), scratch.join("journal"));
    if journal.join("state.db").exists() {
        copy_journal(&journal, &copy)
            .map_err(|source| StartError::Data { path: copy.clone(), source })?;
        SqliteJournal::open(&copy, Options::default())?.close();
    }
    let (db, copy) = (data.join("hub.db"), scratch.join("hub.db"));
    if db.exists() {
        for suffix in ["", "-wal"] {
            copy_file(&beside(&db, suffix), &beside(&copy, suffix))
                .map_err(|source| StartError::Data { path: copy.clone(), source })?;
        }
        let state = StateDb::open(&copy)?;
        state.check()?;
        state.subscriptions()?;
    }
    Ok(())
}

/// What would keep a hub from starting of the keys in the data folder `data`: those that are there and
/// hold something else. Nothing is said of what this user may not read.
#[must_use]
pub fn examine_keys(data: &Path) -> Vec<TokenError> {
    let signing = SigningKey::load(data).err();
    let content = Token::load(&data.join(CONTENT_KEY)).err();
    let faults = signing.into_iter().chain(content);
    faults.filter(|fault| !matches!(fault, TokenError::Io { .. })).collect()
}

/// Copies what a start reads: the newest segments, and of the others the size.
fn copy_journal(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut segments = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // Who holds the folder, and what SQLite makes anew from the log.
        if name == "lock" || name.ends_with("-shm") {
            continue;
        }
        if name.starts_with("segment-") && name.ends_with(".db") {
            segments.push(path);
        } else {
            copy_file(&path, &to.join(name))?;
        }
    }
    segments.sort();
    let mut octets = 0;
    for (age, path) in segments.iter().rev().enumerate() {
        let Some(name) = path.file_name() else { continue };
        let length = path.metadata()?.len();
        if age < SEGMENTS_COPIED_MIN || octets < SEGMENT_OCTETS_COPIED {
            copy_file(path, &to.join(name))?;
            octets += length;
        } else {
            File::create(to.join(name))?.set_len(length)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// More than can be waiting to be sealed: what is not sealed is read whole.
const SEGMENTS_COPIED_MIN: usize = 6;

/// Octets of segments within which the window of repeats surely lies.
const SEGMENT_OCTETS_COPIED: u64 = 256 << 20;
