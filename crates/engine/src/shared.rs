//! Which mailboxes of others a user may read, as far as the store has said.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Mailboxes of others, and such as are nobody's, in which the store's ACL gives a user both `l` and
/// `r` (RFC 4314, section 2.1), by their owners. What isn't among them may not be seen.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shared {
    of_users: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    nobodys: BTreeSet<Box<str>>,
}

impl Shared {
    /// None: nobody shares anything.
    pub const NONE: &'static Self = &Self { of_users: BTreeMap::new(), nobodys: BTreeSet::new() };

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_users.is_empty() && self.nobodys.is_empty()
    }

    /// Adds one, as its owner calls it, or as events do where it has none, where these rights let it be
    /// seen and read.
    pub fn add<'a>(&mut self, owner: impl Into<Option<&'a str>>, mailbox: &str, rights: &str) {
        if !(rights.contains('l') && rights.contains('r')) {
            return;
        }
        let mailboxes = match owner.into() {
            Some(owner) => self.of_users.entry(owner.into()).or_default(),
            None => &mut self.nobodys,
        };
        mailboxes.insert(mailbox.into());
    }

    /// Adds those of another store.
    pub fn join(&mut self, other: Self) {
        for (owner, mailboxes) in other.of_users {
            self.of_users.entry(owner).or_default().extend(mailboxes);
        }
        self.nobodys.extend(other.nobodys);
    }

    /// Those of them that are not among others.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        let of_users = self.of_users.iter().map(|(owner, all)| {
            let rest = all.iter().filter(|one| !others.has(&**owner, one)).cloned();
            (owner.clone(), rest.collect::<BTreeSet<_>>())
        });
        let of_users = of_users.filter(|(_, rest)| !rest.is_empty());
        let nobodys = self.nobodys.difference(&others.nobodys).cloned();
        Self { of_users: of_users.collect(), nobodys: nobodys.collect() }
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has<'a>(&self, owner: impl Into<Option<&'a str>>, mailbox: &str) -> bool {
        match owner.into() {
            Some(owner) => self.of_users.get(owner).is_some_and(|all| all.contains(mailbox)),
            None => self.nobodys.contains(mailbox),
        }
    }

    /// Whether any is this owner's; without one, whether any is nobody's.
    #[must_use]
    pub fn is_of<'a>(&self, owner: impl Into<Option<&'a str>>) -> bool {
        match owner.into() {
            Some(owner) => self.of_users.contains_key(owner),
            None => !self.nobodys.is_empty(),
        }
    }

    /// Who shares.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.of_users.keys().map(|owner| &**owner)
    }

    /// Those that are nobody's.
    pub fn nobodys(&self) -> impl Iterator<Item = &str> {
        self.nobodys.iter().map(|mailbox| &**mailbox)
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
        shared.add(None, "team", "lr");
        assert!(shared.has(None, "team") && !shared.has("ann", "team") && !shared.has(None, "A"));
        shared = Shared::default();
        shared.add("ann", "B", "l");
        shared.add(None, "team", "r");
        assert!(shared.is_empty());
    }

    #[test]
    fn what_is_left_without_others_is_each_that_is_not_among_them() {
        let of = |all: &[(Option<&str>, &str)]| {
            let mut shared = Shared::default();
            all.iter().for_each(|(owner, mailbox)| shared.add(*owner, mailbox, "lr"));
            shared
        };
        let all = of(&[(Some("ann"), "A"), (Some("ann"), "B"), (Some("eve"), "A"), (None, "A")]);
        let others = of(&[(Some("ann"), "A"), (Some("eve"), "A"), (Some("eve"), "B")]);
        assert_eq!(all.without(&others), of(&[(Some("ann"), "B"), (None, "A")]));
        assert!(all.without(&all).is_empty() && !all.without(&all).is_of("ann"));
        assert_eq!(all.without(Shared::NONE), all);
    }
}
