//! Checkpoint changes that are in segments and not yet merged into the state file.

use std::collections::BTreeMap;

use crate::Change;

/// Keys and values; `None` stands for a key that was removed.
pub(crate) type Keys = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The changes of one segment: for each key the last one.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    sources: BTreeMap<String, Keys>,
    octets: usize,
}

/// The changes one batch brings to one source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Changes {
    pub(crate) source: String,
    pub(crate) changes: Vec<Change>,
}

impl Overlay {
    /// Takes changes in, later ones last.
    pub(crate) fn apply(&mut self, changes: Changes) {
        let keys = self.sources.entry(changes.source).or_default();
        for change in changes.changes {
            let octets = change_octets(change.key.len(), change.value.as_ref());
            let key_octets = change.key.len();
            let before = keys.insert(change.key, change.value);
            self.octets += octets;
            if let Some(before) = before {
                self.octets -= change_octets(key_octets, before.as_ref());
            }
        }
    }

    /// The changes by source.
    pub(crate) fn sources(&self) -> &BTreeMap<String, Keys> {
        &self.sources
    }

    /// What it takes in memory.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// Lays the changes with `prefix` of `source` over `state`.
    pub(crate) fn lay_over(
        &self,
        source: &str,
        prefix: &[u8],
        state: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        let Some(keys) = self.sources.get(source) else { return };
        let changed = keys.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        for (key, value) in changed {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
    }

    /// Lays over `changed` which keys of `source` are there, and which are gone.
    pub(crate) fn lay_presence_over(&self, source: &str, changed: &mut BTreeMap<Vec<u8>, bool>) {
        let Some(keys) = self.sources.get(source) else { return };
        changed.extend(keys.iter().map(|(key, value)| (key.clone(), value.is_some())));
    }
}

/// Writes changes for a row.
pub(crate) fn encode(changes: &Changes, to: &mut Vec<u8>) {
    put(to, changes.source.as_bytes());
    to.extend_from_slice(&(changes.changes.len() as u64).to_le_bytes());
    for change in &changes.changes {
        put(to, &change.key);
        match &change.value {
            None => to.push(0),
            Some(value) => {
                to.push(1);
                put(to, value);
            }
        }
    }
}

/// Reads what [`encode`] wrote, any number of times after another.
pub(crate) fn decode(mut octets: &[u8]) -> Option<Vec<Changes>> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        let source = String::from_utf8(take(&mut octets)?.to_vec()).ok()?;
        let count = take_u64(&mut octets)?;
        let mut changes = Vec::new();
        for _ in 0..count {
            let key = take(&mut octets)?.to_vec();
            let (tag, rest) = octets.split_first()?;
            octets = rest;
            let value = match tag {
                0 => None,
                1 => Some(take(&mut octets)?.to_vec()),
                _ => return None,
            };
            changes.push(Change { key, value });
        }
        all.push(Changes { source, changes });
    }
    Some(all)
}

/// What changes take in a row and, about, in memory.
pub(crate) fn encoded_octets(source: &str, changes: &[Change]) -> usize {
    let each = changes.iter().map(|change| change_octets(change.key.len(), change.value.as_ref()));
    source.len() + each.sum::<usize>()
}

fn change_octets(key_octets: usize, value: Option<&Vec<u8>>) -> usize {
    key_octets + value.map_or(0, Vec::len) + CHANGE_OVERHEAD_OCTETS
}

fn put(to: &mut Vec<u8>, octets: &[u8]) {
    to.extend_from_slice(&(octets.len() as u64).to_le_bytes());
    to.extend_from_slice(octets);
}

fn take<'a>(octets: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u64(octets)?).ok()?;
    let (taken, rest) = octets.split_at_checked(length)?;
    *octets = rest;
    Some(taken)
}

fn take_u64(octets: &mut &[u8]) -> Option<u64> {
    let (number, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(u64::from_le_bytes(*number))
}

/// What a key costs in the map beyond its octets, and more than it costs in a row.
const CHANGE_OVERHEAD_OCTETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes() -> impl Strategy<Value = Changes> {
        let octets = || proptest::collection::vec(any::<u8>(), 0..6);
        let change = (octets(), proptest::option::of(octets()))
            .prop_map(|(key, value)| Change { key, value });
        ("[a-c]{0,3}", proptest::collection::vec(change, 0..6))
            .prop_map(|(source, changes)| Changes { source, changes })
    }

    proptest! {
        #[test]
        fn changes_read_back_are_the_changes_written(all in proptest::collection::vec(changes(), 0..6)) {
            let mut octets = Vec::new();
            for changes in &all {
                encode(changes, &mut octets);
            }
            prop_assert_eq!(decode(&octets), Some(all));
        }

        #[test]
        fn octets_that_are_no_changes_are_refused_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            drop(decode(&octets));
        }

        #[test]
        fn applying_changes_twice_changes_nothing(all in proptest::collection::vec(changes(), 0..6)) {
            let mut once = Overlay::default();
            let mut twice = Overlay::default();
            for changes in &all {
                once.apply(changes.clone());
                twice.apply(changes.clone());
            }
            for changes in all {
                twice.apply(changes);
            }
            prop_assert_eq!(once.sources(), twice.sources());
            prop_assert_eq!(once.octets(), twice.octets());
        }
    }
}
