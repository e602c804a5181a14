//! The hub's side: its account, its secret, and the table in its configuration.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use postbell_hub::{Config, PathSecret};

use super::facts::Found;
use super::spool::HubUser;
use crate::ending::Misuse;
use crate::lines::plain;

/// A source's name: it stands in a URL, in a file's name and in TOML.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("only letters, digits, - and _ may stand in it".to_owned()),
    }
}

/// Whom the hub runs as: who was named, or whose its data folder is.
pub(super) fn hub_user(named: Option<&str>, data: &Path) -> anyhow::Result<HubUser> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(named) = named {
        return account(&passwd, named)
            .ok_or_else(|| Misuse(format!("--hub-user: {named}: no such account")).into());
    }
    if let Ok(meta) = fs::metadata(data) {
        return Ok(HubUser { uid: meta.uid(), gid: meta.gid() });
    }
    account(&passwd, "postbell").ok_or_else(|| {
        anyhow!("{}: not there, so that nobody knows which account the hub runs as (start it once, or give --hub-user)", data.display())
    })
}

/// By name or number, from a text like `/etc/passwd`.
fn account(passwd: &str, named: &str) -> Option<HubUser> {
    let mut rows = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&named) || row.get(2) == Some(&named));
    match row {
        Some(row) => {
            Some(HubUser { uid: row.get(2)?.parse().ok()?, gid: row.get(3)?.parse().ok()? })
        }
        None => named.parse().ok().map(|id| HubUser { uid: id, gid: id }),
    }
}

/// The secret that is there, or a new one that is nowhere yet.
pub(super) fn secret(file: &Path) -> anyhow::Result<String> {
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
pub(super) fn keep_secret(file: &Path, secret: &str, hub: HubUser) -> io::Result<bool> {
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

/// Adds the source's table to the hub's configuration; says what became of that.
pub(super) fn write(found: &Found, table: &str) -> anyhow::Result<String> {
    let Some(file) = &found.config_file else {
        return Err(
            Misuse("--write-config: there is no configuration (give --config)".to_owned()).into()
        );
    };
    let shown = file.display();
    if found.config.sources.contains_key(&found.source) {
        return Ok(format!("{shown}: has a source {} already, and stays as it is", found.source));
    }
    let text = fs::read_to_string(file).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    let text = with_table(&text, &found.source, table);
    Config::parse(&shown.to_string(), &text)?;
    fs::write(file, text).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    Ok(format!("{shown}: has the source {} now; restart the hub", found.source))
}

/// Takes the table out again; says what became of that.
pub(super) fn take_out(file: &Path, source: &str) -> anyhow::Result<Option<String>> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    let Some(text) = without_table(&text, source) else { return Ok(None) };
    Config::parse(&shown.to_string(), &text)?;
    fs::write(file, text).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    Ok(Some(format!("{shown}: the source {source} is taken out; restart the hub")))
}

fn with_table(text: &str, source: &str, table: &str) -> String {
    let gap = if text.is_empty() || text.ends_with("\n\n") {
        ""
    } else if text.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    format!("{text}{gap}{}\n{table}{}\n", begin(source), end(source))
}

fn without_table(text: &str, source: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("{}\n", begin(source)))?;
    let (_, after) = rest.split_once(&format!("{}\n", end(source)))?;
    let before = before.strip_suffix("\n\n").map_or(before, |_| before.trim_end_matches('\n'));
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    Some(format!("{before}{gap}{after}"))
}

fn begin(source: &str) -> String {
    format!("# {source}, from `postbell setup dovecot`")
}

fn end(source: &str) -> String {
    format!("# (end of {source})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostbell:x:990:980::/:/bin/false\n";
        assert_eq!(account(passwd, "postbell"), Some(HubUser { uid: 990, gid: 980 }));
        assert_eq!(account(passwd, "990"), Some(HubUser { uid: 990, gid: 980 }));
        assert_eq!(account(passwd, "4711"), Some(HubUser { uid: 4711, gid: 4711 }));
        assert_eq!(account(passwd, "nobody-such"), None);
    }

    #[test]
    fn a_secret_once_kept_stays() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: folder.path().to_owned(), ..Config::default() };
        let file = config.exporter_secret_file("dovecot");
        let me = hub_user(None, folder.path()).unwrap();
        let made = secret(&file).unwrap();
        assert_ne!(secret(&file).unwrap(), made);
        assert!(keep_secret(&file, &made, me).unwrap());
        assert!(!keep_secret(&file, "another", me).unwrap());
        assert_eq!(secret(&file).unwrap(), made);
        fs::write(&file, "short\n").unwrap();
        assert!(secret(&file).unwrap_err().to_string().contains("holds no secret"));
    }

    #[test]
    fn a_table_goes_as_it_came() {
        for text in ["", "data = \"x\"\n", "data = \"x\"\n\n[log]\nlevel = \"info\"\n"] {
            let with = with_table(text, "dovecot", "[sources.dovecot]\nkind = \"dovecot\"\n");
            assert!(with.contains("\n[sources.dovecot]\n"), "{with}");
            assert_eq!(without_table(&with, "dovecot").as_deref(), Some(text));
            assert_eq!(without_table(&with, "other"), None);
            let more = format!("{with}\n[http]\n");
            assert!(without_table(&more, "dovecot").unwrap().ends_with("\n[http]\n"));
        }
    }

    #[test]
    fn a_name_is_plain() {
        assert_eq!(name("mail-1").unwrap(), "mail-1");
        assert!(["", "a b", "a/b", "é", "a.b"].into_iter().all(|text| name(text).is_err()));
    }
}
