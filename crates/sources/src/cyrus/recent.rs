//! What came last, so that it is known when it comes again.

use std::collections::{HashSet, VecDeque};

/// What makes a record this one and no other.
pub(super) type RecordIdentity = [u8; 32];

/// The records that came last, by their identities.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<RecordIdentity>,
    known: HashSet<RecordIdentity>,
}

impl Recent {
    /// Notes a record; says whether it is new.
    pub(super) fn add(&mut self, identity: RecordIdentity) -> bool {
        if !self.known.insert(identity) {
            return false;
        }
        self.order.push_back(identity);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// Records remembered: more than one group has.
const RECENT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_known_unless_it_was_long_ago() {
        let mut recent = Recent::default();
        let identity = |number: usize| {
            let mut identity = [0; 32];
            identity[..8].copy_from_slice(&number.to_be_bytes());
            identity
        };
        assert!((0..=RECENT_MAX).all(|number| recent.add(identity(number))));
        assert!((1..=RECENT_MAX).all(|number| !recent.add(identity(number))));
        assert!(recent.add(identity(0)));
        assert_eq!(recent.known.len(), RECENT_MAX);
    }
}
