//! `--help` of every command is what the manual shows.

use crate::run::run;

#[test]
fn every_commands_help_is_the_page_of_the_manual() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md"));
    let page = page.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut commands = 0;
    for section in page.split("\n## `").skip(1) {
        let (name, rest) = section.split_once("`\n\n```text\n").unwrap();
        let written = rest.split_once("\n```").unwrap().0;
        let mut arguments: Vec<&str> = name.split(' ').skip(1).collect();
        arguments.push("--help");
        let ended = run(folder.path(), &arguments);
        let shown: Vec<&str> = ended.out.lines().map(str::trim_end).collect();
        assert_eq!(shown.join("\n").trim_end(), written, "{name}");
        assert_eq!(ended.code, 0, "{name}");
        assert!(!written.contains('\u{1b}'), "{name}");
        commands += 1;
    }
    assert!(commands >= 20, "{commands}");
}

#[test]
fn the_version_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["--version"]);
    assert_eq!(ended.out, concat!("postbell ", env!("CARGO_PKG_VERSION"), "\n"));
}
