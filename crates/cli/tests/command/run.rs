//! The binary run in a folder of its own.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// A command of `postbell` in `folder`, with nothing of this machine's around it.
pub(crate) fn command(folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postbell"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("POSTBELL_TOKEN")
        .env_remove("POSTBELL_LOG")
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .stdin(Stdio::null());
    command
}

/// How it ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it to its end.
pub(crate) fn run(folder: &std::path::Path, arguments: &[&str]) -> Ended {
    ended(command(folder, arguments).output().unwrap())
}

/// The same with something on standard input.
pub(crate) fn feed(folder: &std::path::Path, arguments: &[&str], input: &[u8]) -> Ended {
    let mut child = command(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    ended(child.wait_with_output().unwrap())
}

fn ended(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A snapshot's text: what was asked, what was said, how it ended.
pub(crate) fn transcript(arguments: &[&str], ended: &Ended) -> String {
    let mut text = format!("$ postbell {}\n{}", arguments.join(" "), ended.out);
    for line in ended.err.lines() {
        text.push_str(&format!("! {line}\n"));
    }
    text.push_str(&format!("= {}\n", ended.code));
    text
}
