//! `postbell doctor`: what is wrong, and what to do about it.

mod asking;
mod checks;
mod cyrus;
mod dovecot;
mod hub;
mod loss;
mod spool;

use std::path::PathBuf;

use clap::Args;
use postbell_engine::in_words;
use serde::Serialize;

use crate::connection::ConnectionArgs;
use crate::ending::Ending;
use crate::out::{self, Out};
use crate::show::clean;

/// Look over the configuration, the data folder, the hub, its sources and its subscriptions.
///
/// Each check is a line: ✓ right, ! worth knowing, ✗ wrong, with what to do about it below. Exit
/// code 1 where anything is wrong. With --url and a token, and neither --config nor --data, nothing on
/// this machine is looked at: only what that hub says.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell doctor
  postbell doctor --config postbell.toml
  postbell doctor --accept-loss --config postbell.toml
  postbell doctor --json | jq '.checks[] | select(.state == \"wrong\")'")]
pub(crate) struct DoctorArgs {
    /// Print the checks as JSON.
    #[arg(long)]
    json: bool,
    /// Make a damaged journal fit to be started again, without what is lost of it. Only where no
    /// backup helps, with the hub stopped and a copy of the data folder kept.
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask before that.
    #[arg(short, long, requires = "accept_loss")]
    yes: bool,
    /// The imapd.conf of the Cyrus that is a source, for what is wrong with its settings.
    #[arg(long, value_name = "FILE", default_value = "/etc/imapd.conf")]
    imapd_conf: PathBuf,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<Ending> {
    if args.accept_loss {
        return loss::accept(&args.connection.config()?, args.yes);
    }
    let mut report = Report::default();
    if args.connection.is_elsewhere() {
        // What is on this machine is none of that hub's.
        hub::ask(&args.connection, None, &mut report).await;
    } else if let Some(config) = checks::configuration(&args.connection, &mut report) {
        checks::data_folder(&config, &mut report);
        checks::token(&config, &mut report);
        checks::keys(&config, &mut report);
        checks::certificate(&config, &mut report);
        checks::clock(&config, &mut report);
        checks::roots(&config, &mut report);
        dovecot::spools(&config, &mut report);
        cyrus::ways(&config, &args.imapd_conf, &mut report);
        let is_held = checks::holder(&config, &mut report);
        if !is_held {
            checks::both_files(&config, &mut report);
        }
        if is_held || args.connection.names_url() {
            hub::ask(&args.connection, Some(&config), &mut report).await;
        }
    }
    let wrong = report.checks.iter().any(|check| check.state == State::Wrong);
    if args.json {
        out::json(&report)?;
    } else {
        report.print()?;
    }
    Ok(if wrong { Ending::No } else { Ending::Done })
}

/// Everything looked at, in order.
#[derive(Debug, Default, Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Right,
    Notice,
    Wrong,
}

impl Report {
    fn right(&mut self, name: &str, detail: impl Into<String>) {
        self.put(name, State::Right, detail.into(), None);
    }

    fn notice(&mut self, name: &str, detail: impl Into<String>, remedy: &str) {
        self.put(name, State::Notice, detail.into(), Some(remedy));
    }

    fn wrong(&mut self, name: &str, detail: impl Into<String>, remedy: &str) {
        self.put(name, State::Wrong, detail.into(), Some(remedy));
    }

    fn put(&mut self, name: &str, state: State, detail: String, remedy: Option<&str>) {
        let remedy = remedy.filter(|remedy| !remedy.is_empty()).map(clean);
        self.checks.push(Check {
            name: clean(name),
            state,
            detail: clean(&in_words(&detail)),
            remedy,
        });
    }

    fn print(&self) -> std::io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let mut out = Out::new();
        for check in &self.checks {
            let (mark, colour) = match check.state {
                State::Right => ("✓", anstyle::AnsiColor::Green),
                State::Notice => ("!", anstyle::AnsiColor::Yellow),
                State::Wrong => ("✗", anstyle::AnsiColor::Red),
            };
            let style = colour.on_default().bold();
            out.line(format_args!(
                "{style}{mark}{style:#} {:<width$}  {}",
                check.name, check.detail
            ))?;
            if let Some(remedy) = &check.remedy {
                out.line(format_args!("    → {remedy}"))?;
            }
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `judge` says of a case, added to a snapshot's text.
    pub(crate) fn told(judge: impl FnOnce(&mut Report), case: &str, text: &mut String) {
        let mut report = Report::default();
        judge(&mut report);
        for check in &report.checks {
            text.push_str(&format!("{case}: {:?} {}: {}\n", check.state, check.name, check.detail));
            if let Some(remedy) = &check.remedy {
                text.push_str(&format!("    → {remedy}\n"));
            }
        }
    }
}
