//! `postbell tail`: events as they happen.

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::ending::Ending;
use crate::follow::{Follow, FollowArgs, Told};
use crate::out::Out;
use crate::show;

/// Show events as they happen.
///
/// Goes on until Ctrl-C, over restarts of the hub as well, and misses nothing meanwhile. Each
/// line: time, event, owner, mailbox, and what is worth knowing; all of it with --json.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell tail
  postbell tail --event MessageNew --user john@example.org
  postbell tail --event flags --mailbox 'Archive/*'
  postbell tail --where 'messageSize > 1000000 || \"$Junk\" in flagNames'
  postbell tail --since 0 --no-follow --json > all.ndjson
  postbell tail --since-time 2h
  postbell tail --raw --user john@example.org")]
pub(crate) struct TailArgs {
    /// Only these events or groups (message, flags, quota, access, mailbox, subscription, vendor);
    /// may be given several times.
    #[arg(short, long, value_name = "NAME")]
    event: Vec<String>,
    #[command(flatten)]
    follow: FollowArgs,
    /// Show what the store said as well, and what was changed of it; a source that reads what its
    /// store says keeps that where it is configured to (notify_raw of a Cyrus).
    #[arg(long)]
    raw: bool,
    /// Print each event as JSON, one per line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) async fn run(args: TailArgs) -> anyhow::Result<Ending> {
    let mut wanted = args.follow;
    if args.raw {
        // What the store said is private, and so only comes by name.
        if wanted.which.parameter.is_empty() {
            wanted.which.parameter.push("*".to_owned());
        }
        wanted.which.parameter.extend([show::RAW, show::REPAIRS].map(str::to_owned));
    }
    let follow = Follow::new(wanted, args.event)?;
    let out = if args.json { Out::raw() } else { Out::new() };
    let tail = Tail { follow, out, is_raw: args.raw, is_json: args.json };
    tokio::select! {
        ending = tail.run() => ending,
        // To stop looking is not to fail.
        _ = tokio::signal::ctrl_c() => Ok(Ending::Done),
        () = reader_gone() => Ok(Ending::Done),
    }
}

struct Tail {
    follow: Follow,
    out: Out,
    is_raw: bool,
    is_json: bool,
}

impl Tail {
    async fn run(mut self) -> anyhow::Result<Ending> {
        loop {
            let told = match self.follow.ready() {
                Ok(Some(told)) => told,
                // Nobody waits for what is here already.
                Ok(None) => {
                    self.out.flush()?;
                    match self.follow.next().await? {
                        Some(told) => told,
                        None => return Ok(Ending::Done),
                    }
                }
                Err(error) => {
                    self.out.flush()?;
                    return Err(error);
                }
            };
            self.show(&told)?;
        }
    }

    fn show(&mut self, told: &Told) -> anyhow::Result<()> {
        if self.is_json {
            self.out.octets(told.json.as_bytes())?;
            return Ok(());
        }
        let event: Value = serde_json::from_str(&told.json)
            .with_context(|| format!("{}: an event is not JSON", self.follow.url()))?;
        self.out.line(show::line(&event))?;
        if self.is_raw {
            self.out.line(show::raw(event))?;
        }
        Ok(())
    }
}

/// Resolves when nobody reads standard output any more, as after `| head`; else only the next
/// event, which may be long in coming, would tell.
async fn reader_gone() {
    let (told, gone) = tokio::sync::oneshot::channel();
    // A thread of its own, since it waits for as long as the command runs.
    let watch = move || {
        use rustix::event::{PollFd, PollFlags, poll};
        let stdout = std::io::stdout();
        loop {
            let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let [fd] = &fds;
            if fd.revents().intersects(PollFlags::ERR) {
                // Nobody listens where the command ends just now.
                told.send(()).ok();
            }
            return;
        }
    };
    drop(std::thread::Builder::new().name("reader".to_owned()).spawn(watch));
    if gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
