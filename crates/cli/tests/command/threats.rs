//! The threat model names tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all tests in the Rust files below `folder`.
fn tests_in(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            into.extend(tests(&text).map(str::to_owned));
        }
    }
}

/// The names of the functions in a file that have a test's attribute: right above them, or above
/// other attributes and comments of theirs.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line == "#[test]"
            || line.starts_with("#[tokio::test]")
            || line.starts_with("#[tokio::test(")
        {
            is_test = true;
            return None;
        }
        if line.is_empty() || line.starts_with("//") || line.starts_with("#[") {
            return None;
        }
        let was_test = std::mem::take(&mut is_test);
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        name.split(['(', '<']).next().filter(|_| was_test)
    })
}

#[test]
fn a_function_is_a_test_by_its_attribute_alone() {
    // Not as an attribute is written, lest these be taken for tests themselves.
    let text = "
        // A test of fn in_a_comment() {}
        @[test]
        fn plain() { let text = \"fn in_a_text()\"; fn inside() {} }
        fn helper() {}
        @[tokio::test(flavor = \"multi_thread\", worker_threads = 2)]
        #[expect(clippy::panic, reason = \"a test\")]
        /// What it claims.
        async fn waits() {
        }
        #[test_case]
        fn other() {}
        proptest! {
            @[test]
            fn law(
                one in any::<u8>(),
            ) {}
        }
        @[test]
        struct Nothing;
        fn after() {}
    ";
    let text = text.replace('@', "#");
    assert_eq!(tests(&text).collect::<Vec<_>>(), ["plain", "waits", "law"]);
}

#[test]
fn r167_each_property_names_its_mechanism_and_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut known = BTreeSet::new();
    tests_in(&root.join("crates"), &mut known);
    assert!(known.len() > 1_000, "{}", known.len());
    let properties =
        ["Authentication", "Authorization", "Privacy", "Message integrity", "Denial of service"];
    for property in properties {
        let section = page.split(&format!("\n## {property}\n")).nth(1).unwrap_or_else(|| {
            panic!("{property} has no section");
        });
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        let mut tests = 0;
        for row in rows {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 3, "{row}");
            assert!(cells[1].trim().len() > 10, "{property} without a mechanism: {row}");
            // What stands between backticks.
            let names: Vec<_> = cells[2].split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{property} without a test: {row}");
            for name in names {
                assert!(known.contains(name), "{property}: there is no test {name}");
                tests += 1;
            }
        }
        assert!(tests >= 4, "{property}: {tests}");
    }
}
