//! Publishers that are told what is wanted, and what each has confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Told;

/// What each has confirmed last.
#[derive(Clone, Debug, Default)]
pub(super) struct Publishers(watch::Sender<Confirmed>);

#[derive(Debug, Default)]
struct Confirmed {
    each: BTreeMap<u64, Confirmation>,
    joined: u64,
}

/// What one has confirmed last.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmation {
    /// The number of what it was told; 0 where it has confirmed nothing yet.
    number: u64,
    at: Option<Instant>,
}

/// How far publishers have been told.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Those that are told.
    pub(crate) connected: usize,
    /// Those that have confirmed what is wanted now.
    pub(crate) confirmed: usize,
    /// How long ago the last of all did; nothing where not all have, or there are none.
    pub(crate) age: Option<Duration>,
}

/// One of them, as long as it is connected.
#[derive(Debug)]
pub(crate) struct Publisher {
    all: Publishers,
    id: u64,
    told: watch::Receiver<Told>,
}

impl Publishers {
    /// One more, to be told what is wanted from now on.
    pub(super) fn join(&self, mut told: watch::Receiver<Told>) -> Publisher {
        // It begins with how things stand.
        told.mark_changed();
        let mut id = 0;
        self.0.send_modify(|confirmed| {
            confirmed.joined += 1;
            id = confirmed.joined;
            confirmed.each.insert(id, Confirmation::default());
        });
        Publisher { all: self.clone(), id, told }
    }

    /// How far they have been told of what has this number.
    pub(super) fn reached(&self, number: u64) -> Reached {
        let all = self.0.borrow();
        let confirmed = all.each.values().filter(|last| last.number >= number);
        let (connected, confirmed, last) =
            (all.each.len(), confirmed.clone().count(), confirmed.filter_map(|one| one.at).max());
        let age = last.filter(|_| confirmed == connected).map(|at| at.elapsed());
        Reached { connected, confirmed, age }
    }

    /// Waits until all have confirmed what has this number.
    pub(super) async fn confirmed(&self, number: u64) {
        let mut confirmed = self.0.subscribe();
        let all = |all: &Confirmed| all.each.values().all(|last| last.number >= number);
        // The sender lives as long as we do.
        drop(confirmed.wait_for(all).await);
    }
}

impl Publisher {
    /// What it has to be told next, as soon as there is anything.
    pub(crate) async fn next(&mut self) -> Told {
        if self.told.changed().await.is_err() {
            // The hub is going away, and nothing changes any more.
            std::future::pending::<()>().await;
        }
        *self.told.borrow_and_update()
    }

    /// Notes that it has taken in what has this number.
    pub(crate) fn confirm(&self, number: u64) {
        self.all.0.send_modify(|confirmed| {
            if let Some(last) = confirmed.each.get_mut(&self.id) {
                *last = Confirmation { number: last.number.max(number), at: Some(Instant::now()) };
            }
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.all.0.send_modify(|confirmed| {
            confirmed.each.remove(&self.id);
        });
    }
}
