//! `postbell setup dovecot`: our script and its configuration put into a Dovecot, and taken away.
//!
//! What is to be done is decided on facts ([`decide`], [`order`]); then it is tried on a copy of the
//! configuration beside the real one, with a real login; only then is anything written, tried once
//! more, and taken back where that fails.

mod decide;
mod doveconf;
mod facts;
mod files;
mod order;
mod plan;
mod programs;
mod remove;
mod render;
mod secret;
mod trial;

use std::path::PathBuf;

use clap::Args;

use super::told::{Report, State};
use super::{HowArgs, OwnArgs, ask, conclude, own};
use crate::ending::Ending;
use programs::Programs;

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
    #[command(flatten)]
    how: HowArgs,
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
    let report =
        if args.how.remove { remove::run(args, &programs)? } else { set_up(args, &programs)? };
    conclude(report, &args.how)
}

impl DovecotArgs {
    /// The source's name.
    fn source(&self) -> &str {
        self.own.source.as_deref().unwrap_or(NAME)
    }
}

fn set_up(args: &DovecotArgs, programs: &Programs) -> anyhow::Result<Report> {
    let found = facts::find(args, programs)?;
    let refusals = decide::refusals(&found.facts);
    let mut report = plan::report(&found, args.how.full);
    let Ok(placement) = decide::placement(&found.facts) else {
        return Ok(report.refused(refusals));
    };
    if !refusals.is_empty() {
        return Ok(report.refused(refusals));
    }
    let table_file = args.own.table_file(found.config_file.as_deref())?;
    let user = facts::test_user(args, programs, &found)?;
    // Before anything else: a server whose logins fail today would be laid to our charge.
    let before = trial::now(programs, &found, &user)?;
    let changes = files::changes(&found, &placement)?;
    plan::put(&mut report, &found, &user, &changes, &before);
    if !ask::is_wanted(&args.how, &mut report)? {
        return Ok(report);
    }
    trial::before(programs, &found, &placement, (&user, &before))?;
    files::all(&found, &changes, || trial::after(programs, &found, &placement, (&user, &before)))?;
    if let Some(file) = table_file {
        report.written = Some(own::write(NAME, file, args.source(), &report.source)?);
    }
    report.state = State::Done;
    Ok(report)
}

/// What it is called here, and its source if nobody says another name.
const NAME: &str = "dovecot";
