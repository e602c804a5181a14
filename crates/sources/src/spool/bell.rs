//! Waits until the spool is written to: inotify on its folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchMask};
use tracing::warn;

use crate::Stop;

/// Rings when something is written to the folder.
#[derive(Debug)]
pub(crate) struct Bell {
    folder: PathBuf,
    inotify: Option<Inotify>,
    is_watching: bool,
    has_warned: bool,
    /// When it was heard last.
    heard_at: Option<Instant>,
}

/// What it rang for.
#[derive(Debug, Default)]
pub(crate) struct Rung {
    /// Files that were written to.
    pub(crate) written: BTreeSet<OsString>,
    /// Files came or went, or it isn't known what happened.
    pub(crate) anything: bool,
}

impl Bell {
    pub(crate) fn new(folder: &Path) -> Self {
        let inotify = Inotify::init()
            .inspect_err(|error| warn!(%error, "no inotify: the spool is looked at every second"))
            .ok();
        Self {
            folder: folder.to_owned(),
            inotify,
            is_watching: false,
            has_warned: false,
            heard_at: None,
        }
    }

    /// Watches the folder, if it isn't watched; asked for before each look at it.
    pub(crate) fn watch(&mut self) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| !self.is_watching) else { return };
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::MODIFY
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        match inotify.watches().add(&self.folder, mask) {
            Ok(_) => self.is_watching = true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    warn!(path = ?self.folder, %error, "the spool is not watched but looked at every second");
                }
            }
        }
    }

    /// Waits until it rings, `other` is readable, the stop is asked for, or `limit` has passed.
    ///
    /// It rings no sooner than [`REST`] after it was heard: the first line is told at once, and what
    /// follows it closely is told together.
    pub(crate) fn wait(&self, stop: &Stop, other: Option<BorrowedFd<'_>>, limit: Duration) {
        let rest = self.heard_at.map_or(Duration::ZERO, |at| REST.saturating_sub(at.elapsed()));
        let begun = Instant::now();
        if !rest.is_zero() {
            let others: Vec<_> = other.into_iter().collect();
            stop.wait_beside(&others, rest.min(limit));
        }
        let limit = limit.saturating_sub(begun.elapsed());
        let bell = self.inotify.as_ref().map(|inotify| inotify.as_fd());
        let others: Vec<_> = [bell, other].into_iter().flatten().collect();
        stop.wait_beside(&others, limit);
    }

    /// What it rang for since it was asked last.
    pub(crate) fn listen(&mut self) -> Rung {
        let mut rung = Rung::default();
        let Some(inotify) = &mut self.inotify else { return rung };
        let mut buffer = vec![0; NOTICES_OCTETS];
        // Bounded, lest a busy folder keep us here: what is left rings again at once.
        for _ in 0..NOTICES_ROUNDS {
            let Ok(events) = inotify.read_events(&mut buffer) else { break };
            let mut any = false;
            for event in events {
                any = true;
                let lost = EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF;
                self.is_watching &= !event.mask.intersects(lost);
                match event.name {
                    Some(name) if event.mask.contains(EventMask::MODIFY) => {
                        rung.written.insert(name.to_owned());
                    }
                    _ => rung.anything = true,
                }
            }
            if !any {
                break;
            }
            self.heard_at = Some(Instant::now());
        }
        rung
    }
}

/// How long nobody is woken for lines after some were read. Each group costs a commit of the disk,
/// which the mail server on the same machine waits for as well; an event later by this harms nobody.
const REST: Duration = Duration::from_millis(50);

/// Room for some hundred notices.
const NOTICES_OCTETS: usize = 16 * 1024;

/// How often that is read before the lines get their turn.
const NOTICES_ROUNDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_follows_a_line_closely_is_heard_together_and_nothing_of_it_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::new().unwrap();
        let mut bell = Bell::new(folder.path());
        bell.watch();
        let begun = Instant::now();
        let mut heard = BTreeSet::new();
        let mut times = 0;
        for name in 0..5 {
            fs::write(folder.path().join(format!("{name}.ndjson")), "{}\n").unwrap();
            bell.wait(&stop, None, Duration::from_secs(60));
            let rung = bell.listen();
            times += u32::from(!rung.written.is_empty() || rung.anything);
            heard.extend(rung.written);
        }
        assert_eq!(heard.len(), 5);
        assert!(
            begun.elapsed() >= REST * (times - 1),
            "heard {times} times in {:?}",
            begun.elapsed()
        );
    }
}
