//! `postbell config`: is it right, and what is all of it?

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use postbell_hub::Config;

use crate::connection::{MACHINE_CONFIG, load};
use crate::ending::{Ending, note};
use crate::out::{Out, print};
use crate::show::clean;
use crate::validate::counted;

/// Check the configuration, or print the whole of it.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(CheckArgs),
    Print(PrintArgs),
}

/// Name every mistake in a configuration file, one a line.
///
/// Exit code 1 where there is one. No other file is read: whether a certificate, a key or a folder that
/// is named there can be used, `postbell doctor` and the hub's start say.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell config check
  postbell config check postbell.toml && systemctl restart postbell
  postbell config print | postbell config check -")]
struct CheckArgs {
    /// The file; - for standard input [default: /etc/postbell/postbell.toml].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Print every key with its value, its default and the reason, as a file the hub reads.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell config print
  postbell config print --config postbell.toml > all.toml")]
struct PrintArgs {
    /// The file [default: /etc/postbell/postbell.toml where it exists, else the defaults].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<Ending> {
    match &args.command {
        Command::Check(check) => check_file(check.file.as_deref()),
        Command::Print(whole) => {
            let config = load(whole.config.as_deref())?.unwrap_or_default();
            print(config.print().trim_end())?;
            Ok(Ending::Done)
        }
    }
}

fn check_file(file: Option<&Path>) -> anyhow::Result<Ending> {
    let file = file.unwrap_or_else(|| Path::new(MACHINE_CONFIG));
    let is_stdin = file == Path::new("-");
    let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
    // What can't be read is no wrong configuration: nothing could be checked.
    let unread = |error| anyhow::anyhow!("{name}: {}", crate::lines::plain(&error));
    let config = if is_stdin {
        Config::parse(&name, &std::io::read_to_string(std::io::stdin()).map_err(unread)?)
    } else {
        let opened = std::fs::File::open(file).map_err(unread)?;
        if opened.metadata().map_err(unread)?.is_dir() {
            return Err(unread(std::io::ErrorKind::IsADirectory.into()));
        }
        Config::load(file)
    };
    match config {
        Ok(config) => {
            let sources = counted(u64::try_from(config.sources.len()).unwrap_or(0), "source");
            note(&format!("{name}: right ({sources})"));
            Ok(Ending::Done)
        }
        Err(error) => {
            let mut out = Out::new();
            for line in error.lines() {
                out.line(clean(line))?;
            }
            out.flush()?;
            Ok(Ending::No)
        }
    }
}
