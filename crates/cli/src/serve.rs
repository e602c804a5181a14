//! `postbell serve`: the hub, until it is told to stop.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use postbell_engine::in_words;
use postbell_hub::{Config, Hub, LogConfig, LogFormat, StartError, StateError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::connection::{self, MACHINE_CONFIG};
use crate::ending::{Ending, Misuse};
use crate::out::print;

/// Run the hub: watch the stores, keep the journal, deliver.
///
/// Logs to standard error as the configuration says, or as the environment's POSTBELL_LOG says
/// (such as debug, or postbell_sinks=trace). SIGTERM and SIGINT stop it in order, a second one at
/// once; SIGHUP has it take its certificate anew. Exit code 3 where it can't start, or where something failed that only a person can set
/// right.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell serve --config postbell.toml
  postbell serve --data ~/postbell
  POSTBELL_LOG=debug postbell serve")]
pub(crate) struct ServeArgs {
    /// The configuration [default: /etc/postbell/postbell.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder, instead of the configuration's; alone, everything else at its default.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<Ending> {
    let config = configuration(args)?;
    log(&config.log)?;
    to_the_end(serve(config))?
}

/// Runs to the end of `work`, and waits for no more than a moment for what hangs then: what had to
/// end in order has, or was given its time. A disk may hang for ever, and so what waits for it. All
/// else lets go of its files, which closes them.
fn to_the_end<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("no async runtime")?;
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(MOMENT);
    Ok(ended)
}

fn configuration(args: ServeArgs) -> anyhow::Result<Config> {
    let mut config = match (connection::load(args.config.as_deref())?, &args.data) {
        (Some(config), _) => config,
        (None, Some(_)) => Config::default(),
        (None, None) => {
            return Err(Misuse(format!(
                "{MACHINE_CONFIG}: there is no such file (give --config FILE; or --data DIR, to run with the defaults)"
            ))
            .into());
        }
    };
    if let Some(data) = args.data {
        config.data = data;
    }
    Ok(config)
}

async fn serve(config: Config) -> anyhow::Result<Ending> {
    // Before the start, so that no signal finds nobody listening.
    let mut signals = Signals::new().context("no signal can be waited for")?;
    let (data, token) = (config.data.clone(), config.token_file());
    let hub = tokio::select! {
        hub = Hub::start(config) => hub.map_err(advised)?,
        () = signals.stop() => return Ok(Ending::Done),
    };
    // Its own programs need no TLS where they can do without.
    let announced = match hub.local_listener() {
        Some(address) => connection::announce(&data, address, None),
        None => connection::announce(&data, hub.local_addr(), hub.certificate_name().as_deref()),
    };
    if let Err(error) = announced {
        warn!(error = %format!("{error:#}"), "the address can't be left where --data finds it");
    }
    // Nobody may be reading: a service's standard output is often closed.
    drop(announce(&hub, &token));
    let failed = loop {
        tokio::select! {
            reason = hub.failed() => break Some(reason),
            signal = signals.next() => match signal {
                Told::Stop => break None,
                Told::TakeAnew if hub.reload_certificate() => {
                    info!("SIGHUP: the certificate is taken anew");
                }
                Told::TakeAnew => warn!("{NOTHING_TO_TAKE}"),
            },
        }
    };
    connection::withdraw(&data);
    tokio::select! {
        () = hub.shutdown() => {}
        () = signals.stop() => return Err(anyhow!("stopped at once, at the second signal")),
    }
    match failed {
        Some(reason) => Err(anyhow!(reason)),
        None => Ok(Ending::Done),
    }
}

/// The error with what to do about it, where that can be said in a few words.
pub(crate) fn advised(error: StartError) -> anyhow::Error {
    match advice(&error) {
        // What the system adds is taken off the error's end, which is no end any more afterwards.
        Some(advice) => {
            let what = in_words(&format!("{:#}", anyhow::Error::from(error)));
            anyhow!("{what} ({advice})")
        }
        None => error.into(),
    }
}

/// What to do about it, where that can be said in a few words.
pub(crate) fn advice(error: &StartError) -> Option<&'static str> {
    use postbell_journal::OpenError;
    Some(match error {
        StartError::Data { .. } => "give a folder that this user can make and write",
        StartError::Journal(error) if error.can_be_accepted() => {
            "restore it from a backup; docs/journal.md says how, and postbell doctor --accept-loss goes on without one"
        }
        StartError::Journal(OpenError::Corrupt { .. }) => {
            "restore the whole folder from a backup; docs/journal.md says how, and what is lost without one"
        }
        StartError::Journal(OpenError::Full { .. }) => "make room there",
        StartError::Journal(OpenError::Held { .. }) => "stop it, or use another data folder",
        StartError::Listen { .. } => "stop what has the port, or set another as listen",
        StartError::State(StateError::Damaged { .. }) => {
            "restore it from a backup; without one, move it away and make the subscriptions anew"
        }
        StartError::State(StateError::Full { .. }) => "make room there",
        StartError::State(StateError::Denied { .. }) => MAY_WRITE,
        StartError::State(StateError::Io { source, .. }) => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => MAY_WRITE,
            _ => return None,
        },
        _ => return None,
    })
}

fn announce(hub: &Hub, token: &Path) -> std::io::Result<()> {
    print(format_args!(
        "postbell {} listens on {}://{} (token: {})",
        env!("CARGO_PKG_VERSION"),
        if hub.certificate_name().is_some() { "https" } else { "http" },
        hub.local_addr(),
        token.display()
    ))
}

/// Sends the log to standard error, as much as was asked for.
pub(crate) fn log(config: &LogConfig) -> anyhow::Result<()> {
    let level = config.level.as_str();
    let filter = match std::env::var("POSTBELL_LOG") {
        Ok(wanted) => EnvFilter::try_new(&wanted)
            .map_err(|error| Misuse(format!("POSTBELL_LOG: {wanted:?}: {error}")))?,
        // What others' code has to say below a warning is for those who ask for it.
        Err(_) if level == "error" => EnvFilter::new("error"),
        Err(_) => EnvFilter::new(format!("warn,postbell={level}")),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => {
            let choice = anstream::stderr().current_choice();
            builder.with_ansi(choice != anstream::ColorChoice::Never).with_target(false).init();
        }
    }
    Ok(())
}

/// What ends the hub, and what doesn't.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// What the hub is told next.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::TakeAnew,
        }
    }

    /// Resolves when the hub is to stop.
    async fn stop(&mut self) {
        while self.next().await == Told::TakeAnew {
            warn!("{NOTHING_TO_TAKE}");
        }
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Stop,
    /// Take what may change meanwhile: the certificate.
    TakeAnew,
}

/// How long what still runs when all has ended is waited for.
const MOMENT: Duration = Duration::from_secs(2);

const MAY_WRITE: &str = "let the hub's user write it and the folder it is in";

const NOTHING_TO_TAKE: &str =
    "SIGHUP changes nothing: restart the hub to apply a new configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_move_a_file_away_that_is_whole() {
        let path = || PathBuf::from("/data/hub.db");
        let told = |error: StateError| format!("{:#}", advised(StartError::State(error)));
        assert_eq!(
            told(StateError::Full { path: path() }),
            "/data/hub.db: no room left on the disk (make room there)"
        );
        let denied = |kind: ErrorKind| StateError::Io { path: path(), source: kind.into() };
        assert_eq!(
            told(denied(ErrorKind::PermissionDenied)),
            format!("/data/hub.db: can't be made: permission denied ({MAY_WRITE})")
        );
        assert!(told(denied(ErrorKind::StorageFull)).ends_with("(make room there)"));
        let damaged = StateError::Damaged { path: path(), found: "Tree 3: bad".to_owned() };
        assert!(told(damaged).contains("move it away and make the subscriptions anew"));
    }

    #[test]
    fn what_hangs_keeps_the_hub_from_nothing_once_all_is_done() {
        let (hanging, until) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let ended = to_the_end(async move {
                // As a write to a disk that hangs, or the end of a source that waits for one.
                drop(tokio::task::spawn_blocking(move || until.recv()));
                7
            });
            tell.send(ended.unwrap()).unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(7));
        drop(hanging);
    }
}
