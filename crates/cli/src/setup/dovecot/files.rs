//! Our files beside Dovecot's, written all or none.

use super::super::apply::{self, Change, Undo, at};
use super::super::spool;
use super::facts::Found;
use super::order::Placement;
use super::{render, secret};

/// What is to be written, in this order: what takes effect comes last.
pub(super) fn changes(found: &Found, placement: &Placement) -> anyhow::Result<Vec<Change>> {
    let facts = &found.facts;
    let places = &facts.places;
    let exporter = facts.exporter.as_ref();
    let snippet = render::snippet(facts, places, placement);
    let mut wanted = vec![
        (&places.script, Some(render::SCRIPT.to_owned()), 0o644),
        (&places.exporter, exporter.map(render::exporter), 0o600),
        (&placement.snippet, Some(snippet), 0o644),
    ];
    // An earlier run may have found another place better.
    let others = facts.candidates.iter().filter(|other| **other != placement.snippet);
    wanted.extend(others.map(|other| (other, None, 0o644)));
    let mut changes = Vec::new();
    for (path, new, mode) in wanted {
        let old = apply::present(path)?;
        if old.is_some() || new.is_some() {
            changes.push(Change { path: path.clone(), old, new, mode, owner: None });
        }
    }
    Ok(changes)
}

/// Writes all, then asks `check`; where either fails, everything is as it was.
pub(super) fn all(
    found: &Found,
    changes: &[Change],
    check: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    apply::all(|undo| first(found, undo), changes, check)
}

/// The spool and the exporter's secret.
fn first(found: &Found, undo: &mut Undo) -> anyhow::Result<()> {
    let facts = &found.facts;
    let made = spool::make(&facts.places.spool, found.hub, spool::Writers::Everybody);
    undo.folders = made.map_err(|(path, error)| at(&path, &error))?;
    if facts.reads_demand {
        let spool = &facts.places.spool;
        let file = spool::keep_demand(spool, found.hub).map_err(|error| at(spool, &error))?;
        let gone = |path| Change { path, old: None, new: None, mode: 0o644, owner: None };
        undo.files.extend(file.map(gone));
    }
    if let Some(exporter) = &facts.exporter {
        let file = found.config.exporter_secret_file(&exporter.source);
        let is_new = secret::keep(&file, &exporter.secret, found.hub);
        if is_new.map_err(|error| at(&file, &error))? {
            undo.files.push(Change { path: file, old: None, new: None, mode: 0o600, owner: None });
        }
    }
    Ok(())
}
