//! The threat model names tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all functions in the Rust files below `folder`.
fn functions(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            into.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn r167_each_property_names_its_mechanism_and_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&root.join("crates"), &mut known);
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
