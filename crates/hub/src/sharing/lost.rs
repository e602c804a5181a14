//! What a user can't read any more, and by which records it may be missed.

use std::sync::Arc;

use postbell_engine::Shared;
use postbell_journal::Bounds;
use serde::{Deserialize, Serialize};

/// What a user could read once, in the order in which they ceased to.
///
/// A delivery that was accepted may name one that was to come out of it. So a worker that begins anew
/// holds such a record once more, as what only may turn out to be readable; where it doesn't, a gap
/// comes in its place.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Lost(Vec<Loss>);

/// Mailboxes lost at once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Loss {
    mailboxes: Shared,
    /// The last record that was judged while they could be read: nothing behind it was to come.
    upto: u64,
    /// Which loss it is: greater than those before it, and no less than the newest record then, so
    /// that it is greater than those that are forgotten, too.
    at: u64,
}

impl Lost {
    /// The last loss; 0 where there is none.
    pub(super) fn last(&self) -> u64 {
        self.0.last().map_or(0, |loss| loss.at)
    }

    /// Adds mailboxes that could be read while records up to `upto` were judged.
    pub(crate) fn add(&mut self, mailboxes: Shared, upto: u64, bounds: Bounds) {
        let at = bounds.last.0.max(self.last() + 1);
        for loss in &mut self.0 {
            // The later one goes further, and counts for whomever the one before counts for.
            loss.mailboxes = loss.mailboxes.without(&mailboxes);
        }
        self.0.push(Loss { mailboxes, upto, at });
        self.0.retain(|loss| !loss.mailboxes.is_empty() && loss.upto >= bounds.first.0);
        self.0.drain(..self.0.len().saturating_sub(LOSSES_MAX));
    }

    /// What counts beside `shared` for record `seq`, of the losses behind `since`; and up to which
    /// record it is the same.
    fn beside(&self, shared: &Arc<Shared>, seq: u64, since: u64) -> (Arc<Shared>, u64) {
        let count = self.0.iter().filter(|loss| loss.upto >= seq && loss.at > since);
        let Some(upto) = count.clone().map(|loss| loss.upto).min() else {
            return (Arc::clone(shared), u64::MAX);
        };
        let mut all = Shared::clone(shared);
        count.for_each(|loss| all.join(loss.mailboxes.clone()));
        (Arc::new(all), upto)
    }

    /// What whoever reads from `seq` on is to be led to, who may read `shared`.
    pub(super) fn led(&self, shared: &Arc<Shared>, seq: u64) -> Arc<Shared> {
        self.beside(shared, seq, 0).0
    }
}

/// What may turn out to be readable of others, record by record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    shared: Arc<Shared>,
    lost: Arc<Lost>,
    since: u64,
    /// What counts within some records, as it was found last.
    found: Option<(u64, u64, Arc<Shared>)>,
}

impl Candidates {
    /// These, and of what was lost whatever was lost behind `since`.
    pub(super) fn new(shared: Arc<Shared>, lost: Arc<Lost>, since: u64) -> Self {
        Self { shared, lost, since, found: None }
    }

    /// The same where these may be read now.
    pub(crate) fn settled(self, shared: Arc<Shared>) -> Self {
        Self { shared, found: None, ..self }
    }

    /// What may be read now.
    pub(crate) fn now(&self) -> &Shared {
        &self.shared
    }

    /// That, and what could be read when record `seq` may have been judged before.
    pub(crate) fn once(&mut self, seq: u64) -> &Shared {
        let found = self.found.take().filter(|(from, upto, _)| (*from..=*upto).contains(&seq));
        let found = found.unwrap_or_else(|| {
            let (all, upto) = self.lost.beside(&self.shared, seq, self.since);
            (seq, upto, all)
        });
        &self.found.insert(found).2
    }
}

/// Losses remembered of one user; of those before, what was to come doesn't.
const LOSSES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use postbell_journal::Seq;

    use super::*;

    fn of(mailboxes: &[&str]) -> Shared {
        let mut shared = Shared::default();
        mailboxes.iter().for_each(|mailbox| shared.add("ann", mailbox, "lr"));
        shared
    }

    fn bounds(first: u64, last: u64) -> Bounds {
        Bounds { first: Seq(first), last: Seq(last) }
    }

    #[test]
    fn what_was_lost_counts_up_to_what_was_judged_and_for_whoever_was_there_before() {
        let mut lost = Lost::default();
        lost.add(of(&["A", "B"]), 5, bounds(1, 9));
        lost.add(of(&["C"]), 7, bounds(1, 9));
        assert_eq!(lost.last(), 10, "greater than the one before");
        let told = |since| {
            let mut all = Candidates::new(Arc::new(of(&["D"])), Arc::new(lost.clone()), since);
            // In no order: what was found for one isn't taken for another.
            [6, 5, 8, 7, 1].map(|seq| all.once(seq).clone())
        };
        let all = of(&["A", "B", "C", "D"]);
        let (some, none) = (of(&["C", "D"]), of(&["D"]));
        let every = [some.clone(), all.clone(), none.clone(), some.clone(), all];
        assert_eq!(told(0), every);
        assert_eq!(told(9), [some.clone(), some.clone(), none.clone(), some.clone(), some]);
        assert_eq!(told(10), [(); 5].map(|()| none.clone()));
    }

    #[test]
    fn what_is_lost_twice_counts_as_it_was_lost_last_and_what_the_journal_has_no_more_not_at_all() {
        let mut lost = Lost::default();
        lost.add(of(&["A", "B"]), 5, bounds(1, 5));
        lost.add(of(&["A"]), 8, bounds(1, 8));
        assert_eq!((lost.0.len(), &lost.0[0].mailboxes), (2, &of(&["B"])));
        lost.add(of(&["A"]), 8, bounds(6, 20));
        assert_eq!(lost.0, [Loss { mailboxes: of(&["A"]), upto: 8, at: 20 }]);
        for number in 0..2 * LOSSES_MAX {
            lost.add(of(&[number.to_string().as_str()]), 9, bounds(6, 20));
        }
        assert_eq!(lost.0.len(), LOSSES_MAX);
    }
}
