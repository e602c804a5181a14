//! What is taken away in the same way for each software.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use postbell_hub::Config;
use postbell_sources::cyrus::OPEN_FOLDER;
use postbell_sources::dovecot::{DEMAND_FILE, remove_unfinished};

use super::apply::at;
use super::told::{Becomes, Report, Shown, State};
use super::{HowArgs, OwnArgs, own, spool};
use crate::validate::counted;

/// Takes away, unless only told to say so, and tells of it.
pub(super) struct Removal<'a> {
    software: &'static str,
    how: &'a HowArgs,
    own: &'a OwnArgs,
    /// What is told.
    pub(super) report: Report,
}

impl<'a> Removal<'a> {
    /// Of which nothing is done yet.
    pub(super) fn new(
        software: &'static str,
        how: &'a HowArgs,
        own: &'a OwnArgs,
        mut report: Report,
    ) -> Self {
        report.is_removal = true;
        report.state = if how.dry_run { State::Planned } else { State::Removed };
        Self { software, how, own, report }
    }

    /// Whether it is only said.
    pub(super) fn is_dry(&self) -> bool {
        self.how.dry_run
    }

    /// Takes a file away.
    pub(super) fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        self.tell(path, Becomes::Gone);
        if self.is_dry() { Ok(()) } else { remove(path) }
    }

    /// Tells what becomes of one.
    pub(super) fn tell(&mut self, path: &Path, becomes: Becomes) {
        self.report.files.push(Shown::bare(path.display().to_string(), becomes));
    }

    /// Takes the spool away; one that holds lines only where that was asked for.
    pub(super) fn spool(&mut self, path: &Path) -> anyhow::Result<()> {
        let found = spool::contents(path).with_context(|| path.display().to_string())?;
        let Some((files, octets)) = found else { return Ok(()) };
        if octets > 0 && !self.how.force {
            self.tell(path, Becomes::Kept);
            self.report.notes.push(format!(
                "the spool holds {octets} octets in {}; what the hub has not read yet would be lost",
                counted(u64::try_from(files.len()).unwrap_or(u64::MAX), "file")
            ));
            self.report.next.push(format!(
                "when `postbell doctor` shows nothing unread: postbell setup {} --remove --force",
                self.software
            ));
            return Ok(());
        }
        self.tell(path, Becomes::Gone);
        if self.is_dry() {
            return Ok(());
        }
        files.iter().try_for_each(|file| remove(file))?;
        // The hub's own, which says nothing that would be lost.
        remove(&path.join(DEMAND_FILE))?;
        let open = path.join(OPEN_FOLDER);
        match fs::remove_dir_all(&open) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&open, &error)),
            _ => {}
        }
        let hub = fs::metadata(path).map_err(|error| at(path, &error))?.uid();
        remove_unfinished(path, hub).map_err(|error| at(path, &error))?;
        fs::remove_dir(path).map_err(|error| at(path, &error))?;
        // The folder above is ours too, by its name, if nothing else is in it.
        if let Some(above) = path.parent().filter(|above| above.ends_with("postbell")) {
            drop(fs::remove_dir(above));
        }
        Ok(())
    }

    /// Takes the source's table out of the hub's configuration, where that is wanted.
    pub(super) fn table(
        &mut self,
        config: &Config,
        file: Option<&Path>,
        source: &str,
    ) -> anyhow::Result<()> {
        if let Some(file) = file.filter(|_| self.own.write_config && !self.is_dry()) {
            self.report.written = own::take_out(self.software, file, source)?;
        }
        if self.report.written.is_none() && config.sources.contains_key(source) {
            self.report.next.push(format!(
                "take sources.{source} out of the hub's configuration and restart it"
            ));
        }
        Ok(())
    }

    /// All that is told.
    pub(super) fn end(mut self) -> Report {
        if self.report.files.is_empty() && self.report.written.is_none() {
            self.report.notes.push("there was nothing to take away".to_owned());
        }
        self.report
    }
}

/// One that is gone already is as good.
fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}
