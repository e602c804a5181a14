//! What the store said last, over a restart of the hub's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postbell_engine::Shared;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::state::StateDb;

/// What the store said last of each user, however long ago.
///
/// Nothing is told by it. By it a reader that begins knows what to hold for a user until the store
/// has said whether they may still have it, also where it can't be asked for a while.
#[derive(Debug)]
pub(super) struct Remembered {
    state: Arc<StateDb>,
    by_user: Mutex<HashMap<Box<str>, Arc<Shared>>>,
}

impl Remembered {
    /// What `state` has.
    pub(super) fn new(state: Arc<StateDb>) -> Self {
        let by_user = state.shared().unwrap_or_else(|error| {
            warn!(%error, "what the store said that users share can't be read: it is asked anew");
            HashMap::new()
        });
        let by_user = by_user.into_iter().map(|(user, shared)| (user, Arc::new(shared)));
        Self { state, by_user: Mutex::new(by_user.collect()) }
    }

    /// What it said of this user.
    pub(super) fn of(&self, user: &str) -> Option<Arc<Shared>> {
        self.by_user().get(user).map(Arc::clone)
    }

    /// Keeps what it says now, where that is news; within the runtime.
    pub(super) fn keep(&self, user: &str, shared: &Arc<Shared>) {
        if self.by_user().get(user).is_some_and(|before| before == shared) {
            return;
        }
        self.by_user().insert(user.into(), Arc::clone(shared));
        let (state, user, shared) = (Arc::clone(&self.state), user.to_owned(), Arc::clone(shared));
        // Nobody waits for the disk.
        drop(spawn_blocking(move || {
            if let Err(error) = state.keep_shared(&user, &shared) {
                warn!(%error, "what the store says that a user may read can't be kept");
            }
        }));
    }

    /// What is guarded is whole between any two steps.
    fn by_user(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Shared>>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
