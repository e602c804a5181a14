//! `postbell on`: a command for each event.

mod kept;
mod runs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use postbell_sinks::command::{Command, Failed};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::ending::{Ending, note, say};
use crate::follow::{Follow, FollowArgs, Told};
use crate::{show, when};
use kept::Kept;
use runs::{Ended, Runs};

/// Run a command for each event.
///
/// The command gets the event as JSON, on one line, on its standard input, and each parameter as a
/// variable of its environment: POSTBELL_EVENT, POSTBELL_USER, POSTBELL_MESSAGE_SIZE and so on,
/// with POSTBELL_OWNER and POSTBELL_MAILBOX. No shell is asked. That something can't be told
/// (vnd.postbell.Gap) is noted on standard error, unless it is asked for. Goes on until Ctrl-C, over restarts
/// of the hub as well, and misses nothing meanwhile.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell on MessageNew -- notify-send 'New mail'
  postbell on MessageNew --user john@example.org -- sh -c 'echo \"$POSTBELL_MAILBOX\" >> news'
  postbell on message flags --keep done --jobs 4 -- ./index-mail
  postbell on QuotaExceed --attempts 5 --timeout 10s -- ./page-operator

Exit codes: 0 each run ended with 0, 1 one did not, 2 used wrongly, 3 could not.")]
pub(crate) struct OnArgs {
    /// Events or groups (message, flags, quota, access, mailbox, subscription, vendor).
    #[arg(required = true, value_name = "EVENT")]
    event: Vec<String>,
    #[command(flatten)]
    follow: FollowArgs,
    /// How many runs may go side by side: never two for one mailbox, whose events come in order.
    #[arg(short, long, value_name = "COUNT", default_value = "1", value_parser = when::count)]
    jobs: u64,
    /// How long a run may take (10s, 5m) before it is ended, with all it started.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = when::duration)]
    timeout: Duration,
    /// How often a run is tried that fails, with a pause of 1 s, 2 s, 4 s and so on up to a minute.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = when::count)]
    attempts: u64,
    /// End when a run has failed for good; else that is told, and the next event is taken.
    #[arg(long)]
    stop: bool,
    /// Keep in FILE up to which record all is done, and begin behind it the next time.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub(crate) async fn run(args: OnArgs) -> anyhow::Result<Ending> {
    let mut command = args.command.into_iter();
    // Clap takes no less than one.
    let program = command.next().unwrap_or_default();
    let command = Command::new(program, command.collect(), args.timeout);
    let mut wanted = args.follow;
    let mut kept = args.keep.map(Kept::open).transpose()?;
    if let Some(done) = kept.as_ref().and_then(Kept::done) {
        (wanted.since, wanted.since_time) = (Some(done), None);
    }
    let wants_gaps = args.event.iter().any(|event| event == GAP || event == "vendor");
    let mut follow = Follow::new(wanted, args.event)?;
    let begun = follow.begin().await?;
    if let (Some(kept), Some(seq)) = (&mut kept, begun) {
        kept.set(seq)?;
    }
    let runs = Runs::new(command, args.jobs, args.attempts);
    let told = listen(follow);
    let signals = Signals::new()?;
    let is_failed = false;
    On { told, runs, kept, is_failed, stops: args.stop, wants_gaps, signals }.run().await
}

/// Follows on a task of its own: to wait for the hub must not be broken off whenever a run ends.
fn listen(mut follow: Follow) -> mpsc::Receiver<anyhow::Result<Told>> {
    let (sender, told) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(one) = follow.next().await.transpose() {
            let is_over = one.is_err();
            if sender.send(one).await.is_err() || is_over {
                break;
            }
        }
    });
    told
}

struct On {
    told: mpsc::Receiver<anyhow::Result<Told>>,
    runs: Runs,
    kept: Option<Kept>,
    is_failed: bool,
    /// At the first that fails.
    stops: bool,
    /// Whether the command is to run for what can't be told.
    wants_gaps: bool,
    signals: Signals,
}

impl On {
    async fn run(mut self) -> anyhow::Result<Ending> {
        let mut has_more = true;
        while has_more || self.runs.under_way() > 0 {
            tokio::select! {
                biased;
                () = self.signals.next() => return self.wind_down().await,
                Some(ended) = self.runs.ended() => {
                    if !self.conclude(ended)? {
                        return Ok(Ending::No);
                    }
                }
                told = self.told.recv(), if has_more && self.runs.has_room() => match told {
                    Some(told) => self.take(told?),
                    None => has_more = false,
                },
            }
        }
        Ok(self.ending())
    }

    /// Whatever is asked for, who follows is told where something is missing.
    fn take(&mut self, told: Told) {
        let event: Value = serde_json::from_str(&told.json).unwrap_or_default();
        if self.wants_gaps || event.get("event").and_then(Value::as_str) != Some(GAP) {
            return self.runs.add(told);
        }
        note(&show::line(&event));
        self.runs.pass(told.seq);
    }

    /// Lets those under way end, unless told once more.
    async fn wind_down(mut self) -> anyhow::Result<Ending> {
        self.runs.take_no_more();
        if self.runs.under_way() > 0 {
            note("waiting for what is under way; once more ends it");
        }
        while self.runs.under_way() > 0 {
            tokio::select! {
                biased;
                () = self.signals.next() => break,
                Some(ended) = self.runs.ended() => {
                    self.conclude(ended)?;
                }
            }
        }
        Ok(self.ending())
    }

    /// Says whether to go on.
    fn conclude(&mut self, ended: Ended) -> anyhow::Result<bool> {
        if let Some(why) = ended.failure {
            if matches!(why, Failed::NotStarted { .. }) {
                // No other event would fare better.
                return Err(why.into());
            }
            say(&format!("{why}: {}", ended.what));
            self.is_failed = true;
        }
        // Nothing behind one that is to be run once more.
        if self.is_failed && self.stops {
            return Ok(false);
        }
        if let (Some(kept), Some(done)) = (&mut self.kept, self.runs.done()) {
            kept.set(done)?;
        }
        Ok(true)
    }

    fn ending(&self) -> Ending {
        if self.is_failed { Ending::No } else { Ending::Done }
    }
}

/// What says that something can't be told.
const GAP: &str = "vnd.postbell.Gap";

/// Ctrl-C, and what a service manager sends.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals can't be heard");
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: listen(interrupt)?, terminate: listen(terminate)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
