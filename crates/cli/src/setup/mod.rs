//! `postbell setup`: what has to be put into mail software, put there and taken away again.

mod dovecot;

use clap::{Args, Subcommand};

use crate::ending::Ending;

/// Set up what a source needs in the mail software it watches.
#[derive(Args, Debug)]
pub(crate) struct SetupArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dovecot(Box<dovecot::DovecotArgs>),
}

/// Runs the command.
pub(crate) fn run(args: SetupArgs) -> anyhow::Result<Ending> {
    match args.command {
        Command::Dovecot(args) => dovecot::run(&args),
    }
}
