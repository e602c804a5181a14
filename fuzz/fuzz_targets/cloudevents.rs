//! CloudEvents in, one or a batch; and any text out as an attribute comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::cloudevents::{self, Attributes};
use mail_event::{EventId, json};

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = cloudevents::parse(bytes) else { return };
    for received in events.into_iter().flatten() {
        let Ok(parsed) = json::from_slice(received.json.as_bytes()) else { continue };
        let strict = json::to_string(&parsed.event);
        let attributes = Attributes {
            id: EventId::from_u128(7),
            source: &received.source,
            name: parsed.event.name().as_str(),
            subject: Some(&received.id),
            time: &parsed.event.timestamp().to_string(),
            sequence: Some(u64::MAX),
            previous: None,
            partition: Some(&received.id),
        };
        let written = cloudevents::structured(strict.as_bytes(), &attributes);
        let again = cloudevents::parse(&written).expect("what was written can be read");
        let again = again.into_iter().next().expect("one went out").expect("and it was fine");
        assert_eq!(again.json, strict);
        assert_eq!(again.source, received.source);
    }
});
