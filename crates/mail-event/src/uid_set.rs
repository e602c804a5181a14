//! Sets of UIDs in canonical form.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::limits::RANGES_MAX;

/// A set of UIDs as RFC 9051's `sequence-set` without `*` (RFC 5423, section 5, uidset).
///
/// Kept as sorted ranges that neither touch nor overlap, so a million UIDs in a row take eight
/// octets. Written the same way: `1:4,7`.
///
/// ```
/// use mail_event::UidSet;
///
/// let set = UidSet::from_uids([9, 1, 2, 3]);
/// assert_eq!(set.to_string(), "1:3,9");
/// assert_eq!(set.len(), 4);
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set, which no event may carry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One UID; 0 is no UID and gives the empty set.
    #[must_use]
    pub fn single(uid: u32) -> Self {
        Self::from_uids([uid])
    }

    /// From UIDs in any order; 0 is passed over.
    #[must_use]
    pub fn from_uids(uids: impl IntoIterator<Item = u32>) -> Self {
        let mut gathering = Gathering::default();
        for uid in uids.into_iter().filter(|uid| *uid != 0) {
            gathering.add(uid, uid);
        }
        Self { ranges: gathering.finish() }
    }

    /// Adds one UID; 0 is passed over.
    pub fn insert(&mut self, uid: u32) {
        if uid == 0 {
            return;
        }
        // The first range that ends at the UID before this one, or behind it.
        let at = self.ranges.partition_point(|range| range.1 < uid - 1);
        match self.ranges.get_mut(at) {
            Some(range) if range.1 == uid - 1 => range.1 = uid,
            Some(range) if range.0 <= uid => return,
            Some(range) if uid.checked_add(1) == Some(range.0) => range.0 = uid,
            _ => self.ranges.insert(at, (uid, uid)),
        }
        let after = self.ranges.get(at + 1).copied();
        if let Some(after) = after.filter(|after| uid.checked_add(1) == Some(after.0)) {
            self.ranges.remove(at + 1);
            if let Some(range) = self.ranges.get_mut(at) {
                range.1 = after.1;
            }
        }
    }

    /// Whether `uid` is in it.
    #[must_use]
    pub fn contains(&self, uid: u32) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < uid);
        self.ranges.get(at).is_some_and(|range| range.0 <= uid)
    }

    /// How many UIDs.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The smallest.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.ranges.first().map(|range| range.0)
    }

    /// The largest.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|range| range.1)
    }

    /// Its only UID, where it holds exactly one.
    #[must_use]
    pub fn only(&self) -> Option<u32> {
        (self.len() == 1).then(|| self.first()).flatten()
    }

    /// The ranges, first and last included, in order.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// What is in either set.
    ///
    /// ```
    /// use mail_event::UidSet;
    ///
    /// let one = UidSet::from_uids([1, 2, 9]);
    /// assert_eq!(one.union(&UidSet::from_uids([3, 7])).to_string(), "1:3,7,9");
    /// ```
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { ranges: canonical([self.ranges(), other.ranges()].concat()) }
    }

    /// Every UID in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Reads a set in any order and with overlaps, and says whether it was canonical.
    ///
    /// # Errors
    ///
    /// Where it is empty, holds a 0, a `*` or anything else that is no UID, or more than
    /// [`RANGES_MAX`] ranges.
    pub fn parse_lenient(text: &str) -> Result<(Self, bool), InvalidUidSet> {
        let mut gathering = Gathering::default();
        let mut is_canonical = true;
        let mut before = 0_u32;
        for part in text.split(',') {
            let (first, last) = match part.split_once(':') {
                None => {
                    let uid = uid(part)?;
                    (uid, uid)
                }
                Some((first, last)) => {
                    let (first, last) = (uid(first)?, uid(last)?);
                    is_canonical &= first < last;
                    (first.min(last), first.max(last))
                }
            };
            is_canonical &= before == 0 || (first > before && first - before > 1);
            before = before.max(last);
            gathering.add(first, last);
            if gathering.is_full() {
                return Err(InvalidUidSet::TooManyRanges);
            }
        }
        let ranges = gathering.finish();
        if ranges.len() > RANGES_MAX {
            return Err(InvalidUidSet::TooManyRanges);
        }
        Ok((Self { ranges }, is_canonical))
    }
}

impl FromStr for UidSet {
    type Err = InvalidUidSet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::parse_lenient(text)? {
            (set, true) => Ok(set),
            (_, false) => Err(InvalidUidSet::NotCanonical),
        }
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}:{last}")?;
            }
        }
        Ok(())
    }
}

/// Checks a canonical set without keeping it, and gives the number of UIDs.
pub(crate) fn check_canonical(text: &str) -> Result<u64, InvalidUidSet> {
    let (mut before, mut count, mut ranges) = (0_u32, 0_u64, 0_usize);
    for part in text.split(',') {
        ranges += 1;
        if ranges > RANGES_MAX {
            return Err(InvalidUidSet::TooManyRanges);
        }
        let (first, last) = match part.split_once(':') {
            None => {
                let uid = uid(part)?;
                (uid, uid)
            }
            Some((first, last)) => (uid(first)?, uid(last)?),
        };
        let is_range = part.len() > 2 && part.contains(':');
        let in_order = before == 0 || (first > before && first - before > 1);
        if !in_order || first > last || (is_range && first == last) {
            return Err(InvalidUidSet::NotCanonical);
        }
        before = last;
        count += u64::from(last - first) + 1;
    }
    Ok(count)
}

/// Ranges on their way into a set. What continues the range before it joins it at once, and the
/// rest is put in order now and then, so that a million UIDs in any order never take more room
/// than twice what the set takes in the end.
#[derive(Default)]
struct Gathering {
    ranges: Vec<(u32, u32)>,
    /// How many there were when they were last put in order.
    ordered: usize,
}

impl Gathering {
    fn add(&mut self, first: u32, last: u32) {
        match self.ranges.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
            Some(before) if last.checked_add(1) == Some(before.0) => before.0 = first,
            _ => {
                self.ranges.push((first, last));
                if self.ranges.len() > 2 * self.ordered.max(FEW_RANGES) {
                    self.order();
                }
            }
        }
    }

    fn order(&mut self) {
        self.ranges = canonical(std::mem::take(&mut self.ranges));
        self.ordered = self.ranges.len();
    }

    /// Whether there are more than a set may have, for certain.
    fn is_full(&self) -> bool {
        self.ordered > RANGES_MAX
    }

    fn finish(mut self) -> Vec<(u32, u32)> {
        self.order();
        self.ranges
    }
}

/// Ranges that may wait to be put in order.
const FEW_RANGES: usize = 4_096;

/// Sorts, and joins what touches or overlaps.
fn canonical(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = kept.1.checked_add(1).is_none_or(|after| next.0 <= after);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
    ranges.shrink_to_fit();
    ranges
}

fn uid(text: &str) -> Result<u32, InvalidUidSet> {
    let well_formed = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let number = well_formed.then(|| text.parse::<NonZeroU32>().ok()).flatten();
    number
        .map(NonZeroU32::get)
        .ok_or_else(|| InvalidUidSet::NotAUid(text.chars().take(32).collect()))
}

/// Why a text is not a UID set.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidUidSet {
    /// A part is no UID: it is empty, 0, `*`, too large or no number.
    #[error("{0:?} is not a UID")]
    NotAUid(String),
    /// Out of order, overlapping, or with ranges that could be joined.
    #[error("a UID set must be sorted, its ranges joined")]
    NotCanonical,
    /// More than [`RANGES_MAX`].
    #[error("more than {RANGES_MAX} ranges")]
    TooManyRanges,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn r144_a_star_a_zero_and_nothing_are_refused() {
        for text in ["1:*", "*", "0", "", "1,", "4294967296", "01", "1:", "-1"] {
            assert!(UidSet::parse_lenient(text).is_err(), "{text}");
        }
    }

    #[test]
    fn r144_a_million_uids_take_one_range() {
        let set = UidSet::from_uids((1..=1_000_000).rev());
        assert_eq!(set.ranges(), [(1, 1_000_000)]);
        assert_eq!(set.len(), 1_000_000);
    }

    #[test]
    fn r144_a_million_uids_one_by_one_and_in_no_order_take_bounded_room() {
        // Every UID once: 7 steps of the same length, each beginning one later.
        let uids = (0..7).flat_map(|step| (1..=1_000_000_u32).skip(step).step_by(7));
        let mut gathering = Gathering::default();
        for uid in uids.clone() {
            gathering.add(uid, uid);
            assert!(gathering.ranges.len() <= 300_000, "{}", gathering.ranges.len());
        }
        assert_eq!(gathering.finish(), [(1, 1_000_000)]);
        let text: Vec<String> = uids.map(|uid| uid.to_string()).collect();
        let (set, is_canonical) = UidSet::parse_lenient(&text.join(",")).unwrap();
        assert_eq!((set.to_string().as_str(), is_canonical), ("1:1000000", false));
    }

    #[test]
    fn r144_every_second_of_a_million_uids_is_the_most_there_can_be() {
        let set = UidSet::from_uids((1..=1_000_000).step_by(2));
        assert_eq!(set.ranges().len(), RANGES_MAX);
        assert_eq!(set.to_string().parse::<UidSet>(), Ok(set.clone()));
        let more = format!("{set},1000001");
        assert_eq!(UidSet::parse_lenient(&more), Err(InvalidUidSet::TooManyRanges));
        assert_eq!(check_canonical(&more), Err(InvalidUidSet::TooManyRanges));
    }

    #[test]
    fn the_largest_uid_joins_its_neighbour() {
        let mut grown = UidSet::single(u32::MAX);
        grown.insert(u32::MAX - 1);
        assert_eq!(grown.to_string(), "4294967294:4294967295");
        let set = UidSet::from_uids([u32::MAX, u32::MAX - 1]);
        assert_eq!(set.to_string(), "4294967294:4294967295");
    }

    proptest! {
        #[test]
        fn a_union_holds_what_either_set_holds(
            one in prop::collection::vec(1_u32..80, 0..40),
            other in prop::collection::vec(1_u32..80, 0..40),
        ) {
            let (first, second) =
                (UidSet::from_uids(one.iter().copied()), UidSet::from_uids(other.iter().copied()));
            let both = UidSet::from_uids(one.into_iter().chain(other));
            prop_assert_eq!(first.union(&second), both.clone());
            prop_assert_eq!(second.union(&first), both);
        }

        #[test]
        fn r14_a_set_holds_what_was_put_in(uids in prop::collection::btree_set(1_u32..400, 1..60)) {
            let mut grown = UidSet::new();
            for uid in uids.iter().rev() {
                grown.insert(*uid);
            }
            let set = UidSet::from_uids(uids.iter().copied());
            prop_assert_eq!(&grown, &set);
            prop_assert!(set.iter().eq(uids.iter().copied()));
            prop_assert_eq!(set.to_string().parse::<UidSet>().unwrap(), set.clone());
            prop_assert_eq!(check_canonical(&set.to_string()).unwrap(), set.len());
        }

        #[test]
        fn checking_and_reading_agree(text in "[0-9:,*]{1,24}") {
            let read = text.parse::<UidSet>();
            prop_assert_eq!(check_canonical(&text).ok(), read.ok().map(|set| set.len()));
        }
    }
}
