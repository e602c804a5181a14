//! The command line: every command, and which code it runs.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::ending::{self, Ending};
use crate::{
    bench, config, demo, doctor, pages, publish, serve, sources, subscriptions, tail, validate,
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
  postbell demo                                 see it work, in a temporary folder
  postbell serve --config postbell.toml         run the hub
  postbell tail                                 watch what happens

Exit codes: 0 done, 1 the answer is no, 2 used wrongly, 3 could not."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Tail(tail::TailArgs),
    Publish(publish::PublishArgs),
    Validate(validate::ValidateArgs),
    Subscriptions(subscriptions::SubscriptionsArgs),
    Sources(sources::SourcesArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Bench(bench::BenchArgs),
    Completions(pages::CompletionsArgs),
    Man(pages::ManArgs),
}

/// Reads the arguments, runs the command and gives its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    ending::conclude(match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Tail(args) => wait(tail::run(args)),
        Command::Publish(args) => wait(publish::run(args)),
        Command::Validate(args) => validate::run(&args),
        Command::Subscriptions(args) => wait(subscriptions::run(args)),
        Command::Sources(args) => wait(sources::run(args)),
        Command::Config(args) => config::run(&args),
        Command::Doctor(args) => wait(doctor::run(args)),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    })
}

/// Runs a command that asks the hub; one thread is enough for that.
fn wait(command: impl Future<Output = anyhow::Result<Ending>>) -> anyhow::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no async runtime")?.block_on(command)
}
