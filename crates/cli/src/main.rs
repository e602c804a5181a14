//! The `postbell` command.

mod bench;
mod command;
mod demo;
mod ending;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
