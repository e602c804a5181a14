//! The hub's side: its account, and the table in its configuration.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use nix::unistd::{Uid, User};
use postbell_hub::Config;

use super::OwnArgs;
use super::apply::Change;
use super::spool::Account;
use crate::connection;
use crate::ending::Misuse;
use crate::lines::plain;

impl OwnArgs {
    /// The hub's configuration, and the file it was read from.
    pub(super) fn configuration(&self) -> anyhow::Result<(Config, Option<PathBuf>)> {
        let file = self.config.clone().or_else(connection::machine_config);
        let config = connection::load(file.as_deref())?.unwrap_or_default();
        Ok((config, file))
    }

    /// The spool that was named, or where that of `source` is otherwise.
    pub(super) fn spool(&self, source: &str) -> PathBuf {
        let usual = || Path::new("/var/spool/postbell").join(source);
        self.spool.clone().unwrap_or_else(usual)
    }

    /// The file that the source's table goes into, where that is wanted; `found` is the one that
    /// was read.
    ///
    /// # Errors
    ///
    /// Where it is wanted and there is none.
    pub(super) fn table_file<'f>(
        &self,
        found: Option<&'f Path>,
    ) -> anyhow::Result<Option<&'f Path>> {
        match (self.write_config, found) {
            (true, None) => {
                Err(Misuse("--write-config: there is no configuration (give --config)".to_owned())
                    .into())
            }
            (is_wanted, found) => Ok(found.filter(|_| is_wanted)),
        }
    }
}

/// A source's name: it stands in a URL, in a file's name and in TOML.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("only letters, digits, - and _ may stand in it".to_owned()),
    }
}

/// Whom the hub runs as: who was named, or whose its data folder is.
pub(super) fn hub_user(named: Option<&str>, data: &Path) -> anyhow::Result<Account> {
    if let Some(named) = named {
        return machine_account(named)
            .ok_or_else(|| Misuse(format!("--hub-user: {named}: no such account")).into());
    }
    if let Ok(meta) = fs::metadata(data) {
        return Ok(Account { uid: meta.uid(), gid: meta.gid() });
    }
    machine_account("postbell").ok_or_else(|| {
        anyhow!("{}: not there, so that nobody knows which account the hub runs as (start it once, or give --hub-user)", data.display())
    })
}

/// An account of this machine, by name or number.
pub(super) fn machine_account(named: &str) -> Option<Account> {
    account(&fs::read_to_string("/etc/passwd").unwrap_or_default(), named)
}

/// What an account is called, or its number.
pub(super) fn account_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// By name or number, from a text like `/etc/passwd`.
fn account(passwd: &str, named: &str) -> Option<Account> {
    let mut rows = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&named) || row.get(2) == Some(&named));
    match row {
        Some(row) => {
            Some(Account { uid: row.get(2)?.parse().ok()?, gid: row.get(3)?.parse().ok()? })
        }
        None => named.parse().ok().map(|id| Account { uid: id, gid: id }),
    }
}

/// What is left to do with the hub.
pub(super) fn restart(config: &Config, source: &str) -> String {
    match config.sources.contains_key(source) {
        true => format!("restart the hub, whose configuration has the source {source} already"),
        false => "restart the hub with the source in its configuration".to_owned(),
    }
}

/// Adds the source's table to the hub's configuration; says what became of that.
pub(super) fn write(
    software: &str,
    file: &Path,
    source: &str,
    table: &str,
) -> anyhow::Result<String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    if Config::parse(&shown.to_string(), &text)?.sources.contains_key(source) {
        return Ok(format!("{shown}: has a source {source} already, and stays as it is"));
    }
    let new = with_table(&text, software, source, table);
    Config::parse(&shown.to_string(), &new)?;
    replace(file, text, new).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    Ok(format!("{shown}: has the source {source} now; restart the hub"))
}

/// Takes the table out again; says what became of that.
pub(super) fn take_out(
    software: &str,
    file: &Path,
    source: &str,
) -> anyhow::Result<Option<String>> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    let Some(new) = without_table(&text, software, source) else { return Ok(None) };
    Config::parse(&shown.to_string(), &new)?;
    replace(file, text, new).map_err(|error| anyhow!("{shown}: {}", plain(&error)))?;
    Ok(Some(format!("{shown}: the source {source} is taken out; restart the hub")))
}

/// Puts `new` in the place of `old` at once: a hub that starts meanwhile reads the one or the other,
/// and a full disk leaves the old one whole.
fn replace(file: &Path, old: String, new: String) -> io::Result<()> {
    Change::theirs(file, old, new)?.make()
}

fn with_table(text: &str, software: &str, source: &str, table: &str) -> String {
    let gap = if text.is_empty() || text.ends_with("\n\n") {
        ""
    } else if text.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    format!("{text}{gap}{}\n{table}{}\n", begin(software, source), end(source))
}

fn without_table(text: &str, software: &str, source: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("{}\n", begin(software, source)))?;
    let (_, after) = rest.split_once(&format!("{}\n", end(source)))?;
    let before = before.strip_suffix("\n\n").map_or(before, |_| before.trim_end_matches('\n'));
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    Some(format!("{before}{gap}{after}"))
}

fn begin(software: &str, source: &str) -> String {
    format!("# {source}, from `postbell setup {software}`")
}

fn end(source: &str) -> String {
    format!("# (end of {source})")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostbell:x:990:980::/:/bin/false\n";
        assert_eq!(account(passwd, "postbell"), Some(Account { uid: 990, gid: 980 }));
        assert_eq!(account(passwd, "990"), Some(Account { uid: 990, gid: 980 }));
        assert_eq!(account(passwd, "4711"), Some(Account { uid: 4711, gid: 4711 }));
        assert_eq!(account(passwd, "nobody-such"), None);
    }

    #[test]
    fn a_table_goes_as_it_came() {
        for text in ["", "data = \"x\"\n", "data = \"x\"\n\n[log]\nlevel = \"info\"\n"] {
            let with =
                with_table(text, "dovecot", "dovecot", "[sources.dovecot]\nkind = \"dovecot\"\n");
            assert!(with.contains("\n[sources.dovecot]\n"), "{with}");
            assert_eq!(without_table(&with, "dovecot", "dovecot").as_deref(), Some(text));
            assert_eq!(without_table(&with, "dovecot", "other"), None);
            assert_eq!(without_table(&with, "cyrus", "dovecot"), None);
            let more = format!("{with}\n[http]\n");
            assert!(without_table(&more, "dovecot", "dovecot").unwrap().ends_with("\n[http]\n"));
        }
    }

    #[test]
    fn the_configuration_is_replaced_at_once_and_keeps_its_mode_and_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["real.toml", "postbell.toml"].map(|name| folder.path().join(name));
        let before = "listen = \"127.0.0.1:5423\"\n";
        fs::write(&file, before).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let reader = fs::File::open(&file).unwrap();
        let table =
            "[sources.dovecot]\nkind = \"dovecot\"\nspool = \"/var/spool/postbell/dovecot\"\n";
        write("dovecot", &link, "dovecot", table).unwrap();
        // Who had it open reads on in what it was.
        assert_eq!(io::read_to_string(reader).unwrap(), before);
        let text = fs::read_to_string(&link).unwrap();
        assert!(text.starts_with(before) && text.contains(table), "{text}");
        let mode = |path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&file), 0o640);
        take_out("dovecot", &link, "dovecot").unwrap().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        assert_eq!(mode(&file), 0o640);
        // Nothing is left beside them.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_name_is_plain() {
        assert_eq!(name("mail-1").unwrap(), "mail-1");
        assert!(["", "a b", "a/b", "é", "a.b"].into_iter().all(|text| name(text).is_err()));
    }
}
