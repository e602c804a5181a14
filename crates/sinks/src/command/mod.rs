//! Commands: one run of a program for each event, without a shell.

mod environment;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::time::timeout;

pub use environment::{VALUE_OCTETS_MAX, VALUES_OCTETS_MAX, variables};

/// A program and what it is told on its command line.
///
/// It gets the event as JSON, on one line, on standard input, and the parameters as variables of
/// its environment ([`variables`]); it may leave both unread. Nothing of the event comes to the
/// command line, and no shell is asked, so that whoever writes a mail can't have anything run.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    timeout: Duration,
}

/// Why a run is not as good as done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The program isn't there, or may not be run.
    #[error("{}", .program.display())]
    NotStarted {
        /// Which.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// It ended with this exit status, which isn't 0.
    #[error("{} ended with {}", .program.display(), in_short(*.status))]
    Ended {
        /// Which.
        program: OsString,
        /// How.
        status: ExitStatus,
    },
    /// It took too long, and was ended.
    #[error("{} was ended after {} s", .program.display(), .timeout.as_secs())]
    TooLong {
        /// Which.
        program: OsString,
        /// How long it might have taken.
        timeout: Duration,
    },
}

impl Command {
    /// The program `program`, looked for in `PATH` where it has no slash, which is given `timeout`
    /// for a run.
    #[must_use]
    pub fn new(program: OsString, arguments: Vec<OsString>, timeout: Duration) -> Self {
        Self { program, arguments, timeout }
    }

    /// Runs it for an event and returns when it has ended. Where it takes too long, it and all that it
    /// started in its process group are ended.
    ///
    /// What it writes goes where our own output goes. Dropped before it is done, the future takes
    /// the program with it.
    ///
    /// # Errors
    ///
    /// Where it could not be started, exits with another status than 0, or takes too long.
    pub async fn run(&self, json: &[u8]) -> Result<(), Failed> {
        let program = || self.program.clone();
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).stdin(std::process::Stdio::piped());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command.envs(variables(json)).process_group(0).kill_on_drop(true);
        let child = command.spawn();
        let child = child.map_err(|source| Failed::NotStarted { program: program(), source })?;
        let mut group = Group::new(child);
        let status = timeout(self.timeout, group.feed(json)).await;
        let Ok(status) = status else {
            group.end().await;
            return Err(Failed::TooLong { program: program(), timeout: self.timeout });
        };
        let status = status.map_err(|source| Failed::NotStarted { program: program(), source })?;
        if status.success() { Ok(()) } else { Err(Failed::Ended { program: program(), status }) }
    }
}

/// A program and all that it starts, unless that leaves its group.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, id }
    }

    async fn feed(&mut self, json: &[u8]) -> io::Result<ExitStatus> {
        if let Some(mut input) = self.child.stdin.take() {
            // It need not read it.
            let _unread = async {
                input.write_all(json).await?;
                input.write_all(b"\n").await
            }
            .await;
        }
        let status = self.child.wait().await;
        self.id = None;
        status
    }

    /// Asks it to end, and then ends it.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        let ended = timeout(GRACE, self.child.wait()).await.is_ok();
        // What it started may be there still.
        self.signal(Signal::KILL);
        if !ended {
            let _reaped = self.child.wait().await;
        }
        self.id = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It may be gone already.
            let _gone = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// What is ours in an environment is for one event, or a secret.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(environment::PREFIX.as_bytes())
}

fn in_short(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// How long a program that took too long has to clear up.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const JSON: &[u8] = br#"{"event":"MessageNew","uri":"imap://j%40x.org@h/A%20B;UIDVALIDITY=7/;UID=6","timestamp":"2026-08-20T13:34:14+02:00","user":"j@x.org","messageSize":9}"#;

    fn shell(script: &str, timeout: Duration) -> Command {
        Command::new("sh".into(), vec!["-c".into(), script.into()], timeout)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_gets_the_event_and_its_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script =
            format!("cat > {0}; echo \"$POSTBELL_EVENT $POSTBELL_MAILBOX\" >> {0}", file.display());
        shell(&script, LONG).run(JSON).await.unwrap();
        let told = std::fs::read(&file).unwrap();
        assert_eq!(told, [JSON, b"\nMessageNew A B\n"].concat());
    }

    #[tokio::test]
    async fn what_a_mail_says_is_never_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let (no, bait) = (folder.path().join("no"), "$POSTBELL_USER;$(id)");
        let user = format!("$(touch {});`id`", no.display());
        let json = String::from_utf8_lossy(JSON).replace("j@x.org", &user);
        let script = format!(r#"printf '%s|%s' "$1" "$POSTBELL_USER" > {}"#, file.display());
        let arguments = ["-c", &script, "sh", bait].map(OsString::from);
        Command::new("sh".into(), arguments.into(), LONG).run(json.as_bytes()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{bait}|{user}"));
        assert!(!no.exists());
    }

    #[tokio::test]
    async fn a_program_need_not_read() {
        let long = [JSON, &vec![b' '; 1 << 20]].concat();
        Command::new("true".into(), Vec::new(), LONG).run(&long).await.unwrap();
    }

    #[tokio::test]
    async fn how_a_program_failed_is_said() {
        for (command, told) in [
            (shell("exit 3", LONG), "sh ended with status 3"),
            (shell("kill -9 $$", LONG), "sh ended with signal 9"),
            (Command::new("./nowhere".into(), Vec::new(), LONG), "./nowhere"),
        ] {
            assert_eq!(command.run(JSON).await.unwrap_err().to_string(), told);
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended_with_all_it_started() {
        // Whether or not it minds being asked; what it started doesn't.
        for trap in ["trap '' TERM", "true"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pid");
            let child =
                format!("(trap '' TERM; echo started > {0}.on; sleep 600) &", file.display());
            let script = format!("{trap}; {child} echo $! > {}; wait; wait", file.display());
            let begun = Instant::now();
            // Time enough to begin with it, on a loaded machine too.
            let failed = shell(&script, Duration::from_secs(5)).run(JSON).await.unwrap_err();
            assert_eq!(failed.to_string(), "sh was ended after 5 s");
            assert!(begun.elapsed() < LONG);
            let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            let gone = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            };
            while !gone() {
                assert!(begun.elapsed() < LONG, "it still runs");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
