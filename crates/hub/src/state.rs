//! What the hub remembers beside the journal: subscriptions, dead letters, tokens and denials, in
//! `hub.db`.

mod batches;
mod denials;
mod shared;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, ErrorCode, ffi, params};
use tokio::task::spawn_blocking;

use self::batches::Generations;
pub(crate) use self::batches::{Freeze, Frozen, Generation};
pub(crate) use self::denials::DenialRow;
use crate::lock::locked;

/// The second SQLite file. One connection: but for batches, which are gathered, it is written a few
/// times a minute at most.
pub(crate) struct StateDb {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Taken only by whoever has the connection.
    generations: Mutex<Generations>,
}

/// A subscription as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    /// Its id.
    pub(crate) id: String,
    /// Its name, unique.
    pub(crate) name: String,
    /// All of it as JSON, secret included; hence the file's mode.
    pub(crate) body: String,
}

/// A delivery that was given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DeadLetter {
    /// The record's number.
    pub(crate) seq: u64,
    /// The event's id.
    pub(crate) event_id: String,
    /// When it was given up, in milliseconds since 1970.
    pub(crate) at_unix_millis: i64,
    /// After how many attempts.
    pub(crate) attempts: u32,
    /// How the last attempt ended.
    pub(crate) reason: String,
    /// The number of the delivery before it, where there was one and it is known.
    pub(crate) prev_seq: Option<u64>,
    /// How often it was asked for that it be delivered again since it was given up last; 0 where it
    /// is not to be.
    pub(crate) redrive: u32,
}

/// A token as it is kept: whoever reads the file can't use it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TokenRow {
    /// Its id.
    pub(crate) id: String,
    /// Its name, unique.
    pub(crate) name: String,
    /// The SHA-256 of its text.
    pub(crate) hash: [u8; 32],
    /// What it opens, as JSON.
    pub(crate) body: String,
    /// In which hour since 1970 it was used last; 0 where it never was.
    pub(crate) used_unix_hours: i64,
}

impl StateDb {
    /// Opens `path`, making it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let fault = |source| StateError::of(path, source);
        private_file(path).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
        let connection = Connection::open(path).map_err(fault)?;
        connection.execute_batch(PRAGMAS).map_err(fault)?;
        let format: u32 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)?;
        // Each step leads from the format of its place to the next one.
        let steps = [
            SCHEMA,
            TOKENS,
            REDRIVE,
            batches::SCHEMA,
            shared::SCHEMA,
            denials::SCHEMA,
            shared::LOST,
        ];
        if format > FORMAT {
            return Err(StateError::Format { path: path.to_owned(), found: format });
        }
        let known = usize::try_from(format).unwrap_or(usize::MAX);
        for step in steps.into_iter().skip(known) {
            connection.execute_batch(step).map_err(fault)?;
        }
        let (connection, generations) = (Mutex::new(connection), Mutex::default());
        Ok(Self { path: path.to_owned(), connection, generations })
    }

    /// Looks through the whole file.
    pub(crate) fn check(&self) -> Result<(), StateError> {
        let found: String = self
            .lock()
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|source| self.fault(source))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(StateError::Damaged { path: self.path.clone(), found: in_one_line(&found) }),
        }
    }

    /// Every subscription, oldest first.
    pub(crate) fn subscriptions(&self) -> Result<Vec<Row>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT id, name, body FROM subscription ORDER BY rowid")
            .map_err(|source| self.fault(source))?;
        statement
            .query_map([], |row| Ok(Row { id: row.get(0)?, name: row.get(1)?, body: row.get(2)? }))
            .and_then(Iterator::collect)
            .map_err(|source| self.fault(source))
    }

    /// Adds a subscription; `false` where its name is taken.
    pub(crate) fn add(&self, row: &Row) -> Result<bool, StateError> {
        self.lock()
            .execute(
                "INSERT INTO subscription (id, name, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![row.id, row.name, row.body],
            )
            .map(|changed| changed == 1)
            .map_err(|source| self.fault(source))
    }

    /// Replaces what is kept of a subscription.
    pub(crate) fn update(&self, id: &str, body: &str) -> Result<(), StateError> {
        self.lock()
            .execute("UPDATE subscription SET body = ?2 WHERE id = ?1", params![id, body])
            .map(drop)
            .map_err(|source| self.fault(source))
    }

    /// Forgets a subscription, its dead letters and its batches, all or none; `false` where there was
    /// none. What a worker of it has still to freeze comes too late.
    pub(crate) fn remove(&self, id: &str) -> Result<bool, StateError> {
        let mut connection = self.lock();
        self.generations().end(id);
        let mut all = || {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM dead_letter WHERE subscription = ?1", [id])?;
            transaction.execute("DELETE FROM batch WHERE subscription = ?1", [id])?;
            let removed = transaction.execute("DELETE FROM subscription WHERE id = ?1", [id])?;
            transaction.commit()?;
            Ok(removed == 1)
        };
        all().map_err(|source| self.fault(source))
    }

    /// Keeps dead letters where a person will see them; beyond [`DEAD_LETTERS_MAX`] the oldest
    /// of the subscription go.
    pub(crate) fn bury(&self, id: &str, letters: &[DeadLetter]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let mut all = || {
            let transaction = connection.transaction()?;
            for letter in letters {
                transaction.execute(
                    "INSERT INTO dead_letter
                     (subscription, seq, event_id, at_unix_millis, attempts, reason, prev_seq)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                    params![
                        id,
                        letter.seq.cast_signed(),
                        letter.event_id,
                        letter.at_unix_millis,
                        letter.attempts,
                        letter.reason,
                        letter.prev_seq.map(u64::cast_signed)
                    ],
                )?;
            }
            transaction.execute(
                "DELETE FROM dead_letter WHERE subscription = ?1 AND seq NOT IN
                 (SELECT seq FROM dead_letter WHERE subscription = ?1 ORDER BY seq DESC LIMIT ?2)",
                params![id, DEAD_LETTERS_MAX],
            )?;
            transaction.commit()
        };
        all().map_err(|source| self.fault(source))
    }

    /// The dead letters of a subscription, newest first.
    pub(crate) fn dead_letters(&self, id: &str, limit: u32) -> Result<Vec<DeadLetter>, StateError> {
        self.letters(
            "SELECT seq, event_id, at_unix_millis, attempts, reason, prev_seq, redrive
             FROM dead_letter WHERE subscription = ?1 ORDER BY seq DESC LIMIT ?2",
            params![id, limit],
        )
    }

    /// Marks dead letters of a subscription to be delivered again, all where none is named;
    /// otherwise the first named that isn't there, and then none is marked.
    pub(crate) fn mark_for_redrive(
        &self,
        id: &str,
        seqs: Option<&[u64]>,
    ) -> Result<Option<u64>, StateError> {
        let mut connection = self.lock();
        let mut mark = || {
            let Some(seqs) = seqs else {
                connection.execute(
                    "UPDATE dead_letter SET redrive = redrive + 1 WHERE subscription = ?1",
                    [id],
                )?;
                return Ok(None);
            };
            let transaction = connection.transaction()?;
            for seq in seqs {
                let marked = transaction.execute(
                    "UPDATE dead_letter SET redrive = redrive + 1
                     WHERE subscription = ?1 AND seq = ?2",
                    params![id, seq.cast_signed()],
                )?;
                if marked == 0 {
                    return Ok(Some(*seq));
                }
            }
            transaction.commit()?;
            Ok(None)
        };
        mark().map_err(|source| self.fault(source))
    }

    /// Dead letters of a subscription that are to be delivered again, oldest first, behind `after`.
    pub(crate) fn letters_to_redrive(
        &self,
        id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StateError> {
        self.letters(
            "SELECT seq, event_id, at_unix_millis, attempts, reason, prev_seq, redrive
             FROM dead_letter WHERE subscription = ?1 AND redrive > 0 AND seq > ?2
             ORDER BY seq LIMIT ?3",
            params![id, after.cast_signed(), limit],
        )
    }

    /// Forgets dead letters that were delivered after all, and keeps how it ended with the others,
    /// which are dead letters as before; but for those that were asked for again meanwhile, which
    /// stay as they are.
    pub(crate) fn settle(
        &self,
        id: &str,
        delivered: &[u64],
        failed: &[DeadLetter],
    ) -> Result<(), StateError> {
        let mut connection = self.lock();
        let mut all = || {
            let transaction = connection.transaction()?;
            for seq in delivered {
                transaction.execute(
                    "DELETE FROM dead_letter WHERE subscription = ?1 AND seq = ?2",
                    params![id, seq.cast_signed()],
                )?;
            }
            for letter in failed {
                transaction.execute(
                    "UPDATE dead_letter
                     SET at_unix_millis = ?3, attempts = ?4, reason = ?5, redrive = 0
                     WHERE subscription = ?1 AND seq = ?2 AND redrive = ?6",
                    params![
                        id,
                        letter.seq.cast_signed(),
                        letter.at_unix_millis,
                        letter.attempts,
                        letter.reason,
                        letter.redrive
                    ],
                )?;
            }
            transaction.commit()
        };
        all().map_err(|source| self.fault(source))
    }

    fn letters(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<DeadLetter>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(query).map_err(|source| self.fault(source))?;
        let letters = statement.query_map(parameters, |row| {
            Ok(DeadLetter {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                event_id: row.get(1)?,
                at_unix_millis: row.get(2)?,
                attempts: row.get(3)?,
                reason: row.get(4)?,
                prev_seq: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
                redrive: row.get(6)?,
            })
        });
        letters.and_then(Iterator::collect).map_err(|source| self.fault(source))
    }

    /// How many dead letters a subscription has, and how many of them are to be delivered again.
    pub(crate) fn dead_letter_counts(&self, id: &str) -> Result<(u64, u64), StateError> {
        self.lock()
            .query_row(
                "SELECT count(*), coalesce(sum(redrive > 0), 0) FROM dead_letter
                 WHERE subscription = ?1",
                [id],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
            )
            .map(|(all, marked)| (all.cast_unsigned(), marked.cast_unsigned()))
            .map_err(|source| self.fault(source))
    }

    /// Every token, oldest first.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenRow>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT id, name, hash, body, used_unix_hours FROM token ORDER BY rowid")
            .map_err(|source| self.fault(source))?;
        let rows = statement.query_map([], |row| {
            Ok(TokenRow {
                id: row.get(0)?,
                name: row.get(1)?,
                hash: row.get(2)?,
                body: row.get(3)?,
                used_unix_hours: row.get(4)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(|source| self.fault(source))
    }

    /// Adds a token; `false` where its name is taken.
    pub(crate) fn add_token(&self, row: &TokenRow) -> Result<bool, StateError> {
        self.lock()
            .execute(
                "INSERT INTO token (id, name, hash, body, used_unix_hours)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                params![row.id, row.name, row.hash, row.body, row.used_unix_hours],
            )
            .map(|changed| changed == 1)
            .map_err(|source| self.fault(source))
    }

    /// Forgets a token; `false` where there was none.
    pub(crate) fn remove_token(&self, id: &str) -> Result<bool, StateError> {
        self.lock()
            .execute("DELETE FROM token WHERE id = ?1", [id])
            .map(|changed| changed == 1)
            .map_err(|source| self.fault(source))
    }

    /// Notes in which hour since 1970 a token was used.
    pub(crate) fn token_used(&self, id: &str, unix_hours: i64) -> Result<(), StateError> {
        self.lock()
            .execute("UPDATE token SET used_unix_hours = ?2 WHERE id = ?1", params![id, unix_hours])
            .map(drop)
            .map_err(|source| self.fault(source))
    }

    /// Does something with it where waiting for the disk holds nobody up; within the runtime.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let db = Arc::clone(self);
        let done = spawn_blocking(move || act(&db)).await;
        done.map_err(|source| StateError::Interrupted { source: Box::new(source) })?
    }

    /// Has whoever wants anything of it wait, as for a slow disk.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> MutexGuard<'_, Connection> {
        self.lock()
    }

    /// A panic elsewhere leaves SQLite's own transaction rolled back, so the connection is good.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        locked(&self.connection)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        locked(&self.generations)
    }

    fn fault(&self, source: rusqlite::Error) -> StateError {
        StateError::of(&self.path, source)
    }
}

impl fmt::Debug for StateDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateDb").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes the file readable by its owner only, before SQLite writes secrets into it; the files
/// SQLite puts beside it inherit the mode.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match open {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Dead letters kept per subscription: a person looks at the first hundred, a program at a day's.
pub(crate) const DEAD_LETTERS_MAX: u32 = 10_000;

/// The format this version reads and writes.
const FORMAT: u32 = 7;

const PRAGMAS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 5000;
";

const SCHEMA: &str = "
BEGIN;
CREATE TABLE subscription (
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE dead_letter (
    subscription TEXT NOT NULL,
    seq INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    at_unix_millis INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
";

const TOKENS: &str = "
BEGIN;
CREATE TABLE token (
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL,
    used_unix_hours INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 2;
COMMIT;
";

const REDRIVE: &str = "
BEGIN;
ALTER TABLE dead_letter ADD COLUMN prev_seq INTEGER;
ALTER TABLE dead_letter ADD COLUMN redrive INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 3;
COMMIT;
";

/// Why the hub's memory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file can't be made.
    #[error("{path}: can't be made", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("{path}: no room left on the disk", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// This user may not, or nobody may.
    #[error("{path}: may not be written by this user", path = path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// SQLite can't do it, for a reason that is none of those.
    #[error("{path}: can't be used", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file is not what was written.
    #[error("{path}: damaged: {found}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        found: String,
    },
    /// A panic or the end of the hub came between.
    #[error("the hub's memory was not reached")]
    Interrupted {
        /// What came between.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The journal can't be asked where to begin.
    #[error("the journal can't be read")]
    Journal {
        /// What the journal says.
        source: postbell_journal::ReadError,
    },
    /// The kernel gives no random numbers.
    #[error("no random numbers are to be had")]
    Random {
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no threads to deliver on.
    #[error("no threads for deliveries")]
    Threads {
        /// Why not.
        source: std::io::Error,
    },
    /// Another version of postbell wrote it.
    #[error("{path}: format {found} is not one this version reads (it reads {FORMAT})", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: u32,
    },
}

impl StateError {
    /// What SQLite's error on `path` means to whoever has to do something about it.
    fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let failure = source.sqlite_error().map(|failure| (failure.code, failure.extended_code));
        match failure {
            // The second is the file that SQLite shares among those who have the first one open.
            Some((ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE)) => Self::Full { path },
            Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => {
                Self::Damaged { path, found: in_one_line(&source.to_string()) }
            }
            Some((ErrorCode::PermissionDenied | ErrorCode::ReadOnly, _)) => {
                Self::Denied { path, source }
            }
            Some((ErrorCode::CannotOpen, _)) if !is_writable(&path) => {
                Self::Denied { path, source }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}

/// Whether this user may write the file, and beside it.
fn is_writable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let folder = path.parent().unwrap_or(path);
    access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
        && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// What SQLite found, which it tells in lines below a heading.
fn in_one_line(found: &str) -> String {
    let lines = found.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("***")).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str) -> Row {
        Row { id: id.to_owned(), name: name.to_owned(), body: "{}".to_owned() }
    }

    fn letter(seq: u64) -> DeadLetter {
        DeadLetter {
            seq,
            event_id: "01".to_owned(),
            at_unix_millis: 5,
            attempts: 9,
            reason: "500".to_owned(),
            prev_seq: (seq > 1).then(|| seq - 1),
            redrive: 0,
        }
    }

    #[test]
    fn subscriptions_survive_reopening_in_the_order_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let db = StateDb::open(&path).unwrap();
        assert!(db.add(&row("b", "second letter")).unwrap());
        assert!(db.add(&row("a", "first letter")).unwrap());
        db.update("a", "{\"x\":1}").unwrap();
        drop(db);
        let rows = StateDb::open(&path).unwrap().subscriptions().unwrap();
        let ids: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.body.as_str())).collect();
        assert_eq!(ids, [("b", "{}"), ("a", "{\"x\":1}")]);
    }

    #[test]
    fn a_full_disk_is_told_from_a_damaged_file() {
        let Some(disk) = postbell_testkit::Tmpfs::mount(1 << 20).unwrap() else { return };
        let path = disk.path().join("hub.db");
        drop(StateDb::open(&path).unwrap());
        disk.fill().unwrap();
        let error = StateDb::open(&path).map(drop).unwrap_err();
        assert!(matches!(error, StateError::Full { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{}: no room left on the disk", path.display()));
    }

    #[test]
    fn only_what_is_damaged_is_said_to_be() {
        let of = |code| {
            let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            StateError::of(Path::new("/data/hub.db"), failure)
        };
        assert!(matches!(of(ffi::SQLITE_FULL), StateError::Full { .. }));
        assert!(matches!(of(ffi::SQLITE_CORRUPT), StateError::Damaged { .. }));
        assert!(matches!(of(ffi::SQLITE_NOTADB), StateError::Damaged { .. }));
        assert!(matches!(of(ffi::SQLITE_READONLY), StateError::Denied { .. }));
        assert!(matches!(of(ffi::SQLITE_PERM), StateError::Denied { .. }));
        assert!(matches!(of(ffi::SQLITE_IOERR), StateError::Sqlite { .. }));
        let found = "*** in database main ***\nTree 3 page 3: bad\n\nTree 4: bad";
        assert_eq!(in_one_line(found), "Tree 3 page 3: bad; Tree 4: bad");
    }

    #[test]
    fn a_name_is_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        assert!(db.add(&row("a", "phone")).unwrap());
        assert!(!db.add(&row("b", "phone")).unwrap());
    }

    #[test]
    fn a_removed_subscription_takes_its_dead_letters_along() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        db.add(&row("a", "phone")).unwrap();
        db.bury("a", &[letter(7), letter(8), letter(7)]).unwrap();
        assert_eq!(db.dead_letter_counts("a").unwrap(), (2, 0));
        assert_eq!(db.dead_letters("a", 1).unwrap(), [letter(8)]);
        assert!(db.remove("a").unwrap());
        assert!(!db.remove("a").unwrap());
        assert_eq!(db.dead_letter_counts("a").unwrap(), (0, 0));
    }

    #[test]
    fn a_subscription_that_can_t_be_removed_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let db = StateDb::open(&path).unwrap();
        db.add(&row("a", "phone")).unwrap();
        db.bury("a", &[letter(7)]).unwrap();
        let refusing = "CREATE TRIGGER kept BEFORE DELETE ON subscription
                        BEGIN SELECT raise(ABORT, 'no'); END";
        Connection::open(&path).unwrap().execute_batch(refusing).unwrap();
        assert!(db.remove("a").is_err());
        assert_eq!(db.subscriptions().unwrap().len(), 1);
        assert_eq!(db.dead_letters("a", 9).unwrap(), [letter(7)]);
    }

    #[test]
    fn letters_marked_are_told_oldest_first_and_settled_one_way_or_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        db.add(&row("a", "phone")).unwrap();
        db.bury("a", &[1, 2, 3, 4].map(letter)).unwrap();
        assert_eq!(db.mark_for_redrive("a", Some(&[4, 5, 1])).unwrap(), Some(5));
        assert_eq!(db.dead_letter_counts("a").unwrap(), (4, 0), "all or none");
        assert_eq!(db.mark_for_redrive("a", Some(&[4, 2])).unwrap(), None);
        let marked = |seq| DeadLetter { redrive: 1, ..letter(seq) };
        assert_eq!(db.letters_to_redrive("a", 0, 9).unwrap(), [marked(2), marked(4)]);
        assert_eq!(db.letters_to_redrive("a", 2, 9).unwrap(), [marked(4)]);
        let worse = DeadLetter { attempts: 19, reason: "501".to_owned(), ..marked(4) };
        db.settle("a", &[2], std::slice::from_ref(&worse)).unwrap();
        let worse = DeadLetter { redrive: 0, ..worse };
        assert_eq!(db.dead_letters("a", 9).unwrap(), [worse, letter(3), letter(1)]);
        assert_eq!(db.mark_for_redrive("a", None).unwrap(), None);
        assert_eq!(db.dead_letter_counts("a").unwrap(), (3, 3));
    }

    #[test]
    fn a_letter_asked_for_again_while_it_is_settled_stays_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        db.add(&row("a", "phone")).unwrap();
        db.bury("a", &[letter(1)]).unwrap();
        assert_eq!(db.mark_for_redrive("a", None).unwrap(), None);
        let given_up = db.letters_to_redrive("a", 0, 9).unwrap();
        assert_eq!(db.mark_for_redrive("a", Some(&[1])).unwrap(), None);
        db.settle("a", &[], &given_up).unwrap();
        assert_eq!(db.dead_letter_counts("a").unwrap(), (1, 1));
        db.settle("a", &[], &db.letters_to_redrive("a", 0, 9).unwrap()).unwrap();
        assert_eq!(db.dead_letter_counts("a").unwrap(), (1, 0));
    }

    #[test]
    fn a_file_from_before_letters_were_delivered_again_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        old.execute_batch(TOKENS).unwrap();
        old.execute_batch("INSERT INTO dead_letter VALUES ('a', 7, '01', 5, 9, '500')").unwrap();
        drop(old);
        for _ in 0..2 {
            let db = StateDb::open(&path).unwrap();
            let kept = DeadLetter { prev_seq: None, ..letter(7) };
            assert_eq!(db.dead_letters("a", 9).unwrap(), [kept]);
        }
    }

    #[test]
    fn a_file_from_before_there_were_tokens_takes_some() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let row = TokenRow {
            id: "tok_a".to_owned(),
            name: "phone".to_owned(),
            hash: [7; 32],
            body: "{}".to_owned(),
            used_unix_hours: 0,
        };
        let db = StateDb::open(&path).unwrap();
        assert!(db.add_token(&row).unwrap());
        assert!(!db.add_token(&TokenRow { id: "tok_b".to_owned(), ..row.clone() }).unwrap());
        db.token_used("tok_a", 9).unwrap();
        drop(db);
        let db = StateDb::open(&path).unwrap();
        assert_eq!(db.tokens().unwrap(), [TokenRow { used_unix_hours: 9, ..row }]);
        assert!(db.remove_token("tok_a").unwrap() && !db.remove_token("tok_a").unwrap());
    }

    #[test]
    fn a_format_of_the_future_is_refused_naming_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        let error = StateDb::open(&path).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        db.add(&row("a", "phone")).unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.path());
        }
    }
}
