//! What the store said last that users may read of others, and what it doesn't say any more.

use std::collections::HashMap;

use postbell_engine::Shared;
use rusqlite::params;

use super::{StateDb, StateError};
use crate::sharing::Lost;

impl StateDb {
    /// What was kept, by user. What can't be read is passed over: the store is asked anew.
    pub(crate) fn shared(&self) -> Result<HashMap<Box<str>, (Shared, Lost)>, StateError> {
        let connection = self.lock();
        let all = || {
            let mut statement = connection.prepare("SELECT user, mailboxes, lost FROM shared")?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<Result<Vec<(String, String, String)>, _>>()
        };
        let rows = all().map_err(|source| self.fault(source))?;
        let read = |(user, shared, lost): (String, String, String)| {
            let shared = serde_json::from_str(&shared).ok()?;
            Some((user.into_boxed_str(), (shared, serde_json::from_str(&lost).ok()?)))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Keeps what the store says of a user.
    pub(crate) fn keep_shared(
        &self,
        user: &str,
        shared: &Shared,
        lost: &Lost,
    ) -> Result<(), StateError> {
        // Names and numbers always serialise.
        let shared = serde_json::to_string(shared).unwrap_or_default();
        let lost = serde_json::to_string(lost).unwrap_or_default();
        self.lock()
            .execute(
                "INSERT OR REPLACE INTO shared (user, mailboxes, lost) VALUES (?1, ?2, ?3)",
                params![user, shared, lost],
            )
            .map(drop)
            .map_err(|source| self.fault(source))
    }

    /// Forgets all of that.
    pub(crate) fn forget_shared(&self) -> Result<(), StateError> {
        self.lock().execute("DELETE FROM shared", []).map(drop).map_err(|source| self.fault(source))
    }
}

/// The table, as of format 5.
pub(super) const SCHEMA: &str = "
BEGIN;
CREATE TABLE shared (
    user TEXT PRIMARY KEY,
    mailboxes TEXT NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 5;
COMMIT;
";

/// What was lost, as of format 7.
pub(super) const LOST: &str = "
BEGIN;
ALTER TABLE shared ADD COLUMN lost TEXT NOT NULL DEFAULT '[]';
PRAGMA user_version = 7;
COMMIT;
";

#[cfg(test)]
mod tests {
    use postbell_journal::{Bounds, Seq};
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn what_the_store_said_is_kept_by_user_until_it_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let mut shared = Shared::default();
        shared.add("ann", "Plans & Co", "lr");
        shared.add(None, "team", "lr");
        let mut lost = Lost::default();
        lost.add(shared.clone(), 5, Bounds { first: Seq(1), last: Seq(9) });
        for said in [Shared::default(), shared] {
            StateDb::open(&path).unwrap().keep_shared("bob", &said, &lost).unwrap();
            let db = StateDb::open(&path).unwrap();
            let all = db.shared().unwrap();
            assert_eq!((all.len(), all.get("bob")), (1, Some(&(said, lost.clone()))));
        }
        let db = StateDb::open(&path).unwrap();
        db.forget_shared().unwrap();
        assert!(db.shared().unwrap().is_empty());
    }

    #[test]
    fn a_file_from_before_it_was_kept_what_is_lost_says_that_nothing_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        let text = serde_json::to_string(&Shared::default()).unwrap();
        let insert = "INSERT INTO shared (user, mailboxes) VALUES ('bob', ?1)";
        old.execute(insert, [text]).unwrap();
        old.execute_batch(crate::state::denials::SCHEMA).unwrap();
        drop(old);
        let all = StateDb::open(&path).unwrap().shared().unwrap();
        assert_eq!(all.get("bob"), Some(&Default::default()));
    }
}
