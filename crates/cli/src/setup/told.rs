//! What was found, what will be done or was, and what is left to do: for people and as JSON.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::apply::Change;
use super::diff;
use crate::out::{self, Out};
use crate::show::clean;

/// Why setting up would break something, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Refusal {
    /// What is in the way.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// A refusal of these two.
pub(super) fn refusal(reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), remedy: remedy.into() }
}

/// What is said of one software and not of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Its name.
    pub(super) software: &'static str,
    /// Before the list of files.
    pub(super) files: &'static str,
    /// When all is done and tried.
    pub(super) done: &'static str,
}

/// All that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// How it ended.
    pub(super) state: State,
    /// The software's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) version: String,
    /// Its configuration.
    main: String,
    /// What stands in the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
    /// What was found out, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Our files and folders, and what becomes of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<Shown>,
    /// The table for postbell's own configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) source: String,
    /// What became of that configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) written: Option<String>,
    /// What is left to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) next: Vec<String>,
    /// Whether it is about taking away.
    #[serde(skip)]
    pub(super) is_removal: bool,
    #[serde(skip)]
    is_plan_shown: bool,
    /// Whether new files are shown whole.
    #[serde(skip)]
    pub(super) is_full: bool,
    #[serde(skip)]
    words: Words,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing was to be done yet.
    Planned,
    /// Something stands in the way.
    Refused,
    /// Nobody agreed.
    Unwanted,
    /// Written and tried.
    Done,
    /// Taken away.
    Removed,
}

/// A file or folder of ours.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// Where.
    pub(super) path: String,
    /// What becomes of it.
    pub(super) change: Becomes,
    /// What it is for.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) about: &'static str,
    /// Line by line.
    #[serde(skip)]
    pub(super) difference: Vec<String>,
}

impl Shown {
    /// Without what it is for.
    pub(super) fn bare(path: String, change: Becomes) -> Self {
        Self { path, change, about: "", difference: Vec::new() }
    }
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Becomes {
    /// It was not there.
    New,
    /// It was there in another form.
    Changed,
    /// It is as it will be.
    Same,
    /// It goes.
    Gone,
    /// It stays, though it was to go.
    Kept,
}

impl Report {
    /// Of a server that nothing was asked of.
    pub(super) fn bare(words: Words, main: &Path) -> Self {
        Self {
            state: State::Planned,
            version: String::new(),
            main: main.display().to_string(),
            refusals: Vec::new(),
            notes: Vec::new(),
            files: Vec::new(),
            source: String::new(),
            written: None,
            next: Vec::new(),
            is_removal: false,
            is_plan_shown: false,
            is_full: false,
            words,
        }
    }

    /// With what stands in the way.
    pub(super) fn refused(mut self, refusals: Vec<Refusal>) -> Self {
        self.state = State::Refused;
        self.refusals = refusals;
        self
    }

    /// Puts in a folder, which is made where it is not there.
    pub(super) fn folder(&mut self, path: &Path, about: &'static str) {
        let becomes = if path.is_dir() { Becomes::Same } else { Becomes::New };
        self.files.push(Shown { about, ..Shown::bare(path.display().to_string(), becomes) });
    }

    /// Puts in a file that is written or goes; `secret` is not shown.
    pub(super) fn file(&mut self, change: &Change, about: &'static str, secret: Option<&str>) {
        let becomes = match (&change.old, &change.new) {
            (_, None) => Becomes::Gone,
            (None, Some(_)) => Becomes::New,
            (Some(old), Some(new)) if old == new => Becomes::Same,
            (Some(_), Some(_)) => Becomes::Changed,
        };
        let hide =
            |text: &str| secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret, "…"));
        let new = change.new.as_deref().map(hide).unwrap_or_default();
        let old = change.old.as_deref().map(hide);
        let most = if self.is_full { usize::MAX } else { LINES_MOST };
        let difference = diff::shown(old.as_deref(), &new, most);
        let path = change.path.display().to_string();
        self.files.push(Shown { path, change: becomes, about, difference });
    }

    /// Prints what will be done, once.
    pub(super) fn show_plan(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_plan_shown, true) {
            return Ok(());
        }
        let mut out = Out::new();
        for line in self.plan_lines() {
            out.line(styled(&line))?;
        }
        out.flush()
    }

    fn plan_lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("{} {} with {}", self.words.software, self.version, self.main)];
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.push(String::new());
        lines.push(self.words.files.to_owned());
        for file in &self.files {
            lines.push(format!("  {} ({})", file.path, word(file.change)));
            lines.push(format!("    {}", file.about));
        }
        for file in self.files.iter().filter(|file| !file.difference.is_empty()) {
            lines.push(String::new());
            lines.push(format!("{}:", file.path));
            lines.extend(file.difference.iter().cloned());
        }
        lines
    }

    /// Prints the whole.
    pub(super) fn print(&mut self, json: bool) -> anyhow::Result<()> {
        if json {
            return out::json(self);
        }
        let mut lines = Vec::new();
        match self.state {
            State::Refused => {
                let software = format!("{} {}", self.words.software, self.version);
                lines.push(format!("{} with {}: nothing was done", software.trim(), self.main));
                for refusal in &self.refusals {
                    lines.push(format!("✗ {}", refusal.reason));
                    lines.push(format!("    → {}", refusal.remedy));
                }
            }
            State::Planned if self.is_removal => {
                lines.extend(self.removal_lines());
                lines.push("Nothing was done (--dry-run).".to_owned());
            }
            State::Planned => {
                self.show_plan()?;
                lines.push(String::new());
                lines.push("Nothing was done (--dry-run).".to_owned());
            }
            State::Unwanted if self.is_plan_shown => {}
            State::Unwanted => {
                self.show_plan()?;
                lines.push(String::new());
                lines.push(
                    "Nothing was done: nobody was there to be asked (--yes agrees).".to_owned(),
                );
            }
            State::Done => {
                self.show_plan()?;
                lines.extend(self.done_lines());
            }
            State::Removed => lines.extend(self.removal_lines()),
        }
        let mut out = Out::new();
        for line in lines {
            out.line(styled(&line))?;
        }
        Ok(out.flush()?)
    }

    fn removal_lines(&self) -> Vec<String> {
        let files = self.files.iter().map(|file| format!("{}: {}", file.path, word(file.change)));
        let next = self.next.iter().map(|next| format!("→ {next}"));
        files.chain(self.notes.iter().cloned()).chain(self.written.clone()).chain(next).collect()
    }

    fn done_lines(&self) -> Vec<String> {
        let mut lines = vec![String::new(), self.words.done.to_owned()];
        lines.extend(self.next.iter().map(|next| format!("→ {next}")));
        match &self.written {
            Some(written) => lines.push(written.clone()),
            None => {
                lines.push(String::new());
                lines.push(
                    "For the hub's configuration (or run this again with --write-config):"
                        .to_owned(),
                );
                lines.extend(self.source.lines().map(|line| format!("  {line}")));
            }
        }
        lines
    }
}

fn word(change: Becomes) -> &'static str {
    match change {
        Becomes::New => "new",
        Becomes::Changed => "changed",
        Becomes::Same => "there already",
        Becomes::Gone => "taken away",
        Becomes::Kept => "kept",
    }
}

/// Colours by how a line begins, and nothing from outside may take the terminal over.
fn styled(line: &str) -> String {
    let colour = match line.chars().next() {
        Some('+' | '✓') => anstyle::AnsiColor::Green,
        Some('-' | '✗') => anstyle::AnsiColor::Red,
        _ => return clean(line),
    };
    let style = colour.on_default();
    format!("{style}{}{style:#}", clean(line))
}

/// The snippet and the exporter's part are shown whole, the script is not.
const LINES_MOST: usize = 60;
