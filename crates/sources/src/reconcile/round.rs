//! Looks that are settled together.

use std::time::{Duration, Instant};

use mail_event::Timestamp;

use super::{Looked, Reconcile};
use crate::ask::{Asker, NamingScope};
use crate::spool::{Ident, Said, Spool};

/// What the server said of some mailboxes, until all that was written before is told.
#[derive(Debug, Default)]
pub(in super::super) struct Round {
    looked: Vec<Looked>,
    /// When, once all were taken.
    settle_at: Option<Instant>,
    /// What is to be told before: where files ended.
    marks: Option<Vec<(Ident, u64)>>,
}

/// What follows a question.
pub(in super::super) enum Next {
    /// Nothing is under way.
    Rest,
    /// There is more to do, at this moment.
    At(Instant),
    /// All was asked: what was written by now is to be told, and the looks are to be settled.
    Settle,
}

impl Round {
    /// Whether there is room for another look.
    pub(in super::super) fn is_open(&self) -> bool {
        let size: usize = self.looked.iter().map(Looked::size).sum();
        self.settle_at.is_none() && size < ROUND_MAX
    }

    /// Asks about the next mailbox, where one waits and there is room. `grace` is how long what
    /// happens may take from the server's answer to its line in the spool.
    pub(in super::super) fn ask(
        &mut self,
        reconcile: &mut Reconcile,
        asker: &mut Asker,
        scope: &dyn NamingScope,
        (now, grace): (Timestamp, Duration),
    ) -> Next {
        let begun = Instant::now();
        if self.is_open() {
            if self.looked.is_empty() {
                reconcile.begin(now);
            }
            let looked = reconcile.look(asker, scope);
            let has_more = reconcile.progress().0 > 0 && !asker.is_resting();
            self.looked.extend(looked);
            if has_more {
                return Next::At(begun);
            }
        }
        if self.looked.is_empty() {
            return Next::Rest;
        }
        let settle_at = *self.settle_at.get_or_insert(begun + grace);
        if settle_at > begun { Next::At(settle_at) } else { Next::Settle }
    }

    /// Whether it is noted already what is to be told before.
    pub(in super::super) fn is_marked(&self) -> bool {
        self.marks.is_some()
    }

    /// The looks, once all that stood in the spool when this was first called is told.
    pub(in super::super) fn take<T: Said>(&mut self, spool: &Spool<T>) -> Option<Vec<Looked>> {
        let marks = self.marks.get_or_insert_with(|| spool.ends());
        let is_told = marks.iter().all(|mark| spool.has_passed(*mark));
        is_told.then(|| std::mem::take(self).looked)
    }
}

/// Looks of one round, and mailboxes and messages that the server named in them.
const ROUND_MAX: usize = 1_000;
