//! What mailboxes are called: by whoever names one, by its owner, and in what is told.
//!
//! The script, the exporter and IMAP's LIST all name mailboxes, and each mailbox must come out
//! under one name, or it would have two URIs.

use mail_event::mutf7;

use crate::ask::NamingScope;

/// How Dovecot's users name mailboxes.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// What stands between the levels of a name.
    separator: char,
    shared: Vec<Shared>,
}

/// What other users' mailboxes begin with: what stands before the owner, and what after.
#[derive(Clone, Debug)]
struct Shared {
    before: String,
    after: String,
}

impl Names {
    /// `shared` are prefixes of other users' mailboxes, `%u` standing for the owner, and one
    /// without a `%u` or with nothing after it for none.
    pub(crate) fn new(separator: char, shared: &[String]) -> Self {
        let parts = |prefix: &String| {
            let (before, after) = prefix.split_once("%u")?;
            let is_one = !after.is_empty();
            is_one.then(|| Shared { before: before.to_owned(), after: after.to_owned() })
        };
        Self { separator, shared: shared.iter().filter_map(parts).collect() }
    }

    /// What stands between the levels of a name.
    pub(crate) fn separator(&self) -> char {
        self.separator
    }

    /// Whose mailbox `user` means by `name`, and what its owner calls it; both names with
    /// Dovecot's separator.
    pub(crate) fn place(&self, user: &str, name: &str) -> (String, String) {
        let found = self.shared.iter().find_map(|one| one.split(name, self.separator));
        let (owner, name) = found.unwrap_or((user, name));
        (owner.to_owned(), self.inbox_in_capitals(name))
    }

    /// What others call a mailbox of `owner`'s, if they can name it at all.
    pub(crate) fn of_others(&self, owner: &str, name: &str) -> Option<String> {
        let Shared { before, after } = self.shared.first()?;
        Some(match name {
            // The prefix alone is the INBOX.
            "INBOX" if after.chars().eq([self.separator]) => format!("{before}{owner}"),
            _ => format!("{before}{owner}{after}{name}"),
        })
    }

    /// INBOX is the same in any case, and so is the level its children stand below, to Dovecot.
    fn inbox_in_capitals(&self, name: &str) -> String {
        let (first, rest) = match name.find(self.separator) {
            Some(end) => name.split_at_checked(end).unwrap_or((name, "")),
            None => (name, ""),
        };
        match first.eq_ignore_ascii_case("INBOX") {
            true => format!("INBOX{rest}"),
            false => name.to_owned(),
        }
    }
}

impl NamingScope for Names {
    fn is_of_others(&self, name: &str) -> bool {
        let befores = self.shared.iter().map(|one| one.before.as_str());
        befores.filter(|before| !before.is_empty()).any(|before| name.starts_with(before))
    }

    /// A `/` within a level changes places with the separator, so that no two mailboxes are told
    /// as one.
    fn told(&self, name: &str) -> String {
        let name = self.inbox_in_capitals(name);
        if self.separator == '/' {
            return name;
        }
        let swapped = |letter| match letter {
            '/' => self.separator,
            letter if letter == self.separator => '/',
            letter => letter,
        };
        name.chars().map(swapped).collect()
    }
}

impl Shared {
    /// The owner and the rest of a name below this prefix.
    fn split<'n>(&self, name: &'n str, separator: char) -> Option<(&'n str, &'n str)> {
        let rest = name.strip_prefix(&self.before)?;
        match rest.split_once(&self.after) {
            Some((owner, rest)) if !owner.is_empty() && !rest.is_empty() => Some((owner, rest)),
            // The prefix alone is the other's INBOX.
            None if !rest.is_empty() && self.after.chars().eq([separator]) => Some((rest, "INBOX")),
            _ => None,
        }
    }
}

/// A name as a client writes it, in modified UTF-7; one that isn't is taken as it is.
pub(crate) fn of_client(name: &str) -> String {
    mutf7::decode(name.as_bytes()).unwrap_or_else(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::exporter::refused_append;
    use super::*;
    use crate::ask::listed;

    fn names(separator: char) -> Names {
        Names::new(separator, &[format!("shared{separator}%u{separator}")])
    }

    fn place(separator: char, name: &str) -> (String, String) {
        let (owner, name) = names(separator).place("alice", name);
        (owner, names(separator).told(&name))
    }

    fn of(owner: &str, name: &str) -> (String, String) {
        (owner.to_owned(), name.to_owned())
    }

    #[test]
    fn a_name_is_told_with_slashes_and_its_owner() {
        assert_eq!(place('/', "shared/bob"), of("bob", "INBOX"));
        assert_eq!(place('/', "shared/bob/INBOX"), of("bob", "INBOX"));
        assert_eq!(place('/', "shared/"), of("alice", "shared/"));
        assert_eq!(place('/', "inbox/a"), of("alice", "INBOX/a"));
        assert_eq!(place('/', "inboxes/a"), of("alice", "inboxes/a"));
        assert_eq!(place('.', "inbox.a/b"), of("alice", "INBOX/a.b"));
        assert_eq!(place('.', "inbox/b"), of("alice", "inbox.b"));
        assert_eq!(place('.', "shared.bob.c.d"), of("bob", "c/d"));
    }

    #[test]
    fn a_prefix_without_an_owner_is_nobodys() {
        for prefix in ["public/", "shared/%u"] {
            let names = Names::new('/', &[prefix.to_owned()]);
            assert_eq!(names.place("alice", "shared/bob/x"), of("alice", "shared/bob/x"));
            assert!(names.of_others("alice", "x").is_none() && !names.is_of_others("shared/bob/x"));
        }
    }

    #[test]
    fn what_stands_behind_the_owner_may_be_longer_than_a_separator() {
        let names = Names::new('/', &["user/%u/mail/".to_owned()]);
        assert_eq!(names.place("alice", "user/bob/mail/x/y"), of("bob", "x/y"));
        assert_eq!(names.place("alice", "user/bob"), of("alice", "user/bob"));
        assert_eq!(names.of_others("bob", "INBOX").as_deref(), Some("user/bob/mail/INBOX"));
    }

    fn separator() -> impl Strategy<Value = char> {
        prop::sample::select(vec!['/', '.', '|'])
    }

    /// Levels as a server may have them: none empty, none with the separator.
    fn levels(separator: char) -> impl Strategy<Value = Vec<String>> {
        let level = prop_oneof![
            Just("INBOX".to_owned()),
            "[a-cIx/.|&ä\"\\\\ ]{1,4}".prop_map(move |text| text.replace(separator, "~")),
        ];
        prop::collection::vec(level, 1..4)
    }

    fn named() -> impl Strategy<Value = (char, String)> {
        separator().prop_flat_map(|separator| {
            levels(separator)
                .prop_map(move |levels| (separator, levels.join(&separator.to_string())))
        })
    }

    proptest! {
        #[test]
        fn a_mailbox_has_one_name_whoever_names_it((separator, name) in named()) {
            let names = names(separator);
            let told = |(owner, name): (String, String)| (owner, names.told(&name));
            let wanted = told(names.place("bob", &name));
            prop_assert_eq!(wanted.0.as_str(), "bob");

            // The owner's command, as the client may write it.
            let written = match name.strip_prefix("INBOX") {
                Some(rest) if rest.is_empty() || rest.starts_with(separator) => format!("iNbox{rest}"),
                _ => name.clone(),
            };
            let argument = mutf7::encode(&written).replace('\\', "\\\\").replace('"', "\\\"");
            let argument = format!("\"{argument}\"");
            prop_assert_eq!(&refused_append(&names, "bob", &argument).unwrap(), &wanted);

            // The server's list, asked as the owner.
            let line = format!("* LIST (\\HasNoChildren) \"{separator}\" {argument}\r\n");
            let on_the_list = listed(line.as_bytes()).unwrap();
            prop_assert_eq!(&("bob".to_owned(), names.told(&on_the_list)), &wanted);

            // Others, in the script and in a command.
            let theirs = names.of_others("bob", &name).unwrap();
            prop_assert!(names.is_of_others(&theirs));
            prop_assert_eq!(&told(names.place("alice", &theirs)), &wanted);
            let argument = mutf7::encode(&theirs).replace('\\', "\\\\").replace('"', "\\\"");
            let argument = format!("\"{argument}\"");
            prop_assert_eq!(&refused_append(&names, "alice", &argument).unwrap(), &wanted);
        }

        #[test]
        fn no_two_mailboxes_are_told_as_one((separator, one) in named(), (_, other) in named()) {
            let names = names(separator);
            prop_assert_eq!(one == other, names.told(&one) == names.told(&other));
        }
    }
}
