//! Which deliveries went together, so that they do after a restart as well.

use rusqlite::params;

use super::{StateDb, StateError};

impl StateDb {
    /// Keeps which deliveries of a subscription go together, before anybody sees them so; and forgets
    /// those of which nothing is behind `done`.
    pub(crate) fn freeze(&self, id: &str, seqs: &[u64], done: u64) -> Result<(), StateError> {
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(()) };
        // Numbers always serialise.
        let text = serde_json::to_string(seqs).unwrap_or_default();
        let mut connection = self.lock();
        let mut all = || {
            let transaction = connection.transaction()?;
            transaction.execute(
                "DELETE FROM batch WHERE subscription = ?1 AND last_seq <= ?2",
                params![id, done.cast_signed()],
            )?;
            transaction.execute(
                "INSERT OR REPLACE INTO batch (subscription, first_seq, last_seq, seqs)
                 VALUES (?1, ?2, ?3, ?4)",
                params![id, first.cast_signed(), last.cast_signed(), text],
            )?;
            transaction.commit()
        };
        all().map_err(|source| self.fault(source))
    }

    /// The deliveries of a subscription that went together and are not all up to `done`, in order of
    /// the first of each.
    pub(crate) fn batches(&self, id: &str, done: u64) -> Result<Vec<Vec<u64>>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare(
                "SELECT seqs FROM batch WHERE subscription = ?1 AND last_seq > ?2
                 ORDER BY first_seq",
            )
            .map_err(|source| self.fault(source))?;
        let texts: Result<Vec<String>, _> = statement
            .query_map(params![id, done.cast_signed()], |row| row.get(0))
            .and_then(Iterator::collect);
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|error| StateError::Damaged {
                path: self.path.clone(),
                found: format!("a batch of {id}: {error}"),
            })
        };
        texts.map_err(|source| self.fault(source))?.into_iter().map(read).collect()
    }
}

/// The table, as of format 4.
pub(super) const SCHEMA: &str = "
BEGIN;
CREATE TABLE batch (
    subscription TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    seqs TEXT NOT NULL,
    PRIMARY KEY (subscription, first_seq)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 4;
COMMIT;
";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::Row;
    use super::*;

    #[test]
    fn batches_are_kept_until_nothing_of_them_is_left_or_their_subscription_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let db = StateDb::open(&path).unwrap();
        let row = Row { id: "a".into(), name: "phone".into(), body: "{}".into() };
        db.add(&row).unwrap();
        db.freeze("a", &[1, 3, 9], 0).unwrap();
        db.freeze("a", &[2, 4], 0).unwrap();
        db.freeze("b", &[2], 0).unwrap();
        drop(db);
        let db = StateDb::open(&path).unwrap();
        assert_eq!(db.batches("a", 3).unwrap(), [vec![1, 3, 9], vec![2, 4]]);
        assert_eq!(db.batches("a", 4).unwrap(), [vec![1, 3, 9]]);
        db.freeze("a", &[10], 4).unwrap();
        assert_eq!(db.batches("a", 0).unwrap(), [vec![1, 3, 9], vec![10]]);
        assert!(db.remove("a").unwrap());
        assert_eq!(db.batches("a", 0).unwrap(), Vec::<Vec<u64>>::new());
        assert_eq!(db.batches("b", 0).unwrap(), [vec![2]]);
    }

    #[test]
    fn a_file_from_before_there_were_batches_takes_some() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let old = Connection::open(&path).unwrap();
        for step in [super::super::SCHEMA, super::super::TOKENS, super::super::REDRIVE] {
            old.execute_batch(step).unwrap();
        }
        old.execute_batch("INSERT INTO subscription VALUES ('a', 'phone', '{}')").unwrap();
        drop(old);
        for _ in 0..2 {
            let db = StateDb::open(&path).unwrap();
            assert_eq!(db.subscriptions().unwrap().len(), 1);
            db.freeze("a", &[1, 2], 0).unwrap();
        }
    }
}
