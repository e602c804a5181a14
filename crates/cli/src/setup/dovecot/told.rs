//! What was found, what will be done or was, and what is left to do: for people and as JSON.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::apply::Change;
use super::decide::Refusal;
use super::diff;
use super::doveconf::Version;
use super::facts::Found;
use super::programs::Session;
use super::render::{self, Source};
use crate::out::{self, Out};
use crate::show::clean;

/// All that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// How it ended.
    pub(super) state: State,
    /// Dovecot's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
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
    #[serde(skip)]
    lines_most: usize,
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
    difference: Vec<String>,
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
    /// Of a server that was looked at.
    pub(super) fn new(found: &Found, full: bool) -> Self {
        let version = found.facts.settings.version;
        let version = version.map(|Version(a, b, c)| format!("{a}.{b}.{c}")).unwrap_or_default();
        Self {
            version,
            lines_most: if full { usize::MAX } else { LINES_MOST },
            ..Self::bare(&found.facts.main)
        }
    }

    /// Of a server that nothing was asked of.
    pub(super) fn bare(main: &Path) -> Self {
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
            lines_most: LINES_MOST,
        }
    }

    /// With what stands in the way.
    pub(super) fn refused(mut self, refusals: Vec<Refusal>) -> Self {
        self.state = State::Refused;
        self.refusals = refusals;
        self
    }

    /// Puts in what will be done.
    pub(super) fn plan(&mut self, found: &Found, user: &str, changes: &[Change], before: &Session) {
        let facts = &found.facts;
        let namespaces = facts.settings.namespaces();
        let separator = before
            .separator
            .or_else(|| namespaces.iter().find_map(|namespace| namespace.separator))
            .unwrap_or('.');
        let shared: Vec<String> = namespaces
            .iter()
            .filter(|namespace| namespace.kind == "shared")
            .map(|namespace| namespace.prefix.clone())
            .collect();
        self.notes.push(format!(
            "{user} can be logged in; the levels of a mailbox's name are divided by {separator:?}"
        ));
        self.notes.extend(
            shared.iter().map(|prefix| format!("other users' mailboxes are below {prefix:?}")),
        );
        self.notes.push(match &facts.exporter {
            Some(exporter) => format!("Dovecot's exporter posts what the script can't know to {}", exporter.address),
            None => "without the exporter there are no reasons, no envelopes, no refusals for want of quota, and no Logins unless your userdb says the port (see docs/dovecot.md)".to_owned(),
        });
        if let Some(port) = facts.settings.imap_port().filter(|_| facts.settings.has_masters()) {
            let master = facts.settings.value("auth_master_user_separator").unwrap_or_default();
            self.notes.push(match master {
                "" => "there are master users, but auth_master_user_separator is not set, so that none can log in as somebody".to_owned(),
                separator => format!("a master user could log in at port {port} as user{separator}master (see docs/dovecot.md)"),
            });
        }
        let spool = &facts.places.spool;
        self.files.push(Shown {
            path: spool.display().to_string(),
            change: if spool.is_dir() { Becomes::Same } else { Becomes::New },
            about: "the folder through which lines are handed over: mail users put theirs in, only the hub reads",
            difference: Vec::new(),
        });
        let shown: Vec<Shown> = changes.iter().map(|change| self.shown(found, change)).collect();
        self.files.extend(shown);
        self.source = render::source(&Source {
            name: found.source.clone(),
            spool: spool.display().to_string(),
            separator,
            shared,
        });
        self.next.push(
            "doveadm reload (sessions that are open now stay unseen until they end)".to_owned(),
        );
        if found.config.sources.contains_key(&found.source) {
            self.next.push(format!(
                "restart the hub, whose configuration has the source {} already",
                found.source
            ));
        } else {
            self.next.push("restart the hub with the source in its configuration".to_owned());
        }
        self.next.push("postbell doctor".to_owned());
    }

    fn shown(&self, found: &Found, change: &Change) -> Shown {
        let places = &found.facts.places;
        let about = if change.path == places.script {
            "the script that each session runs: it writes one line for each change, and never fails a session"
        } else if change.path == places.exporter {
            "has Dovecot's exporter post to the hub; its secret is for root only"
        } else if change.new.is_some() {
            "loads the script; this is what takes effect at the next reload"
        } else {
            "of an earlier run"
        };
        let becomes = match (&change.old, &change.new) {
            (_, None) => Becomes::Gone,
            (None, Some(_)) => Becomes::New,
            (Some(old), Some(new)) if old == new => Becomes::Same,
            (Some(_), Some(_)) => Becomes::Changed,
        };
        let secret = found.facts.exporter.as_ref().map(|exporter| exporter.secret.as_str());
        let hide =
            |text: &str| secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret, "…"));
        let new = change.new.as_deref().map(hide).unwrap_or_default();
        let old = change.old.as_deref().map(hide);
        let difference = diff::shown(old.as_deref(), &new, self.lines_most);
        Shown { path: change.path.display().to_string(), change: becomes, about, difference }
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
        let mut lines = vec![format!("Dovecot {} with {}", self.version, self.main)];
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.push(String::new());
        lines.push("Nothing of Dovecot's own files changes. These are postbell's:".to_owned());
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
                let version = Some(&self.version).filter(|version| !version.is_empty());
                let version = version
                    .map_or_else(|| "Dovecot".to_owned(), |version| format!("Dovecot {version}"));
                lines.push(format!("{version} with {}: nothing was done", self.main));
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
        let mut lines =
            vec![String::new(), "✓ Done, and a login went well with it. Now:".to_owned()];
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
