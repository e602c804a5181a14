//! What carries one subscription's deliveries to where they go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postbell_engine::Outcome;
use postbell_sinks::command::Command;
use postbell_sinks::webhook::{Answer, Webhook};

use crate::sources::chain;

/// A webhook's receiver, or a program on this machine.
#[derive(Clone, Debug)]
pub(super) enum Carrier {
    /// One POST for each delivery.
    Webhook(Arc<Webhook>),
    /// One run for each delivery.
    Command(Arc<Runs>),
}

/// The runs of a program.
#[derive(Debug)]
pub(super) struct Runs {
    command: Command,
    under_way: AtomicUsize,
}

/// A run under way, as long as it is held.
struct UnderWay<'a>(&'a AtomicUsize);

impl Carrier {
    /// Lets go of connections kept long enough.
    pub(super) fn sweep(&self) {
        match self {
            Self::Webhook(webhook) => webhook.sweep(),
            Self::Command(_) => {}
        }
    }

    /// The word for it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Command(_) => "command",
        }
    }

    /// How many connections are kept for the next delivery.
    pub(super) fn connections_kept(&self) -> usize {
        match self {
            Self::Webhook(webhook) => webhook.connections_kept(),
            Self::Command(_) => 0,
        }
    }

    /// How many attempts somebody else may know of. Others can be dropped, and nobody will see a
    /// repeat.
    pub(super) fn attempts_seen(&self) -> usize {
        match self {
            Self::Webhook(webhook) => webhook.attempts_seen(),
            Self::Command(runs) => runs.under_way.load(Ordering::Relaxed),
        }
    }
}

impl Runs {
    pub(super) fn new(command: Command) -> Self {
        Self { command, under_way: AtomicUsize::new(0) }
    }

    /// Runs it for an event; dropped before it is done, the future takes the program with it.
    pub(super) async fn run(&self, json: &[u8]) -> Answer {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        match self.command.run(json).await {
            Ok(()) => Answer { outcome: Outcome::Accepted, reason: "status 0".to_owned() },
            Err(failed) => {
                let outcome = Outcome::Failed { retry_after: None };
                Answer { outcome, reason: chain(&failed) }
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
