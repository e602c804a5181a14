//! How an event gets its id.

use mail_event::EventId;
use sha2::{Digest as _, Sha256};

/// The id of part `part` of what `source` calls `identity`, at `unix_millis`.
///
/// The same arguments give the same id, always: that is what makes a repeated observation
/// collapse in the journal. The time part is `unix_millis`, so ids of one source sort as its
/// events happened; times before 1970 count as 1970. The rest is 80 bits of SHA-256, so that
/// among 10^9 events of one millisecond two would share an id with a chance of one in a million.
///
/// A source that may see one thing twice must give it the same time twice, too.
#[must_use]
pub fn event_id(source: &str, identity: &[u8], part: u32, unix_millis: i64) -> EventId {
    let mut hasher = Sha256::new();
    // Lengths first, so that no two different triples feed the same octets.
    hasher.update(octets(source.len()));
    hasher.update(source.as_bytes());
    hasher.update(octets(identity.len()));
    hasher.update(identity);
    hasher.update(part.to_be_bytes());
    let [a, b, c, d, e, f, g, h, i, j, ..]: [u8; 32] = hasher.finalize().into();
    let random = u128::from_be_bytes([0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j]);
    EventId::new(u64::try_from(unix_millis).unwrap_or(0), random)
}

fn octets(length: usize) -> [u8; 8] {
    // A length fits 64 bits on every machine Rust runs on.
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}
