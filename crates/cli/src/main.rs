//! The `postbell` command.

mod bench;
mod client;
mod command;
mod config;
mod connection;
mod demo;
mod doctor;
mod ending;
mod lines;
mod out;
mod pages;
mod publish;
mod serve;
mod show;
mod sources;
mod subscriptions;
mod tail;
mod validate;
mod when;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
