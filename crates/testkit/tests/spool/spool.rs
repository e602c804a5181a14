//! A spool and what stands in it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postbell_testkit::account::Account;
use postbell_testkit::{Dovecot, Error, Notify, Options};

/// A Dovecot with our script, beside its spool.
pub(crate) struct Bench {
    pub(crate) dovecot: Dovecot,
    pub(crate) folder: tempfile::TempDir,
    seen: usize,
    told: String,
    header: String,
}

impl Bench {
    /// `None` where there is no Dovecot to be had.
    pub(crate) fn start(options: impl FnOnce(Notify) -> Options) -> Result<Option<Self>, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        open_up(folder.path());
        let notify = Notify::into_spool(folder.path().join("spool"));
        let Some(dovecot) = Dovecot::start_with(options(notify))? else { return Ok(None) };
        Ok(Some(Self { dovecot, folder, seen: 0, told: String::new(), header: String::new() }))
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The file of the account that mail is under.
    pub(crate) fn file(&self) -> PathBuf {
        self.spool().join(format!("{}.ndjson", Account::current().uid()))
    }

    /// Its lines. Empty ones mean nothing: they part a line from another that seemed cut.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Does something, and notes the lines it led to: `count` of them, and no more.
    pub(crate) fn step<T>(
        &mut self,
        title: &str,
        count: usize,
        act: impl FnOnce(&Dovecot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let outcome = act(&self.dovecot)?;
        let begun = Instant::now();
        while self.lines().len() < self.seen + count && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        writeln!(self.told, "\n== {title}").unwrap();
        let lines = self.lines();
        for line in &lines[self.seen..] {
            let (header, events) = line.split_at(line.find(",\"events\"").unwrap());
            let (before, seq) = header.split_once("\"seq\":").unwrap();
            let (seq, after) = seq.split_once(',').unwrap();
            let (pid, rest) = after.split_once(",\"time\"").unwrap_or((after, ""));
            let header = format!("{before}…{pid},\"time\"{rest}");
            // A last line says no more of the session than which it was.
            let header = if rest.is_empty() { self.header.clone() } else { without_time(&header) };
            if header != self.header {
                writeln!(self.told, "{header}").unwrap();
                self.header = header;
            }
            let events = events.strip_prefix(',').unwrap().strip_suffix('}').unwrap();
            writeln!(self.told, "  {seq} {events}").unwrap();
        }
        let found = lines.len() - self.seen;
        assert_eq!(found, count, "{title}:\n{}\n{}", self.told, self.dovecot.log());
        self.seen = lines.len();
        Ok(outcome)
    }

    /// Everything noted.
    pub(crate) fn finish(mut self) -> String {
        self.dovecot.stop();
        self.told
    }
}

/// Compares with a snapshot in which everything that differs from run to run has a name instead.
pub(crate) fn assert_told(name: &str, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    for (pattern, replacement) in [
        (r#""run":"[0-9a-f]{32}""#, r#""run":"<run>""#),
        (r#""(pid|time|uid|rport|lport|val|secs)":[0-9]+"#, r#""$1":<$1>"#),
        (r#""session":"[A-Za-z0-9+/]{16,24}(:R[0-9]+)?""#, r#""session":"<session>$1""#),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(name, told));
}

/// The same header whenever it was written.
fn without_time(header: &str) -> String {
    let Some((before, rest)) = header.split_once("\"time\":") else { return header.to_owned() };
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}\"time\":0{rest}")
}

/// Lets the mail software's account in.
pub(crate) fn open_up(folder: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, mode).unwrap();
}

const PATIENCE: Duration = Duration::from_secs(60);
