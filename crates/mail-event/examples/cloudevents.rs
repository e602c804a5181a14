//! Wraps an event as a CloudEvent, and takes it out again.
//!
//!     cargo run -p mail-event --example cloudevents

use std::error::Error;
use std::io::{self, Write as _};

use mail_event::cloudevents::{self, Attributes};
use mail_event::{Event, EventId, EventName, ImapUrl, UidSet, json};

fn main() -> Result<(), Box<dyn Error>> {
    let server = ImapUrl::server("imap.example.org", None)?;
    let inbox = server.clone().with_user("john@example.org").with_mailbox("INBOX", Some(7));
    let event =
        Event::builder(EventName::MessageRead, inbox.into(), "2026-08-20T13:34:14+05:45".parse()?)
            .user("john@example.org")
            .uidset(UidSet::from_uids([3, 5, 6]))
            .build()?;
    let flat = json::to_string(&event);

    let millis = u64::try_from(event.timestamp().unix_millis())?;
    let time = event.timestamp().to_string();
    let attributes = Attributes {
        // The low bits are yours: make them from what identifies the happening in your store, so
        // that telling it twice gives the same id.
        id: EventId::new(millis, 42),
        source: &server.to_string(),
        name: event.name().as_str(),
        subject: Some("john%40example.org/INBOX"),
        time: &time,
        sequence: Some(1),
        previous: None,
        partition: Some("john@example.org/INBOX"),
    };
    let batch = cloudevents::batch([(flat.as_bytes(), attributes)]);

    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}", cloudevents::BATCH, String::from_utf8(batch.clone())?)?;
    for received in cloudevents::parse(&batch)? {
        let received = received?;
        let again = json::from_slice(received.json.as_bytes())?.event;
        writeln!(out, "{} from {}: {}", received.id, received.source, again.name())?;
    }
    Ok(())
}
