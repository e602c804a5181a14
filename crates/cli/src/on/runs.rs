//! What runs, and what waits for it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use postbell_engine::Keys;
use postbell_sinks::command::{Command, Failed};

use crate::follow::Told;
use crate::show;

/// The runs of one command: those of one mailbox in order, those of others side by side.
pub(super) struct Runs {
    command: Command,
    jobs: usize,
    attempts: u64,
    waiting: VecDeque<Run>,
    under_way: FuturesUnordered<BoxFuture<'static, (Run, Option<Failed>)>>,
    /// The mailboxes of those under way.
    busy: HashSet<String>,
    /// The numbers of all that is not done.
    open: BTreeSet<u64>,
    /// The highest number taken.
    last: Option<u64>,
}

/// One run.
#[derive(Debug)]
struct Run {
    seq: Option<u64>,
    json: String,
    /// Whose events come in order.
    lane: String,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The event, for a person.
    pub(super) what: String,
    /// Why it is not as good as done.
    pub(super) failure: Option<Failed>,
}

impl Runs {
    pub(super) fn new(command: Command, jobs: u64, attempts: u64) -> Self {
        Self {
            command,
            jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
            attempts,
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            busy: HashSet::new(),
            open: BTreeSet::new(),
            last: None,
        }
    }

    /// Whether another may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX.min(self.jobs.saturating_mul(WAITING_PER_JOB))
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Takes one more.
    pub(super) fn add(&mut self, told: Told) {
        let Told { seq, json } = told;
        let keys = Keys::find(json.as_bytes());
        let lane = keys.and_then(|keys| keys.view(json.as_bytes()).partition()).unwrap_or_default();
        self.open.extend(seq);
        self.last = seq.or(self.last);
        self.waiting.push_back(Run { seq, json, lane });
        self.start();
    }

    /// Takes one for which nothing is to run.
    pub(super) fn pass(&mut self, seq: Option<u64>) {
        self.last = seq.or(self.last);
    }

    /// Lets go of what has not begun.
    pub(super) fn take_no_more(&mut self) {
        self.waiting.clear();
    }

    /// The next that ends; nothing where none is under way.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let (run, failure) = self.under_way.next().await?;
        self.busy.remove(&run.lane);
        if let Some(seq) = run.seq {
            self.open.remove(&seq);
        }
        self.start();
        let event = serde_json::from_str(&run.json).unwrap_or_default();
        Some(Ended { what: show::line(&event), failure })
    }

    /// Up to which number all is done.
    pub(super) fn done(&self) -> Option<u64> {
        self.open.first().map(|seq| seq.saturating_sub(1)).or(self.last)
    }

    fn start(&mut self) {
        let mut behind = HashSet::new();
        let mut at = 0;
        while self.under_way.len() < self.jobs {
            let Some(run) = self.waiting.get(at) else { return };
            // One of the same mailbox that came before goes before.
            if self.busy.contains(&run.lane) || behind.contains(&run.lane) {
                behind.insert(run.lane.clone());
                at += 1;
                continue;
            }
            let Some(run) = self.waiting.remove(at) else { return };
            self.busy.insert(run.lane.clone());
            let (command, attempts) = (self.command.clone(), self.attempts);
            let under_way = async move {
                let failure = tried(&command, run.json.as_bytes(), attempts).await;
                (run, failure)
            };
            self.under_way.push(under_way.boxed());
        }
    }
}

/// Runs it until it succeeds, or was tried often enough.
async fn tried(command: &Command, json: &[u8], attempts: u64) -> Option<Failed> {
    let mut pause = PAUSE_MIN;
    let mut attempt = 1;
    loop {
        let failed = command.run(json).await.err()?;
        // A program that isn't there will not come.
        if attempt >= attempts || matches!(failed, Failed::NotStarted { .. }) {
            return Some(failed);
        }
        attempt += 1;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Events that wait at most: more would be memory and nothing else.
const WAITING_MAX: usize = 1_024;

/// Events that wait for each that may run, so that others' are found while one mailbox is busy.
const WAITING_PER_JOB: usize = 16;

const PAUSE_MIN: Duration = Duration::from_secs(1);

const PAUSE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seq: u64, mailbox: &str) -> Told {
        let uri = format!("imap://u@h/{mailbox};UIDVALIDITY=1/;UID=2");
        let json = format!(
            r#"{{"event":"MessageNew","uri":"{uri}","timestamp":"2026-08-20T13:34:14+02:00"}}"#
        );
        Told { seq: Some(seq), json }
    }

    fn shell(script: &str) -> Command {
        Command::new("sh".into(), vec!["-c".into(), script.into()], Duration::from_secs(20))
    }

    #[tokio::test]
    async fn a_mailboxs_runs_go_in_order_and_others_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        // Each of the other mailbox's waits for the first of A's to have begun and be under way.
        let script = format!(
            "cd {}; case $POSTBELL_MAILBOX in A) touch begun; while [ ! -e go ]; do sleep 0.01; done; cat >> a;; *) while [ ! -e begun ]; do sleep 0.01; done; touch go;; esac",
            folder.path().display()
        );
        let mut runs = Runs::new(shell(&script), 2, 1);
        for (seq, mailbox) in [(3, "A"), (5, "A"), (6, "B")] {
            runs.add(told(seq, mailbox));
        }
        assert_eq!((runs.under_way(), runs.done()), (2, Some(2)));
        let mut ended = Vec::new();
        while let Some(one) = runs.ended().await {
            assert!(one.failure.is_none(), "{one:?}");
            ended.push(runs.done());
        }
        assert_eq!((ended.len(), ended.last().copied().flatten()), (3, Some(6)));
        let order = std::fs::read_to_string(folder.path().join("a")).unwrap();
        assert_eq!(order.lines().count(), 2);
    }

    #[tokio::test]
    async fn a_run_that_fails_is_tried_as_often_as_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("cd {}; echo >> tries; exit 3", folder.path().display());
        let mut runs = Runs::new(shell(&script), 1, 2);
        runs.add(told(3, "A"));
        let ended = runs.ended().await.unwrap();
        assert_eq!(ended.failure.unwrap().to_string(), "sh ended with status 3");
        let tries = std::fs::read_to_string(folder.path().join("tries")).unwrap();
        assert_eq!((tries.lines().count(), runs.done()), (2, Some(3)));
    }
}
