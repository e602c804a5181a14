//! `postbell setup dovecot`: our script and its configuration put into a Dovecot, and taken away.
//!
//! What is to be done is decided on facts ([`decide`], [`order`]); then it is tried on a copy of the
//! configuration beside the real one, with a real login; only then is anything written, tried once
//! more, and taken back where that fails.

mod apply;
mod ask;
mod decide;
mod diff;
mod doveconf;
mod facts;
mod order;
mod own;
mod programs;
mod remove;
mod render;
mod spool;
mod told;
mod trial;

use std::path::PathBuf;

use clap::Args;

use crate::ending::Ending;
use programs::Programs;
use told::{Report, State};

/// Have an unmodified Dovecot 2.3 tell postbell what happens in it.
///
/// Finds Dovecot's version and configuration, says what will be done and shows it line by line,
/// asks, writes a script and a snippet of configuration beside Dovecot's own files (which stay as
/// they are), and logs a user in to see that it works; where it doesn't, everything is taken back.
/// Nothing takes effect before `doveadm reload`.
///
/// Exit code 1 where it is refused or not wanted, 3 where it could not be done.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell setup dovecot --dry-run
  postbell setup dovecot --test-user alice@example.org
  postbell setup dovecot --yes --write-config
  postbell setup dovecot --remove")]
pub(super) struct DovecotArgs {
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
    /// A user to log in for the test, without password [default: the first that Dovecot lists].
    #[arg(long, value_name = "USER")]
    test_user: Option<String>,
    /// Leave Dovecot's exporter out: no reasons, envelopes and refusals for want of quota.
    #[arg(long)]
    no_exporter: bool,
    #[command(flatten)]
    own: OwnArgs,
    #[command(flatten)]
    server: ServerArgs,
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
    /// The source's name there.
    #[arg(long, value_name = "NAME", default_value = "dovecot", value_parser = own::name)]
    source: String,
    /// The account the hub runs as [default: the owner of its data folder].
    #[arg(long, value_name = "USER")]
    hub_user: Option<String>,
    /// The folder through which Dovecot hands its lines over [default:
    /// /var/spool/postbell/NAME].
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
}

/// Dovecot's side.
#[derive(Args, Debug)]
#[command(next_help_heading = "Dovecot")]
struct ServerArgs {
    /// Dovecot's main configuration file.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "/etc/dovecot/dovecot.conf")]
    dovecot_config: PathBuf,
    /// Dovecot's program of that name.
    #[arg(long, value_name = "PATH", default_value = "doveconf")]
    doveconf: PathBuf,
    /// Dovecot's program of that name.
    #[arg(long, value_name = "PATH", default_value = "doveadm")]
    doveadm: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &DovecotArgs) -> anyhow::Result<Ending> {
    let programs =
        Programs { doveconf: args.server.doveconf.clone(), doveadm: args.server.doveadm.clone() };
    let mut report =
        if args.remove { remove::run(args, &programs)? } else { set_up(args, &programs)? };
    report.print(args.json)?;
    Ok(match report.state {
        State::Done | State::Planned | State::Removed => Ending::Done,
        State::Refused | State::Unwanted => Ending::No,
    })
}

fn set_up(args: &DovecotArgs, programs: &Programs) -> anyhow::Result<Report> {
    let found = facts::find(args, programs)?;
    let refusals = decide::refusals(&found.facts);
    let mut report = Report::new(&found, args.full);
    let Ok(placement) = decide::placement(&found.facts) else {
        return Ok(report.refused(refusals));
    };
    if !refusals.is_empty() {
        return Ok(report.refused(refusals));
    }
    let user = facts::test_user(args, programs, &found)?;
    // Before anything else: a server whose logins fail today would be laid to our charge.
    let before = trial::now(programs, &found, &user)?;
    let changes = apply::changes(&found, &placement)?;
    report.plan(&found, &user, &changes, &before);
    if args.dry_run {
        report.state = State::Planned;
        return Ok(report);
    }
    if !args.yes && !ask::agreed(&mut report, args.json)? {
        report.state = State::Unwanted;
        return Ok(report);
    }
    trial::before(programs, &found, &placement, (&user, &before))?;
    apply::all(&found, &changes, || trial::after(programs, &found, &placement, (&user, &before)))?;
    if args.own.write_config {
        report.written = Some(own::write(&found, &report.source)?);
    }
    report.state = State::Done;
    Ok(report)
}
