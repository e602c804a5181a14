//! Its owner is told where a subscription was disabled: an event in the journal, which nobody else
//! sees.

use mail_event::{Event, EventName, OtherName, Timestamp, json};
use postbell_engine::{DISABLED, Keys, event_id};
use postbell_journal::{AppendError, Batch, Entry as JournalEntry, RecordId};
use tokio::sync::oneshot;
use tracing::error;

use super::entry::Entry;
use super::worker::Job;

/// Tells it once. What the journal doesn't take is in the log and shown by the subscription all the
/// same, so that it is not tried again.
pub(super) async fn tell(job: &Job) {
    let name = job.entry.label();
    let Some(entry) = record(job) else {
        error!(subscription = %name, "no event can be made of its being disabled");
        return;
    };
    let (tell, told) = oneshot::channel::<Result<(), AppendError>>();
    // Who waits no more needs no answer.
    let done = Box::new(move |result: Result<_, _>| drop(tell.send(result.map(drop))));
    job.context.feed.journal().append(Batch { entries: vec![entry], checkpoint: None }, done);
    match told.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            error!(subscription = %name, %error, "the event of its being disabled was not taken");
        }
        Err(_) => error!(subscription = %name, "the event of its being disabled was not taken"),
    }
}

fn record(job: &Job) -> Option<JournalEntry> {
    let event = event(job, &job.entry)?;
    let body = json::to_vec(&event, json::Profile::Strict);
    let kept = job.entry.kept();
    let since = kept.failing_since_unix_millis.unwrap_or_default();
    // The same happening has the same id.
    let id = event_id("disabled", format!("{}-{since}", job.entry.id).as_bytes(), 0, since);
    let head = Keys::find(&body)?.to_head();
    Some(JournalEntry { id: RecordId(id.as_u128()), head, body: body.into() })
}

fn event(job: &Job, entry: &Entry) -> Option<Event> {
    let kept = entry.kept();
    let now = Timestamp::from_zoned(&jiff::ZonedDateTime::now());
    let name: EventName = DISABLED.parse().ok()?;
    let vendor = |name: &str| name.parse::<OtherName>().ok();
    let mut builder = Event::builder(name, job.context.store.server(None), now)
        .vendor(vendor("vnd.postbell.disabledReason")?, kept.detail.clone().unwrap_or_default())
        .vendor(vendor("vnd.postbell.subscription")?, entry.name.clone())
        .vendor(vendor("vnd.postbell.subscriptionId")?, entry.id.clone());
    if let Some(owner) = &kept.owner {
        builder = match (&owner.user, &owner.elsewhere) {
            (Some(user), None) => builder.user(user.clone()),
            // A user's name is the own store's; one of another's is known by the token.
            (None, _) | (Some(_), Some(_)) => {
                builder.vendor(vendor("vnd.postbell.ownerToken")?, owner.token.clone())
            }
        };
    }
    builder.build().ok()
}
