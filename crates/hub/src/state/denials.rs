//! Whose JWTs are denied.

use rusqlite::params;

use super::{StateDb, StateError};

/// A denial as it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DenialRow {
    /// The issuer whose word the value is.
    pub(crate) issuer: String,
    /// The claim it stands in: `sub` or `jti`.
    pub(crate) claim: String,
    /// What stands there.
    pub(crate) value: String,
    /// Since when, in milliseconds since 1970.
    pub(crate) since_unix_millis: i64,
    /// Until when; for ever where absent.
    pub(crate) until_unix_millis: Option<i64>,
}

impl StateDb {
    /// Every denial, the longest-standing first.
    pub(crate) fn denials(&self) -> Result<Vec<DenialRow>, StateError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare(
                "SELECT issuer, claim, value, since_unix_millis, until_unix_millis FROM denial
                 ORDER BY since_unix_millis, issuer, claim, value",
            )
            .map_err(|source| self.fault(source))?;
        let rows = statement.query_map([], |row| {
            Ok(DenialRow {
                issuer: row.get(0)?,
                claim: row.get(1)?,
                value: row.get(2)?,
                since_unix_millis: row.get(3)?,
                until_unix_millis: row.get(4)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(|source| self.fault(source))
    }

    /// Keeps a denial, in the place of one of the same.
    pub(crate) fn deny(&self, row: &DenialRow) -> Result<(), StateError> {
        self.lock()
            .execute(
                "INSERT OR REPLACE INTO denial
                 (issuer, claim, value, since_unix_millis, until_unix_millis)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    row.issuer,
                    row.claim,
                    row.value,
                    row.since_unix_millis,
                    row.until_unix_millis
                ],
            )
            .map(drop)
            .map_err(|source| self.fault(source))
    }

    /// Forgets the denials of a claim's value, of whichever issuer.
    pub(crate) fn allow(&self, claim: &str, value: &str) -> Result<(), StateError> {
        self.lock()
            .execute("DELETE FROM denial WHERE claim = ?1 AND value = ?2", params![claim, value])
            .map(drop)
            .map_err(|source| self.fault(source))
    }

    /// Forgets the denials that are over at this time, in milliseconds since 1970.
    pub(crate) fn forget_denials(&self, now_unix_millis: i64) -> Result<(), StateError> {
        self.lock()
            .execute("DELETE FROM denial WHERE until_unix_millis <= ?1", [now_unix_millis])
            .map(drop)
            .map_err(|source| self.fault(source))
    }
}

/// The table, as of format 6.
pub(super) const SCHEMA: &str = "
BEGIN;
CREATE TABLE denial (
    issuer TEXT NOT NULL,
    claim TEXT NOT NULL,
    value TEXT NOT NULL,
    since_unix_millis INTEGER NOT NULL,
    until_unix_millis INTEGER,
    PRIMARY KEY (issuer, claim, value)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 6;
COMMIT;
";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(claim: &str, value: &str, since: i64, until: Option<i64>) -> DenialRow {
        DenialRow {
            issuer: "https://id.example.org".to_owned(),
            claim: claim.to_owned(),
            value: value.to_owned(),
            since_unix_millis: since,
            until_unix_millis: until,
        }
    }

    #[test]
    fn denials_survive_reopening_until_they_are_over_or_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let rows = [
            row("sub", "4711", 5, None),
            row("jti", "4711", 6, Some(100)),
            row("sub", "x'\"", 7, Some(99)),
        ];
        let db = StateDb::open(&path).unwrap();
        for row in [&rows[2], &rows[0], &rows[1]] {
            db.deny(row).unwrap();
        }
        drop(db);
        let db = StateDb::open(&path).unwrap();
        assert_eq!(db.denials().unwrap(), rows);
        db.forget_denials(99).unwrap();
        let longer = row("jti", "4711", 8, None);
        db.deny(&longer).unwrap();
        assert_eq!(db.denials().unwrap(), [rows[0].clone(), longer.clone()]);
        db.allow("sub", "4711").unwrap();
        assert_eq!(db.denials().unwrap(), [longer]);
    }
}
