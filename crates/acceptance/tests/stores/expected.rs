//! What is expected of every store, one file a scenario.
//!
//! Each store's test writes its own part of the file anew and leaves the other's as it is. So
//! `INSTA_UPDATE=always cargo nextest run -p postbell-acceptance --no-fail-fast -E 'binary(stores)'`
//! takes over what both tell now; where that is the same and new, the one that is first to tell it
//! fails once. What no rule explains is then marked `?`, and the tests of both stores fail until
//! [`rules`](crate::rules) has one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shared::{Shared, Store};

/// Holds what `store` told against its part of `expected/<play>.snap`.
pub(crate) fn hold(store: Store, play: &str, told: &str) {
    let shared = read(play);
    let part =
        |one| if one == store { Some(Shared::parse(told)) } else { shared.as_ref()?.of(one) };
    agree(play, &Shared::woven(play, part(Store::Dovecot), part(Store::Cyrus)));
}

/// Holds what both tell against the file, and asks a rule for each difference.
fn agree(play: &str, shared: &Shared) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(FOLDER);
    settings.bind(|| insta::assert_snapshot!(play, shared));
    let odd = shared.unexplained();
    assert!(odd.is_empty(), "no rule of tests/stores/rules.rs explains of {play}:\n{odd}");
}

fn read(play: &str) -> Option<Shared> {
    let file = fs::read_to_string(folder().join(format!("{play}.snap"))).ok()?;
    // What insta writes ends with the second rule.
    file.splitn(3, "---\n").nth(2).map(Shared::parse)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores").join(FOLDER)
}

/// Beside this file.
const FOLDER: &str = "expected";

mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::rules::RULES;

    fn files() -> BTreeMap<String, Shared> {
        let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
        files
            .filter_map(|file| Some(file.to_str()?.strip_suffix(".snap")?.to_owned()))
            .map(|play| (play.clone(), read(&play).unwrap()))
            .collect()
    }

    /// Whether a test of the store's plays it.
    fn is_played(store: Store, play: &str) -> bool {
        let tests = match store {
            Store::Cyrus => include_str!("cyrus.rs"),
            Store::Dovecot => include_str!("dovecot.rs"),
        };
        let (scenario, act) = play.split_once('_').unwrap();
        [format!(": {scenario}::{act};"), format!("\"{play}\"")]
            .iter()
            .any(|one| tests.contains(one))
    }

    #[test]
    fn a_file_is_what_both_tell_and_each_difference_is_explained() {
        for (play, shared) in files() {
            let [dovecot, cyrus] = [Store::Dovecot, Store::Cyrus].map(|store| {
                let part = shared.of(store);
                assert_eq!(part.is_some(), is_played(store, &play), "{store:?} plays {play}");
                part
            });
            agree(&play, &Shared::woven(&play, dovecot, cyrus));
        }
    }

    /// `POSTBELL_WRITE_DOCS=1` writes the table anew.
    #[test]
    fn a_rule_has_a_play_that_needs_it_and_a_line_in_the_documentation() {
        let files = files();
        let marked: Vec<_> = (files.iter())
            .flat_map(|(play, shared)| shared.marked().map(|one| (play.clone(), one)))
            .collect();
        let mut table = HEAD.to_owned();
        for rule in RULES {
            let vain = rule.in_vain(&marked);
            assert!(vain.is_empty(), "{}: no play needs {vain:?}", rule.name);
            let plays = marked.iter().filter(|(_, one)| one.mark.rule == rule.name);
            let plays: BTreeSet<_> = plays.map(|(play, _)| play.as_str()).collect();
            table.push_str(&rule.line(&plays));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cyrus.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) =
            page.split_once(HEAD).expect("docs/cyrus.md has the head of the table");
        let after = rest.split_inclusive('\n').skip_while(|line| line.starts_with('|'));
        let wanted = format!("{before}{table}{}", after.collect::<String>());
        if std::env::var_os("POSTBELL_WRITE_DOCS").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap();
        assert!(written == wanted, "docs/cyrus.md is old: run with POSTBELL_WRITE_DOCS=1");
    }

    const HEAD: &str = "| rule | what differs | why | shown by |\n|---|---|---|---|\n";
}
