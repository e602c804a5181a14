//! What the journal itself says of what is recorded, so that whoever reads it later knows what can't
//! be in it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mail_event::{Event, EventName, OtherName, Timestamp, json};
use postbell_engine::{Demand, GAP, Keys, Store, event_id};
use postbell_journal::{Batch, Change, Checkpoint, Entry, Journal, ReadError, RecordId};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::lock::locked;

/// Tells in the journal what is recorded from there on, whenever that changes, and of gaps.
#[derive(Debug)]
pub(super) struct Journalled {
    journal: Arc<dyn Journal>,
    store: Store,
    /// How long the journal is waited for.
    patience: Duration,
    said: Arc<Mutex<Said>>,
    /// Held as long as the journal has something of ours that it hasn't answered: a journal that
    /// hangs has no more than one.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Said {
    /// What is recorded, as it was told last; nothing where nobody knows.
    last: Option<Vec<String>>,
    /// Gaps that are to be told yet, by why; at most [`GAPS_MAX`].
    gaps: BTreeSet<String>,
    /// The journal was waited for in vain, and hasn't answered since.
    is_late: bool,
}

/// What became of what was to be told in the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Noted {
    /// The journal has it.
    Stands,
    /// It may take it yet, or not.
    Waits,
    /// It didn't take it.
    Not,
}

impl Journalled {
    /// Where the journal says nothing, everything that may be was recorded.
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        store: Store,
        everything: Demand,
        patience: Duration,
    ) -> Self {
        let said = Said { last: Some(names(everything)), gaps: BTreeSet::new(), is_late: false };
        let said = Arc::new(Mutex::new(said));
        Self { journal, store, patience, said, turn: Arc::default() }
    }

    /// Reads what was told last, before the start. Where it can't be read, it is told anew.
    pub(super) fn read(&self) -> Result<(), ReadError> {
        let kept = self.journal.checkpoint(SOURCE, KEY);
        if !matches!(&kept, Ok(kept) if kept.is_empty()) {
            let value = kept.as_ref().ok().and_then(|kept| kept.first()).map(|(_, value)| value);
            locked(&self.said).last = value.and_then(|value| serde_json::from_slice(value).ok());
        }
        kept.map(drop)
    }

    /// Has it told that something may be missing, with what is told next.
    pub(super) fn gap(&self, why: String) {
        let mut said = locked(&self.said);
        if said.gaps.len() < GAPS_MAX {
            said.gaps.insert(why);
        }
    }

    /// Tells what is recorded from now on, where that is something else, and what gaps there are.
    ///
    /// What the journal takes its time for is not waited for: it stands before whatever is recorded
    /// after, if the journal takes it in the end. What it doesn't take is in the log, and is to be
    /// told again. A journal that was waited for in vain before is not until it answers.
    pub(super) async fn note(&self, demand: Demand) -> Noted {
        let patience = if locked(&self.said).is_late { Duration::ZERO } else { self.patience };
        let Ok(turn) = timeout(patience, Arc::clone(&self.turn).lock_owned()).await else {
            warn!("the journal is busy: what is recorded is told later");
            return Noted::Not;
        };
        let names = names(demand);
        let (gaps, is_new) = {
            let said = locked(&self.said);
            (said.gaps.clone(), said.last.as_ref() != Some(&names))
        };
        if gaps.is_empty() && !is_new {
            return Noted::Stands;
        }
        let reasons = gaps.iter().map(|why| (GAP, "vnd.postbell.gapReason", Value::from(&**why)));
        let recorded = (RECORDING, "vnd.postbell.recorded", Value::from(names.clone()));
        let all = reasons.chain(is_new.then_some(recorded));
        let entries = all.filter_map(|(name, with, value)| self.entry(name, [(with, value)]));
        // Plain texts always serialise.
        let value = Some(serde_json::to_vec(&names).unwrap_or_default());
        let change = Change { key: KEY.to_vec(), value };
        let checkpoint = Checkpoint { source: SOURCE.to_owned(), changes: vec![change] };
        let batch = Batch { entries: entries.collect(), checkpoint: is_new.then_some(checkpoint) };
        let (tell, told) = oneshot::channel();
        let said = Arc::clone(&self.said);
        let done = Box::new(move |result: Result<_, _>| {
            locked(&said).is_late = false;
            match &result {
                Ok(_) => {
                    let mut said = locked(&said);
                    said.last = Some(names);
                    said.gaps.retain(|why| !gaps.contains(why));
                }
                Err(error) => error!(%error, "what is recorded is not told in the journal"),
            }
            drop(turn);
            // Who waits no more needs no answer.
            tell.send(result.is_ok()).unwrap_or_default();
        });
        self.journal.append(batch, done);
        match timeout(self.patience, told).await {
            Ok(Ok(true)) => Noted::Stands,
            Ok(Ok(false) | Err(_)) => Noted::Not,
            Err(_) => {
                warn!("the journal takes long to take what is recorded");
                // It may have answered just now: its next answer takes this back.
                locked(&self.said).is_late = true;
                Noted::Waits
            }
        }
    }

    /// Whether it was waited for in vain and hasn't answered since.
    #[cfg(test)]
    pub(super) fn is_late(&self) -> bool {
        locked(&self.said).is_late
    }

    fn entry(&self, name: &str, with: [(&str, Value); 1]) -> Option<Entry> {
        let now = Timestamp::from_zoned(&jiff::ZonedDateTime::now());
        let event: EventName = name.parse().ok()?;
        let builder = Event::builder(event, self.store.server(None), now);
        let with = with.into_iter().try_fold(builder, |builder, (name, value)| {
            Some(builder.vendor(name.parse::<OtherName>().ok()?, value))
        });
        let body = json::to_vec(&with?.build().ok()?, json::Profile::Strict);
        let identity = jiff::Timestamp::now().as_nanosecond().to_string();
        let id = event_id(SOURCE, identity.as_bytes(), 0, now.unix_millis());
        let head = Keys::find(&body)?.to_head();
        Some(Entry { id: RecordId(id.as_u128()), head, body: body.into() })
    }
}

/// The events recorded, and the parameters of messages that are, by name.
fn names(demand: Demand) -> Vec<String> {
    let content = demand.content_max_octets().map(|_| "messageContent");
    let structure = demand.body_structure().then_some("bodyStructure");
    let envelope = demand.envelope().then_some("envelope");
    let parameters = structure.into_iter().chain(envelope).chain(content);
    demand.events().chain(parameters).map(str::to_owned).collect()
}

/// The name of the event that tells what is recorded.
const RECORDING: &str = "vnd.postbell.Recording";

/// Whose checkpoint it is; no source of the operator's is called so.
const SOURCE: &str = "hub demand";

const KEY: &[u8] = b"recorded";

/// Gaps that wait to be told: each spool has one or two, and publishers one.
const GAPS_MAX: usize = 64;
