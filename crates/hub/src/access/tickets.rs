//! Tickets: what opens one stream, once, where a token would stand in a URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::grant::Grant;
use crate::lock::locked;

/// The tickets that were given out and not used yet, by their hashes.
///
/// They live in memory alone: one that a restart takes away would have ended a moment later.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<HashMap<[u8; 32], Ticket>>);

#[derive(Debug)]
struct Ticket {
    grant: Arc<Grant>,
    /// On the hub's clock.
    ends: Duration,
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooManyTickets;

impl Tickets {
    /// Keeps one that opens what `grant` does, for [`TICKET_LIFE`].
    pub(super) fn add(
        &self,
        hash: [u8; 32],
        grant: &Arc<Grant>,
        now: Duration,
    ) -> Result<(), TooManyTickets> {
        let mut all = locked(&self.0);
        all.retain(|_, ticket| ticket.ends > now);
        let same = all.values().filter(|ticket| ticket.grant.id() == grant.id()).count();
        if all.len() >= TICKETS_MAX || same >= PER_TOKEN_MAX {
            return Err(TooManyTickets);
        }
        all.insert(hash, Ticket { grant: Arc::clone(grant), ends: now + TICKET_LIFE });
        Ok(())
    }

    /// What a ticket opens; it opens nothing after that.
    pub(super) fn take(&self, hash: [u8; 32], now: Duration) -> Option<Arc<Grant>> {
        let mut all = locked(&self.0);
        let ticket = all.remove(&hash)?;
        (ticket.ends > now && ticket.grant.is_good()).then_some(ticket.grant)
    }
}

/// How long a ticket may lie unused: a page opens its stream at once, over whatever network.
pub(super) const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Tickets at once, of all tokens: a megabyte.
const TICKETS_MAX: usize = 10_000;

/// Tickets at once of one token: a person's tabs, with room for a reload of all of them.
const PER_TOKEN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use postbell_engine::Principal;

    fn grant(id: &str) -> Arc<Grant> {
        Arc::new(Grant::new(Some(id.to_owned()), Principal::admin(), None, 0))
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn r161_a_ticket_opens_once_and_not_for_long() {
        let (tickets, grant) = (Tickets::default(), grant("a"));
        tickets.add([1; 32], &grant, NOW).unwrap();
        tickets.add([2; 32], &grant, NOW).unwrap();
        let taken = |hash, at| tickets.take([hash; 32], at).is_some();
        assert!(taken(1, NOW) && !taken(1, NOW) && !taken(3, NOW));
        assert!(!taken(2, NOW + TICKET_LIFE));
        tickets.add([4; 32], &grant, NOW).unwrap();
        grant.revoke();
        assert!(!taken(4, NOW));
    }

    #[test]
    fn r157_tickets_are_bounded_and_one_token_takes_no_others_place() {
        let (tickets, greedy, modest) = (Tickets::default(), grant("a"), grant("b"));
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
            hash
        };
        let taken = (0..2 * PER_TOKEN_MAX).filter(|n| tickets.add(hash(*n), &greedy, NOW).is_ok());
        assert_eq!(taken.count(), PER_TOKEN_MAX);
        assert_eq!(tickets.add(hash(9_999_999), &modest, NOW), Ok(()));
        assert_eq!(tickets.add(hash(0), &greedy, NOW + TICKET_LIFE), Ok(()));
    }
}
