//! How many of something each owner of tokens has, so that none takes everybody's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Grant;
use crate::lock::locked;

/// Streams being followed, or contents being sent, by whose they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<BTreeMap<String, usize>>>);

/// One's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<(Places, String)>);

impl Places {
    /// A place for one more; none where its owner has `max` already. Those of whoever runs the hub
    /// aren't counted.
    pub(crate) fn take(&self, grant: &Grant, max: usize) -> Option<Place> {
        match grant.counted_as() {
            Some(owner) => self.take_for(owner, max),
            None => Some(Place(None)),
        }
    }

    /// The same for whom the caller says.
    pub(crate) fn take_for(&self, owner: String, max: usize) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.get(&owner).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        counts.insert(owner.clone(), count + 1);
        Some(Place(Some((self.clone(), owner))))
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        locked(&self.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, owner)) = self.0.take() else { return };
        let mut counts = places.counts();
        match counts.get_mut(&owner) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(counts.remove(&owner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use postbell_engine::{Principal, Scope, Stores};

    use super::*;

    #[test]
    fn r157_one_owner_takes_no_more_places_than_theirs_with_however_many_tokens() {
        let own = || Stores::own("h").unwrap();
        let of = |id: &str, principal| Grant::new(Some(id.to_owned()), principal, None, 0);
        let user = |id: &str, name: &str| of(id, Principal::user(Scope::ALL, name, own()));
        let places = Places::default();
        let taken = [places.take(&user("1", "john"), 2), places.take(&user("2", "john"), 2)];
        assert!(taken.iter().all(Option::is_some));
        assert!(places.take(&user("3", "john"), 2).is_none());
        assert!(places.take(&user("3", "JOHN"), 2).is_none());
        assert!(places.take(&user("4", "jane"), 2).is_some());
        // A service has its token alone.
        let service = |id: &str| of(id, Principal::service(Scope::ALL, Vec::new(), Stores::any()));
        let first = places.take(&service("5"), 1);
        assert!(first.is_some() && places.take(&service("5"), 1).is_none());
        assert!(places.take(&service("6"), 1).is_some());
        assert!(places.take(&of("7", Principal::admin()), 0).is_some());
        drop((taken, first));
        assert!(places.counts().is_empty());
    }
}
