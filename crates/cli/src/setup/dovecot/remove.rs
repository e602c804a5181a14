//! What was written, taken away.

use std::path::PathBuf;

use anyhow::Context as _;

use super::super::remove::Removal;
use super::super::told::Report;
use super::super::{absolute, apply};
use super::doveconf::Settings;
use super::programs::Programs;
use super::{DovecotArgs, NAME, facts, plan};

/// Takes everything away: the snippet first, since it is what has the others used.
pub(super) fn run(args: &DovecotArgs, programs: &Programs) -> anyhow::Result<Report> {
    let main = absolute(&args.server.dovecot_config)?;
    let mut removal = Removal::new(NAME, &args.how, &args.own, plan::bare(&main));
    let places = facts::places(&main, args);
    let mut files = facts::candidates(&main);
    files.extend([places.exporter, places.script]);
    let mut ours = Vec::new();
    for path in files {
        if let Some(text) = apply::present(&path)? {
            ours.push((path, text));
        }
    }
    let spool = match &args.own.spool {
        Some(_) => None,
        None => ours.iter().find_map(|(_, text)| spool_in(text)),
    };
    for (path, _) in &ours {
        removal.file(path)?;
    }
    if !ours.is_empty() {
        let next = "doveadm reload (until then Dovecot goes on as before)";
        removal.report.next.push(next.to_owned());
        // A configuration without our snippet is the operator's alone; it is only looked at.
        if !removal.is_dry() {
            programs.settings(&main).context("our files are gone, but")?;
        }
    }
    removal.spool(&spool.unwrap_or(places.spool))?;
    let (config, file) = args.own.configuration()?;
    let secret = config.exporter_secret_file(args.source());
    if secret.is_file() {
        removal.file(&secret)?;
    }
    removal.table(&config, file.as_deref(), args.source())?;
    Ok(removal.end())
}

/// The spool the snippet names.
fn spool_in(text: &str) -> Option<PathBuf> {
    Settings::parse(text).plugin("postbell_spool").map(PathBuf::from)
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
