//! A login without password, before anything is written and after.
//!
//! The mail processes themselves are run, as after a login, with their own modules and our script;
//! only the spool is another one, so that nobody is told of a login that was none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;

use super::super::spool;
use super::decide::{self, PROTOCOLS, Places};
use super::facts::Found;
use super::order::Placement;
use super::programs::{Programs, Session};
use super::render;

/// Tries what is there today, so that nothing is laid to our charge that was so before.
///
/// # Errors
///
/// What Dovecot says.
pub(super) fn now(programs: &Programs, found: &Found, user: &str) -> anyhow::Result<Session> {
    let room = Room::new()?;
    let main = room.redirected(&found.facts.main)?;
    programs.login(&main, user).map_err(|why| {
        anyhow!(
            "{user}: can't be logged in even as things are: {why} (is Dovecot running, and is that a mail user? name one with --test-user)"
        )
    })
}

/// Tries the files beside the real configuration, of which nothing changes.
///
/// # Errors
///
/// What Dovecot says; nothing was done then.
pub(super) fn before(
    programs: &Programs,
    found: &Found,
    placement: &Placement,
    user: (&str, &Session),
) -> anyhow::Result<()> {
    let room = Room::new()?;
    let script = room.write("postbell.lua", render::SCRIPT)?;
    let exporter = found.facts.exporter.as_ref();
    let exporter_file = match exporter {
        Some(exporter) => room.write("exporter.conf", &render::exporter(exporter))?,
        None => PathBuf::new(),
    };
    let places = Places { script, exporter: exporter_file, spool: room.spool.clone() };
    let main = room.write(
        "dovecot.conf",
        &format!(
            "!include {}\n{}",
            found.facts.main.display(),
            render::snippet(&found.facts, &places, placement)
        ),
    )?;
    room.login(programs, &main, user)
        .context("a trial with a copy failed, so that nothing was changed")
}

/// Tries what was written.
///
/// # Errors
///
/// What Dovecot says, or which protocols go unseen.
pub(super) fn after(
    programs: &Programs,
    found: &Found,
    placement: &Placement,
    user: (&str, &Session),
) -> anyhow::Result<()> {
    let facts = &found.facts;
    let settings = programs.settings(&facts.main)?;
    for (key, wanted) in
        [("mail_lua_script", &facts.places.script), ("postbell_spool", &facts.places.spool)]
    {
        if settings.plugin(key).map(Path::new) != Some(wanted) {
            return Err(anyhow!(
                "{}: {key} in it does not take effect",
                placement.snippet.display()
            ));
        }
    }
    let mut plugins_of = Vec::new();
    for protocol in PROTOCOLS {
        let values = programs.values(&facts.main, Some(protocol), &["mail_plugins"])?;
        plugins_of.push((protocol, values.concat()));
    }
    let unseen = decide::unseen(&plugins_of);
    if !unseen.is_empty() {
        return Err(anyhow!(
            "mail_plugins is set anew somewhere, so that nothing would be seen over {}",
            unseen.join(", ")
        ));
    }
    let room = Room::new()?;
    let main = room.redirected(&facts.main)?;
    room.login(programs, &main, user)
}

/// A folder for one trial.
struct Room {
    folder: TempDir,
    spool: PathBuf,
}

impl Room {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("postbell-trial-")
            .tempdir()
            .context("a folder for the trial")?;
        let spool = folder.path().join("spool");
        fs::create_dir(&spool).with_context(|| spool.display().to_string())?;
        // Mail users read the script and write the spool.
        for (path, mode) in [(folder.path(), 0o711), (&*spool, spool::MODE)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .with_context(|| path.display().to_string())?;
        }
        Ok(Self { folder, spool })
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        let named = || path.display().to_string();
        fs::write(&path, text).with_context(named)?;
        let mode = if text.contains(SECRET_FOLLOWS) { 0o600 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(named)?;
        Ok(path)
    }

    /// The real configuration with another spool.
    fn redirected(&self, main: &Path) -> anyhow::Result<PathBuf> {
        let spool = self.spool.display();
        let text =
            format!("!include {}\nplugin {{\n  postbell_spool = {spool}\n}}\n", main.display());
        self.write("dovecot.conf", &text)
    }

    fn login(
        &self,
        programs: &Programs,
        main: &Path,
        (user, before): (&str, &Session),
    ) -> anyhow::Result<()> {
        let session = programs
            .login(main, user)
            .map_err(|why| anyhow!("{user}: every login would fail: {why}"))?;
        if let (Some(error), None) = (session.error, &before.error) {
            return Err(anyhow!("{user}: a login gives an error it did not give before: {error}"));
        }
        // Only an IMAP session says that it began.
        let files = spool::contents(&self.spool).context("the trial's spool")?;
        match files {
            Some((_, octets)) if octets == 0 && session.separator.is_some() => {
                Err(anyhow!("{user}: a login went well, but the script wrote nothing of it"))
            }
            _ => Ok(()),
        }
    }
}

/// The exporter's URL.
const SECRET_FOLLOWS: &str = "/v1/dovecot/";
