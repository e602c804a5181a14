//! What was written, taken away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::super::told::{Becomes, Report, Shown, State};
use super::super::{apply, own, spool};
use super::DovecotArgs;
use super::programs::Programs;
use super::{NAME, facts, plan};
use crate::connection;
use crate::lines::plain;

/// Takes everything away: the snippet first, since it is what has the others used.
pub(super) fn run(args: &DovecotArgs, programs: &Programs) -> anyhow::Result<Report> {
    let main = std::path::absolute(&args.server.dovecot_config)
        .with_context(|| args.server.dovecot_config.display().to_string())?;
    let mut report = plan::bare(&main);
    report.is_removal = true;
    report.state = if args.how.dry_run { State::Planned } else { State::Removed };
    let mut spools = Vec::new();
    let mut files = facts::candidates(&main);
    let places = facts::places(&main, args);
    files.extend([places.exporter, places.script]);
    let mut gone = Vec::new();
    for path in files {
        let Some(text) = apply::present(&path)? else { continue };
        spools.extend(spool_in(&text));
        gone.push(path);
    }
    let spool = args.own.spool.clone().or_else(|| spools.into_iter().next());
    let spool = spool.unwrap_or_else(|| Path::new("/var/spool/postbell").join(args.source()));
    for path in &gone {
        if !args.how.dry_run {
            remove(path)?;
        }
        report.files.push(shown(path, Becomes::Gone));
    }
    if !gone.is_empty() {
        report.next.push("doveadm reload (until then Dovecot goes on as before)".to_owned());
    }
    // A configuration without our snippet is the operator's alone; it is only looked at.
    if !args.how.dry_run && !gone.is_empty() {
        programs.settings(&main).context("our files are gone, but")?;
    }
    take_spool(args, &spool, &mut report)?;
    take_secret(args, &mut report)?;
    if report.files.is_empty() && report.written.is_none() {
        report.notes.push("there was nothing to take away".to_owned());
    }
    Ok(report)
}

/// The spool the snippet names.
fn spool_in(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().map(str::trim);
    let value =
        lines.find_map(|line| line.strip_prefix("postbell_spool")?.trim().strip_prefix('='));
    value.map(|value| PathBuf::from(value.trim()))
}

/// Takes the spool away; one that holds lines only where that was asked for.
fn take_spool(args: &DovecotArgs, spool: &Path, report: &mut Report) -> anyhow::Result<()> {
    let named = || spool.display().to_string();
    let Some((files, octets)) = spool::contents(spool).with_context(named)? else {
        return Ok(());
    };
    if octets > 0 && !args.how.force {
        report.files.push(shown(spool, Becomes::Kept));
        report.notes.push(format!(
            "the spool holds {octets} octets in {}; what the hub has not read yet would be lost",
            crate::validate::counted(u64::try_from(files.len()).unwrap_or(u64::MAX), "file")
        ));
        report.next.push(
            "when `postbell doctor` shows nothing unread: postbell setup dovecot --remove --force"
                .to_owned(),
        );
        return Ok(());
    }
    report.files.push(shown(spool, Becomes::Gone));
    if args.how.dry_run {
        return Ok(());
    }
    for file in &files {
        remove(file)?;
    }
    fs::remove_dir(spool).map_err(|error| anyhow!("{}: {}", named(), plain(&error)))?;
    // The folder above is ours too, by its name, if nothing else is in it.
    if let Some(above) = spool.parent().filter(|above| above.ends_with("postbell")) {
        drop(fs::remove_dir(above));
    }
    Ok(())
}

/// The exporter's secret and the table in the hub's configuration.
fn take_secret(args: &DovecotArgs, report: &mut Report) -> anyhow::Result<()> {
    let file = args.own.config.clone().or_else(connection::machine_config);
    let config = connection::load(file.as_deref())?.unwrap_or_default();
    let secret = config.exporter_secret_file(args.source());
    if secret.is_file() {
        report.files.push(shown(&secret, Becomes::Gone));
        if !args.how.dry_run {
            remove(&secret)?;
        }
    }
    if let Some(file) = file.filter(|_| args.own.write_config && !args.how.dry_run) {
        report.written = own::take_out(NAME, &file, args.source())?;
    }
    if report.written.is_none() && config.sources.contains_key(args.source()) {
        report.next.push(format!(
            "take sources.{} out of the hub's configuration and restart it",
            args.source()
        ));
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow!("{}: {}", path.display(), plain(&error)))
        }
        _ => Ok(()),
    }
}

fn shown(path: &Path, change: Becomes) -> Shown {
    Shown::bare(path.display().to_string(), change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spool_is_the_one_the_snippet_names() {
        let text = "plugin {\n  mail_lua_script = /x\n  postbell_spool = /srv/spool\n}\n";
        assert_eq!(spool_in(text), Some("/srv/spool".into()));
        assert_eq!(spool_in("postbell_spool_max = 5\n# postbell_spool = /x\n"), None);
    }
}
