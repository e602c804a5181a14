//! `postbell setup cyrus`: a few settings put into a Cyrus, and taken away.
//!
//! Cyrus takes each setting once only and doesn't start where one is there twice, so ours stand in
//! a file of their own, which `imapd.conf` includes by one line, and what the operator has set
//! already stays. What is to be done is decided on facts ([`decide`]); Cyrus's own tool reads a
//! copy of it beside the real one; only then is anything written, read once more, and taken back
//! where that fails.

mod decide;
mod facts;
pub(crate) mod hazards;
pub(crate) mod imapd;
mod plan;
mod programs;
mod remove;
pub(crate) mod render;
mod services;
mod trial;

use std::path::PathBuf;

use clap::Args;

use super::apply::{self, at};
use super::told::{Report, State};
use super::{HowArgs, OwnArgs, ask, conclude, own, spool};
use crate::ending::Ending;

/// Have an unmodified Cyrus 3 tell postbell what happens in it.
///
/// Finds Cyrus's version and configuration, says what will be done and shows it line by line, asks,
/// writes the few settings that are known to be safe into a file beside imapd.conf, adds the one
/// line to imapd.conf that includes it, and has Cyrus's own tool read it; where that fails,
/// everything is taken back. Settings with which Cyrus aborts are refused with the reason.
///
/// No test event is made: that takes a login with a password, which this command hasn't.
///
/// Exit code 1 where it is refused or not wanted, 3 where it could not be done.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell setup cyrus --dry-run
  postbell setup cyrus --write-config
  postbell setup cyrus --yes --stream --with-junk
  postbell setup cyrus --remove --write-config")]
pub(super) struct CyrusArgs {
    #[command(flatten)]
    how: HowArgs,
    /// Also tell of mailboxes with \Junk, which Cyrus leaves out by itself.
    #[arg(long)]
    with_junk: bool,
    /// Have Cyrus connect for each event instead of sending it as a datagram: slower, and without
    /// a largest size.
    #[arg(long)]
    stream: bool,
    /// Where Cyrus sends to [default: /run/postbell/NAME/notify].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where systemd's units go that hold the socket and run `postbell notifyd` [default:
    /// /etc/systemd/system, where systemd runs].
    #[arg(long, value_name = "DIR", conflicts_with = "no_units")]
    units: Option<PathBuf>,
    /// Leave the units out, and run `postbell notifyd` otherwise.
    #[arg(long)]
    no_units: bool,
    #[command(flatten)]
    own: OwnArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Cyrus's side.
#[derive(Args, Debug)]
#[command(next_help_heading = "Cyrus")]
struct ServerArgs {
    /// Cyrus's imapd.conf.
    #[arg(short = 'C', long, value_name = "FILE", default_value = "/etc/imapd.conf")]
    imapd_conf: PathBuf,
    /// Cyrus's cyrus.conf.
    #[arg(short = 'M', long, value_name = "FILE", default_value = "/etc/cyrus.conf")]
    cyrus_conf: PathBuf,
    /// Cyrus's program of that name [default: where packages put it].
    #[arg(long, value_name = "PATH")]
    cyr_info: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &CyrusArgs) -> anyhow::Result<Ending> {
    let report = if args.how.remove { remove::run(args)? } else { set_up(args)? };
    conclude(report, &args.how)
}

impl CyrusArgs {
    /// The source's name.
    fn source(&self) -> &str {
        self.own.source.as_deref().unwrap_or(NAME)
    }
}

fn set_up(args: &CyrusArgs) -> anyhow::Result<Report> {
    let found = facts::find(args)?;
    let mut report = plan::report(&found, args.how.full);
    let refusals = decide::refusals(&found.facts);
    if !refusals.is_empty() {
        return Ok(report.refused(refusals));
    }
    let table_file = args.own.table_file(found.config_file.as_deref())?;
    let changes = render::changes(&found)?;
    plan::put(&mut report, &found, &changes);
    if !ask::is_wanted(&args.how, &mut report)? {
        return Ok(report);
    }
    trial::before(&found)?;
    apply::all(
        |undo| {
            let path = &found.facts.places.spool;
            let made = spool::make(path, found.hub, spool::Writers::Hub);
            undo.folders = made.map_err(|(path, error)| at(&path, &error))?;
            Ok(())
        },
        &changes,
        || trial::after(&found),
    )?;
    if let Some(file) = table_file {
        report.written = Some(own::write(NAME, file, args.source(), &report.source)?);
    }
    report.state = State::Done;
    Ok(report)
}

/// What it is called here, and its source if nobody says another name.
const NAME: &str = "cyrus";
