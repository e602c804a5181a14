//! `postbell completions` and `postbell man`, and the manual's page, all from one definition.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::command::Cli;
use crate::ending::{Ending, note};
use crate::lines::plain;

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell completions bash > /usr/share/bash-completion/completions/postbell
  postbell completions zsh > /usr/share/zsh/vendor-completions/_postbell
  postbell completions fish > ~/.config/fish/completions/postbell.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Write a man page for every command into a folder.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder; made where there is none.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "postbell", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Ending::Done)
}

/// Writes the pages.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<Ending> {
    let named = || args.folder.display().to_string();
    fs::create_dir_all(&args.folder).map_err(|error| anyhow!("{}: {}", named(), plain(&error)))?;
    clap_mangen::generate_to(Cli::command(), &args.folder).with_context(named)?;
    note(&format!("{}: the pages are written (read one with: man -l FILE)", args.folder.display()));
    Ok(Ending::Done)
}

/// `docs/cli.md`: every command's `--help`, as the program answers it.
#[cfg(test)]
fn markdown() -> String {
    let mut root = Cli::command().term_width(COLUMNS);
    root.build();
    let mut out = String::from(PREFACE);
    section(&root, &mut vec!["postbell".to_owned()], &mut out);
    out
}

#[cfg(test)]
fn section(command: &clap::Command, words: &mut Vec<String>, out: &mut String) {
    let asked = words.iter().cloned().chain(["--help".to_owned()]);
    let answer = Cli::command().term_width(COLUMNS).try_get_matches_from(asked);
    let help = answer.err().map(|help| help.render().to_string()).unwrap_or_default();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let (name, help) = (words.join(" "), help.join("\n"));
    out.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        words.push(inner.get_name().to_owned());
        section(inner, words, out);
        words.pop();
    }
}

#[cfg(test)]
const PREFACE: &str = "\
# The command\n
One program, `postbell`, is the hub and everything to look after it with. This page holds the `--help` of each of its
commands; `postbell man DIR` writes the same as man pages, `postbell completions SHELL` a script for the shell.\n
Exit codes: 0 done, 1 the answer is no, 2 used wrongly, 3 could not. An error is one line on standard error that names
what is at fault. Colours and progress show on a terminal only; `NO_COLOR` turns colours off there too.\n
This page is made from the definitions the program reads its arguments by: run
`POSTBELL_WRITE_DOCS=1 cargo test -p postbell pages`.\n";

#[cfg(test)]
const COLUMNS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// `POSTBELL_WRITE_DOCS=1` writes the page anew.
    #[test]
    fn the_page_of_the_manual_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        if std::env::var_os("POSTBELL_WRITE_DOCS").is_some() {
            fs::write(path, markdown()).unwrap();
        }
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/cli.md is old: run with POSTBELL_WRITE_DOCS=1");
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
