//! What the spool of a source is like.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Report;
use crate::lines::plain;

/// What the spool folder of a source is like.
#[derive(Clone, Debug, Default)]
pub(super) struct Spool {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Why nothing more is known of it.
    pub(super) trouble: Option<(io::ErrorKind, String)>,
    /// Its rights.
    pub(super) mode: u32,
    /// Whose it is.
    pub(super) owner: u32,
    /// What is in it.
    pub(super) files: Vec<File>,
}

/// A file in it.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) owner: u32,
    pub(super) octets: u64,
    pub(super) written: SystemTime,
    /// Whether this user may read it.
    pub(super) is_readable: bool,
    /// The time on its last line, in seconds since 1970.
    pub(super) last_time: Option<u64>,
}

impl Spool {
    /// Looks at the folder.
    pub(super) fn look(path: &Path) -> Self {
        let mut spool = Self { path: path.to_owned(), ..Self::default() };
        if let Err(error) = spool.read() {
            spool.trouble = Some((error.kind(), plain(&error)));
        }
        spool
    }

    fn read(&mut self) -> io::Result<()> {
        let meta = fs::metadata(&self.path)?;
        self.mode = meta.permissions().mode() & 0o7777;
        self.owner = meta.uid();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // One that is turned away meanwhile is none to judge.
            let Ok(meta) = entry.metadata() else { continue };
            // Where `postbell notifyd` notes which connections are open.
            if meta.is_dir() {
                continue;
            }
            let last = last_line(&entry.path(), meta.len());
            self.files.push(File {
                name: entry.file_name().to_string_lossy().into_owned(),
                owner: meta.uid(),
                octets: meta.len(),
                written: meta.modified()?,
                is_readable: last.is_ok(),
                last_time: last.ok().flatten(),
            });
        }
        Ok(())
    }

    /// Why nothing is known of the folder, and what to do; `software` is whom it is made for.
    pub(super) fn out_of_reach(&self, software: &str) -> Option<(String, String)> {
        let (kind, trouble) = self.trouble.as_ref()?;
        let remedy = match kind {
            io::ErrorKind::NotFound => format!("make it: postbell setup {software}"),
            _ => "run this as the hub's user or as root".to_owned(),
        };
        Some((format!("{}: {trouble}", self.path.display()), remedy))
    }

    /// Which file can't be read.
    pub(super) fn unreadable(&self) -> Option<String> {
        let file = self.files.iter().find(|file| !file.is_readable)?;
        Some(format!("{}/{}: may not be read by this user", self.path.display(), file.name))
    }

    /// Which file's last line says another time than the file, or than the clock.
    pub(super) fn skewed(&self, now: SystemTime) -> Option<String> {
        let file = self.newest()?;
        let time = file.last_time?;
        let skew = seconds(file.written).abs_diff(time);
        let is_ahead = seconds(now).saturating_add(SKEW_MAX) < time;
        (skew > SKEW_MAX || is_ahead).then(|| {
            format!(
                "{}/{}: its last line says another time than its file ({skew} s apart)",
                self.path.display(),
                file.name
            )
        })
    }

    /// The file that was written last.
    pub(super) fn newest(&self) -> Option<&File> {
        self.files.iter().max_by_key(|file| file.written)
    }
}

/// The time on the last whole line of a file.
fn last_line(path: &Path, octets: u64) -> io::Result<Option<u64>> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::open(path)?;
    let begin = octets.saturating_sub(TAIL_OCTETS);
    let mut tail = vec![0; usize::try_from(octets - begin).unwrap_or(0)];
    file.read_exact_at(&mut tail, begin)?;
    let mut lines = tail.split(|byte| *byte == b'\n').rev();
    // What follows the last line end is nothing, or a line being written.
    let _unfinished = lines.next();
    let line = lines.next().unwrap_or_default();
    let line: Option<Value> = serde_json::from_slice(line).ok();
    let number = |key| line.as_ref()?.get(key)?.as_u64();
    // Dovecot's script says seconds, and notifyd nanoseconds.
    Ok(number("time").or_else(|| Some(number("ns")? / 1_000_000_000)))
}

/// Says that what is in a spool for longer than [`FOLLOWED_WITHIN`] is not in the journal.
pub(super) fn not_followed(check: &str, unread: u64, age: Duration, report: &mut Report) {
    let age = age.as_secs();
    let detail = format!("{unread} octets are not in the journal, the last of {age} s ago");
    let remedy = "the hub's log says what holds the source; what is written down is not lost";
    report.wrong(check, detail, remedy);
}

/// Whether a spool file belongs to the account in its name.
pub(super) fn is_owned(file: &File) -> bool {
    match file.name.split_once(".ndjson") {
        Some((uid, _)) => uid.parse() == Ok(file.owner),
        // None of a source's, and never read.
        None => true,
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A line of usual length is in it.
const TAIL_OCTETS: u64 = 64 << 10;

/// The script says seconds, and a busy disk takes some.
const SKEW_MAX: u64 = 30;

/// A source looks every second.
pub(super) const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_573_600)
    }

    /// One with which nothing is wrong; its file is that of `uid`.
    pub(crate) fn spool(mode: u32, uid: u32) -> Spool {
        Spool {
            path: "/spool".into(),
            trouble: None,
            mode,
            owner: 990,
            files: vec![File {
                name: format!("{uid}.ndjson"),
                owner: uid,
                octets: 400,
                written: now() - Duration::from_secs(100),
                is_readable: true,
                last_time: Some(1_795_573_500),
            }],
        }
    }

    /// The same with something changed.
    pub(crate) fn with(mut spool: Spool, change: impl FnOnce(&mut Spool)) -> Spool {
        change(&mut spool);
        spool
    }

    #[test]
    fn a_spool_is_looked_at_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1733)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let lines = "{\"v\":1,\"time\":5}\n{\"v\":1,\"time\":7}\n{\"v\":1,\"ti";
        fs::write(folder.path().join(format!("{uid}.ndjson")), lines).unwrap();
        let spool = Spool::look(folder.path());
        assert_eq!((spool.mode, spool.owner, spool.files.len()), (0o1733, uid, 1));
        assert!(spool.files[0].is_readable && is_owned(&spool.files[0]));
        assert_eq!(spool.files[0].last_time, Some(7));
        assert!(Spool::look(&folder.path().join("none")).trouble.is_some());
    }
}
