//! What can go wrong on the test bench.

use std::fmt;
use std::path::PathBuf;

/// Why a launcher or a client gave up.
///
/// Printing it for debugging prints what a person should read, because that is what a failing
/// test shows.
#[derive(thiserror::Error)]
pub enum Error {
    /// The software can't be had on this machine, and CI may not go without it.
    #[error("{server} is not to be had, and CI may not skip it:\n{output}")]
    Unavailable {
        /// Which software.
        server: &'static str,
        /// What `scripts/fetch-servers` printed.
        output: String,
    },
    /// A file, socket or process could not be handled.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was being done, for example `write /tmp/x`.
        doing: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A server did not come up in time, or ended.
    #[error("{server} did not start: {reason}\n--- the end of its log ---\n{log}")]
    Start {
        /// Which software.
        server: &'static str,
        /// What was missed.
        reason: String,
        /// The last lines it logged.
        log: String,
    },
    /// A program ran and said no.
    #[error("{program} ended with {status}\n{output}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// A server answered a command with a refusal.
    #[error("the server refused\n  > {command}\n  < {answer}")]
    Refused {
        /// The command, without its literals.
        command: String,
        /// The answer.
        answer: String,
    },
    /// A server answered what the client doesn't understand.
    #[error("the server's answer lacks {expected}: {answer}")]
    Answer {
        /// What was looked for.
        expected: String,
        /// What came.
        answer: String,
    },
    /// A file that should be there isn't.
    #[error("{} is not there", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
}

impl Error {
    /// Names what was being done when the system said no.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
