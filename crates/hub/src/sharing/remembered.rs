//! What the store said last, over a restart of the hub's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postbell_engine::Shared;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::Lost;
use crate::lock::locked;
use crate::state::{StateDb, StateError};

/// What the store said last of each user, however long ago; cheap to clone.
///
/// Nothing is told by it. By it a reader that begins knows what to hold for a user until the store
/// has said whether they may still have it, also where it can't be asked for a while.
#[derive(Clone, Debug)]
pub(crate) struct Remembered(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Arc<StateDb>,
    by_user: Mutex<HashMap<Box<str>, Entry>>,
    /// Held by whoever writes, so that what is newest is written last.
    writing: Mutex<()>,
}

/// What the store said of a user.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) shared: Arc<Shared>,
    /// What it said before, and doesn't any more.
    pub(super) lost: Arc<Lost>,
    /// Up to which record it may have been judged by it what is to be delivered.
    pub(super) used: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Entry {
    said: Said,
    is_kept: bool,
}

impl Remembered {
    /// What `state` has; within the runtime.
    pub(crate) async fn open(state: Arc<StateDb>) -> Self {
        let by_user = state.blocking(StateDb::shared).await.unwrap_or_else(|error| {
            warn!(%error, "what the store said that users share can't be read: it is asked anew");
            HashMap::new()
        });
        Self::new(state, by_user)
    }

    /// Has `state` have nothing, where nobody needs to know any more who shared what; within the
    /// runtime.
    pub(crate) async fn forget(state: &Arc<StateDb>) -> Result<(), StateError> {
        state.blocking(StateDb::forget_shared).await
    }

    /// What `state` has, where that was read.
    pub(crate) fn new(state: Arc<StateDb>, by_user: HashMap<Box<str>, (Shared, Lost)>) -> Self {
        let entry = |kept| Entry { said: Said::from(kept), is_kept: true };
        let by_user = by_user.into_iter().map(|(user, kept)| (user, entry(kept)));
        let by_user = Mutex::new(by_user.collect());
        Self(Arc::new(Inner { state, by_user, writing: Mutex::default() }))
    }

    /// What it said of this user.
    pub(super) fn of(&self, user: &str) -> Option<Said> {
        locked(&self.0.by_user).get(user).map(|entry| entry.said.clone())
    }

    /// Takes it that by what was said of a user it was judged up to this record what is to be delivered.
    pub(super) fn used_up_to(&self, record: impl Fn(&str) -> u64) {
        for (user, entry) in &*locked(&self.0.by_user) {
            entry.said.used.fetch_max(record(user), Ordering::Relaxed);
        }
    }

    /// Keeps what it says now, where that isn't kept; within the runtime. Nobody waits for the disk:
    /// what it doesn't take is tried with the next answer.
    pub(super) fn keep(&self, user: &str, said: Said) {
        let mut by_user = locked(&self.0.by_user);
        if by_user.get(user).is_some_and(|entry| entry.is_kept && entry.said.is(&said)) {
            return;
        }
        by_user.insert(user.into(), Entry { said, is_kept: false });
        drop(by_user);
        let (inner, user) = (Arc::clone(&self.0), user.to_owned());
        drop(spawn_blocking(move || inner.write(&user)));
    }
}

impl Inner {
    fn write(&self, user: &str) {
        let writing = locked(&self.writing);
        let newest = locked(&self.by_user).get(user).cloned();
        let Some(Entry { said, is_kept: false }) = newest else { return };
        if let Err(error) = self.state.keep_shared(user, &said.shared, &said.lost) {
            warn!(%error, "what the store says that a user may read can't be kept");
            return;
        }
        if let Some(entry) = locked(&self.by_user).get_mut(user) {
            entry.is_kept = entry.said.is(&said);
        }
        drop(writing);
    }
}

impl Said {
    /// Whether the store said the same.
    fn is(&self, other: &Self) -> bool {
        self.shared == other.shared && self.lost == other.lost
    }
}

impl From<(Shared, Lost)> for Said {
    fn from((shared, lost): (Shared, Lost)) -> Self {
        Self { shared: Arc::new(shared), lost: Arc::new(lost), used: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use rusqlite::Connection;

    use super::*;

    #[tokio::test]
    async fn what_the_disk_did_not_take_is_kept_with_the_next_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let state = Arc::new(StateDb::open(&path).unwrap());
        let mut shared = Shared::default();
        shared.add("ann", "Plans", "lr");
        let said = Said::from((shared, Lost::default()));
        let remembered = Remembered::open(Arc::clone(&state)).await;
        let change = |sql| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        change(
            "CREATE TRIGGER full BEFORE INSERT ON shared BEGIN SELECT raise(ABORT, 'full'); END",
        );
        remembered.keep("bob", said.clone());
        let written = || async { drop(spawn_blocking(|| ()).await) };
        for _ in 0..3 {
            written().await;
        }
        assert!(remembered.of("bob").is_some_and(|one| one.is(&said)));
        drop(locked(&remembered.0.writing));
        change("DROP TRIGGER full");
        while !state.shared().unwrap().contains_key("bob") {
            remembered.keep("bob", said.clone());
            written().await;
        }
        assert!(Remembered::open(state).await.of("bob").is_some_and(|one| one.is(&said)));
    }

    #[tokio::test]
    async fn nobody_waits_while_what_was_kept_is_read_or_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDb::open(&folder.path().join("hub.db")).unwrap());
        let read = async {
            Remembered::open(Arc::clone(&state)).await;
        };
        let forget = async { Remembered::forget(&state).await.unwrap() };
        for done in [read.boxed_local(), forget.boxed_local()] {
            let slow = Arc::clone(&state);
            let ((begun, has_begun), (go_on, held)) = (channel(), channel());
            // A minute at most, lest it hold up this thread for ever.
            let disk = std::thread::spawn(move || {
                let _held = slow.hold();
                begun.send(()).unwrap();
                held.recv_timeout(Duration::from_secs(60)).is_ok()
            });
            has_begun.recv().unwrap();
            let else_done = async { go_on.send(()).unwrap_or_default() };
            tokio::join!(biased; done, else_done);
            assert!(disk.join().unwrap(), "nothing else was done meanwhile");
        }
    }
}
