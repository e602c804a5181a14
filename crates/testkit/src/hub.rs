//! postbell itself, as a process of its own that can be killed, stopped and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Error, http};

/// `postbell serve` on a temporary folder; killed when dropped.
#[derive(Debug)]
pub struct Hub {
    program: PathBuf,
    folder: TempDir,
    process: Option<Child>,
}

impl Hub {
    /// A place for a hub that `program` will be, with an empty data folder; nothing is started.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no room for one.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        let hub = Self { program: program.into(), folder, process: None };
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(hub.data())
            .map_err(Error::io(format!("make {}", hub.data().display())))?;
        Ok(hub)
    }

    /// Writes its configuration; `@FOLDER@` stands for [`Hub::folder`], and `@FOLDER@/data` must be
    /// its data.
    ///
    /// # Errors
    /// [`Error::Io`] where the file can't be written.
    pub fn configure(&self, text: &str) -> Result<(), Error> {
        let text = text.replace("@FOLDER@", &self.folder().display().to_string());
        let path = self.config();
        std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))
    }

    /// Starts it, for the first time or again, and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Start`] with what it logged, where it isn't in time.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.resume_with(&[])
    }

    /// The same, with something in its environment.
    ///
    /// # Errors
    /// As [`Hub::resume`].
    pub fn resume_with(&mut self, environment: &[(&str, &str)]) -> Result<(), Error> {
        // The one before may have left it behind, and its port may be another's by now.
        let _not_there = std::fs::remove_file(address_file(self.folder()));
        let doing = || Error::io("start postbell");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("log"))
            .map_err(doing())?;
        let process = self
            .command("serve")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(doing())?)
            .stderr(log)
            .spawn()
            .map_err(doing())?;
        let process = self.process.insert(process);
        let begun = Instant::now();
        let is_ready = || {
            let address = Self::address_in(self.folder.path())?;
            http::get(address, "/readyz", None).ok().filter(|answer| answer.status == 200)
        };
        while is_ready().is_none() {
            let ended = process.try_wait().map_err(doing())?;
            if ended.is_some() || begun.elapsed() > START_MAX {
                let reason = match ended {
                    Some(status) => format!("it ended with {status}"),
                    None => format!("it was not ready after {} s", START_MAX.as_secs()),
                };
                return Err(Error::Start { server: "postbell", reason, log: self.log() });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Kills it in the middle of whatever it does (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It can only have ended by itself, and then `resume` would have said so.
            let _gone = process.kill();
            let _reaped = process.wait();
        }
    }

    /// Stops it where it stands (SIGSTOP): it does nothing, and whoever talks to it isn't told.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't run.
    pub fn hold(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Hub::hold`].
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't run.
    pub fn release(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()));
        // `pid (program) state …`: see proc(5).
        stat.is_ok_and(|stat| {
            stat.rsplit_once(") ").is_some_and(|(_, after)| after.starts_with('T'))
        })
    }

    /// Waits until it has ended by itself, and gives its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.take().and_then(|mut process| process.wait().ok()?.code())
    }

    /// Where it listens: another port at each start, unless its configuration names one.
    ///
    /// # Errors
    /// [`Error::Missing`] where it doesn't run.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        let missing = || Error::Missing { path: address_file(self.folder()) };
        Self::address_in(self.folder()).ok_or_else(missing)
    }

    /// Where the hub on `folder` listens, once it does.
    #[must_use]
    pub fn address_in(folder: &Path) -> Option<SocketAddr> {
        std::fs::read_to_string(address_file(folder)).ok()?.trim().parse().ok()
    }

    /// What opens its API.
    ///
    /// # Errors
    /// [`Error::Io`] where it was never started.
    pub fn token(&self) -> Result<String, Error> {
        let path = self.data().join("token");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(Error::io(format!("read {}", path.display())))?;
        Ok(text.trim().to_owned())
    }

    /// Asks it.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    pub fn get(&self, path: &str) -> Result<http::Answer, Error> {
        http::get(self.address()?, path, Some(&self.token()?))
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder().join("postbell.toml")
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The folder with all it has.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// A command of the same program, with the same configuration.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([name, "--config"]).arg(self.config());
        command
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let doing = || Error::io("signal postbell");
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let process = self.process.as_ref().ok_or_else(missing).map_err(doing())?;
        kill_process(Pid::from_child(process), signal).map_err(|error| doing()(error.into()))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("data/address")
}

/// Generous, because a loaded machine is no defect.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is asked whether it is ready.
const POLL: Duration = Duration::from_millis(10);
