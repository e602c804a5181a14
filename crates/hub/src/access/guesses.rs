//! How often somebody may show what is no token.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong tokens by address: so many at once, and then one in a while.
///
/// A token can't be guessed however often somebody tries; this keeps trying from filling logs and
/// taking time. A right token is never turned away, so that nobody can lock out their neighbours.
#[derive(Debug)]
pub(super) struct Guesses<K = IpAddr> {
    /// Since when, on the hub's clock, each would have been idle.
    idle_from: HashMap<K, Duration>,
}

impl<K> Default for Guesses<K> {
    fn default() -> Self {
        Self { idle_from: HashMap::new() }
    }
}

impl Guesses {
    /// Notes a wrong token; how long to wait, where it was one too many.
    pub(super) fn wrong(&mut self, from: IpAddr, now: Duration) -> Option<Duration> {
        self.one(network(from), now, (AT_ONCE, PERIOD))
    }
}

impl<K: Eq + Hash> Guesses<K> {
    /// Notes one of `key`'s, of which so many are taken at once and then one each period; how long
    /// to wait, where it was one too many.
    pub(super) fn one(
        &mut self,
        key: K,
        now: Duration,
        (at_once, period): (u32, Duration),
    ) -> Option<Duration> {
        if self.idle_from.len() >= ADDRESSES_MAX {
            self.idle_from.retain(|_, idle_from| *idle_from > now);
            if self.idle_from.len() >= ADDRESSES_MAX {
                self.idle_from.clear();
            }
        }
        let idle_from = self.idle_from.entry(key).or_default();
        let next = now.max(*idle_from) + period;
        let ahead = next.saturating_sub(now);
        if ahead > period * at_once {
            return Some(ahead - period * at_once);
        }
        *idle_from = next;
        None
    }
}

#[cfg(test)]
impl<K> Guesses<K> {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.idle_from.len()
    }
}

/// Whoever has an IPv6 address has a whole /64 of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Wrong tokens taken at once: a person's mistakes, or a program's with a connection for each.
const AT_ONCE: u32 = 30;

/// After which another one is.
const PERIOD: Duration = Duration::from_secs(1);

/// Addresses remembered: under a megabyte.
const ADDRESSES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r165_guesses_are_slowed_down_by_address() {
        let mut guesses = Guesses::default();
        let at = Duration::from_secs(100);
        let [one, near, other, v4]: [IpAddr; 4] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "192.0.2.1"]
                .map(|text| text.parse().unwrap());
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.wrong(one, at), None);
        }
        assert_eq!(guesses.wrong(near, at), Some(PERIOD));
        assert_eq!((guesses.wrong(other, at), guesses.wrong(v4, at)), (None, None));
        assert_eq!(guesses.wrong(one, at + PERIOD), None);
        assert_eq!(guesses.wrong(one, at + PERIOD), Some(PERIOD));
        assert_eq!(guesses.wrong("::ffff:192.0.2.1".parse().unwrap(), at), None);
        assert_eq!(guesses.idle_from.len(), 3);
    }

    #[test]
    fn r157_however_many_addresses_guess_memory_is_bounded() {
        let mut guesses = Guesses::default();
        for number in 0..3 * u32::try_from(ADDRESSES_MAX).unwrap() {
            guesses.wrong(IpAddr::from(number.to_be_bytes()), Duration::ZERO);
        }
        assert!(guesses.idle_from.len() <= ADDRESSES_MAX);
    }
}
