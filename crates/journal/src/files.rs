//! The journal's folder: names, permissions, and what SQLite's errors mean to us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::{OpenError, ReadError, Seq};

/// Takes a lock, whether or not a thread died holding it: what it guards here is changed in
/// steps each of which leaves it whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file of the segment with a number; segments are numbered from 1 without gaps.
pub(crate) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{SEGMENT_PREFIX}{number:010}{SEGMENT_SUFFIX}"))
}

/// The numbers of the segment files in the folder, in order.
pub(crate) fn segments_in(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(SEGMENT_PREFIX)?.strip_suffix(SEGMENT_SUFFIX))
            .and_then(|digits| digits.parse::<u64>().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes a database with the files SQLite keeps beside it.
pub(crate) fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The path of a file that SQLite keeps beside a database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Forces a folder's entries to disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens a database for writing, with the settings every one of ours has.
///
/// A statement must never wait for another process, for there is none; it waits a moment for our
/// own other connections.
pub(crate) fn open_database(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Makes a database with what `fill` puts into it.
///
/// It is made under another name first: where the file exists, it is whole and on disk. The
/// folder is not: its entry is for the caller to force to disk.
pub(crate) fn make_database(
    path: &Path,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), CreateError> {
    let unfinished = beside(path, NEW_SUFFIX);
    remove_database(&unfinished)?;
    // By ourselves: SQLite doesn't tell a full disk from other reasons here, and would let others
    // read it. What it puts beside it gets the same mode.
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?);
    let connection = open_database(&unfinished)?;
    // Nothing is worth forcing to disk until it is whole, and then once.
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update(None, "page_size", PAGE_OCTETS)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    fill(&connection)?;
    connection.execute_batch("COMMIT")?;
    // Closing would do this as well, but keeps its errors to itself.
    connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE)?;
    connection.close().map_err(|(_, error)| error)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(())
}

/// Why a database could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// SQLite said so.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// The file system said so.
    #[error(transparent)]
    Folder(#[from] io::Error),
}

impl CreateError {
    /// Whether there was only no room for it.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => meaning(error) == Meaning::NoRoom,
            Self::Folder(error) => lacks_room(error),
        }
    }

    /// The same, where it was met while opening.
    pub(crate) fn into_open_error(self, path: &Path) -> OpenError {
        if self.is_full() {
            return OpenError::Full { folder: path.parent().unwrap_or(path).to_owned() };
        }
        unusable(path, self)
    }
}

/// Whether a file could not be written only because the disk is full, or the quota used up.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the disk takes about what a commit may need.
pub(crate) fn probe_room(folder: &Path) -> io::Result<()> {
    let path = folder.join("room.new");
    let written = write_probe(&path);
    // Writing and housekeeping may ask at once: whoever is first takes the file away.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        _ => written,
    }
}

fn write_probe(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = [0x5a; 64 * 1024];
    for _ in 0..PROBE_OCTETS / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// What an SQLite error asks us to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// The file is not what was written.
    Damaged,
    /// There is no room on the disk.
    NoRoom,
    /// A write failed; SQLite doesn't say why.
    NotWritten,
    /// Anything else.
    Other,
}

/// Sorts an SQLite error.
pub(crate) fn meaning(error: &rusqlite::Error) -> Meaning {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match (failure.code, failure.extended_code) {
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)
            | (_, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS) => Meaning::Damaged,
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Meaning::NoRoom,
            (_, ffi::SQLITE_IOERR_WRITE) => Meaning::NotWritten,
            // The schema is ours: a statement that doesn't fit it means the schema was changed.
            (ErrorCode::Unknown | ErrorCode::SchemaChanged | ErrorCode::TypeMismatch, _) => {
                Meaning::Damaged
            }
            _ => Meaning::Other,
        },
        rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::Utf8Error(..) => Meaning::Damaged,
        _ => Meaning::Other,
    }
}

/// An SQLite error met while opening; `seq` is the first record it may concern.
pub(crate) fn open_error(path: &Path, seq: Option<u64>, error: rusqlite::Error) -> OpenError {
    match meaning(&error) {
        Meaning::Damaged => corrupt(path, seq, &error.to_string()),
        Meaning::NoRoom => OpenError::Full { folder: path.parent().unwrap_or(path).to_owned() },
        Meaning::NotWritten | Meaning::Other => unusable(path, error),
    }
}

/// An SQLite error met while reading; `seq` is the first record it may concern.
pub(crate) fn read_error(path: &Path, seq: u64, error: rusqlite::Error) -> ReadError {
    match meaning(&error) {
        Meaning::Damaged => damaged(path, seq, &error.to_string()),
        Meaning::NoRoom | Meaning::NotWritten | Meaning::Other => {
            ReadError::Unreadable { file: path.to_owned(), source: Box::new(error) }
        }
    }
}

/// A file found damaged while reading.
pub(crate) fn damaged(path: &Path, seq: u64, reason: &str) -> ReadError {
    ReadError::Corrupt { file: path.to_owned(), seq: Seq(seq), reason: in_one_line(reason) }
}

/// What was found, which SQLite tells in lines below a heading (`*** in database main ***`).
fn in_one_line(found: &str) -> String {
    let lines = found.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("***")).collect();
    lines.join("; ")
}

/// A file found damaged while opening.
pub(crate) fn corrupt(path: &Path, seq: Option<u64>, reason: &str) -> OpenError {
    OpenError::Corrupt { file: path.to_owned(), seq: seq.map(Seq), reason: in_one_line(reason) }
}

/// A file system's error met while opening.
pub(crate) fn file_error(path: &Path, error: io::Error) -> OpenError {
    CreateError::Folder(error).into_open_error(path)
}

/// A file that can't be used, for a reason that is not its content.
pub(crate) fn unusable(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), source: error.into() }
}

/// Room that must be there before a full disk counts as having room again, in octets: a large
/// commit and the files around it.
const PROBE_OCTETS: usize = 2 * 1024 * 1024;

/// A page of a database, in octets.
pub(crate) const PAGE_OCTETS: u64 = 4096;

/// Ends the name of a database that is still being made.
pub(crate) const NEW_SUFFIX: &str = ".new";

const SEGMENT_PREFIX: &str = "segment-";
const SEGMENT_SUFFIX: &str = ".db";

/// How long a statement waits for another connection of this process. They hold their locks for
/// milliseconds; a minute outlives a stalled disk.
const BUSY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Prepared statements kept by a connection: more than any of ours uses.
const STATEMENTS_MAX: usize = 32;
