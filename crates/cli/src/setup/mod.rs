//! `postbell setup`: what has to be put into mail software, put there and taken away again.
//!
//! What is the same for each software is here; what it needs and where that goes is in its folder.

mod apply;
mod ask;
pub(crate) mod cyrus;
mod diff;
mod dovecot;
mod own;
mod remove;
mod spool;
mod told;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::ending::Ending;
use told::{Report, State};

/// Set up what a source needs in the mail software it watches.
#[derive(Args, Debug)]
pub(crate) struct SetupArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cyrus(Box<cyrus::CyrusArgs>),
    Dovecot(Box<dovecot::DovecotArgs>),
}

/// How it is to be done.
#[derive(Args, Debug)]
struct HowArgs {
    /// Do it without asking.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Take away what was written, and leave nothing.
    #[arg(long)]
    remove: bool,
    /// With --remove: also take a spool away that still holds lines.
    #[arg(long, requires = "remove")]
    force: bool,
    /// Print what was found and done as JSON.
    #[arg(long)]
    json: bool,
    /// Show new files whole.
    #[arg(long)]
    full: bool,
}

/// The hub's side.
#[derive(Args, Debug)]
#[command(next_help_heading = "postbell")]
struct OwnArgs {
    /// The hub's configuration [default: /etc/postbell/postbell.toml, where it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Add the source to that file, or with --remove take it out again.
    #[arg(long)]
    write_config: bool,
    /// The source's name there [default: the software's].
    #[arg(long, value_name = "NAME", value_parser = own::name)]
    source: Option<String>,
    /// The account the hub runs as [default: the owner of its data folder].
    #[arg(long, value_name = "USER")]
    hub_user: Option<String>,
    /// The folder through which lines are handed over [default: /var/spool/postbell/NAME].
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: SetupArgs) -> anyhow::Result<Ending> {
    match args.command {
        Command::Cyrus(args) => cyrus::run(&args),
        Command::Dovecot(args) => dovecot::run(&args),
    }
}

/// Tells how it ended.
fn conclude(mut report: Report, how: &HowArgs) -> anyhow::Result<Ending> {
    report.print(how.json)?;
    Ok(match report.state {
        State::Done | State::Planned | State::Removed => Ending::Done,
        State::Refused | State::Unwanted => Ending::No,
    })
}

/// A path from the root on.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
