//! What the exporter proves itself with.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use postbell_hub::PathSecret;

use super::super::spool::Account;
use crate::lines::plain;

/// The secret that is there, or a new one that is nowhere yet.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => PathSecret::parse(text.trim()).map(revealed).ok_or_else(|| {
            anyhow!("{}: holds no secret (take it away; the next start makes one)", file.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            PathSecret::random().map(revealed).context("/dev/urandom")
        }
        Err(error) => Err(anyhow!("{}: {}", file.display(), plain(&error))),
    }
}

fn revealed(secret: PathSecret) -> String {
    secret.reveal().to_owned()
}

/// Leaves the secret where the hub reads it; `true` where it was not there before.
pub(super) fn keep(file: &Path, secret: &str, hub: Account) -> io::Result<bool> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        other => other?,
    };
    made.write_all(secret.as_bytes())?;
    made.write_all(b"\n")?;
    chown(file, Some(hub.uid), Some(hub.gid))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use postbell_hub::Config;

    use super::super::super::own::hub_user;
    use super::*;

    #[test]
    fn a_secret_once_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: folder.path().to_owned(), ..Config::default() };
        let file = config.exporter_secret_file("dovecot");
        let me = hub_user(None, folder.path()).unwrap();
        let made = read(&file).unwrap();
        assert_ne!(read(&file).unwrap(), made);
        assert!(keep(&file, &made, me).unwrap());
        assert!(!keep(&file, "another", me).unwrap());
        assert_eq!(read(&file).unwrap(), made);
        fs::write(&file, "short\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("holds no secret"));
    }
}
