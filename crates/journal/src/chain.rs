//! The chain of hashes: each block's over what it holds and over the hash before it.
//!
//! A checksum tells damage. It doesn't tell a change made on purpose, for whoever changes a block
//! can make its checksum right again; here they would have to make every later hash right as well,
//! and then a hash that was noted elsewhere no longer fits.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::Seq;
use crate::block::Row;

/// One hash of the chain.
///
/// SHA-256 over the text `postbell block` and a zero octet, the link before, the block's first
/// record, count, number, time and size uncompressed (little-endian, as wide as in the row), its
/// ids, and its content as it is stored. Checkpoints of sources are not in it.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Link(pub [u8; LINK_OCTETS]);

/// Where the chain stands.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Tip {
    /// The last record it covers.
    pub seq: Seq,
    /// The hash of the block that ends with it.
    pub link: Link,
}

impl Link {
    /// What a chain begins after.
    pub(crate) const START: Self = Self([0; LINK_OCTETS]);

    /// The link of `row`, which comes after this one.
    pub(crate) fn next(&self, row: &Row) -> Self {
        let hash = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(self.0)
            .chain_update(row.first.to_le_bytes())
            .chain_update(row.count.to_le_bytes())
            .chain_update(row.number.to_le_bytes())
            .chain_update(row.written_ms.to_le_bytes())
            .chain_update(row.raw_octets.to_le_bytes())
            .chain_update(&row.ids)
            .chain_update(&row.content);
        Self(hash.finalize().into())
    }

    /// As it is stored: with a checksum, so that damage to it is not taken for a change.
    pub(crate) fn to_stored(self) -> [u8; STORED_OCTETS] {
        let mut stored = [0; STORED_OCTETS];
        let octets = self.0.into_iter().chain(crc32fast::hash(&self.0).to_le_bytes());
        for (cell, octet) in stored.iter_mut().zip(octets) {
            *cell = octet;
        }
        stored
    }

    /// Reads what [`Link::to_stored`] wrote; `None` where it isn't that any more.
    pub(crate) fn from_stored(stored: &[u8]) -> Option<Self> {
        let link = Self(*stored.first_chunk()?);
        (stored == link.to_stored()).then_some(link)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keeps a block's hash from being that of anything else.
const DOMAIN: &[u8] = b"postbell block\0";

const LINK_OCTETS: usize = 32;
const STORED_OCTETS: usize = LINK_OCTETS + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row { first: 1, count: 2, number: 3, written_ms: 4, raw_octets: 5, ..Row::default() }
    }

    #[test]
    fn a_link_depends_on_every_part_of_its_block_and_on_the_link_before() {
        let parts: [fn(&mut Row); 7] = [
            |row| row.first += 1,
            |row| row.count += 1,
            |row| row.number += 1,
            |row| row.written_ms += 1,
            |row| row.raw_octets += 1,
            |row| row.ids.push(0),
            |row| row.content.push(1),
        ];
        let mut links = vec![Link::START, Link::START.next(&row()), Link([1; 32]).next(&row())];
        for change in parts {
            let mut row = row();
            change(&mut row);
            links.push(Link::START.next(&row));
        }
        let count = links.len();
        links.sort_by_key(|link| link.0);
        links.dedup();
        assert_eq!(links.len(), count);
    }

    #[test]
    fn a_stored_link_changed_in_any_octet_is_not_read() {
        let link = Link::START.next(&row());
        assert_eq!(Link::from_stored(&link.to_stored()), Some(link));
        for at in 0..STORED_OCTETS {
            let mut stored = link.to_stored();
            stored[at] ^= 0x10;
            assert_eq!(Link::from_stored(&stored), None, "octet {at}");
        }
        assert_eq!(Link::from_stored(&[]), None);
    }
}
