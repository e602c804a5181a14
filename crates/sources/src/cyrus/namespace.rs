//! Whose a mailbox is, and what its owner calls it.
//!
//! Cyrus names mailboxes in its events as an admin sees them: `user/alice/Work`, and with virtual
//! domains `user/alice/Work@example.org`. An IMAP URL names an owner, and the mailbox as that owner
//! sees it: `imap://alice@host/INBOX/Work` (RFC 5423, section 5, `uri`; A6).

use crate::ask::NamingScope;

/// What of Cyrus's settings decides about names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// `unixhierarchysep`: `/` between the levels where it is on, `.` where it is off.
    pub unix_separator: bool,
    /// `altnamespace`: an owner's mailboxes stand beside INBOX where it is on, below it where off.
    pub alternative: bool,
    /// `virtdomains` is not off: an admin sees the domain at the end of a name.
    pub domains: bool,
    /// `userprefix`: below which others' mailboxes are seen with `altnamespace`.
    pub user_prefix: String,
    /// `sharedprefix`: below which shared mailboxes are seen with `altnamespace`.
    pub shared_prefix: String,
}

impl Default for Namespace {
    /// As Cyrus 3 has it by itself.
    fn default() -> Self {
        Self {
            unix_separator: true,
            alternative: true,
            domains: false,
            user_prefix: "Other Users".to_owned(),
            shared_prefix: "Shared Folders".to_owned(),
        }
    }
}

/// A mailbox in somebody's naming scope.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Place {
    /// Whose it is; none for a shared one.
    pub(super) owner: Option<String>,
    /// What the owner calls it, or for a shared one an admin, with `/` between the levels.
    pub(super) name: String,
    /// It was deleted and is kept for a while (`delete_mode: delayed`): nobody sees it.
    pub(super) is_deleted: bool,
}

impl Namespace {
    /// Where the mailbox is that an admin calls `name`.
    pub(super) fn place(&self, name: &str) -> Place {
        let separator = self.separator();
        let is_deleted =
            name.strip_prefix("DELETED").is_some_and(|rest| rest.starts_with(separator));
        let shared = || {
            let (path, domain) = self.split_domain(name);
            let mut name = self.levels(path);
            name.extend(domain.into_iter().flat_map(|domain| ["@", domain]));
            Place { owner: None, name, is_deleted }
        };
        let Some(rest) = name.strip_prefix("user").and_then(|rest| rest.strip_prefix(separator))
        else {
            return shared();
        };
        let (rest, domain) = self.split_domain(rest);
        let (user, path) = match rest.split_once(separator) {
            Some((user, path)) => (user, Some(path)),
            None => (rest, None),
        };
        if user.is_empty() || path.is_some_and(str::is_empty) {
            return shared();
        }
        let mut owner = self.user(user);
        if let Some(domain) = domain {
            owner.push('@');
            owner.push_str(domain);
        }
        let name = match path {
            None => INBOX.to_owned(),
            Some(path) if self.alternative => self.beside_inbox(path),
            Some(path) => format!("{INBOX}/{}", self.levels(path)),
        };
        Place { owner: Some(owner), name, is_deleted }
    }

    /// What somebody else calls a mailbox; nothing where they can't see it.
    ///
    /// `viewer` sees it if it is of their own domain, or if there are no domains.
    pub(super) fn seen_by(&self, viewer: &str, name: &str) -> Option<String> {
        let separator = self.separator();
        let (path, domain) = self.split_domain(name);
        if self.domains && viewer.split_once('@').map(|(_, domain)| domain) != domain {
            return None;
        }
        let user = path.strip_prefix("user").and_then(|rest| rest.strip_prefix(separator));
        Some(match user {
            Some(rest) if self.alternative => format!("{}/{}", self.user_prefix, self.levels(rest)),
            None if self.alternative => format!("{}/{}", self.shared_prefix, self.levels(path)),
            _ => self.levels(path),
        })
    }

    /// Where the mailbox is that `viewer` calls `name` over IMAP, where it isn't their own.
    pub(super) fn of_others(&self, viewer: &str, name: &str) -> Option<Place> {
        Some(self.place(&self.admins_of_others(viewer, name)?))
    }

    /// What an admin calls the mailbox that `viewer` calls `name` over IMAP; nothing where it is none,
    /// but a level of names.
    pub(super) fn admins(&self, viewer: &str, name: &str) -> Option<String> {
        if self.is_of_others(name) {
            return self.admins_of_others(viewer, name);
        }
        let separator = self.separator();
        let within = |name: &'_ str, level: &str| -> Option<String> {
            Some(name.strip_prefix(level)?.strip_prefix(separator)?.to_owned())
        };
        let path = match name {
            INBOX => None,
            _ if self.alternative => {
                Some(within(name, ALT_PREFIX).unwrap_or_else(|| name.to_owned()))
            }
            _ => Some(within(name, INBOX)?),
        };
        let (user, domain) = match viewer.split_once('@').filter(|_| self.domains) {
            Some((user, domain)) => (user, Some(domain)),
            None => (viewer, None),
        };
        let user = if self.unix_separator { user.to_owned() } else { user.replace('.', "^") };
        let mut admins = format!("user{separator}{user}");
        if let Some(path) = path {
            admins.push(separator);
            admins.push_str(&path);
        }
        admins.extend(domain.into_iter().flat_map(|domain| ["@", domain]));
        Some(admins)
    }

    fn admins_of_others(&self, viewer: &str, name: &str) -> Option<String> {
        let separator = self.separator();
        let below = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix(separator);
        let mut name = match self.alternative {
            true => match below(&self.user_prefix) {
                Some(rest) => format!("user{separator}{rest}"),
                None => below(&self.shared_prefix)?.to_owned(),
            },
            false if self.is_of_others(name) => name.to_owned(),
            false => return None,
        };
        // Whoever is of no domain sees those of none.
        if let Some((_, domain)) = viewer.split_once('@').filter(|_| self.domains) {
            name.extend(["@", domain]);
        }
        Some(name)
    }

    /// What an owner's mailbox of this told name is called over IMAP.
    pub(super) fn asked(&self, told: &str) -> String {
        if self.unix_separator {
            return told.to_owned();
        }
        let swap = |letter| match letter {
            '/' => '.',
            '.' => '^',
            '^' => '/',
            other => other,
        };
        told.chars().map(swap).collect()
    }

    /// What stands between the levels of a name.
    pub(super) fn separator(&self) -> char {
        if self.unix_separator { '/' } else { '.' }
    }

    /// Whether a mailbox is below another, as an admin names them.
    pub(super) fn is_below(&self, name: &str, above: &str) -> bool {
        let ((path, domain), (above, its_domain)) =
            (self.split_domain(name), self.split_domain(above));
        let rest = path.strip_prefix(above).filter(|_| domain == its_domain);
        rest.is_some_and(|rest| rest.starts_with(self.separator()))
    }

    /// The domain at the end of an admin's name, taken off.
    fn split_domain<'n>(&self, name: &'n str) -> (&'n str, Option<&'n str>) {
        match name.rsplit_once('@') {
            // A level may hold an `@`, a domain no slash.
            Some((name, domain)) if self.domains && !domain.is_empty() && !domain.contains('/') => {
                (name, Some(domain))
            }
            _ => (name, None),
        }
    }

    /// A user's name: a dot in it is written `^` where dots stand between levels.
    fn user(&self, text: &str) -> String {
        if self.unix_separator { text.to_owned() } else { text.replace('^', ".") }
    }

    /// With `altnamespace` a mailbox called INBOX must not look like INBOX itself.
    fn beside_inbox(&self, path: &str) -> String {
        let name = self.levels(path);
        let first = name.split('/').next().unwrap_or_default();
        if first.eq_ignore_ascii_case(INBOX) || first == ALT_PREFIX {
            return format!("{ALT_PREFIX}/{name}");
        }
        name
    }

    /// A name as it is told: `/` between the levels, and none within one.
    fn levels(&self, name: &str) -> String {
        if self.unix_separator {
            return name.to_owned();
        }
        let swap = |letter| match letter {
            '.' => '/',
            '^' => '.',
            // A slash within a level must not look like one between two.
            '/' => '^',
            other => other,
        };
        name.chars().map(swap).collect()
    }
}

impl NamingScope for Namespace {
    fn is_of_others(&self, name: &str) -> bool {
        let below = |parent: &str| {
            let rest = name.strip_prefix(parent);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(self.separator()))
        };
        match self.alternative {
            true => below(&self.user_prefix) || below(&self.shared_prefix),
            false => !below(INBOX),
        }
    }

    fn told(&self, name: &str) -> String {
        self.levels(name)
    }
}

const INBOX: &str = "INBOX";

/// Cyrus's own word for where such mailboxes go (`altprefix`).
const ALT_PREFIX: &str = "Alt Folders";

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn namespace(unix_separator: bool, alternative: bool, domains: bool) -> Namespace {
        Namespace { unix_separator, alternative, domains, ..Namespace::default() }
    }

    fn shown(place: &Place) -> String {
        let owner = place.owner.as_deref().unwrap_or("-");
        format!("{owner} {}", place.name)
    }

    #[test]
    fn r147_names_are_the_owners_under_each_setting() {
        for (unix, alternative, domains, name, wanted) in [
            (true, false, false, "user/alice", "alice INBOX"),
            (true, false, false, "user/alice/A/b.c", "alice INBOX/A/b.c"),
            (true, true, false, "user/alice/A", "alice A"),
            (true, true, false, "user/john.doe/A", "john.doe A"),
            (false, false, false, "user.alice", "alice INBOX"),
            (false, false, false, "user.john^doe.A.b^c", "john.doe INBOX/A/b.c"),
            (false, true, false, "user.alice.a/b", "alice a^b"),
            (true, false, true, "user/alice/Lists@example.org", "alice@example.org INBOX/Lists"),
            (true, true, true, "user/alice@example.org", "alice@example.org INBOX"),
            (false, true, true, "user.alice.A.B@example.org", "alice@example.org A/B"),
            // Without domains a user's name may hold an @ of its own.
            (true, true, false, "user/alice@example.org/A", "alice@example.org A"),
            (true, true, true, "user/alice/a@b/c", "alice a@b/c"),
            (true, true, false, "user/alice/Inbox", "alice Alt Folders/Inbox"),
            (true, true, false, "team/plans", "- team/plans"),
            (false, true, true, "team.plans@example.org", "- team/plans@example.org"),
            (true, true, false, "user", "- user"),
            (true, true, false, "user/", "- user/"),
            (true, true, false, "user/alice/", "- user/alice/"),
            (true, true, false, "users/alice", "- users/alice"),
        ] {
            let place = namespace(unix, alternative, domains).place(name);
            assert_eq!(shown(&place), wanted, "{name}");
            assert!(!place.is_deleted);
        }
    }

    #[test]
    fn r150_others_see_it_where_the_namespace_puts_others() {
        let standard = namespace(true, false, false);
        let alternative = namespace(true, true, false);
        let domains = namespace(true, true, true);
        assert_eq!(standard.seen_by("bob", "user/alice/A").unwrap(), "user/alice/A");
        assert_eq!(standard.seen_by("bob", "team").unwrap(), "team");
        assert_eq!(alternative.seen_by("bob", "user/alice/A").unwrap(), "Other Users/alice/A");
        assert_eq!(alternative.seen_by("bob", "team").unwrap(), "Shared Folders/team");
        let name = "user/alice/A@example.org";
        assert_eq!(domains.seen_by("bob@example.org", name).unwrap(), "Other Users/alice/A");
        assert_eq!(domains.seen_by("bob@example.net", name), None);
        assert_eq!(domains.seen_by("bob", name), None);
    }

    #[test]
    fn what_others_see_leads_back_to_whose_it_is() {
        for (unix, alternative, domains, viewer, name, wanted) in [
            (true, true, false, "bob", "Other Users/ann", "ann INBOX"),
            (true, true, false, "bob", "Other Users/ann/Plans/A", "ann Plans/A"),
            (true, true, true, "bob@x.org", "Other Users/ann/Plans", "ann@x.org Plans"),
            (false, true, false, "bob", "Other Users.ann^b.Plans", "ann.b Plans"),
            (false, false, false, "bob", "user.ann.Plans", "ann INBOX/Plans"),
            (true, false, false, "bob", "user/ann", "ann INBOX"),
            (true, true, false, "bob", "Shared Folders/team/plans", "- team/plans"),
            (true, true, true, "bob@x.org", "Shared Folders/team", "- team@x.org"),
            (false, false, false, "bob", "team.plans", "- team/plans"),
        ] {
            let namespace = namespace(unix, alternative, domains);
            let place = namespace.of_others(viewer, name).unwrap();
            assert_eq!(shown(&place), wanted, "{name}");
            assert!(namespace.is_of_others(name));
        }
        let namespace = namespace(true, true, false);
        for own in ["INBOX", "Plans", "Shared Foldersx/y", "Other Usersx/ann"] {
            assert_eq!(namespace.of_others("bob", own), None, "{own}");
        }
    }

    #[test]
    fn only_an_owners_own_are_looked_at() {
        let (standard, alternative) = (namespace(true, false, false), namespace(true, true, false));
        for (name, is_own) in
            [("INBOX", true), ("INBOX/A", true), ("INBOXES", false), ("user/bob", false)]
        {
            assert_eq!(standard.is_of_others(name), !is_own, "{name}");
        }
        for (name, is_own) in [
            ("INBOX", true),
            ("A", true),
            ("Other Usersy", true),
            ("Other Users/bob/A", false),
            ("Shared Folders", false),
        ] {
            assert_eq!(alternative.is_of_others(name), !is_own, "{name}");
        }
    }

    #[test]
    fn what_was_deleted_is_nobodys() {
        let place = namespace(true, true, false).place("DELETED/user/alice/A/5F0C");
        assert!(place.is_deleted && place.owner.is_none());
        assert!(!namespace(false, true, false).place("DELETED/a").is_deleted);
    }

    /// A mailbox as Cyrus holds it: a user, a domain, levels.
    type Internal = (Option<String>, Option<String>, Vec<String>);

    /// How Cyrus writes it for an admin.
    fn external(namespace: &Namespace, (user, domain, levels): &Internal) -> String {
        let within = |text: &str| match namespace.unix_separator {
            true => text.to_owned(),
            false => text.replace('.', "^"),
        };
        let user = user.iter().flat_map(|user| ["user".to_owned(), within(user)]);
        let levels = levels.iter().map(|level| within(level));
        let separator = if namespace.unix_separator { "/" } else { "." };
        let name = user.chain(levels).collect::<Vec<_>>().join(separator);
        match domain {
            Some(domain) => format!("{name}@{domain}"),
            None => name,
        }
    }

    fn mailbox(domains: bool) -> impl Strategy<Value = Internal> {
        let level = prop_oneof!["[a-zA-Zä. ]{1,4}", Just("INBOX".to_owned())];
        let user = proptest::option::weighted(0.9, "[a-z][a-z.]{0,3}");
        let domain = match domains {
            true => proptest::option::of("[a-z]{1,3}\\.org").boxed(),
            false => Just(None).boxed(),
        };
        (user, domain, proptest::collection::vec(level, 0..4)).prop_filter(
            "a shared mailbox has a name, and isn't called user",
            |(user, _, levels)| {
                let first = levels.first().map(String::as_str);
                user.is_some() || !matches!(first, None | Some("user" | "DELETED"))
            },
        )
    }

    proptest! {
        #[test]
        fn no_two_mailboxes_get_one_place_and_the_owner_is_the_owner(
            (unix, alternative, domains, all) in any::<(bool, bool, bool)>().prop_flat_map(
                |(unix, alternative, domains)| (
                    Just(unix), Just(alternative), Just(domains),
                    proptest::collection::vec(mailbox(domains), 1..12),
                ))
        ) {
            let namespace = namespace(unix, alternative, domains);
            let mut places: HashMap<(Option<String>, String), Internal> = HashMap::new();
            for one in all {
                let name = external(&namespace, &one);
                let place = namespace.place(&name);
                let wanted = one.0.as_ref().map(|user| match &one.1 {
                    Some(domain) => format!("{user}@{domain}"),
                    None => user.clone(),
                });
                prop_assert_eq!(&place.owner, &wanted, "{}", name);
                if one.0.is_some() {
                    let levels: Vec<_> = place.name.split('/').collect();
                    let tail = &levels[levels.len() - one.2.len()..];
                    if one.2.is_empty() {
                        prop_assert_eq!(place.name.as_str(), "INBOX");
                    } else {
                        prop_assert_eq!(tail, &one.2[..], "{}", name);
                    }
                }
                // Over IMAP it is found again under the name it was told by.
                prop_assert_eq!(&namespace.told(&namespace.asked(&place.name)), &place.name);
                if let Some(owner) = &place.owner {
                    let asked = namespace.asked(&place.name);
                    if !namespace.is_of_others(&asked) {
                        prop_assert_eq!(namespace.admins(owner, &asked), Some(name));
                    }
                }
                if let Some(other) = places.insert((place.owner, place.name), one.clone()) {
                    prop_assert_eq!(other, one);
                }
            }
        }
    }
}
