//! Spools whose scripts read what is wanted, and how far each has been told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use postbell_engine::Demand;
use postbell_sources::dovecot;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::Told;
use crate::lock::locked;

/// All spools. Each is written to by a task of its own, one write at a time, so that one whose disk
/// hangs holds up nobody, and in the end says what was told last.
#[derive(Debug)]
pub(super) struct Spools {
    each: Vec<Spool>,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug)]
struct Spool {
    source: String,
    path: PathBuf,
    standing: watch::Sender<Standing>,
}

/// How far a spool's script has been told.
#[derive(Debug)]
pub(crate) enum Reached {
    /// It is told, for so long by now.
    Told(Duration),
    /// Nothing was written yet, or it is being written.
    Not,
    /// What is wrong with it.
    Trouble(String),
}

#[derive(Debug, Default)]
struct Standing {
    /// The number of what was written last, or tried to; 0 before the beginning.
    number: u64,
    /// Since when it says so.
    since: Option<Instant>,
    trouble: Option<Trouble>,
    /// It was waited for in vain, and hasn't been written to since.
    is_late: bool,
}

/// Why what is wanted is not told in a spool.
#[derive(Debug)]
enum Trouble {
    /// The script leaves nothing out: without a file, or with one that says nothing, everything is
    /// wanted; and without a folder nothing is written.
    Spared(String),
    /// The script may go by less, which was wanted before.
    Misled(String),
}

impl Spools {
    /// The folders of sources, by their names; nothing is written before [`Spools::begin`].
    pub(super) fn new(spools: Vec<(String, PathBuf)>) -> Self {
        let spool = |(source, path)| Spool { source, path, standing: watch::Sender::default() };
        Self { each: spools.into_iter().map(spool).collect(), tasks: Mutex::default() }
    }

    /// Writes what is told from now on, and looks so often whether it is still there.
    pub(super) fn begin(&self, told: &watch::Receiver<Told>, look_every: Duration) {
        let begin = |Spool { path, standing, .. }: &Spool| {
            let following = follow(path.clone(), told.clone(), standing.clone(), look_every);
            tokio::spawn(following).abort_handle()
        };
        locked(&self.tasks).extend(self.each.iter().map(begin));
    }

    /// Waits until what has this number is told everywhere, for so long at most. A spool that was
    /// waited for in vain before is not until it has been written to. Gives what is wrong where a
    /// script may go by what was wanted before.
    pub(super) async fn told(&self, number: u64, patience: Duration) -> Vec<String> {
        let mut troubles = Vec::new();
        let until = Instant::now() + patience;
        for Spool { path, standing, .. } in &self.each {
            let is_over = |now: &Standing| now.is_late || now.number >= number;
            let left = until.saturating_duration_since(Instant::now());
            let mut following = standing.subscribe();
            let waited = timeout(left, following.wait_for(is_over)).await.is_ok();
            if !waited {
                standing.send_modify(|now| now.is_late = now.number < number);
            }
            match &*standing.borrow() {
                now if now.number < number => {
                    troubles.push(format!("{}: not written in time", file(path).display()));
                }
                Standing { trouble: Some(Trouble::Misled(why)), .. } => troubles.push(why.clone()),
                Standing { .. } => {}
            }
        }
        troubles
    }

    /// Whether no script may go by what was wanted before what has this number.
    pub(super) fn go_by(&self, number: u64) -> bool {
        self.each.iter().all(|spool| {
            let standing = spool.standing.borrow();
            standing.number >= number && !matches!(standing.trouble, Some(Trouble::Misled(_)))
        })
    }

    /// How far a source's has been told of what has this number; nothing where it has none.
    pub(super) fn reached(&self, source: &str, number: u64) -> Option<Reached> {
        let spool = self.each.iter().find(|spool| spool.source == source)?;
        let standing = spool.standing.borrow();
        Some(match (&standing.trouble, standing.since) {
            (Some(Trouble::Spared(why)), _) => {
                Reached::Trouble(format!("{why}; the script leaves nothing out"))
            }
            (Some(Trouble::Misled(why)), _) => {
                Reached::Trouble(format!("{why}; the script may go by what was wanted before"))
            }
            (None, Some(since)) if standing.number >= number => Reached::Told(since.elapsed()),
            (None, _) => Reached::Not,
        })
    }

    /// As if every disk hung.
    #[cfg(test)]
    pub(super) fn hang(&self) {
        locked(&self.tasks).iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Spools {
    fn drop(&mut self) {
        locked(&self.tasks).iter().for_each(AbortHandle::abort);
    }
}

/// Writes down what is told, and looks now and then whether it is still there: somebody may take it
/// away, or the folder come to be.
async fn follow(
    path: PathBuf,
    mut told: watch::Receiver<Told>,
    standing: watch::Sender<Standing>,
    look_every: Duration,
) {
    let spool = path.clone();
    if let Ok(Err(error)) = spawn_blocking(move || tidy(&spool)).await {
        debug!(%error, spool = %path.display(), "what a hub of before left there stays");
    }
    loop {
        let Told { number, demand, .. } = *told.borrow_and_update();
        let spool = path.clone();
        let trouble = spawn_blocking(move || tell(&spool, demand)).await.unwrap_or_else(|error| {
            Some(Trouble::Misled(format!("{}: writing panicked: {error}", file(&path).display())))
        });
        let had_trouble = standing.borrow().trouble.is_some();
        match &trouble {
            Some(Trouble::Misled(why)) if !had_trouble => {
                warn!(why, "what is wanted can't be told to the scripts there");
            }
            Some(Trouble::Misled(why) | Trouble::Spared(why)) => {
                debug!(why, "what is wanted is not told there");
            }
            None => {}
        }
        standing.send_modify(|standing| {
            let is_new = standing.number != number || had_trouble;
            if trouble.is_some() {
                standing.since = None;
            } else if is_new {
                standing.since = Some(Instant::now());
            }
            standing.number = number;
            standing.trouble = trouble;
            standing.is_late = false;
        });
        match timeout(look_every, told.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => return,
        }
    }
}

/// Writes it down where that isn't so already.
fn tell(spool: &Path, demand: Demand) -> Option<Trouble> {
    if dovecot::is_told(spool, demand) {
        return None;
    }
    let error = dovecot::tell_demand(spool, demand).err()?;
    let why = format!("{}: {error}", file(spool).display());
    Some(match dovecot::is_misleading(spool, demand) {
        true => Trouble::Misled(why),
        false => Trouble::Spared(why),
    })
}

/// Takes away what a hub began to write that was killed.
fn tidy(spool: &Path) -> io::Result<()> {
    dovecot::remove_unfinished(spool, rustix::process::geteuid().as_raw())
}

fn file(spool: &Path) -> PathBuf {
    spool.join(dovecot::DEMAND_FILE)
}
