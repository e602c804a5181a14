//! A segment: one SQLite file holding some consecutive blocks and the checkpoint changes that
//! were committed with them.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow, params};

use crate::block::Row;
use crate::chain::Link;
use crate::files::{
    CreateError, Meaning, PAGE_OCTETS, corrupt, make_database, meaning, open_database, open_error,
    sync_folder,
};
use crate::{OpenError, RecordId};

/// What stood in the journal before a segment begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Position {
    /// The last record.
    pub(crate) seq: u64,
    /// The last block.
    pub(crate) block: u64,
    /// The last checkpoint change.
    pub(crate) change: u64,
}

/// Checkpoint changes as they go into a row.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ChangeRow {
    pub(crate) number: u64,
    /// The last record committed with them.
    pub(crate) after: u64,
    pub(crate) content: Vec<u8>,
}

impl ChangeRow {
    fn crc(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.number.to_le_bytes());
        crc.update(&self.after.to_le_bytes());
        crc.update(&self.content);
        crc.finalize()
    }
}

/// An open segment that can be written.
#[derive(Debug)]
pub(crate) struct Segment {
    connection: Connection,
    path: PathBuf,
    /// Octets written to the write-ahead log since it was last emptied, about.
    wal_octets: u64,
    /// The link of the last block; `None` in a file of format 1, which has none.
    chain: Option<Link>,
}

impl Segment {
    /// Makes a segment file that begins after `before` and after the link `chain`, and opens it.
    pub(crate) fn create(path: &Path, before: Position, chain: Link) -> Result<Self, CreateError> {
        make_database(path, |connection| {
            connection.execute_batch(SCHEMA)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", FORMAT)?;
            connection.execute(
                "INSERT INTO segment (seq, block, change, crc, chain) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![before.seq, before.block, before.change, before.crc(), chain.to_stored()],
            )?;
            Ok(())
        })?;
        let connection = open_database(path)?;
        set_up(&connection)?;
        // The first question makes the write-ahead log. SQLite forces its entry in the folder to
        // disk as well, but doesn't say when that fails.
        connection.query_row("SELECT seq FROM segment", [], |row| row.get::<_, u64>(0))?;
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Ok(Self { connection, path: path.to_owned(), wal_octets: 0, chain: Some(chain) })
    }

    /// Opens a segment that was written before and should begin with record `first`, and says
    /// what it begins after.
    pub(crate) fn open(path: &Path, first: u64) -> Result<(Self, Position), OpenError> {
        if !path.exists() {
            return Err(corrupt(path, Some(first), "missing"));
        }
        let failed = |error| open_error(path, Some(first), error);
        let connection = open_database(path).map_err(failed)?;
        // Nothing of a segment that is then refused may change, so that it can be looked into.
        set_up(&connection).map_err(failed)?;
        let (before, chain) = begins_after(&connection, path, first)?;
        let chain = match chain {
            Some(chain) => Some(last_link(&connection, path, first)?.unwrap_or(chain)),
            None => None,
        };
        let segment = Self { connection, path: path.to_owned(), wal_octets: u64::MAX, chain };
        Ok((segment, before))
    }

    /// Writes blocks and changes in one transaction; when it returns they are durable.
    pub(crate) fn commit(
        &mut self,
        rows: &[Row],
        changes: Option<&ChangeRow>,
    ) -> rusqlite::Result<()> {
        let mut chain = self.chain;
        let result = self.write(rows, changes, &mut chain);
        if result.is_ok() {
            self.chain = chain;
        } else if !self.connection.is_autocommit() {
            // Where this fails as well, SQLite rolls back when the connection closes.
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::debug!(%error, "rollback failed");
            }
        }
        result
    }

    /// `chain` is moved on over the rows.
    fn write(
        &mut self,
        rows: &[Row],
        changes: Option<&ChangeRow>,
        chain: &mut Option<Link>,
    ) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut octets = PAGE_OCTETS;
        {
            let sql = if chain.is_some() { INSERT_BLOCK } else { INSERT_BLOCK_1 };
            let mut insert = connection.prepare_cached(sql)?;
            for row in rows {
                let fields = params![
                    row.first,
                    row.count,
                    row.number,
                    row.written_ms,
                    row.raw_octets,
                    row.content_crc,
                    row.row_crc,
                    row.ids,
                    row.content,
                ];
                match chain {
                    Some(chain) => {
                        *chain = chain.next(row);
                        insert.execute(&[fields, params![chain.to_stored()]].concat()[..])?;
                    }
                    None => {
                        insert.execute(fields)?;
                    }
                }
                octets += PAGE_OCTETS + (row.ids.len() + row.content.len()) as u64;
            }
        }
        if let Some(row) = changes {
            let mut insert = connection.prepare_cached(INSERT_CHANGES)?;
            insert.execute(params![row.number, row.after, row.crc(), row.content])?;
            octets += PAGE_OCTETS + row.content.len() as u64;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.wal_octets = self.wal_octets.saturating_add(octets);
        Ok(())
    }

    /// Whether the write-ahead log has grown so that it should be moved into the file.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.wal_octets >= WAL_OCTETS_MAX
    }

    /// Moves the write-ahead log into the file. Whether all of it could be moved: a reader may
    /// have been in the way.
    pub(crate) fn checkpoint(&mut self, mode: CheckpointMode) -> rusqlite::Result<bool> {
        match self.connection.wal_checkpoint_v2(None::<&str>, mode) {
            Ok((log, moved)) => {
                if log == moved {
                    self.wal_octets = 0;
                }
                Ok(log == moved)
            }
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The octets of the file itself, without its write-ahead log.
    pub(crate) fn file_octets(&self) -> std::io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    /// The link of the last block, or what the segment begins after where it has none; `None` in
    /// a file of format 1.
    pub(crate) fn chain(&self) -> Option<Link> {
        self.chain
    }

    /// The connection, for reading.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves everything into the one file and lets SQLite tidy up when it is closed.
    ///
    /// Whether that could be done: a reader may have been in the way.
    pub(crate) fn seal(&mut self) -> rusqlite::Result<bool> {
        let sealed = self.checkpoint(CheckpointMode::TRUNCATE)?;
        if sealed {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        }
        Ok(sealed)
    }

    /// Closes the file.
    pub(crate) fn close(self) -> rusqlite::Result<()> {
        self.connection.close().map_err(|(_, error)| error)
    }
}

impl Position {
    fn crc(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.seq.to_le_bytes());
        crc.update(&self.block.to_le_bytes());
        crc.update(&self.change.to_le_bytes());
        crc.finalize()
    }
}

/// Settings of a connection that writes.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    // We say when: at the limit, between commits.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

/// Opens a segment for reading. One that is sealed is opened as never changing: no locks, and
/// no files beside it.
pub(crate) fn open_reader(path: &Path, sealed: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !sealed {
        let connection = open_existing(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        return Ok(connection);
    }
    let mut uri = String::from("file:");
    for octet in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*octet));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    open_existing(Path::new(&uri), flags)
}

/// Opens a segment that has a write-ahead log, to read it beside the process that writes it.
pub(crate) fn open_log_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_ONLY;
    open_existing(path, flags)
}

fn open_existing(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// What the segment begins after, and after which link, which format 1 doesn't say; checks that it
/// is one, of a format we know.
pub(crate) fn begins_after(
    connection: &Connection,
    path: &Path,
    first: u64,
) -> Result<(Position, Option<Link>), OpenError> {
    let error = |error| open_error(path, Some(first), error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id").map_err(error)? != APPLICATION_ID {
        return Err(corrupt(path, Some(first), "not a journal segment"));
    }
    let found = pragma("user_version").map_err(error)?;
    if !(FORMAT_OLDEST..=FORMAT).contains(&found) {
        return Err(OpenError::Version { file: path.to_owned(), found, known: FORMAT });
    }
    let (before, crc) = connection
        .query_row("SELECT seq, block, change, crc FROM segment", [], |row| {
            let before = Position { seq: row.get(0)?, block: row.get(1)?, change: row.get(2)? };
            Ok((before, row.get::<_, u32>(3)?))
        })
        .map_err(error)?;
    if crc != before.crc() {
        return Err(corrupt(path, Some(first), "the segment's beginning has a wrong checksum"));
    }
    if found < FORMAT_CHAINED {
        return Ok((before, None));
    }
    let stored: Vec<u8> =
        connection.query_row("SELECT chain FROM segment", [], |row| row.get(0)).map_err(error)?;
    let chain = Link::from_stored(&stored).ok_or_else(|| {
        corrupt(path, Some(first), "the hash it begins after has a wrong checksum")
    })?;
    Ok((before, Some(chain)))
}

/// The link of the last block, where there is one.
fn last_link(connection: &Connection, path: &Path, first: u64) -> Result<Option<Link>, OpenError> {
    let last = connection
        .query_row("SELECT first, chain FROM blocks ORDER BY first DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()
        .map_err(|error| open_error(path, Some(first), error))?;
    let Some((seq, stored)) = last else { return Ok(None) };
    let link = Link::from_stored(&stored);
    link.map(Some).ok_or_else(|| corrupt(path, Some(seq), "its hash has a wrong checksum"))
}

/// The link with which a sealed segment ends; `None` where it is of format 1.
pub(crate) fn sealed_link(path: &Path, first: u64) -> Result<Option<Link>, OpenError> {
    let connection =
        open_reader(path, true).map_err(|error| open_error(path, Some(first), error))?;
    match begins_after(&connection, path, first)?.1 {
        Some(chain) => Ok(Some(last_link(&connection, path, first)?.unwrap_or(chain))),
        None => Ok(None),
    }
}

/// Calls `each` with every block of the segment in order, and with its link as it is stored, which
/// is empty where the segment `is_chained` not.
///
/// # Errors
///
/// Where SQLite can't read on.
pub(crate) fn each_block(
    connection: &Connection,
    is_chained: bool,
    mut each: impl FnMut(&Row, &[u8]),
) -> rusqlite::Result<()> {
    let sql = if is_chained { SELECT_CHAINED } else { SELECT_BLOCKS };
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(&row_from(row)?, row.get_ref(9)?.as_blob().unwrap_or_default());
    }
    Ok(())
}

/// The block that holds record `seq`, or the last before it.
pub(crate) fn block_at(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Row>> {
    // A connection for reading keeps nothing between statements that another could change.
    connection.prepare_cached(SELECT_BLOCK_AT)?.query_row([seq], row_from).optional()
}

/// The last block, whole.
pub(crate) fn last_block(connection: &Connection) -> rusqlite::Result<Option<Row>> {
    block_at(connection, MAX_SQL)
}

/// The block that ends before `seq`, without its content.
pub(crate) fn ids_before(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(SELECT_IDS_BEFORE)?
        .query_row([seq], |row| {
            Ok(Row {
                first: row.get(0)?,
                count: row.get(1)?,
                number: row.get(2)?,
                written_ms: row.get(3)?,
                raw_octets: row.get(4)?,
                content_crc: row.get(5)?,
                row_crc: row.get(6)?,
                ids: row.get(7)?,
                content: Vec::new(),
            })
        })
        .optional()
}

/// When the block that holds `seq` was written, and its first and last record.
pub(crate) fn written_at(
    connection: &Connection,
    seq: u64,
) -> rusqlite::Result<Option<(u64, u64, u64)>> {
    connection
        .prepare_cached(SELECT_WRITTEN)?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// Calls `each` with the changes of the segment in order.
///
/// # Errors
///
/// Where they don't follow on `before` one by one, or are not what was written.
pub(crate) fn each_change(
    connection: &Connection,
    path: &Path,
    before: Position,
    mut each: impl FnMut(&ChangeRow) -> Result<(), &'static str>,
) -> Result<u64, OpenError> {
    let error = |error| open_error(path, Some(before.seq + 1), error);
    let mut statement = connection.prepare(SELECT_CHANGES).map_err(error)?;
    let mut rows = statement.query([]).map_err(error)?;
    let mut last = before.change;
    while let Some(row) = rows.next().map_err(error)? {
        let (row, crc) = change_from(row).map_err(error)?;
        let bad = |reason: &str| {
            let reason = format!("checkpoint change {}: {reason}", last + 1);
            corrupt(path, Some(row.after.max(before.seq)), &reason)
        };
        if crc != row.crc() {
            return Err(bad("wrong checksum"));
        }
        if row.number != last + 1 {
            return Err(bad("missing"));
        }
        each(&row).map_err(bad)?;
        last = row.number;
    }
    Ok(last)
}

fn change_from(row: &SqlRow<'_>) -> rusqlite::Result<(ChangeRow, u32)> {
    let change = ChangeRow { number: row.get(0)?, after: row.get(1)?, content: row.get(3)? };
    Ok((change, row.get(2)?))
}

fn row_from(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        first: row.get(0)?,
        count: row.get(1)?,
        number: row.get(2)?,
        written_ms: row.get(3)?,
        raw_octets: row.get(4)?,
        content_crc: row.get(5)?,
        row_crc: row.get(6)?,
        ids: row.get(7)?,
        content: row.get(8)?,
    })
}

/// Whether the last write failed for want of room only.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    meaning(error) == Meaning::NoRoom
}

/// The ids of a row that was read, checked.
pub(crate) fn checked_ids(path: &Path, row: &Row) -> Result<Vec<RecordId>, OpenError> {
    if !row.is_whole() {
        return Err(corrupt(path, Some(row.first), "wrong checksum"));
    }
    row.ids().map_err(|reason| corrupt(path, Some(row.first), reason))
}

const SCHEMA: &str = "
    CREATE TABLE segment (
        seq INTEGER NOT NULL, block INTEGER NOT NULL, change INTEGER NOT NULL, crc INTEGER NOT NULL,
        chain BLOB NOT NULL
    ) STRICT;
    CREATE TABLE blocks (
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, number INTEGER NOT NULL,
        written_ms INTEGER NOT NULL, raw_octets INTEGER NOT NULL, content_crc INTEGER NOT NULL,
        row_crc INTEGER NOT NULL, ids BLOB NOT NULL, content BLOB NOT NULL, chain BLOB NOT NULL
    ) STRICT;
    CREATE TABLE changes (
        number INTEGER PRIMARY KEY, after INTEGER NOT NULL, crc INTEGER NOT NULL,
        content BLOB NOT NULL
    ) STRICT;";

const INSERT_BLOCK: &str = "INSERT INTO blocks
    (first, count, number, written_ms, raw_octets, content_crc, row_crc, ids, content, chain)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
/// Into a segment of format 1, until it can be ended.
const INSERT_BLOCK_1: &str = "INSERT INTO blocks
    (first, count, number, written_ms, raw_octets, content_crc, row_crc, ids, content)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const SELECT_CHAINED: &str =
    "SELECT first, count, number, written_ms, raw_octets, content_crc, row_crc, ids, content, chain
    FROM blocks ORDER BY first";
const SELECT_BLOCKS: &str =
    "SELECT first, count, number, written_ms, raw_octets, content_crc, row_crc, ids, content, x''
    FROM blocks ORDER BY first";
const INSERT_CHANGES: &str =
    "INSERT INTO changes (number, after, crc, content) VALUES (?1, ?2, ?3, ?4)";
const SELECT_BLOCK_AT: &str =
    "SELECT first, count, number, written_ms, raw_octets, content_crc, row_crc, ids, content
    FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
const SELECT_IDS_BEFORE: &str =
    "SELECT first, count, number, written_ms, raw_octets, content_crc, row_crc, ids
    FROM blocks WHERE first < ?1 ORDER BY first DESC LIMIT 1";
const SELECT_WRITTEN: &str = "SELECT written_ms, first, first + count - 1 FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
const SELECT_CHANGES: &str = "SELECT number, after, crc, content FROM changes ORDER BY number";

/// The largest number SQLite holds.
const MAX_SQL: u64 = i64::MAX as u64;

/// Marks our segments among SQLite files: "pbJS".
const APPLICATION_ID: i64 = 0x7062_4a53;

/// The format of a segment file. A reader of a later one refuses it.
const FORMAT: i64 = 2;

/// The first format with a chain.
const FORMAT_CHAINED: i64 = 2;

/// The oldest format that is read.
const FORMAT_OLDEST: i64 = 1;

/// The write-ahead log is moved into the file when it has about this many octets.
const WAL_OCTETS_MAX: u64 = 4 * 1024 * 1024;

/// Pages a writing connection keeps in memory, in KiB.
const CACHE_KIB: i64 = 4096;
