//! What ends it in order: SIGTERM and SIGINT.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use postbell_sources::cyrus::Porter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{error, info};

use crate::ending::COULD_NOT;

/// Both signals, kept from ending this process, and those that it starts.
///
/// A terminal sends them to all processes at once, and so does systemd by default. Only the one that
/// holds the sockets obeys: the one that reads ends when that one says so.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// To be called before there is any other thread: a signal would find that one.
    pub(super) fn block() -> io::Result<Self> {
        let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Has the porter end at the first signal, on a thread of its own. At a second one, or where it
    /// takes too long, the process ends at once.
    pub(super) fn obey(self, porter: Porter) -> io::Result<()> {
        let work = move || {
            while !self.wait(None) {}
            info!("told to end: what is under way is written down first");
            porter.end(ANSWERS_LIMIT);
            let why = match self.wait(Some(ANSWERS_LIMIT + END_LIMIT)) {
                true => "at the second signal",
                false => "what is under way takes too long",
            };
            error!(why, "ended at once");
            // The kernel kills the reader then.
            std::process::exit(COULD_NOT.into());
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop)
    }

    /// Waits for a signal; says whether one came before `limit` had passed.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Interrupted, it is late rather than too early.
        while poll(&mut [PollFd::new(&self.0, PollFlags::IN)], limit.as_ref()).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

/// How long those who are saying something are waited for: longer than the writer waits for a disk
/// that fails. Who says nothing holds up by so much whoever comes.
const ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// How long the reader may take to end after that.
const END_LIMIT: Duration = Duration::from_secs(5);
