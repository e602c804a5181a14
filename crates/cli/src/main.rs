//! The `postbell` command.

mod bench;
mod client;
mod command;
mod config;
mod connection;
mod demo;
mod doctor;
mod ending;
mod follow;
mod journal;
mod lines;
mod notifyd;
mod on;
mod out;
mod pages;
mod publish;
mod selection;
mod serve;
mod setup;
mod show;
mod sources;
mod subscriptions;
mod tail;
mod tls;
mod tokens;
mod top;
mod validate;
mod wanted;
mod when;

use std::process::ExitCode;

/// What one thread allocates another frees: events go from connections to the journal and on.
/// The system's allocator makes threads wait for each other there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run()
}
