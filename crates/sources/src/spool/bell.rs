//! Waits until the spool is written to: inotify on its folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        Self { folder: folder.to_owned(), inotify, is_watching: false, has_warned: false }
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
    pub(crate) fn wait(&self, stop: &Stop, other: Option<BorrowedFd<'_>>, limit: Duration) {
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
        }
        rung
    }
}

/// Room for some hundred notices.
const NOTICES_OCTETS: usize = 16 * 1024;

/// How often that is read before the lines get their turn.
const NOTICES_ROUNDS: usize = 64;
