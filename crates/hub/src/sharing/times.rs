//! How long what the store says counts, and how long it is waited for.

use std::time::Duration;

/// These times; [`Times::STANDARD`] but in tests, which have no half minute to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long an answer of the store's counts, where nothing says that rights have changed.
    pub(crate) life: Duration,
    /// How long it goes on counting where the store can't be asked.
    pub(crate) life_max: Duration,
    /// How often it is asked about those of whom there are subscriptions alone, to learn of what is
    /// shared with them anew and nothing told: before a delivery out of others' mailboxes it is asked
    /// all the same.
    pub(crate) life_at_rest: Duration,
    /// When it is asked again where it couldn't be.
    pub(crate) retry: Duration,
    /// How long nobody is asked about after the store couldn't be asked: else each user would try.
    pub(crate) rest: Duration,
    /// How long a reader waits for the store's answer, of whom something of others is to be decided.
    pub(crate) patience: Duration,
    /// The same for the first answer of all that a user has: nobody knows yet what to hold for them.
    pub(crate) patience_at_first: Duration,
    /// How long deliveries out of others' mailboxes wait for a store that can't be asked. Then they are
    /// left out, lest they keep one's own waiting for ever.
    pub(crate) waited_for: Duration,
}

impl Times {
    /// Those of a hub. Ten thousand users with subscriptions alone cost seventeen questions a second.
    pub(crate) const STANDARD: Self = Self {
        life: Duration::from_secs(30),
        life_max: Duration::from_secs(60),
        life_at_rest: Duration::from_secs(600),
        retry: Duration::from_secs(10),
        rest: Duration::from_secs(5),
        patience: Duration::from_secs(10),
        patience_at_first: Duration::from_secs(60),
        waited_for: Duration::from_secs(3_600),
    };
}
