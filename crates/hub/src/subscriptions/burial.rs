//! Dead letters on their way to where a person will see them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::error;

use super::Context;
use super::attempts::Held;
use super::entry::Entry;
use super::worker::TROUBLE_PAUSE;
use crate::state::{DeadLetter, StateError};

/// What one subscription gave up and the disk doesn't have yet.
///
/// Whoever delivers goes on meanwhile: a full disk is no reason to leave a receiver hanging. As
/// nothing new is taken up until this is empty, there are at most as many as a window holds.
pub(super) struct Burials {
    entry: Arc<Entry>,
    context: Arc<Context>,
    waiting: BTreeMap<u64, Waiting>,
    /// One at a time, of all that waited when it began.
    burying: Option<BoxFuture<'static, Buried>>,
}

/// A letter that isn't kept yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) seq: u64,
    /// The delivery before it.
    pub(super) prev_seq: Option<u64>,
    letter: DeadLetter,
}

/// Which letters are kept, and how many there are of the subscription then.
struct Buried {
    seqs: Vec<u64>,
    count: u64,
}

impl Burials {
    /// Nothing to bury yet.
    pub(super) fn new(entry: Arc<Entry>, context: Arc<Context>) -> Self {
        Self { entry, context, waiting: BTreeMap::new(), burying: None }
    }

    /// Takes a delivery that was given up after so many attempts.
    pub(super) fn add(&mut self, seq: u64, held: &Held, attempts: u32, reason: String) {
        let prev_seq = held.prev_seq;
        let letter = DeadLetter {
            seq,
            event_id: held.id.to_string(),
            at_unix_millis: jiff::Timestamp::now().as_millisecond(),
            attempts,
            reason,
            prev_seq,
            redrive: 0,
        };
        self.waiting.insert(seq, Waiting { seq, prev_seq, letter });
    }

    /// Whether everything is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first one that isn't.
    pub(super) fn first(&self) -> Option<&Waiting> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting)
    }

    /// Goes on burying; ready when some were.
    pub(super) fn poll(&mut self, context: &mut task::Context<'_>) -> Poll<()> {
        if self.waiting.is_empty() {
            return Poll::Pending;
        }
        let burying = self.burying.get_or_insert_with(|| {
            let letters = self.waiting.values().map(|waiting| waiting.letter.clone()).collect();
            bury(Arc::clone(&self.entry), Arc::clone(&self.context), letters).boxed()
        });
        let buried = ready!(burying.poll_unpin(context));
        self.burying = None;
        for seq in buried.seqs {
            self.waiting.remove(&seq);
        }
        self.entry.live.dead_letters.store(buried.count, Ordering::Relaxed);
        self.entry.live.set_trouble(None);
        Poll::Ready(())
    }
}

/// Tries until it is done.
async fn bury(entry: Arc<Entry>, context: Arc<Context>, letters: Vec<DeadLetter>) -> Buried {
    let letters: Arc<[DeadLetter]> = letters.into();
    loop {
        let (id, all) = (entry.id.clone(), Arc::clone(&letters));
        let buried = context.blocking(move |db| {
            db.bury(&id, &all)?;
            db.dead_letter_counts(&id)
        });
        match buried.await {
            Ok((count, _)) => {
                return Buried { seqs: letters.iter().map(|letter| letter.seq).collect(), count };
            }
            Err(error) => tell(&entry, &error),
        }
        tokio::time::sleep(TROUBLE_PAUSE).await;
    }
}

fn tell(entry: &Entry, error: &StateError) {
    if entry.live.set_trouble(Some(error.to_string())) {
        error!(subscription = %entry.label(), %error, "a dead letter can't be kept; the subscription waits");
    }
}
