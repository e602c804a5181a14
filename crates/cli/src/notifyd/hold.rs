//! The process that holds the sockets.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use listenfd::ListenFd;
use postbell_hub::SourceConfig;
use postbell_sources::cyrus::{Porter, bind_datagram, bind_stream};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tracing::{error, info, warn};

use super::signals::Signals;
use super::{NO_DESCRIPTOR, NotifydArgs};
use crate::ending::{Ending, Misuse};

/// Holds the sockets, and has them read, until SIGTERM or SIGINT.
pub(super) fn hold(
    args: &NotifydArgs,
    name: &str,
    source: &SourceConfig,
) -> anyhow::Result<Ending> {
    let signals = Signals::block().context("no signal can be waited for")?;
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o750);
    let spool = &source.notify_spool;
    folder.create(spool).with_context(|| spool.display().to_string())?;
    let held = Held::new(source)?;
    signals.obey(held.porter.clone()).context("no signal can be waited for")?;
    // Found once: after an upgrade the new program stands at the same place.
    let program = std::env::current_exe().context("this program isn't found")?;
    info!(source = name, spool = %spool.display(), "notifications are taken");
    let mut pause = PAUSE_FIRST;
    while !held.porter.is_over() {
        let begun = Instant::now();
        match reader(&program, args, name, &held)?.spawn() {
            Ok(reader) => {
                let pid = i32::try_from(reader.id()).ok().and_then(Pid::from_raw);
                let ending = wait(pid.context("a process without a number")?)?;
                if let (true, Ended::Code(0)) = (held.porter.is_over(), &ending) {
                    break;
                }
                warn!(why = %ending, "the process that reads ended; unless all ends, it is started again");
                if let Ended::Signal(_) = ending {
                    // Somebody killed it, and Cyrus waits.
                    continue;
                }
            }
            Err(error) => error!(%error, "the process that reads can't be started"),
        }
        if begun.elapsed() > CALM {
            pause = PAUSE_FIRST;
            continue;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
    info!("ended");
    Ok(Ending::Done)
}

/// How the process is started that reads.
fn reader(program: &Path, args: &NotifydArgs, name: &str, held: &Held) -> anyhow::Result<Command> {
    let mut command = Command::new(program);
    command.arg("notifyd").args(["--source", name]);
    command.arg("--read-for").arg(std::process::id().to_string());
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    if let Some(ns) = held.made {
        command.arg("--began").arg(ns.to_string());
    }
    // What a process before left open, as long as that is to be told.
    let left: Vec<_> = held.porter.left_open().iter().map(ToString::to_string).collect();
    if !left.is_empty() {
        command.arg("--left-open").arg(left.join(","));
    }
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.stdin(held.stdin()?);
    command.stdout(OwnedFd::from(held.porter.hand().context(NO_DESCRIPTOR)?));
    Ok(command)
}

/// Waits until the reader has ended, and says how. One that was stopped is ended: while it stands,
/// so does the mail server.
fn wait(pid: Pid) -> anyhow::Result<Ended> {
    loop {
        match waitpid(Some(pid), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                warn!("the process that reads was stopped, and is ended");
                kill_process(pid, Signal::KILL).context("the process that reads can't be ended")?;
            }
            Ok(Some((_, status))) => {
                return Ok(match status.terminating_signal() {
                    Some(signal) => Ended::Signal(signal),
                    None => Ended::Code(status.exit_status().unwrap_or(0)),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("the process that reads can't be waited for"),
        }
    }
}

/// How a process ended.
enum Ended {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The sockets of both kinds.
struct Held {
    datagram: Option<UnixDatagram>,
    /// Has the stream, if there is one.
    porter: Porter,
    /// When they were made, in nanoseconds since 1970: nobody listened before.
    made: Option<u64>,
}

impl Held {
    /// From systemd, or made as configured.
    fn new(source: &SourceConfig) -> anyhow::Result<Self> {
        let mut given = ListenFd::from_env();
        let (mut datagram, mut stream) = (None, None);
        for at in 0..given.len() {
            if let Ok(Some(socket)) = given.take_unix_datagram(at) {
                datagram = Some(socket);
            } else if let Ok(Some(socket)) = given.take_unix_listener(at) {
                stream = Some(socket);
            } else {
                warn!(at, "systemd hands over what is no Unix socket; it is not read");
            }
        }
        if datagram.is_none() && stream.is_none() {
            return Self::make(source);
        }
        let porter = match stream {
            Some(stream) => Porter::start_for(stream, &source.notify_spool),
            None => Porter::start_without(),
        };
        Ok(Self { datagram, porter: porter.context(NO_STREAM)?, made: None })
    }

    fn make(source: &SourceConfig) -> anyhow::Result<Self> {
        let path = |path: &Path| Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty());
        let datagram = path(&source.notify_socket).map(|path| bind_datagram(&path)).transpose()?;
        let stream = path(&source.notify_stream).map(|path| bind_stream(&path)).transpose()?;
        if datagram.is_none() && stream.is_none() {
            return Err(Misuse(
                "no socket is configured, and systemd hands none over (set notify_socket)"
                    .to_owned(),
            )
            .into());
        }
        let porter = stream.map_or_else(Porter::start_without, Porter::start);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = u64::try_from(since.as_nanos()).ok();
        Ok(Self { datagram, porter: porter.context(NO_STREAM)?, made })
    }

    fn stdin(&self) -> anyhow::Result<Stdio> {
        let Some(socket) = &self.datagram else { return Ok(Stdio::null()) };
        Ok(socket.as_fd().try_clone_to_owned().context(NO_DESCRIPTOR)?.into())
    }
}

const NO_STREAM: &str = "the stream can't be listened to";

/// The pause before the reader is started again, at first: Cyrus waits meanwhile.
const PAUSE_FIRST: Duration = Duration::from_millis(1);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A reader that ran so long before it ended was well.
const CALM: Duration = Duration::from_secs(2);
