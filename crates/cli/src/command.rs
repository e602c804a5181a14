//! The command line: every command, and which code it runs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ending;

/// Tells the world what happens in a mail store.
#[derive(Debug, Parser)]
#[command(name = "postbell", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure this machine: the project's own load, against a raw probe in the same run.
    Bench(crate::bench::BenchArgs),
    /// See everything at once on this machine: a Maildir, the hub, live events.
    Demo(crate::demo::DemoArgs),
}

/// Reads the arguments, runs the command and gives its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    ending::conclude(match cli.command {
        Command::Bench(args) => crate::bench::run(args),
        Command::Demo(args) => crate::demo::run(args),
    })
}
