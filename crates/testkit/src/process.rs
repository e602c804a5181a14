//! Running programs from unpacked packages.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::account::Account;
use crate::{Error, Tree};

/// A temporary folder that the mail software's account owns and everybody may enter.
pub(crate) fn workspace(name: &str) -> Result<TempDir, Error> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("postbell-{name}-"))
        .tempdir()
        .map_err(Error::io("make a temporary folder"))?;
    Account::current().own(folder.path())?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(Error::io(format!("open up {}", folder.path().display())))?;
    Ok(folder)
}

/// A program of `tree`, run as the mail software's account with nothing of our environment.
pub(crate) fn program(tree: &Tree, program: &str, home: &Path) -> Result<Command, Error> {
    let mut command = Command::new(tree.path(program));
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("LOGNAME", "alice")
        .env("USER", "alice")
        .env("LC_ALL", "C")
        .env("LD_LIBRARY_PATH", tree.library_path()?)
        .current_dir(home)
        .stdin(Stdio::null());
    Account::current().assume(&mut command);
    Ok(command)
}

/// Runs `command` with `input` and expects it to succeed.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let doing = format!("run {name}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(&doing))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end without reading it all; how it ended tells.
        let _unread = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(Error::io(&doing))?;
    let printed = printed(&output);
    if output.status.success() {
        return Ok(printed);
    }
    Err(Error::Failed { program: name, status: output.status.to_string(), output: printed })
}

fn printed(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// A server in the foreground, in a process group of its own; ends when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, with everything it prints going to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self, Error> {
        use std::os::unix::process::CommandExt;
        let doing = format!("run {}", command.get_program().to_string_lossy());
        let out =
            std::fs::File::create(log).map_err(Error::io(format!("write {}", log.display())))?;
        let err = out.try_clone().map_err(Error::io("share a log file"))?;
        let child =
            command.stdout(out).stderr(err).process_group(0).spawn().map_err(Error::io(doing))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Waits until `ready`, no longer than a minute and no longer than the server lives.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !ready() {
            if let Some(status) = self.ended() {
                return Err(format!("it ended with {status}"));
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("it was silent for {} s", START_MAX.as_secs()));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The end of what it printed.
    pub(crate) fn printed(&self) -> String {
        tail(&self.log)
    }

    /// Kills it and its whole group at once, and returns when they are gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _reaped = self.child.wait();
        // Its children are reaped by whoever adopted them; until they end they hold their ports.
        let begun = Instant::now();
        while !self.group().is_empty() && begun.elapsed() < STOP_MAX {
            std::thread::sleep(POLL);
        }
    }

    /// Kills it and its whole group at once, without waiting until they are gone.
    pub(crate) fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// Has it and its whole group stand still, with their connections open (SIGSTOP), or go on.
    pub(crate) fn hold(&self, stands: bool) {
        self.signal(if stands { Signal::STOP } else { Signal::CONT });
    }

    /// Those of its group that run `program`; oldest first.
    pub(crate) fn members(&self, program: &str) -> Vec<u32> {
        let group = self.group();
        group.into_iter().filter(|(_, name)| name == program).map(|(pid, _)| pid).collect()
    }

    /// Those of its group that live, with the programs they run; oldest first.
    fn group(&self) -> Vec<(u32, String)> {
        let group = self.child.id();
        let mut found: Vec<(u64, u32, String)> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                // `pid (program) state parent group … start`: see proc(5).
                let (before, after) = stat.rsplit_once(") ")?;
                let (_, name) = before.split_once('(')?;
                let mut fields = after.split(' ');
                let lives = !matches!(fields.next()?, "X" | "Z");
                let in_group = fields.nth(1)?.parse() == Ok(group);
                let begun = fields.nth(16)?.parse().ok()?;
                (lives && in_group).then(|| (begun, pid, name.to_owned()))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, pid, name)| (pid, name)).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = pid {
            // Gone already is as good.
            let _gone = kill_process_group(group, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        // What stands still hears nothing.
        self.signal(Signal::CONT);
        let begun = Instant::now();
        while self.ended().is_none() && begun.elapsed() < STOP_MAX {
            std::thread::sleep(POLL);
        }
        // Whoever is left of the group, children included.
        self.kill();
    }
}

/// Kills one process (SIGKILL).
pub(crate) fn kill(pid: u32) -> Result<(), Error> {
    signal(pid, Signal::KILL)
}

/// Asks one process to end (SIGTERM).
pub(crate) fn end(pid: u32) -> Result<(), Error> {
    signal(pid, Signal::TERM)
}

fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    let doing = || Error::io(format!("signal process {pid}"));
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let found = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(missing);
    kill_process(found.map_err(doing())?, signal)
        .map_err(|error| doing()(std::io::Error::from(error)))
}

/// The last lines of a file; says so where there is none.
pub(crate) fn tail(path: &Path) -> String {
    let Ok(octets) = std::fs::read(path) else { return format!("(no {})", path.display()) };
    let text = String::from_utf8_lossy(&octets);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(20);
/// A loaded machine takes seconds; a minute means it never will.
const START_MAX: Duration = Duration::from_secs(60);
/// Grace before a server is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Enough of a log to see the cause.
const TAIL_LINES: usize = 40;
