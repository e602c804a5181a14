//! The body of a delivery: a CloudEvent around the event.

use mail_event::cloudevents::{self, Attributes};
use postbell_engine::{Stamp, View, timestamp};

/// Appends the CloudEvent around `json`, an event as it is delivered; `view` is of the record it
/// was made from, and `source` names the store where the event's URI doesn't.
pub fn write_body(out: &mut Vec<u8>, json: &[u8], view: &View<'_>, stamp: &Stamp, source: &str) {
    let server = view.server();
    let subject = view.subject();
    let partition = view.partition();
    let attributes = Attributes {
        id: stamp.id,
        source: server.as_deref().unwrap_or(source),
        name: &view.name(),
        subject: subject.as_deref(),
        time: timestamp(json).unwrap_or_default(),
        sequence: Some(stamp.seq),
        previous: stamp.prev_seq,
        partition: partition.as_deref(),
    };
    cloudevents::write(out, json, &attributes);
}
