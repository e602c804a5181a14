//! Pages of the documentation that are made from the code. Not part of the published package.

#![expect(clippy::unwrap_used, reason = "a test's helper fails with the test")]

use std::collections::BTreeSet;
use std::path::Path;

use mail_event::binding;

#[test]
fn r20_the_page_says_what_the_table_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/binding.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, binding::markdown()).unwrap();
    }
    let told = std::fs::read_to_string(page).unwrap_or_default();
    assert!(told == binding::markdown(), "run UPDATE_DOCS=1 cargo test -p mail-event --test pages");
}

/// Names of our own are submitted to IANA from this page, so it holds all of them and no other.
#[test]
fn r154_r155_r156_every_name_of_our_own_is_in_the_registry_page() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let page = std::fs::read_to_string(root.join("docs/registry.md")).unwrap();
    assert!(page.contains("*IETF Review* (erratum 1748"));
    let listed: BTreeSet<_> = names(&page).collect();
    let mut used = BTreeSet::new();
    for room in std::fs::read_dir(root.join("crates")).unwrap() {
        collect(&room.unwrap().path().join("src"), &mut used);
    }
    let missing: Vec<_> = used.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/registry.md: {missing:?}");
    // Put together from two parts in the code.
    let made = ["copyFromMailboxID", "copyFromUidset", "movedToMailboxID", "movedToUidset"];
    let unused: Vec<_> =
        listed.difference(&used).filter(|name| !made.contains(&&***name)).collect();
    assert!(unused.is_empty(), "in docs/registry.md alone: {unused:?}");
    for name in listed {
        assert!(page.contains(&format!("| `{PREFIX}{name}")), "{name} has no row");
        assert!(PREFIX.len() + name.len() <= 32, "{name} is too long for syslog's PARAM-NAME");
    }
}

fn collect(folder: &Path, used: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, used);
        } else if path.extension().is_some_and(|end| end == "rs") {
            // Tests may name what there is not.
            if path.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            used.extend(names(code));
        }
    }
}

/// The names in a text, without the prefix; `object.` stands for all that begin so.
fn names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(PREFIX).skip(1).filter_map(|rest| {
        let name: String =
            rest.chars().take_while(|one| one.is_alphanumeric() || *one == '.').collect();
        let open = ["object.", "unregistered."].into_iter().find(|open| name.starts_with(open));
        let name = open.map_or_else(|| name.trim_end_matches('.').to_owned(), str::to_owned);
        (!name.is_empty()).then_some(name)
    })
}

const PREFIX: &str = "vnd.postbell.";
