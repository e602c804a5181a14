//! Which mailboxes came, went or got another name.

use std::collections::{BTreeMap, BTreeSet};

/// A mailbox's folder as it is on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Present {
    /// The folder's name; empty for INBOX.
    pub(super) folder: String,
    /// What tells the folder from others, whatever its name.
    pub(super) print: u64,
    /// Dovecot's UIDVALIDITY, where there is one.
    pub(super) uid_validity: Option<u32>,
    /// Dovecot is to give it a UIDVALIDITY and hasn't yet: it is told of when it has.
    pub(super) is_waiting: bool,
}

/// What is remembered of a mailbox, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    pub(super) print: u64,
    pub(super) uid_validity: u32,
    pub(super) is_dovecots: bool,
}

/// What happened to the tree of mailboxes.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    /// Old name and new name of every mailbox that moved.
    pub(super) moved: Vec<(String, String)>,
    /// The renames to tell (R91): a parent's covers its children's.
    pub(super) renames: Vec<(String, String)>,
    /// New mailboxes, and whether their creation is to be told (R81, R92).
    pub(super) created: Vec<(String, bool)>,
    /// Mailboxes that are gone, and under which name they are known after the renames.
    pub(super) deleted: Vec<(String, String)>,
}

/// Holds the folders there are against those remembered.
pub(super) fn compare(past: &BTreeMap<&str, Past>, present: &BTreeMap<String, Present>) -> Changes {
    let gone: BTreeSet<&str> =
        past.keys().copied().filter(|name| !present.contains_key(*name)).collect();
    let mut by_print: BTreeMap<u64, &str> =
        gone.iter().filter_map(|name| Some((past.get(name)?.print, *name))).collect();
    let mut changes = Changes::default();
    let mut new = Vec::new();
    for (name, now) in present.iter().filter(|(name, _)| !past.contains_key(name.as_str())) {
        // A folder's number is used again; Dovecot's UIDVALIDITY goes with the mailbox.
        let same = |old: &Past| {
            !old.is_dovecots || now.uid_validity.is_none_or(|now| now == old.uid_validity)
        };
        match by_print.get(&now.print).filter(|old| past.get(*old).is_some_and(same)) {
            Some(old) => {
                changes.moved.push(((*old).to_owned(), name.clone()));
                by_print.remove(&now.print);
            }
            None if now.is_waiting => {}
            None => new.push(name.clone()),
        }
    }
    // Parents before children.
    changes.moved.sort();
    let mut names: BTreeMap<&str, String> =
        past.keys().map(|name| (*name, (*name).to_owned())).collect();
    match renames(&changes.moved, past, present, &mut names) {
        Some(told) => changes.renames = told,
        // Told as gone here and made there, its messages as moved.
        None => {
            new.extend(changes.moved.drain(..).map(|(_, name)| name));
            new.sort();
            names = past.keys().map(|name| (*name, (*name).to_owned())).collect();
        }
    }
    let moved_from: BTreeSet<&str> = changes.moved.iter().map(|(old, _)| old.as_str()).collect();
    let deleted = gone.iter().filter(|name| !moved_from.contains(*name));
    changes.deleted = deleted
        .map(|name| ((*name).to_owned(), names.get(name).cloned().unwrap_or_default()))
        .collect();
    let targets: Vec<&str> = new
        .iter()
        .map(String::as_str)
        .chain(changes.moved.iter().map(|(_, name)| name.as_str()))
        .collect();
    let is_implied = |name: &str| targets.iter().any(|other| below(other, name).is_some());
    changes.created = new.iter().map(|name| (name.clone(), !is_implied(name))).collect();
    changes
}

/// One rename for each group of mailboxes that moved together.
///
/// Whoever hears of a rename takes the children along (R89). `names` is what they call each
/// mailbox; where that isn't its name in the end, because a child stayed or went elsewhere,
/// another rename says so. Nothing where that would need a name that is taken, as when a parent
/// and its child change places.
fn renames(
    moved: &[(String, String)],
    past: &BTreeMap<&str, Past>,
    present: &BTreeMap<String, Present>,
    names: &mut BTreeMap<&str, String>,
) -> Option<Vec<(String, String)>> {
    let mut told: Vec<(String, String)> = Vec::new();
    // Parents that came to be with a new name (R92).
    let mut made: BTreeSet<String> = BTreeSet::new();
    let stayed = past.keys().filter(|name| present.contains_key(**name));
    let stayed = stayed.map(|name| (name.to_string(), name.to_string()));
    let wanted: Vec<(String, String)> = moved.iter().cloned().chain(stayed).collect();
    for (old, new) in wanted.iter().cycle().take(wanted.len() * ROUNDS) {
        let Some(called) = names.get(old.as_str()).filter(|called| *called != new).cloned() else {
            continue;
        };
        let parent = (called == *old).then(|| shared_parent(old, new, moved, past)).flatten();
        let (from, to) = parent.unwrap_or_else(|| (called, new.clone()));
        let is_taken = made.contains(&to) || names.values().any(|name| *name == to);
        if is_taken || below(&to, &from).is_some() {
            return None;
        }
        for name in names.values_mut() {
            if *name == from {
                name.clone_from(&to);
            } else if let Some(rest) = below(name, &from) {
                *name = format!("{to}/{rest}");
            }
        }
        made.extend(to.match_indices('/').filter_map(|(at, _)| Some(to.get(..at)?.to_owned())));
        told.push((from, to));
    }
    Some(told)
}

/// Renames may undo each other's side effects; twice over is enough for all but the perverse.
const ROUNDS: usize = 2;

/// The parent whose rename explains this mailbox's and at least one other's: a parent that exists
/// only in names, as Maildir++ has them, leaves no other trace.
fn shared_parent(
    old: &str,
    new: &str,
    moved: &[(String, String)],
    past: &BTreeMap<&str, Past>,
) -> Option<(String, String)> {
    let (mut from, mut to, mut best) = (old, new, None);
    loop {
        let ((up, last), (up_to, last_to)) = (from.rsplit_once('/')?, to.rsplit_once('/')?);
        if last != last_to {
            return best;
        }
        (from, to) = (up, up_to);
        let stays = past.keys().any(|name| {
            (*name == from || below(name, from).is_some())
                && !moved.iter().any(|(gone, went)| {
                    gone == name
                        && below(gone, from).is_some_and(|rest| below(went, to) == Some(rest))
                })
        });
        // The new parent was there before: things were moved below it, and it wasn't renamed.
        let was_there = past.keys().any(|name| *name == to || below(name, to).is_some());
        let together = moved.iter().filter(|(gone, _)| below(gone, from).is_some()).count();
        if stays || was_there {
            return best;
        }
        if together > 1 {
            best = Some((from.to_owned(), to.to_owned()));
        }
        if !from.contains('/') || !to.contains('/') {
            return best;
        }
    }
}

/// What of `name` comes after `parent` and its slash.
fn below<'a>(name: &'a str, parent: &str) -> Option<&'a str> {
    name.strip_prefix(parent)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &[(&str, u64)], after: &[(&str, u64)]) -> Changes {
        let past = |print| Past { print, uid_validity: 7, is_dovecots: false };
        let present =
            |print| Present { folder: String::new(), print, uid_validity: None, is_waiting: false };
        let past = before.iter().map(|(name, print)| (*name, past(*print))).collect();
        let now = after.iter().map(|(name, print)| ((*name).to_owned(), present(*print))).collect();
        compare(&past, &now)
    }

    fn told(changes: &Changes) -> Vec<String> {
        let renames = changes.renames.iter().map(|(old, new)| format!("{old}>{new}"));
        let created = changes.created.iter().filter(|(_, told)| *told);
        let created = created.map(|(name, _)| format!("+{name}"));
        let deleted = changes.deleted.iter().map(|(_, name)| format!("-{name}"));
        renames.chain(created).chain(deleted).collect()
    }

    #[test]
    fn r81_parents_created_with_a_child_are_implied() {
        let changes = changes(&[("INBOX", 1)], &[("INBOX", 1), ("a", 2), ("a/b", 3), ("a/b/c", 4)]);
        assert_eq!(told(&changes), ["+a/b/c"]);
        assert_eq!(changes.created.len(), 3);
    }

    #[test]
    fn r91_a_rename_is_told_once_and_implies_the_children() {
        let changes =
            changes(&[("a", 2), ("a/b", 3), ("ab", 4)], &[("z", 2), ("z/b", 3), ("ab", 4)]);
        assert_eq!(told(&changes), ["a>z"]);
        assert_eq!(changes.moved.len(), 2);
    }

    #[test]
    fn r91_a_parent_that_is_only_a_name_is_renamed_once_too() {
        assert_eq!(
            told(&changes(&[("a/b/c", 2), ("a/b/d", 3)], &[("x/b/c", 2), ("x/b/d", 3)])),
            ["a>x"]
        );
        let apart =
            changes(&[("a/b", 2), ("a/c", 3), ("x/y", 4)], &[("x/b", 2), ("x/c", 3), ("x/y", 4)]);
        assert_eq!(told(&apart), ["a/b>x/b", "a/c>x/c"]);
        let partly = changes(&[("a/b", 2), ("a/c", 3)], &[("x/b", 2), ("a/c", 3)]);
        assert_eq!(told(&partly), ["a/b>x/b"]);
    }

    #[test]
    fn r89_a_child_that_stayed_or_went_elsewhere_is_told_so() {
        let before = [("a", 2), ("a/b", 3), ("a/c", 4), ("a/d", 5)];
        let after = [("z", 2), ("a/b", 3), ("c", 4), ("z/d", 9)];
        let changes = changes(&before, &after);
        assert_eq!(told(&changes), ["a>z", "z/c>c", "z/b>a/b", "+z/d", "-z/d"]);
    }

    #[test]
    fn a_rename_no_listener_could_follow_is_told_as_gone_and_made() {
        let changes = changes(&[("b", 2), ("b/b", 3)], &[("a", 3), ("b/c/d", 2)]);
        assert_eq!(told(&changes), ["+a", "+b/c/d", "-b", "-b/b"]);
        assert!(changes.moved.is_empty());
    }

    /// A Maildir's topmost folder stays where it is: the messages go to a new mailbox. Whether their
    /// folders went with them makes no difference.
    #[test]
    fn r90_r93_r94_inbox_and_its_children_stay_when_it_is_renamed() {
        let before = [("INBOX", 1), ("INBOX/child", 2)];
        for (inbox, old) in [(1, 3), (9, 1)] {
            let changes = changes(&before, &[("INBOX", inbox), ("INBOX/child", 2), ("old", old)]);
            assert_eq!(told(&changes), ["+old"]);
            assert!(changes.moved.is_empty() && changes.created.len() == 1);
        }
    }

    #[test]
    fn r92_parents_created_for_a_new_name_are_implied() {
        let changes = changes(&[("a", 2)], &[("x", 5), ("x/y", 6), ("x/y/z", 2)]);
        assert_eq!(told(&changes), ["a>x/y/z"]);
    }

    #[test]
    fn r86_a_deleted_mailbox_leaves_its_children() {
        assert_eq!(told(&changes(&[("a", 2), ("a/b", 3)], &[("a/b", 3)])), ["-a"]);
    }

    #[test]
    fn a_folder_number_used_again_is_no_rename_where_uid_validity_differs() {
        let past = Past { print: 2, uid_validity: 7, is_dovecots: true };
        let now = |uid_validity| Present {
            folder: ".b".to_owned(),
            print: 2,
            uid_validity: Some(uid_validity),
            is_waiting: false,
        };
        let compare = |uid_validity| {
            told(&compare(&[("a", past)].into(), &[("b".to_owned(), now(uid_validity))].into()))
        };
        assert_eq!(compare(8), ["+b", "-a"]);
        assert_eq!(compare(7), ["a>b"]);
    }
}
