//! What the store said last that users may read of others.

use std::collections::HashMap;

use postbell_engine::Shared;
use rusqlite::params;

use super::{StateDb, StateError};

impl StateDb {
    /// What was kept, by user. What can't be read is passed over: the store is asked anew.
    pub(crate) fn shared(&self) -> Result<HashMap<Box<str>, Shared>, StateError> {
        let connection = self.lock();
        let all = || {
            let mut statement = connection.prepare("SELECT user, mailboxes FROM shared")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(String, String)>, _>>()
        };
        let rows = all().map_err(|source| self.fault(source))?;
        let read = |(user, text): (String, String)| {
            Some((user.into_boxed_str(), serde_json::from_str(&text).ok()?))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Keeps what the store says of a user.
    pub(crate) fn keep_shared(&self, user: &str, shared: &Shared) -> Result<(), StateError> {
        // Names always serialise.
        let text = serde_json::to_string(shared).unwrap_or_default();
        self.lock()
            .execute(
                "INSERT OR REPLACE INTO shared (user, mailboxes) VALUES (?1, ?2)",
                params![user, text],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_said_is_kept_by_user_until_it_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let mut shared = Shared::default();
        shared.add("ann", "Plans & Co", "lr");
        shared.add(None, "team", "lr");
        for said in [Shared::default(), shared] {
            StateDb::open(&path).unwrap().keep_shared("bob", &said).unwrap();
            let db = StateDb::open(&path).unwrap();
            let all = db.shared().unwrap();
            assert_eq!((all.len(), all.get("bob")), (1, Some(&said)));
        }
        let db = StateDb::open(&path).unwrap();
        db.forget_shared().unwrap();
        assert!(db.shared().unwrap().is_empty());
    }
}
