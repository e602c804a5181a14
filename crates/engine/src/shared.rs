//! Which mailboxes of others a user may read, as far as the store has said.

use std::collections::{BTreeMap, BTreeSet};

/// Mailboxes of others in which the store's ACL gives a user both `l` and `r` (RFC 4314, section
/// 2.1), by their owners. What isn't among them may not be seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shared(BTreeMap<Box<str>, BTreeSet<Box<str>>>);

impl Shared {
    /// None: nobody shares anything.
    pub const NONE: &'static Self = &Self(BTreeMap::new());

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one, as its owner calls it, where these rights let it be seen and read.
    pub fn add(&mut self, owner: &str, mailbox: &str, rights: &str) {
        if rights.contains('l') && rights.contains('r') {
            self.0.entry(owner.into()).or_default().insert(mailbox.into());
        }
    }

    /// Adds those of another store.
    pub fn join(&mut self, other: Self) {
        for (owner, mailboxes) in other.0 {
            self.0.entry(owner).or_default().extend(mailboxes);
        }
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, owner: &str, mailbox: &str) -> bool {
        self.0.get(owner).is_some_and(|mailboxes| mailboxes.contains(mailbox))
    }

    /// Whether this owner shares any.
    #[must_use]
    pub fn is_of(&self, owner: &str) -> bool {
        self.0.contains_key(owner)
    }

    /// Who shares.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|owner| &**owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r162_a_mailbox_is_shared_where_both_rights_are_given() {
        let mut shared = Shared::default();
        for (mailbox, rights) in
            [("A", "lr"), ("B", "l"), ("C", "r"), ("D", "rswipkxteal"), ("E", "")]
        {
            shared.add("ann", mailbox, rights);
        }
        let has = ["A", "B", "C", "D", "E", "a"].map(|mailbox| shared.has("ann", mailbox));
        assert_eq!(has, [true, false, false, true, false, false]);
        assert!(!shared.has("bob", "A") && shared.owners().eq(["ann"]) && !shared.is_empty());
        shared = Shared::default();
        shared.add("ann", "B", "l");
        assert!(shared.is_empty());
    }
}
