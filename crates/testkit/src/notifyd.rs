//! `postbell notifyd`, as processes of their own that can be killed and stopped.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, prlimit,
};

use crate::account::Account;
use crate::{Error, Hub};

/// `postbell notifyd` beside a hub: the process that holds the sockets, and the one that it starts
/// to read them. Killed when dropped, and the reader with it.
#[derive(Debug)]
pub struct Notifyd {
    holder: Child,
    log: PathBuf,
    /// Whether both are a group of processes of their own.
    is_group: bool,
}

impl Notifyd {
    /// Starts it for the one Cyrus in the hub's configuration, whose `notify_socket` or
    /// `notify_stream` is `socket`, and waits until that is there and Cyrus's account may use it.
    ///
    /// # Errors
    /// [`Error::Start`] with what it logged, where it isn't in time.
    pub fn start(hub: &Hub, socket: &Path) -> Result<Self, Error> {
        let log = hub.folder().join("notifyd.log");
        let file = File::create(&log).map_err(Error::io(format!("write {}", log.display())))?;
        let holder = hub
            .command("notifyd")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(Error::io("start postbell notifyd"))?;
        let notifyd = Self { holder, log, is_group: false };
        let begun = Instant::now();
        let is_there = || {
            UnixDatagram::unbound().is_ok_and(|sender| sender.connect(socket).is_ok())
                || UnixStream::connect(socket).is_ok()
        };
        while !is_there() {
            if begun.elapsed() > START_MAX {
                let reason = format!("no socket after {} s", START_MAX.as_secs());
                return Err(Error::Start { server: "notifyd", reason, log: notifyd.log() });
            }
            std::thread::sleep(POLL);
        }
        Account::current().own(socket)?;
        Ok(notifyd)
    }

    /// Starts it as systemd does, with sockets that it is handed and whoever calls holds on: from
    /// file descriptor 3 on, each named by its unit.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be started.
    pub fn handed(hub: &Hub, [first, second]: &[OwnedFd; 2]) -> Result<Self, Error> {
        let doing = || Error::io("start postbell notifyd");
        let log = hub.folder().join("notifyd.log");
        let file = File::options().create(true).append(true).open(&log).map_err(doing())?;
        let own = hub.command("notifyd");
        let holder = Command::new("sh")
            .args(["-c", HANDED])
            .arg(own.get_program())
            .args(own.get_args())
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "postbell-notifyd.socket:postbell-notifyd.socket")
            .stdin(first.try_clone().map_err(doing())?)
            .stdout(second.try_clone().map_err(doing())?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(doing())?;
        Ok(Self { holder, log, is_group: true })
    }

    /// Kills the process that holds the sockets (SIGKILL), and waits until it is gone; the
    /// kernel asks the reader to go then.
    pub fn kill_holder(&mut self) {
        // It can only have ended by itself.
        let _gone = self.holder.kill();
        let _reaped = self.holder.wait();
        // Its number may soon be another's.
        self.is_group = false;
    }

    /// Kills both at once (SIGKILL), where [`Notifyd::handed`] started them.
    pub fn kill(&mut self) {
        if self.is_group {
            // Gone already is as good.
            let _gone = kill_process_group(Pid::from_child(&self.holder), Signal::KILL);
        }
        self.kill_holder();
    }

    /// Tells it to end, and doesn't wait.
    ///
    /// # Errors
    /// [`Error::Io`] where it is gone.
    pub fn tell_to_end(&self, how: EndedBy) -> Result<(), Error> {
        let signal = match how {
            EndedBy::Mixed | EndedBy::Group => Signal::TERM,
            EndedBy::Terminal => Signal::INT,
        };
        if how != EndedBy::Mixed
            && let Some(reader) = self.reader()
        {
            // It may have ended by itself, or another begun.
            let _gone = kill_process(reader, signal);
        }
        self.signal(signal)
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// [`Error::Start`] with what it logged, where that isn't in time.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus, Error> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.holder.try_wait().map_err(Error::io("wait for it"))? {
                // Its number may soon be another's.
                self.is_group = false;
                return Ok(status);
            }
            if begun.elapsed() > START_MAX {
                let reason = format!("no end after {} s", START_MAX.as_secs());
                return Err(Error::Start { server: "notifyd", reason, log: self.log() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the process that reads (SIGKILL); says whether there was one at this moment.
    pub fn kill_reader(&self) -> bool {
        self.reader().is_some_and(|reader| kill_process(reader, Signal::KILL).is_ok())
    }

    /// Stops the process that reads where it stands (SIGSTOP); says whether there was one.
    pub fn hold_reader(&self) -> bool {
        self.reader().is_some_and(|reader| kill_process(reader, Signal::STOP).is_ok())
    }

    /// Lets the process that reads have file descriptors below `limit` alone, or as many as this
    /// process may; says whether there was one.
    pub fn limit_reader(&self, limit: Option<u64>) -> bool {
        let own = getrlimit(Resource::Nofile);
        let limit = Rlimit { current: limit.or(own.current), ..own };
        self.reader().is_some_and(|reader| prlimit(Some(reader), Resource::Nofile, limit).is_ok())
    }

    /// Stops the process that holds the sockets (SIGSTOP).
    ///
    /// # Errors
    /// [`Error::Io`] where it is gone.
    pub fn hold(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Notifyd::hold`].
    ///
    /// # Errors
    /// [`Error::Io`] where it is gone.
    pub fn release(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn reader(&self) -> Option<Pid> {
        let pid = self.holder.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.holder), signal)
            .map_err(|error| Error::io("signal postbell notifyd")(error.into()))
    }
}

/// How it is told to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndedBy {
    /// SIGTERM to the process that holds the sockets, as by `KillMode=mixed`.
    Mixed,
    /// SIGTERM to both, to the one that reads first, as by `KillMode=control-group`.
    Group,
    /// SIGINT to both, as by Ctrl-C in a terminal.
    Terminal,
}

impl EndedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mixed, Self::Group, Self::Terminal];
}

impl Drop for Notifyd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is its standard input and output becomes what systemd hands over.
const HANDED: &str = r#"exec 3<&0 4>&1 </dev/null >/dev/null; LISTEN_PID=$$ exec "$0" "$@""#;
/// Generous, because a loaded machine is no defect.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the socket is there.
const POLL: Duration = Duration::from_millis(10);
