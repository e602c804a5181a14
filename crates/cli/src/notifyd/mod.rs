//! `postbell notifyd`: takes Cyrus's notifications in its notifyd's place.
//!
//! Two processes: one holds the sockets, accepts connections, and does nothing else; it starts the
//! other, which reads, again whenever that one ends. What waits in the sockets, and who waits for an
//! answer, outlives the reader. SIGTERM and SIGINT are heard by the first alone, which has the other
//! finish what is under way.

mod hold;
mod read;
mod signals;

use std::path::PathBuf;

use clap::Args;
use postbell_hub::{Config, SourceConfig, SourceKind};

use crate::connection::{self, MACHINE_CONFIG};
use crate::ending::{Ending, Misuse};
use crate::serve;

/// Take what Cyrus tells, in its notifyd's place.
///
/// Runs beside the hub, as a service of its own, and never waits for it: takes what Cyrus sends to
/// its notifysocket, writes it into the spool the hub reads, and only then lets Cyrus go on. Its
/// sockets are handed over by systemd (LISTEN_FDS) or made where the configuration of the source
/// says. SIGTERM and SIGINT end it in order, a second one at once: what Cyrus is saying is written
/// down first, for five seconds at most, while what comes waits where systemd holds the sockets, and
/// is refused elsewhere. SIGKILL as well loses nothing that systemd holds the sockets for; but over the
/// stream, what Cyrus is saying at that moment, which is told as lost.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell notifyd --config postbell.toml
  postbell notifyd --source cyrus")]
pub(crate) struct NotifydArgs {
    /// The configuration [default: /etc/postbell/postbell.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The source it is for, where the configuration has more than one Cyrus.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The process that reads; its sockets are its standard input and output.
    #[arg(long, hide = true, value_name = "PID")]
    read_for: Option<i32>,
    /// When the sockets were made, in nanoseconds since 1970.
    #[arg(long, hide = true, value_name = "NS")]
    began: Option<u64>,
    /// When connections were accepted that were open when a process before was killed, in nanoseconds
    /// since 1970.
    #[arg(long, hide = true, value_name = "NS", value_delimiter = ',')]
    left_open: Vec<u64>,
}

/// Runs the command.
pub(crate) fn run(args: NotifydArgs) -> anyhow::Result<Ending> {
    let Some(config) = connection::load(args.config.as_deref())? else {
        return Err(Misuse(format!(
            "{MACHINE_CONFIG}: there is no such file (give --config FILE)"
        ))
        .into());
    };
    let (name, source) = source(&config, args.source.as_deref())?;
    serve::log(&config.log)?;
    match args.read_for {
        Some(parent) => read::read(source, parent, &args),
        None => hold::hold(&args, name, source),
    }
}

/// The source it is for.
fn source<'c>(
    config: &'c Config,
    wanted: Option<&str>,
) -> anyhow::Result<(&'c str, &'c SourceConfig)> {
    let of_kind = |one: &&SourceConfig| one.kind == SourceKind::Cyrus;
    if let Some(name) = wanted {
        let found = config.sources.get_key_value(name).filter(|(_, one)| of_kind(one));
        let (name, source) = found.ok_or_else(|| {
            Misuse(format!("--source {name}: the configuration has no source of that name with kind = \"cyrus\""))
        })?;
        return Ok((name, source));
    }
    let mut all = config.sources.iter().filter(|(_, one)| of_kind(one));
    match (all.next(), all.next()) {
        (Some((name, source)), None) => Ok((name, source)),
        (None, _) => Err(Misuse(
            "the configuration has no source with kind = \"cyrus\" (docs/cyrus.md says how one is written)"
                .to_owned(),
        )
        .into()),
        (Some(_), Some(_)) => {
            Err(Misuse("there is more than one Cyrus: give --source NAME".to_owned()).into())
        }
    }
}

const NO_DESCRIPTOR: &str = "no file descriptor is left";
