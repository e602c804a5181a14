//! What the journal itself says of what is recorded, so that whoever reads it later knows what can't
//! be in it.

use std::sync::{Arc, Mutex};

use mail_event::{Event, EventName, OtherName, Timestamp, json};
use postbell_engine::{Demand, Keys, Store, event_id};
use postbell_journal::{Batch, Change, Checkpoint, Entry, Journal, ReadError, RecordId};
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::error;

use super::locked;

/// Tells in the journal what is recorded from there on, whenever that changes.
#[derive(Debug)]
pub(super) struct Journalled {
    journal: Arc<dyn Journal>,
    store: Store,
    /// What was told last.
    last: Mutex<Vec<String>>,
}

impl Journalled {
    /// Where the journal says nothing, everything that may be was recorded.
    pub(super) fn new(journal: Arc<dyn Journal>, store: Store, everything: Demand) -> Self {
        Self { journal, store, last: Mutex::new(names(everything)) }
    }

    /// Reads what was told last, before the start.
    pub(super) fn read(&self) -> Result<(), ReadError> {
        let kept = self.journal.checkpoint(SOURCE, KEY)?;
        if let Some(names) = kept.first().and_then(|(_, value)| serde_json::from_slice(value).ok())
        {
            *locked(&self.last) = names;
        }
        Ok(())
    }

    /// Tells what is recorded from now on, where that is something else.
    pub(super) async fn note(&self, demand: Demand) {
        let names = names(demand);
        if *locked(&self.last) == names {
            return;
        }
        let recorded = [("vnd.postbell.recorded", Value::from(names.clone()))];
        // Plain texts always serialise.
        let value = Some(serde_json::to_vec(&names).unwrap_or_default());
        let change = Change { key: KEY.to_vec(), value };
        self.append(RECORDING, recorded, vec![change]).await;
        *locked(&self.last) = names;
    }

    /// Tells that something may be missing.
    pub(super) async fn gap(&self, why: &str) {
        self.append(GAP, [("vnd.postbell.gapReason", Value::from(why))], Vec::new()).await;
    }

    /// What the journal doesn't take is in the log: whoever joins meanwhile is not kept waiting.
    async fn append(&self, name: &str, with: [(&str, Value); 1], changes: Vec<Change>) {
        let Some(entry) = self.entry(name, with) else { return };
        let (tell, told) = oneshot::channel();
        // Who waits no more needs no answer.
        let done = Box::new(move |result: Result<_, _>| drop(tell.send(result.map(drop))));
        let source = SOURCE.to_owned();
        let checkpoint = (!changes.is_empty()).then_some(Checkpoint { source, changes });
        self.journal.append(Batch { entries: vec![entry], checkpoint }, done);
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, event = name, "an event of the hub's was not taken"),
            Err(_) => error!(event = name, "an event of the hub's was not taken"),
        }
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

/// The name of the event that tells of a gap.
const GAP: &str = "vnd.postbell.Gap";

/// Whose checkpoint it is; no source of the operator's is called so.
const SOURCE: &str = "hub demand";

const KEY: &[u8] = b"recorded";
