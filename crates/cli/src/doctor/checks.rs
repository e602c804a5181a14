//! What can be looked at without asking the hub.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use postbell_hub::{Config, ConfigError, SourceKind, StartError, TlsError, Token, TokenError};
use rustix::fs::{Access, FlockOperation, access, flock, statvfs};
use rustix::io::Errno;

use super::Report;
use crate::connection::ConnectionArgs;
use crate::lines::plain;
use crate::show;

/// The configuration, where there is one to go on with.
pub(super) fn configuration(connection: &ConnectionArgs, report: &mut Report) -> Option<Config> {
    const NAME: &str = "configuration";
    match connection.config() {
        Ok(config) => {
            match connection.config_file() {
                Some(file) => report.right(NAME, file.display().to_string()),
                None => report.notice(
                    NAME,
                    "no file: everything at its default, and no sources",
                    "write one (see: postbell config print) and give it with --config",
                ),
            }
            Some(config)
        }
        Err(error) => {
            match error.downcast_ref::<ConfigError>() {
                Some(error) => error.lines().iter().for_each(|line| report.wrong(NAME, line, "")),
                None => report.wrong(NAME, format!("{error:#}"), ""),
            }
            None
        }
    }
}

/// Whether the hub can write there, and for how long.
pub(super) fn data_folder(config: &Config, report: &mut Report) {
    const NAME: &str = "data folder";
    let path = &config.data;
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return report.wrong(NAME, format!("{shown}: is no folder"), "move it away"),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "the hub makes it at its first start (postbell serve)",
                _ => "run this as the hub's user",
            };
            return report.wrong(NAME, format!("{shown}: {}", plain(&error)), remedy);
        }
    }
    if access(path, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let remedy = format!("run this as the hub's user, or: chown it to that user: {shown}");
        return report.wrong(NAME, format!("{shown}: may not be written by this user"), &remedy);
    }
    let Ok(disk) = statvfs(path) else {
        return report.notice(NAME, format!("{shown}: the room left can't be told"), "");
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = config.journal.segment_size.saturating_mul(SEGMENTS_OF_ROOM);
    let detail = format!("{shown}: {} free", show::size(free));
    if free < needed {
        let remedy = "make room, or keep less: journal.retention_age, journal.retention_size";
        report.wrong(NAME, detail, remedy);
    } else {
        report.right(NAME, detail);
    }
}

/// With room for fewer segments than this, intake stops soon.
const SEGMENTS_OF_ROOM: u64 = 4;

/// Whether the token is there, and only its owner's.
pub(super) fn token(config: &Config, report: &mut Report) {
    const NAME: &str = "token";
    let path = config.token_file();
    let shown = path.display();
    match fs::metadata(&path) {
        Ok(meta) => {
            let mode = meta.permissions().mode() & 0o777;
            if let Err(error @ TokenError::Malformed { .. }) = Token::load(&path) {
                report.wrong(NAME, error.to_string(), "");
            } else if mode & 0o077 == 0 {
                report.right(NAME, format!("{shown}: mode {mode:03o}"));
            } else {
                let remedy = format!("rm {shown} and restart the hub, for a new one");
                report.wrong(
                    NAME,
                    format!("{shown}: mode {mode:03o} lets others read it"),
                    &remedy,
                );
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "the hub makes it at its first start (postbell serve)";
            report.wrong(NAME, format!("{shown}: there is none"), remedy);
        }
        Err(error) => {
            report.wrong(NAME, format!("{shown}: {}", plain(&error)), "run this as the hub's user");
        }
    }
}

/// Whether what the hub signs with can be read. Nothing is said of what can.
pub(super) fn keys(config: &Config, report: &mut Report) {
    for fault in postbell_hub::examine_keys(&config.data) {
        report.wrong("keys", fault.to_string(), "");
    }
}

/// Whether the certificate can be used, and for how long. Without TLS nothing is said of it.
pub(super) fn certificate(config: &Config, report: &mut Report) {
    const NAME: &str = "certificate";
    const RENEW: &str = "have it renewed: the hub takes the new one by itself";
    if !config.tls.is_on() {
        return;
    }
    let certificate = match postbell_hub::examine_tls(&config.tls) {
        Ok(certificate) => certificate,
        Err(error) => {
            let remedy = match &error {
                TlsError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                    "run this as the hub's user, or let that user read it"
                }
                _ => "a hub that is up goes on with what it has, and one that starts does not",
            };
            return report.wrong(NAME, format!("{:#}", anyhow::Error::from(error)), remedy);
        }
    };
    let left = certificate.ends().duration_since(jiff::Timestamp::now());
    let days = left.as_hours() / 24;
    if certificate.has_ended() {
        report.wrong(NAME, format!("{certificate}: it has ended"), RENEW);
    } else if certificate.names().is_empty() {
        let remedy = "have one made with the hub's name in it (subjectAltName)";
        report.wrong(NAME, format!("{certificate}: for no name, so that nobody takes it"), remedy);
    } else if days < DAYS_LEFT_MIN {
        report.notice(NAME, format!("{certificate}: it ends in {days} days"), RENEW);
    } else {
        report.right(NAME, certificate.to_string());
    }
}

/// Who renews by itself has done so a month before.
const DAYS_LEFT_MIN: i64 = 14;

/// A clock that is wrong makes wrong timestamps, and retention drops by them.
pub(super) fn clock(config: &Config, report: &mut Report) {
    const NAME: &str = "clock";
    const REMEDY: &str = "set the clock, and keep it set (systemd-timesyncd, chrony)";
    let now = SystemTime::now();
    let shown = jiff::Timestamp::now();
    if now < SystemTime::UNIX_EPOCH + BUILT_AFTER {
        return report.wrong(NAME, format!("{shown} is before this program was written"), REMEDY);
    }
    match newest(&config.data.join("journal")) {
        Some(written) if written > now + AHEAD_MAX => {
            let ahead = written.duration_since(now).unwrap_or_default().as_secs();
            report.wrong(NAME, format!("the journal was written {ahead} s in the future"), REMEDY);
        }
        _ => report.right(NAME, shown.to_string()),
    }
}

/// 2025-01-01, in seconds since 1970.
const BUILT_AFTER: Duration = Duration::from_secs(1_735_689_600);

/// Clocks of network file systems differ by a little.
const AHEAD_MAX: Duration = Duration::from_secs(60);

fn newest(folder: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}

/// Who holds the journal; `false` where nobody does.
pub(super) fn holder(config: &Config, report: &mut Report) -> bool {
    const NAME: &str = "journal";
    let places = [config.data.join("lock"), config.data.join("journal/lock")];
    let held = places.iter().find(|path| is_locked(path));
    let Some(path) = held else {
        let shown = config.data.display();
        // Whoever may not look knows nothing of a hub.
        if let Some(path) = places.iter().find(|path| is_denied(path)) {
            let what = format!("{}: permission denied", path.display());
            report.wrong(NAME, what, "run this as the hub's user");
            return false;
        }
        match examined(config) {
            Ok(()) => {
                let start = "start it: postbell serve";
                report.wrong(NAME, format!("{shown}: no hub on this machine holds it"), start);
            }
            Err((what, remedy)) => report.wrong(NAME, what, remedy),
        }
        return false;
    };
    let holder = fs::read_to_string(path).unwrap_or_default();
    let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
    report.right(NAME, format!("{}: held by process {holder}", config.data.display()));
    true
}

fn is_denied(path: &Path) -> bool {
    fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether a start would be refused, and what to do about that.
fn examined(config: &Config) -> Result<(), (String, &'static str)> {
    let Ok(scratch) = tempfile::Builder::new().prefix("postbell-doctor-").tempdir() else {
        return Ok(());
    };
    let Err(error) = postbell_hub::examine(&config.data, scratch.path()) else { return Ok(()) };
    // What can't be copied can't be judged; the other checks tell of modes and room.
    let copying = matches!(error, StartError::Data { .. });
    let remedy = crate::serve::advice(&error).unwrap_or("the message says what is wrong");
    let text = format!("{:#}", anyhow::Error::from(error));
    let text = text.replace(&*scratch.path().to_string_lossy(), &config.data.to_string_lossy());
    if copying { Ok(()) } else { Err((text, remedy)) }
}

/// Whether the subscriptions are there, where the journal is, and the other way round.
pub(super) fn both_files(config: &Config, report: &mut Report) {
    let path = config.data.join("hub.db");
    let journal = config.data.join("journal");
    // Nothing is known of what this user may not look into.
    let Ok(has_journal) = journal.join("state.db").try_exists() else { return };
    if path.exists() && !has_journal {
        report.wrong(
            "records",
            format!("{}: no journal, though there is a hub.db", journal.display()),
            "restore the folder from a backup before the hub starts; without it numbers begin at 1 again, and what was not delivered is lost",
        );
    }
    if has_journal && !path.exists() {
        report.wrong(
            "subscriptions",
            format!("{}: missing, though there is a journal", path.display()),
            "restore it from a backup before the hub starts, or make the subscriptions anew",
        );
    }
}

/// Tries to share the lock, and lets go at once: a hub that starts in that very microsecond would
/// be refused, and starts when asked again. The kernel's own list (`/proc/locks`) disturbs nobody,
/// but leaves locks out while others come and go.
pub(super) fn is_locked(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Whether the sources' roots are there, as far as one user can tell.
pub(super) fn roots(config: &Config, report: &mut Report) {
    let maildirs = config.sources.iter().filter(|(_, one)| one.kind == SourceKind::Maildir);
    for (name, source) in maildirs {
        let check = format!("root of {name}");
        let fixed = before_pattern(&source.root);
        let shown = fixed.display();
        match fs::read_dir(&fixed) {
            Ok(_) => report.right(&check, format!("{}: can be read", source.root.display())),
            Err(error) => {
                let remedy = match error.kind() {
                    io::ErrorKind::NotFound => format!("make it, or correct sources.{name}.root"),
                    _ => "let the hub's user read it".to_owned(),
                };
                let what = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such folder".to_owned(),
                    _ => plain(&error),
                };
                report.wrong(&check, format!("{shown}: {what}"), &remedy);
            }
        }
    }
}

/// The part of a root that holds for every user.
fn before_pattern(root: &Path) -> PathBuf {
    root.components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains("%u"))
        .collect()
}

/// How many folders this user may watch, and how many the sources need.
pub(super) fn watches(mailboxes: u64, report: &mut Report) {
    const NAME: &str = "inotify";
    let Some(limit) = limit("max_user_watches") else { return };
    let needed = mailboxes.saturating_mul(WATCHES_PER_MAILBOX);
    let detail = format!("{needed} of {limit} watches needed");
    if needed > limit {
        let wanted = needed.saturating_mul(2);
        let remedy = format!(
            "sysctl fs.inotify.max_user_watches={wanted}; until then only scans see everything"
        );
        report.wrong(NAME, detail, &remedy);
    } else if needed > limit / 2 {
        report.notice(NAME, detail, "raise fs.inotify.max_user_watches before it is too low");
    } else {
        report.right(NAME, detail);
    }
}

fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
}

/// A Maildir's own folder, its `new` and its `cur`.
const WATCHES_PER_MAILBOX: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roots_fixed_part_ends_before_the_pattern() {
        assert_eq!(before_pattern(Path::new("/var/mail/%u/Maildir")), Path::new("/var/mail"));
        assert_eq!(before_pattern(Path::new("/var/mail/x%u")), Path::new("/var/mail"));
        assert_eq!(before_pattern(Path::new("/srv/a/Maildir")), Path::new("/srv/a/Maildir"));
    }

    #[test]
    fn a_lock_is_seen_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = fs::File::create(&path).unwrap();
        assert!(!is_locked(&path));
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(is_locked(&path));
        drop(file);
        assert!(!is_locked(&path));
        assert!(!is_locked(&folder.path().join("none")));
    }
}
