//! The state file: merged checkpoints, cursors, the list of sealed segments, accepted holes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::files::{corrupt, damaged, make_database, open_database, open_error, read_error};
use crate::overlay::Overlay;
use crate::segment::{Position, is_full, open_log_reader, open_reader};
use crate::verify::has_log;
use crate::{OpenError, ReadError, Seq};

/// A segment that will not change any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) number: u64,
    /// The first record; one past `end.seq` where it has none.
    pub(crate) first: u64,
    /// Where the journal stood when it ended.
    pub(crate) end: Position,
    pub(crate) octets: u64,
    /// When its last block was written, in milliseconds since 1970; 0 where it has none.
    pub(crate) newest_ms: u64,
}

impl Sealed {
    fn crc(&self) -> u32 {
        checksum(&[
            self.number,
            self.first,
            self.end.seq,
            self.end.block,
            self.end.change,
            self.octets,
            self.newest_ms,
        ])
    }
}

/// Records that were lost and whose loss a person has accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The open state file.
#[derive(Debug)]
pub(crate) struct State {
    connection: Connection,
    path: PathBuf,
}

impl State {
    /// Where it is in a folder.
    pub(crate) fn path_in(folder: &Path) -> PathBuf {
        folder.join(crate::error::STATE)
    }

    /// Makes the file and opens it.
    pub(crate) fn create(folder: &Path) -> Result<Self, OpenError> {
        let path = Self::path_in(folder);
        make_database(&path, |connection| {
            connection.execute_batch(SCHEMA)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", FORMAT)
        })
        .map_err(|error| error.into_open_error(&path))?;
        Self::open(folder)
    }

    /// Opens the file and checks its format.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = Self::path_in(folder);
        let error = |error| open_error(&path, None, error);
        let state = Self { connection: connect(&path).map_err(error)?, path: path.clone() };
        state.check_format()?;
        let connection = &state.connection;
        // Each row has a checksum, but a row that is gone has none: a page damaged in its
        // structure would lose checkpoints in silence.
        let found: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(error)?;
        if found != "ok" {
            return Err(corrupt(&path, None, &found));
        }
        // Until all is found good, nothing may change, so that it can be looked into.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(error)?;
        Ok(state)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(|error| open_error(&self.path, None, error))
        };
        if pragma("application_id")? != APPLICATION_ID {
            return Err(corrupt(&self.path, None, "not a journal's state"));
        }
        let found = pragma("user_version")?;
        if found != FORMAT {
            return Err(OpenError::Version { file: self.path.clone(), found, known: FORMAT });
        }
        Ok(())
    }

    /// Opens the file to read it beside the process that holds the folder.
    pub(crate) fn open_to_read(folder: &Path) -> Result<Self, OpenError> {
        let path = Self::path_in(folder);
        let error = |error| open_error(&path, None, error);
        let connection = match has_log(&path) {
            true => open_log_reader(&path),
            false => open_reader(&path, true),
        }
        .map_err(error)?;
        let state = Self { connection, path: path.clone() };
        state.check_format()?;
        Ok(state)
    }

    /// All was found good: the file may be tidied up when it is closed.
    pub(crate) fn accept(&self) -> Result<(), OpenError> {
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map(|_| ())
            .map_err(|error| open_error(&self.path, None, error))
    }

    /// Moves what the write-ahead log holds into the file, whether the disk was full: what is read
    /// of it is on disk from then on, whatever became of the fsync before a crash.
    pub(crate) fn settle(&self) -> Result<bool, OpenError> {
        match self.connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
            Ok(_) => Ok(false),
            Err(error) if is_full(&error) => Ok(true),
            Err(error) => Err(open_error(&self.path, None, error)),
        }
    }

    /// The sealed segments that are kept, in order.
    pub(crate) fn sealed(&self) -> Result<Vec<Sealed>, OpenError> {
        let error = |error| open_error(&self.path, None, error);
        let mut statement = self.connection.prepare(SELECT_SEALED).map_err(error)?;
        let rows = statement
            .query_map([], |row| {
                let end = Position { seq: row.get(2)?, block: row.get(3)?, change: row.get(4)? };
                let (number, first) = (row.get(0)?, row.get(1)?);
                let (octets, newest_ms) = (row.get(5)?, row.get(6)?);
                Ok((Sealed { number, first, end, octets, newest_ms }, row.get::<_, u32>(7)?))
            })
            .map_err(error)?;
        let mut all = Vec::new();
        for row in rows {
            let (sealed, crc) = row.map_err(error)?;
            if crc != sealed.crc() {
                let reason = format!("wrong checksum in the list of segments at {}", sealed.number);
                return Err(corrupt(&self.path, Some(sealed.first), &reason));
            }
            all.push(sealed);
        }
        Ok(all)
    }

    /// The last segment that retention has dropped and where the journal stood when it ended;
    /// zeroes where none was.
    pub(crate) fn dropped(&self) -> Result<(u64, Position), OpenError> {
        let row = self
            .connection
            .query_row("SELECT number, seq, block, change, crc FROM dropped", [], |row| {
                let end = Position { seq: row.get(1)?, block: row.get(2)?, change: row.get(3)? };
                Ok((row.get(0)?, end, row.get::<_, u32>(4)?))
            })
            .optional()
            .map_err(|error| open_error(&self.path, None, error))?;
        match row {
            None => Ok((0, Position::default())),
            Some((number, end, crc)) if dropped_crc(number, end) == crc => Ok((number, end)),
            Some(_) => Err(corrupt(&self.path, None, "wrong checksum of the dropped segments")),
        }
    }

    /// The accepted holes, in order.
    pub(crate) fn holes(&self) -> Result<Vec<Hole>, OpenError> {
        let error = |error| open_error(&self.path, None, error);
        let mut statement = self
            .connection
            .prepare("SELECT first, last, crc FROM holes ORDER BY first")
            .map_err(error)?;
        let rows = statement
            .query_map([], |row| {
                Ok((Hole { from: row.get(0)?, to: row.get(1)? }, row.get::<_, u32>(2)?))
            })
            .map_err(error)?;
        let mut all = Vec::new();
        for row in rows {
            let (hole, crc) = row.map_err(error)?;
            if crc != checksum(&[hole.from, hole.to]) {
                return Err(corrupt(&self.path, Some(hole.from), "wrong checksum of a hole"));
            }
            all.push(hole);
        }
        Ok(all)
    }

    /// Lists a segment as sealed and merges its checkpoint changes, together. Doing it again
    /// changes nothing.
    pub(crate) fn seal(&mut self, sealed: Sealed, overlay: &Overlay) -> rusqlite::Result<()> {
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (source, keys) in overlay.sources() {
            merge(&step, source, keys)?;
        }
        step.execute(
            INSERT_SEALED,
            params![
                sealed.number,
                sealed.first,
                sealed.end.seq,
                sealed.end.block,
                sealed.end.change,
                sealed.octets,
                sealed.newest_ms,
                sealed.crc(),
            ],
        )?;
        step.commit()
    }

    /// Takes segments up to `number` off the list; `end` is where the journal stood after it.
    pub(crate) fn drop_up_to(&mut self, number: u64, end: Position) -> rusqlite::Result<()> {
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute("DELETE FROM segments WHERE number <= ?1", [number])?;
        step.execute("DELETE FROM holes WHERE last <= ?1", [end.seq])?;
        step.execute("DELETE FROM dropped", [])?;
        step.execute(
            "INSERT INTO dropped (number, seq, block, change, crc) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![number, end.seq, end.block, end.change, dropped_crc(number, end)],
        )?;
        step.commit()
    }

    /// Takes one segment off the list: its file is lost.
    pub(crate) fn forget(&mut self, number: u64) -> rusqlite::Result<()> {
        self.connection.execute("DELETE FROM segments WHERE number = ?1", [number]).map(|_| ())
    }

    /// Notes records as lost.
    pub(crate) fn add_hole(&mut self, hole: Hole) -> rusqlite::Result<()> {
        let crc = checksum(&[hole.from, hole.to]);
        self.connection
            .execute(
                "INSERT OR REPLACE INTO holes (first, last, crc) VALUES (?1, ?2, ?3)",
                params![hole.from, hole.to, crc],
            )
            .map(|_| ())
    }

    /// All that `source` has under `prefix`, as far as it was merged.
    pub(crate) fn checkpoint(
        &self,
        source: &str,
        prefix: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let error = |error| read_error(&self.path, 0, error);
        let mut statement = self.connection.prepare_cached(SELECT_KEYS).map_err(error)?;
        let mut rows = statement.query(params![source, prefix]).map_err(error)?;
        let mut found = BTreeMap::new();
        while let Some(row) = rows.next().map_err(error)? {
            let key: Vec<u8> = row.get(0).map_err(error)?;
            if !key.starts_with(prefix) {
                break;
            }
            let value: Vec<u8> = row.get(1).map_err(error)?;
            if row.get::<_, u32>(2).map_err(error)? != key_crc(source, &key, &value) {
                let reason = format!("checkpoint of {source}: wrong checksum");
                return Err(damaged(&self.path, 0, &reason));
            }
            found.insert(key, value);
        }
        Ok(found)
    }

    /// How many keys `source` has, as far as they were merged.
    pub(crate) fn count_keys(&self, source: &str) -> Result<u64, ReadError> {
        self.connection
            .prepare_cached("SELECT COUNT(*) FROM checkpoints WHERE source = ?1")
            .and_then(|mut statement| statement.query_row([source], |row| row.get(0)))
            .map_err(|error| read_error(&self.path, 0, error))
    }

    /// Whether `source` has this key, as far as it was merged.
    pub(crate) fn has_key(&self, source: &str, key: &[u8]) -> Result<bool, ReadError> {
        self.connection
            .prepare_cached("SELECT 1 FROM checkpoints WHERE source = ?1 AND key = ?2")
            .and_then(|mut statement| statement.exists(params![source, key]))
            .map_err(|error| read_error(&self.path, 0, error))
    }

    /// Where the cursor `name` was when it was last written.
    pub(crate) fn cursor(&self, name: &str) -> Result<Option<Seq>, ReadError> {
        let row = self
            .connection
            .prepare_cached("SELECT seq, crc FROM cursors WHERE name = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([name], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u32>(1)?)))
                    .optional()
            })
            .map_err(|error| read_error(&self.path, 0, error))?;
        match row {
            None => Ok(None),
            Some((seq, crc)) if crc == cursor_crc(name, seq) => Ok(Some(Seq(seq))),
            Some((seq, _)) => {
                Err(damaged(&self.path, seq, &format!("cursor {name}: wrong checksum")))
            }
        }
    }

    /// Writes cursors.
    pub(crate) fn set_cursors(
        &mut self,
        cursors: &BTreeMap<String, Option<Seq>>,
    ) -> rusqlite::Result<()> {
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (name, done) in cursors {
            match done {
                Some(Seq(seq)) => step
                    .prepare_cached(
                        "INSERT OR REPLACE INTO cursors (name, seq, crc) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![name, seq, cursor_crc(name, *seq)])?,
                None => {
                    step.prepare_cached("DELETE FROM cursors WHERE name = ?1")?.execute([name])?
                }
            };
        }
        step.commit()
    }
}

fn merge(
    step: &Transaction<'_>,
    source: &str,
    keys: &crate::overlay::Keys,
) -> rusqlite::Result<()> {
    let mut set = step.prepare_cached(
        "INSERT OR REPLACE INTO checkpoints (source, key, value, crc) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut remove =
        step.prepare_cached("DELETE FROM checkpoints WHERE source = ?1 AND key = ?2")?;
    for (key, value) in keys {
        match value {
            Some(value) => set.execute(params![source, key, value, key_crc(source, key, value)])?,
            None => remove.execute(params![source, key])?,
        };
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_database(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_OCTETS)?;
    Ok(connection)
}

fn checksum(numbers: &[u64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in numbers {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize()
}

fn dropped_crc(number: u64, end: Position) -> u32 {
    checksum(&[number, end.seq, end.block, end.change])
}

fn key_crc(source: &str, key: &[u8], value: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for part in [source.as_bytes(), key, value] {
        crc.update(&(part.len() as u64).to_le_bytes());
        crc.update(part);
    }
    crc.finalize()
}

fn cursor_crc(name: &str, seq: u64) -> u32 {
    key_crc(name, &seq.to_le_bytes(), &[])
}

const SCHEMA: &str = "
    CREATE TABLE segments (
        number INTEGER PRIMARY KEY, first INTEGER NOT NULL, seq INTEGER NOT NULL,
        block INTEGER NOT NULL, change INTEGER NOT NULL, octets INTEGER NOT NULL,
        newest_ms INTEGER NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE dropped (
        number INTEGER NOT NULL, seq INTEGER NOT NULL, block INTEGER NOT NULL,
        change INTEGER NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE holes (
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, crc INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE checkpoints (
        source TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, crc INTEGER NOT NULL,
        PRIMARY KEY (source, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cursors (
        name TEXT PRIMARY KEY, seq INTEGER NOT NULL, crc INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;";

const SELECT_SEALED: &str = "SELECT number, first, seq, block, change, octets, newest_ms, crc FROM segments ORDER BY number";
const INSERT_SEALED: &str = "INSERT OR REPLACE INTO segments
    (number, first, seq, block, change, octets, newest_ms, crc)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const SELECT_KEYS: &str = "SELECT key, value, crc FROM checkpoints
    WHERE source = ?1 AND key >= ?2 ORDER BY key";

/// Marks our state among SQLite files: "pbJT".
const APPLICATION_ID: i64 = 0x7062_4a54;

/// The format of the state file. A reader of another refuses it.
const FORMAT: i64 = 1;

/// What the write-ahead log is cut back to after a large merge, in octets.
const WAL_KEPT_OCTETS: i64 = 4 * 1024 * 1024;
