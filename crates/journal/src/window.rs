//! The ids seen lately, so that a repeated event is recognised.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::RecordId;

/// The last records' ids and their numbers. Memory is bounded: about 50 octets for each record
/// of the window.
#[derive(Debug)]
pub(crate) struct Window {
    records: usize,
    /// Ids of consecutive records, the last of them just before `next`.
    ids: VecDeque<RecordId>,
    next: u64,
    numbers: HashMap<RecordId, u64, Spread>,
}

impl Window {
    /// A window over the last `records` records, before record `next`.
    pub(crate) fn new(records: usize, next: u64) -> Self {
        let spread = Spread(RandomState::new().hash_one(next) | 1);
        Self { records, ids: VecDeque::new(), next, numbers: HashMap::with_hasher(spread) }
    }

    /// The number the next new record gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The number under which `id` stands in the window.
    pub(crate) fn find(&self, id: RecordId) -> Option<u64> {
        let number = *self.numbers.get(&id)?;
        (number.saturating_add(self.records as u64) >= self.next).then_some(number)
    }

    /// Takes the next record in and says its number.
    pub(crate) fn push(&mut self, id: RecordId) -> u64 {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(id, number);
        self.ids.push_back(id);
        number
    }

    /// Forgets what can't be found any more, now that all up to `durable` will stay.
    ///
    /// No sooner: a failed commit takes the newest back out, and then the older count again.
    pub(crate) fn settle(&mut self, durable: u64) {
        let needed_from = (durable + 1).saturating_sub(self.records as u64);
        let mut oldest = self.next - self.ids.len() as u64;
        while oldest < needed_from
            && let Some(id) = self.ids.pop_front()
        {
            if self.numbers.get(&id) == Some(&oldest) {
                self.numbers.remove(&id);
            }
            oldest += 1;
        }
    }

    /// Puts an older id in front; for opening, from newest to oldest.
    pub(crate) fn push_older(&mut self, id: RecordId) {
        self.ids.push_front(id);
        let number = self.next - self.ids.len() as u64;
        self.numbers.entry(id).or_insert(number);
    }

    /// Whether it reaches back as far as it should.
    pub(crate) fn is_full(&self) -> bool {
        self.ids.len() >= self.records
    }

    /// Forgets the records after `last`: they did not become durable.
    pub(crate) fn roll_back(&mut self, last: u64) {
        while self.next > last + 1 {
            self.next -= 1;
            if let Some(id) = self.ids.pop_back()
                && self.numbers.get(&id) == Some(&self.next)
            {
                self.numbers.remove(&id);
            }
        }
    }
}

/// Spreads ids over a table with one multiplication. Most ids end in hashed octets, but a
/// publisher may choose its own, so the factor is drawn anew for each window.
#[derive(Clone, Debug)]
struct Spread(u64);

impl BuildHasher for Spread {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { factor: self.0, state: 0 }
    }
}

/// The hasher of [`Spread`].
#[derive(Debug)]
struct Folding {
    factor: u64,
    state: u64,
}

impl Folding {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ PATTERN).wrapping_mul(self.factor.into());
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.state = folded;
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u128(&mut self, value: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (low, high) = (value as u64, (value >> 64) as u64);
        self.fold(low);
        self.fold(high);
    }
}

/// Keeps a word of zeroes from hashing to zero.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_while_it_is_among_the_last_records_and_not_after() {
        let mut window = Window::new(3, 1);
        for id in 1..=4 {
            assert_eq!(window.push(RecordId(id)), u64::try_from(id).unwrap());
        }
        let found: Vec<_> = (1..=5).map(|id| window.find(RecordId(id))).collect();
        assert_eq!(found, [None, Some(2), Some(3), Some(4), None]);
    }

    #[test]
    fn records_taken_back_leave_the_window_as_it_was() {
        let mut window = Window::new(3, 1);
        for id in 1..=4 {
            window.push(RecordId(id));
        }
        window.push(RecordId(5));
        window.push(RecordId(6));
        window.roll_back(4);
        assert_eq!(window.next(), 5);
        let found: Vec<_> = (1..=6).map(|id| window.find(RecordId(id))).collect();
        assert_eq!(found, [None, Some(2), Some(3), Some(4), None, None]);
    }

    #[test]
    fn memory_stays_bounded_by_the_window_and_what_is_under_way() {
        let mut window = Window::new(10, 1);
        for id in 0..100_000 {
            let number = window.push(RecordId(id));
            window.settle(number.saturating_sub(5));
        }
        assert_eq!(window.ids.len(), 15);
        assert_eq!(window.numbers.len(), 15);
    }

    #[test]
    fn a_failed_commit_of_any_size_costs_the_window_nothing() {
        let mut window = Window::new(1000, 1);
        for id in 1..=1000 {
            window.push(RecordId(id));
        }
        window.settle(1000);
        for id in 1001..=200_000 {
            window.push(RecordId(id));
            window.settle(1000);
        }
        window.roll_back(1000);
        for id in 1..=1000_u64 {
            assert_eq!(window.find(RecordId(id.into())), Some(id));
        }
        assert_eq!(window.find(RecordId(1001)), None);
    }

    #[test]
    fn an_id_repeated_outside_the_window_is_found_under_its_newer_number() {
        let mut window = Window::new(2, 1);
        for (id, durable) in [(1, 0), (2, 1), (3, 2), (1, 3), (4, 4)] {
            window.settle(durable);
            assert_eq!(window.find(RecordId(id)), None);
            window.push(RecordId(id));
        }
        window.settle(5);
        assert_eq!(window.find(RecordId(1)), Some(4));
        assert_eq!(window.numbers.len(), 2);
    }
}
