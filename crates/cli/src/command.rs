//! The command line: every command, and which code it runs.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::ending::{self, Ending, Misuse};
use crate::{
    bench, config, demo, doctor, journal, notifyd, on, pages, publish, serve, setup, sources,
    subscriptions, tail, tokens, top, validate,
};

/// Tells the world what happens in a mail store.
///
/// postbell watches a mail store, turns what it sees into the events of RFC 5423, keeps them in a
/// durable journal and delivers them to webhooks and streams.
#[derive(Debug, Parser)]
#[command(
    name = "postbell",
    version,
    max_term_width = 100,
    after_help = "\
Begin with:
  postbell demo                           see it work, in a temporary folder
  postbell serve --config postbell.toml   run the hub
  postbell tail                           watch what happens

Exit codes: 0 done, 1 the answer is no, 2 used wrongly, 3 could not."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See everything at once on this machine: a Maildir, the hub, live events.
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Notifyd(notifyd::NotifydArgs),
    Tail(tail::TailArgs),
    On(on::OnArgs),
    Publish(publish::PublishArgs),
    Validate(validate::ValidateArgs),
    Subscriptions(subscriptions::SubscriptionsArgs),
    Sources(sources::SourcesArgs),
    Tokens(tokens::TokensArgs),
    Top(top::TopArgs),
    Journal(journal::JournalArgs),
    Config(config::ConfigArgs),
    Setup(setup::SetupArgs),
    Doctor(doctor::DoctorArgs),
    /// Measure this machine: the project's own load, against a raw probe in the same run.
    Bench(bench::BenchArgs),
    Completions(pages::CompletionsArgs),
    Man(pages::ManArgs),
}

/// Reads the arguments, runs the command and gives its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if error.use_stderr()
                && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            let told = one_line(&error.render().to_string());
            return ending::conclude(Err(Misuse(told).into()));
        }
        Err(help) => help.exit(),
    };
    ending::conclude(match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Notifyd(args) => notifyd::run(args),
        Command::Tail(args) => wait(tail::run(args)),
        Command::On(args) => wait(on::run(args)),
        Command::Publish(args) => wait(publish::run(args)),
        Command::Validate(args) => validate::run(&args),
        Command::Subscriptions(args) => wait(subscriptions::run(args)),
        Command::Sources(args) => wait(sources::run(args)),
        Command::Tokens(args) => wait(tokens::run(args)),
        Command::Top(args) => wait(top::run(args)),
        Command::Journal(args) => journal::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Setup(args) => setup::run(args),
        Command::Doctor(args) => wait(doctor::run(args)),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    })
}

/// What is wrong with the arguments, and what was perhaps meant, on the one line errors have.
fn one_line(told: &str) -> String {
    let told = told.strip_prefix("error: ").unwrap_or(told);
    let mut line = String::new();
    for part in told.lines().map(str::trim) {
        if part.is_empty() || part.starts_with("Usage:") || part.starts_with("For more") {
            continue;
        }
        let (before, part) = match part.strip_prefix("tip: ") {
            Some(tip) => ("; ", tip),
            None => (" ", part),
        };
        if !line.is_empty() {
            line.push_str(before);
        }
        line.push_str(part);
    }
    line.push_str(" (see --help)");
    line
}

/// Runs a command that asks the hub; one thread is enough for that.
fn wait(command: impl Future<Output = anyhow::Result<Ending>>) -> anyhow::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no async runtime")?.block_on(command)
}
