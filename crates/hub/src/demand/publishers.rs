//! Publishers that are told what is wanted, and what each has confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

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
#[derive(Clone, Copy, Debug)]
struct Confirmation {
    /// The number of what was wanted when it joined: it is told nothing older, and before it is told
    /// anything it makes everything.
    from: u64,
    /// The number of what it was told; 0 where it has confirmed nothing yet.
    number: u64,
    at: Option<Instant>,
    /// It was waited for in vain, and hasn't confirmed anything since.
    is_late: bool,
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
        let from = told.borrow().number;
        let mut id = 0;
        self.0.send_modify(|confirmed| {
            confirmed.joined += 1;
            id = confirmed.joined;
            let one = Confirmation { from, number: 0, at: None, is_late: false };
            confirmed.each.insert(id, one);
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

    /// Waits until all have confirmed what has this number, for so long at most. One that was waited
    /// for in vain before is not until it confirms something. Says whether all have.
    pub(super) async fn confirmed(&self, number: u64, patience: Duration) -> bool {
        let mut confirmed = self.0.subscribe();
        let is_over =
            |all: &Confirmed| all.each.values().all(|last| last.is_late || last.goes_by(number));
        if timeout(patience, confirmed.wait_for(is_over)).await.is_err() {
            self.give_up(number);
        }
        self.go_by(number)
    }

    /// Whether none may go by what was wanted before what has this number.
    pub(super) fn go_by(&self, number: u64) -> bool {
        self.0.borrow().each.values().all(|last| last.goes_by(number))
    }

    /// Has those that haven't confirmed what has this number waited for no more.
    pub(super) fn give_up(&self, number: u64) {
        self.0.send_modify(|confirmed| {
            let behind = confirmed.each.values_mut().filter(|last| !last.goes_by(number));
            behind.for_each(|last| last.is_late = true);
        });
    }
}

impl Confirmation {
    /// Whether it goes by what has this number, or by what was told later.
    fn goes_by(&self, number: u64) -> bool {
        self.from.max(self.number) >= number
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
                let number = last.number.max(number);
                let at = Some(Instant::now());
                *last = Confirmation { from: last.from, number, at, is_late: false };
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
