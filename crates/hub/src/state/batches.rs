//! Which deliveries went together, so that they do after a restart as well.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::{StateDb, StateError};

/// Which worker of a subscription it is: the next one's is another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Generation(u64);

/// The generation of each subscription that delivers in batches, or has.
#[derive(Debug, Default)]
pub(super) struct Generations {
    latest: u64,
    of: HashMap<String, Generation>,
}

/// Deliveries that are to be kept as going together.
#[derive(Clone, Debug)]
pub(crate) struct Freeze {
    /// The id of their subscription.
    pub(crate) subscription: String,
    /// The worker that has put them together.
    pub(crate) generation: Generation,
    /// Their numbers, which grow.
    pub(crate) seqs: Arc<[u64]>,
    /// Whether some of them may be kept as going with others: they don't any more.
    pub(crate) are_moved: bool,
    /// What was kept of the subscription up to there is forgotten: nothing of it comes again.
    pub(crate) done: u64,
}

/// What became of a [`Freeze`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Frozen {
    /// The deliveries go together ever after.
    Kept,
    /// Nothing: another worker goes on in its place, or the subscription is no more.
    Late,
}

impl Generations {
    /// Has a worker begin, which ends all before it.
    fn begin(&mut self, id: &str) -> Generation {
        self.latest += 1;
        let own = Generation(self.latest);
        self.of.insert(id.to_owned(), own);
        own
    }

    /// Ends all of a subscription.
    pub(super) fn end(&mut self, id: &str) {
        self.of.remove(id);
    }
}

impl StateDb {
    /// Keeps which deliveries go together, before anybody sees them so, all or none; what became of
    /// each.
    pub(crate) fn freeze(&self, freezes: &[Freeze]) -> Result<Vec<Frozen>, StateError> {
        let mut connection = self.lock();
        let generations = self.generations();
        let mut all = || {
            let transaction = connection.transaction()?;
            let mut forget = transaction
                .prepare("DELETE FROM batch WHERE subscription = ?1 AND last_seq <= ?2")?;
            let mut frozen = Vec::with_capacity(freezes.len());
            for Freeze { subscription, generation, seqs, are_moved, done } in freezes {
                if generations.of.get(subscription) != Some(generation) {
                    frozen.push(Frozen::Late);
                    continue;
                }
                forget.execute(params![subscription, done.cast_signed()])?;
                if *are_moved {
                    take_out(&transaction, subscription, seqs)?;
                }
                keep(&transaction, subscription, seqs)?;
                frozen.push(Frozen::Kept);
            }
            drop(forget);
            transaction.commit()?;
            Ok(frozen)
        };
        all().map_err(|source| self.fault(source))
    }

    /// The deliveries of a subscription that went together and are not all up to `done`, in order of
    /// the first of each, for a worker that begins: whatever one before it has still to freeze comes
    /// too late.
    pub(crate) fn batches(
        &self,
        id: &str,
        done: u64,
    ) -> Result<(Generation, Vec<Vec<u64>>), StateError> {
        let connection = self.lock();
        let generation = self.generations().begin(id);
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
        let texts = texts.map_err(|source| self.fault(source))?;
        Ok((generation, texts.into_iter().map(read).collect::<Result<_, _>>()?))
    }
}

/// Takes deliveries out of what they are kept in, so that each is in one batch at most, the one it was
/// put into last. What is left of a batch was sent so, or goes together until it is put into another.
fn take_out(transaction: &Transaction<'_>, id: &str, seqs: &[u64]) -> rusqlite::Result<()> {
    let mut kept =
        transaction.prepare("SELECT first_seq, seqs FROM batch WHERE subscription = ?1")?;
    let rows = kept.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (first, text) in rows.collect::<Result<Vec<(i64, String)>, _>>()? {
        // What can't be read is told to the next worker.
        let Ok(mut left) = serde_json::from_str::<Vec<u64>>(&text) else { continue };
        let before = left.len();
        left.retain(|seq| seqs.binary_search(seq).is_err());
        if left.len() == before {
            continue;
        }
        transaction.execute(
            "DELETE FROM batch WHERE subscription = ?1 AND first_seq = ?2",
            params![id, first],
        )?;
        keep(transaction, id, &left)?;
    }
    Ok(())
}

/// Keeps deliveries as going together, unless there are none.
fn keep(transaction: &Transaction<'_>, id: &str, seqs: &[u64]) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(()) };
    // Numbers always serialise.
    let text = serde_json::to_string(seqs).unwrap_or_default();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO batch (subscription, first_seq, last_seq, seqs)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![id, first.cast_signed(), last.cast_signed(), text])
        .map(drop)
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

    /// One of the subscription `a`.
    fn freeze(generation: Generation, seqs: &[u64], done: u64) -> Freeze {
        let (subscription, are_moved) = ("a".to_owned(), false);
        Freeze { subscription, generation, seqs: seqs.into(), are_moved, done }
    }

    #[test]
    fn batches_are_kept_until_nothing_of_them_is_left_or_their_subscription_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let db = StateDb::open(&path).unwrap();
        let row = Row { id: "a".into(), name: "phone".into(), body: "{}".into() };
        db.add(&row).unwrap();
        let ((a, _), (b, _)) = (db.batches("a", 0).unwrap(), db.batches("b", 0).unwrap());
        let of_b = Freeze { subscription: "b".to_owned(), ..freeze(b, &[2], 0) };
        let frozen = db.freeze(&[freeze(a, &[1, 3, 9], 0), of_b, freeze(a, &[2, 4], 0)]).unwrap();
        assert_eq!(frozen, [Frozen::Kept; 3]);
        drop(db);
        let db = StateDb::open(&path).unwrap();
        assert_eq!(db.batches("a", 3).unwrap().1, [vec![1, 3, 9], vec![2, 4]]);
        let (a, batches) = db.batches("a", 4).unwrap();
        assert_eq!(batches, [vec![1, 3, 9]]);
        assert_eq!(db.freeze(&[freeze(a, &[10], 4)]).unwrap(), [Frozen::Kept]);
        assert_eq!(db.batches("a", 0).unwrap().1, [vec![1, 3, 9], vec![10]]);
        assert!(db.remove("a").unwrap());
        assert_eq!(db.batches("a", 0).unwrap().1, Vec::<Vec<u64>>::new());
        assert_eq!(db.batches("b", 0).unwrap().1, [vec![2]]);
    }

    #[test]
    fn what_a_worker_freezes_once_the_next_one_has_begun_comes_too_late() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        let (before, _) = db.batches("a", 0).unwrap();
        let (now, _) = db.batches("a", 0).unwrap();
        // A late one begins where one of the next worker's does, which was sent meanwhile.
        let frozen = db.freeze(&[freeze(now, &[1, 2, 3], 0), freeze(before, &[1, 2], 3)]).unwrap();
        assert_eq!(frozen, [Frozen::Kept, Frozen::Late]);
        let (now, batches) = db.batches("a", 0).unwrap();
        assert_eq!(batches, [vec![1, 2, 3]]);
        db.remove("a").unwrap();
        assert_eq!(db.freeze(&[freeze(now, &[4, 5], 0)]).unwrap(), [Frozen::Late]);
        assert_eq!(db.batches("a", 0).unwrap().1, Vec::<Vec<u64>>::new());
    }

    #[test]
    fn what_goes_with_others_now_is_taken_out_of_what_it_went_with() {
        let folder = tempfile::tempdir().unwrap();
        let db = StateDb::open(&folder.path().join("hub.db")).unwrap();
        let ((a, _), (b, _)) = (db.batches("a", 0).unwrap(), db.batches("b", 0).unwrap());
        let of_b = Freeze { subscription: "b".to_owned(), ..freeze(b, &[2, 9], 0) };
        db.freeze(&[of_b]).unwrap();
        for seqs in [&[1, 5, 90][..], &[2, 6], &[7, 8], &[3, 91]] {
            db.freeze(&[freeze(a, seqs, 0)]).unwrap();
        }
        let moved = |seqs: &[u64]| Freeze { are_moved: true, ..freeze(a, seqs, 0) };
        db.freeze(&[moved(&[1, 2, 3])]).unwrap();
        let (a, batches) = db.batches("a", 0).unwrap();
        assert_eq!(batches, [vec![1, 2, 3], vec![5, 90], vec![6], vec![7, 8], vec![91]]);
        let moved = |seqs: &[u64]| Freeze { are_moved: true, ..freeze(a, seqs, 0) };
        db.freeze(&[moved(&[5, 6]), moved(&[90, 91, 92])]).unwrap();
        let batches = db.batches("a", 0).unwrap().1;
        assert_eq!(batches, [vec![1, 2, 3], vec![5, 6], vec![7, 8], vec![90, 91, 92]]);
        assert_eq!(db.batches("b", 0).unwrap().1, [vec![2, 9]]);
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
            let (a, _) = db.batches("a", 0).unwrap();
            assert_eq!(db.freeze(&[freeze(a, &[1, 2], 0)]).unwrap(), [Frozen::Kept]);
        }
    }
}
