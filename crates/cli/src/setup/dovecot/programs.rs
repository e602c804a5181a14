//! Dovecot's own programs: what they say of the configuration, and a login that needs no password.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, anyhow};

use super::doveconf::Settings;

/// Which programs are run.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// `doveconf`.
    pub(super) doveconf: PathBuf,
    /// `doveadm`.
    pub(super) doveadm: PathBuf,
}

/// What a login showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Session {
    /// What stands between the levels of a mailbox's name.
    pub(super) separator: Option<char>,
    /// An error that did not end it, as Dovecot logs it.
    pub(super) error: Option<String>,
}

impl Programs {
    /// The configuration at `main`.
    ///
    /// # Errors
    ///
    /// What `doveconf` says is wrong with it.
    pub(super) fn settings(&self, main: &Path) -> anyhow::Result<Settings> {
        let output = self.doveconf(main).arg("-n").output();
        let output = output.with_context(|| self.named())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let settings = Settings::parse(&text);
        // A version of another language reads nothing, but says which it is.
        if output.status.success() || settings.version.is_some_and(|version| version.1 != 3) {
            return Ok(settings);
        }
        Err(anyhow!("{}: {}", main.display(), complaint(&output)))
    }

    /// The values of some settings, as `protocol` has them.
    pub(super) fn values(
        &self,
        main: &Path,
        protocol: Option<&str>,
        keys: &[&str],
    ) -> anyhow::Result<Vec<String>> {
        let mut command = self.doveconf(main);
        if let Some(protocol) = protocol {
            command.arg("-f").arg(format!("protocol={protocol}"));
        }
        let output = command.arg("-h").args(keys).output().with_context(|| self.named())?;
        if !output.status.success() {
            return Err(anyhow!("{}: {}", main.display(), complaint(&output)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Some user, where the user database can list them.
    pub(super) fn some_user(&self, main: &Path) -> Option<String> {
        let mut command = self.run_with(main, "doveadm", &self.doveadm);
        let output =
            command.args(["user", "*"]).output().ok().filter(|out| out.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(str::trim).find(|user| !user.is_empty()).map(str::to_owned)
    }

    /// Logs `user` in as the IMAP server does after the password was right, and out again; where
    /// there is no IMAP server, opens the user's mail.
    ///
    /// # Errors
    ///
    /// What Dovecot says.
    pub(super) fn login(&self, main: &Path, user: &str) -> Result<Session, String> {
        let folder =
            self.values(main, None, &["libexec_dir"]).map_err(|error| error.to_string())?;
        let imap = Path::new(folder.first().map_or("", String::as_str)).join("imap");
        if imap.is_file() {
            return self.imap(main, &imap, user);
        }
        let mut command = self.run_with(main, "doveadm", &self.doveadm);
        let output = command.args(["mailbox", "list", "-u", user]).output();
        let output = output.map_err(|error| format!("{}: {error}", self.named()))?;
        match output.status.success() {
            true => Ok(Session { separator: None, error: error_in(&output) }),
            false => Err(complaint(&output)),
        }
    }

    fn imap(&self, main: &Path, imap: &Path, user: &str) -> Result<Session, String> {
        let told = |error: std::io::Error| format!("{}: {error}", imap.display());
        let mut child = self
            .run_with(main, "imap", imap)
            .args(["-u", user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(told)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends at once doesn't read it; what it says tells why.
            drop(stdin.write_all(b"a LIST \"\" \"\"\r\nb LOGOUT\r\n"));
        }
        let output = child.wait_with_output().map_err(told)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.contains("* PREAUTH") || !text.contains("b OK") {
            return Err(complaint(&output));
        }
        Ok(Session { separator: separator(&text), error: error_in(&output) })
    }

    /// Runs a program of Dovecot's with the configuration at `main`, as Dovecot's programs run
    /// themselves, but that they look for `doveconf` in one place only.
    fn run_with(&self, main: &Path, service: &str, program: &Path) -> Command {
        let mut command = self.doveconf(main);
        command.arg("-f").arg(format!("service={service}"));
        command.arg("-e").arg(program).arg("-c").arg(main);
        command
    }

    fn doveconf(&self, main: &Path) -> Command {
        let mut command = Command::new(&self.doveconf);
        command.arg("-c").arg(main).stdin(Stdio::null());
        command
    }

    fn named(&self) -> String {
        self.doveconf.display().to_string()
    }
}

/// From `* LIST (\Noselect) "/" ""`.
fn separator(text: &str) -> Option<char> {
    let line = text.lines().find(|line| line.starts_with("* LIST "))?;
    let rest = line.split_once(") \"")?.1;
    rest.strip_prefix('\\').unwrap_or(rest).chars().next()
}

fn error_in(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().find(|line| line.contains("Error: ")).map(|line| line.trim().to_owned())
}

/// The line that says why; warnings and stack traces say other things.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = |word: &str| text.lines().find(|line| line.contains(word));
    let line = line("Fatal: ").or_else(|| line("Error: ")).or_else(|| text.lines().next());
    line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_separator_is_read_from_the_answer() {
        for (line, read) in [
            ("* PREAUTH x\r\n* LIST (\\Noselect) \"/\" \"\"\r\na OK", Some('/')),
            ("* LIST (\\Noselect) \"\\\\\" \"\"", Some('\\')),
            ("* LIST () NIL \"\"", None),
            ("", None),
        ] {
            assert_eq!(separator(line), read, "{line:?}");
        }
    }

    #[test]
    fn the_line_that_says_why_is_found() {
        let said = |text: &str| {
            complaint(&Output {
                status: std::process::ExitStatus::from_raw(89 << 8),
                stdout: Vec::new(),
                stderr: text.as_bytes().to_vec(),
            })
        };
        assert_eq!(said("Warning: a\nx Error: b\nimap: Fatal: c\n"), "imap: Fatal: c");
        assert_eq!(said("Warning: a\nx Error: b\nstack traceback:\n"), "x Error: b");
        assert_eq!(said(""), "exit status: 89");
    }
}
