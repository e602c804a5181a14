//! Who may see which mailbox, as far as SETACL and DELETEACL told.

use crate::standing::Standing;

/// Remembers for each mailbox who was last given or denied the right to look it up (`l`), so that
/// only a change is told (R79, R85).
///
/// Restored from, and stored with, the source's checkpoint.
#[derive(Clone, Debug)]
pub(in super::super) struct Access(Standing);

/// What a command did to somebody's right to look a mailbox up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// They may now.
    Granted,
    /// They may not any more.
    Taken,
}

impl Access {
    /// Where the keys of its checkpoint begin.
    pub(in super::super) const PREFIX: &'static [u8] = b"acl/";

    /// From what [`Access::drain_changes`] once gave.
    pub(in super::super) fn restore(kept: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self(Standing::restore(Self::PREFIX, KNOWN_MAX, kept))
    }

    /// What is to be stored, since this was last asked.
    pub(in super::super) fn drain_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.0.drain_changes()
    }

    /// Notes a change; says whether it is one. Where nothing was known before, it is taken for
    /// one: that may tell once too often, never too seldom.
    pub(super) fn note(&mut self, owner: &str, mailbox: &str, user: &str, change: Change) -> bool {
        self.0.note(&[owner, mailbox, user], change == Change::Granted)
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::restore([])
    }
}

/// What SETACL with `rights` does to `l`; nothing where it leaves `l` alone.
pub(super) fn set(identifier: &str, rights: &str) -> Option<(String, Change)> {
    let (mode, letters) = match rights.split_at_checked(1) {
        Some((mode @ ("+" | "-"), letters)) => (mode, letters),
        _ => ("", rights),
    };
    let has_l = letters.contains('l');
    // A negative entry takes what it names from somebody who has it through others.
    if let Some(denied) = identifier.strip_prefix('-') {
        let is_taken = has_l && mode != "-";
        return is_taken.then(|| person(denied)).flatten().map(|user| (user, Change::Taken));
    }
    let change = match (mode, has_l) {
        ("-", true) | ("", false) => Change::Taken,
        (_, true) => Change::Granted,
        (_, false) => return None,
    };
    person(identifier).map(|user| (user, change))
}

/// What DELETEACL does to `l`.
pub(super) fn deleted(identifier: &str) -> Option<(String, Change)> {
    // Taking a negative entry away gives what others give, and that nobody says.
    let is_positive = !identifier.starts_with('-');
    is_positive.then(|| person(identifier)).flatten().map(|user| (user, Change::Taken))
}

/// The one person an identifier stands for; groups stand for many, and nobody says whom.
fn person(identifier: &str) -> Option<String> {
    let is_one = !matches!(identifier, "" | "anyone" | "authenticated" | "owner")
        && !identifier.starts_with(['#', '$', '!']);
    is_one.then(|| identifier.to_owned())
}

/// Entries remembered; beyond it those first in order go, and are told once more at their next
/// change.
const KNOWN_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn bob(change: Change) -> Option<(String, Change)> {
        Some(("bob".to_owned(), change))
    }

    #[test]
    fn r79_r85_only_the_right_to_look_up_counts() {
        use Change::{Granted, Taken};
        assert_eq!(set("bob", "lr"), bob(Granted));
        assert_eq!(set("bob", "+l"), bob(Granted));
        assert_eq!(set("bob", "+rs"), None);
        assert_eq!(set("bob", "-s"), None);
        assert_eq!(set("bob", "-lr"), bob(Taken));
        assert_eq!(set("bob", "rs"), bob(Taken));
        assert_eq!(set("bob", ""), bob(Taken));
        assert_eq!(set("-bob", "l"), bob(Taken));
        assert_eq!(set("-bob", "-l"), None);
        assert_eq!(deleted("bob"), bob(Taken));
        assert_eq!(deleted("-bob"), None);
    }

    #[test]
    fn r80_who_stands_for_many_is_nobody_in_particular() {
        for many in ["anyone", "authenticated", "owner", "$staff", "!$staff", "#all", ""] {
            assert_eq!(set(many, "lr"), None, "{many}");
            assert_eq!(deleted(many), None, "{many}");
        }
    }

    #[test]
    fn r79_access_given_twice_is_given_once_and_that_outlives_a_restart() {
        let mut access = Access::default();
        assert!(access.note("alice", "Box", "bob", Change::Granted));
        assert!(!access.note("alice", "Box", "bob", Change::Granted));
        let kept =
            access.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut again = Access::restore(kept);
        assert!(!again.note("alice", "Box", "bob", Change::Granted));
        assert!(again.note("alice", "Box", "bob", Change::Taken));
        assert!(again.note("alice", "Box", "carol", Change::Granted));
    }
}
