//! `postbell notifyd`: takes Cyrus's notifications in its notifyd's place.
//!
//! Two processes: one holds the sockets, accepts connections, and does nothing else; it starts the
//! other, which reads, again whenever that one ends. What waits in the sockets, and who waits for an
//! answer, outlives the reader.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Args;
use listenfd::ListenFd;
use postbell_hub::{Config, SourceConfig, SourceKind};
use postbell_sources::Stop;
use postbell_sources::cyrus::{Notifyd, Porter, Sockets, bind_datagram, bind_stream};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tracing::{error, info, warn};

use crate::connection::{self, MACHINE_CONFIG};
use crate::ending::{Ending, Misuse};
use crate::serve;

/// Take what Cyrus tells, in its notifyd's place.
///
/// Runs beside the hub, as a service of its own, and never waits for it: takes what Cyrus sends to
/// its notifysocket, writes it into the spool the hub reads, and only then lets Cyrus go on. Its
/// sockets are handed over by systemd (LISTEN_FDS) or made where the configuration of the source
/// says. SIGTERM and SIGKILL lose nothing that systemd holds the sockets for; but over the stream, what
/// Cyrus is saying at that moment, which is told as lost.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell notifyd --config postbell.toml
  postbell notifyd --source cyrus")]
pub(crate) struct NotifydArgs {
    /// The configuration [default: /etc/postbell/postbell.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The source it is for, where the configuration has more than one Cyrus.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The process that reads; its sockets are its standard input and output.
    #[arg(long, hide = true, value_name = "PID")]
    read_for: Option<i32>,
    /// When the sockets were made, in nanoseconds since 1970.
    #[arg(long, hide = true, value_name = "NS")]
    began: Option<u64>,
    /// When connections were accepted that were open when a process before was killed, in nanoseconds
    /// since 1970.
    #[arg(long, hide = true, value_name = "NS", value_delimiter = ',')]
    left_open: Vec<u64>,
}

/// Runs the command.
pub(crate) fn run(args: NotifydArgs) -> anyhow::Result<Ending> {
    let Some(config) = connection::load(args.config.as_deref())? else {
        return Err(Misuse(format!(
            "{MACHINE_CONFIG}: there is no such file (give --config FILE)"
        ))
        .into());
    };
    let (name, source) = source(&config, args.source.as_deref())?;
    serve::log(&config.log)?;
    match args.read_for {
        Some(parent) => read(source, parent, &args),
        None => hold(&args, name, source),
    }
}

/// The source it is for.
fn source<'c>(
    config: &'c Config,
    wanted: Option<&str>,
) -> anyhow::Result<(&'c str, &'c SourceConfig)> {
    let of_kind = |one: &&SourceConfig| one.kind == SourceKind::Cyrus;
    if let Some(name) = wanted {
        let found = config.sources.get_key_value(name).filter(|(_, one)| of_kind(one));
        let (name, source) = found.ok_or_else(|| {
            Misuse(format!("--source {name}: the configuration has no source of that name with kind = \"cyrus\""))
        })?;
        return Ok((name, source));
    }
    let mut all = config.sources.iter().filter(|(_, one)| of_kind(one));
    match (all.next(), all.next()) {
        (Some((name, source)), None) => Ok((name, source)),
        (None, _) => Err(Misuse(
            "the configuration has no source with kind = \"cyrus\" (docs/cyrus.md says how one is written)"
                .to_owned(),
        )
        .into()),
        (Some(_), Some(_)) => {
            Err(Misuse("there is more than one Cyrus: give --source NAME".to_owned()).into())
        }
    }
}

/// Holds the sockets, and has them read.
fn hold(args: &NotifydArgs, name: &str, source: &SourceConfig) -> anyhow::Result<Ending> {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o750);
    let spool = &source.notify_spool;
    folder.create(spool).with_context(|| spool.display().to_string())?;
    let held = Held::new(source)?;
    // Found once: after an upgrade the new program stands at the same place.
    let program = std::env::current_exe().context("this program isn't found")?;
    info!(source = name, spool = %spool.display(), "notifications are taken");
    let mut pause = PAUSE_FIRST;
    loop {
        let mut command = Command::new(&program);
        command.arg("notifyd").args(["--source", name]);
        command.arg("--read-for").arg(std::process::id().to_string());
        if let Some(config) = &args.config {
            command.arg("--config").arg(config);
        }
        if let Some(ns) = held.made {
            command.arg("--began").arg(ns.to_string());
        }
        let left: Vec<_> = held.left_open().iter().map(ToString::to_string).collect();
        if !left.is_empty() {
            command.arg("--left-open").arg(left.join(","));
        }
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        command.stdin(held.stdin()?).stdout(held.stdout()?);
        let begun = Instant::now();
        match command.spawn() {
            Ok(reader) => {
                let pid = i32::try_from(reader.id()).ok().and_then(Pid::from_raw);
                let ending = wait(pid.context("a process without a number")?)?;
                warn!(why = %ending, "the process that reads ended and is started again");
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
    stream: Option<Porter>,
    /// When they were made, in nanoseconds since 1970: nobody listened before.
    made: Option<u64>,
}

impl Held {
    /// From systemd, or made as configured.
    fn new(source: &SourceConfig) -> anyhow::Result<Self> {
        let mut given = ListenFd::from_env();
        let mut held = Self { datagram: None, stream: None, made: None };
        for at in 0..given.len() {
            if let Ok(Some(socket)) = given.take_unix_datagram(at) {
                held.datagram = Some(socket);
            } else if let Ok(Some(socket)) = given.take_unix_listener(at) {
                let porter = Porter::start_for(socket, &source.notify_spool);
                held.stream = Some(porter.context(NO_STREAM)?);
            } else {
                warn!(at, "systemd hands over what is no Unix socket; it is not read");
            }
        }
        if held.datagram.is_some() || held.stream.is_some() {
            return Ok(held);
        }
        let path = |path: &Path| Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty());
        held.datagram = path(&source.notify_socket).map(|path| bind_datagram(&path)).transpose()?;
        let stream = path(&source.notify_stream).map(|path| bind_stream(&path)).transpose()?;
        held.stream = stream.map(Porter::start).transpose().context(NO_STREAM)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        held.made = u64::try_from(since.as_nanos()).ok();
        if held.datagram.is_none() && held.stream.is_none() {
            return Err(Misuse(
                "no socket is configured, and systemd hands none over (set notify_socket)"
                    .to_owned(),
            )
            .into());
        }
        Ok(held)
    }

    /// What a process before left open, as long as that is to be told.
    fn left_open(&self) -> Vec<u64> {
        self.stream.as_ref().map(Porter::left_open).unwrap_or_default()
    }

    fn stdin(&self) -> anyhow::Result<Stdio> {
        let Some(socket) = &self.datagram else { return Ok(Stdio::null()) };
        Ok(socket.as_fd().try_clone_to_owned().context(NO_DESCRIPTOR)?.into())
    }

    fn stdout(&self) -> anyhow::Result<Stdio> {
        let Some(porter) = &self.stream else { return Ok(Stdio::null()) };
        Ok(OwnedFd::from(porter.hand().context(NO_DESCRIPTOR)?).into())
    }
}

/// Reads the sockets that are this process's standard input and output.
fn read(source: &SourceConfig, parent: i32, args: &NotifydArgs) -> anyhow::Result<Ending> {
    // Whoever holds the sockets is gone: then they are another's to read.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("it can't be known when the other process ends")?;
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get()) != Some(parent) {
        return Err(anyhow!("the process that holds the sockets is gone"));
    }
    let sockets = Sockets { datagram: socket(&stdin())?, stream: socket(&stdout())? };
    let (spool, users) = (source.notify_spool.clone(), users(&source.notify_users)?);
    let notifyd = Notifyd { spool, users, began: args.began };
    let stop = Stop::new().context("no file descriptor is left")?;
    notifyd.run_after(sockets, &args.left_open, &stop)?;
    Ok(Ending::Done)
}

/// A socket, if that is what it is.
fn socket(end: &impl AsFd) -> anyhow::Result<Option<UnixDatagram>> {
    match socket_type(end) {
        Ok(SocketType::DGRAM) => {
            Ok(Some(end.as_fd().try_clone_to_owned().context(NO_DESCRIPTOR)?.into()))
        }
        _ => Ok(None),
    }
}

/// The numbers of users; one whose name nobody knows may not send, which is said.
fn users(names: &[String]) -> anyhow::Result<Vec<u32>> {
    let mut uids = BTreeSet::new();
    for name in names {
        if let Ok(uid) = name.parse() {
            uids.insert(uid);
            continue;
        }
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => drop(uids.insert(user.uid.as_raw())),
            Ok(None) => warn!(user = %name, "notify_users: there is no such user on this machine"),
            Err(error) => warn!(user = %name, %error, "notify_users: the user can't be looked up"),
        }
    }
    Ok(uids.into_iter().collect())
}

const NO_STREAM: &str = "the stream can't be listened to";

const NO_DESCRIPTOR: &str = "no file descriptor is left";

/// The pause before the reader is started again, at first: Cyrus waits meanwhile.
const PAUSE_FIRST: Duration = Duration::from_millis(1);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A reader that ran so long before it ended was well.
const CALM: Duration = Duration::from_secs(2);
