//! How a command ends: its exit code, and the one line that says why.

use std::fmt;
use std::process::ExitCode;

use hyper::StatusCode;
use postbell_engine::in_words;

use crate::client::Refused;

/// A command that did what it was asked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// Done: exit code 0.
    Done,
    /// The answer is no, and has been told: exit code 1.
    No,
    /// Another answer, of which the command's help tells: this exit code.
    Other(u8),
}

/// The command was used wrongly in a way only it can see: exit code 2.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Tells an error on stderr and gives the exit code.
pub(crate) fn conclude(result: anyhow::Result<Ending>) -> ExitCode {
    match result {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::No) => ExitCode::from(NO),
        Ok(Ending::Other(code)) => ExitCode::from(code),
        // Whoever read our output has heard enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&in_words(&format!("{error:#}")));
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Misuse>() {
        return USED_WRONGLY;
    }
    let status = error.downcast_ref::<Refused>().map(|refused| refused.status);
    match status {
        Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT) => NO,
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => USED_WRONGLY,
        _ => COULD_NOT,
    }
}

/// One line on stderr that is no error: a sum, or what is being waited for.
pub(crate) fn note(line: &str) {
    use std::io::Write as _;
    drop(writeln!(anstream::stderr(), "{line}"));
}

/// One line on stderr, after the program's name. Nothing can be done where even that fails.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let red = anstyle::AnsiColor::Red.on_default().effects(anstyle::Effects::BOLD);
    let mut stderr = anstream::stderr().lock();
    for line in line.lines() {
        drop(writeln!(stderr, "{red}postbell:{red:#} {line}"));
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

const NO: u8 = 1;
const USED_WRONGLY: u8 = 2;
pub(crate) const COULD_NOT: u8 = 3;
