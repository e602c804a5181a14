//! A condition on an event's parameters: refused or judged, whatever is written, and soon.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postbell_engine::{Keys, Policy, Selection, Verdict};

fuzz_target!(|text: &str| {
    let selection = Selection { condition: Some(text.to_owned()), ..Selection::default() };
    let Ok((filter, _)) = selection.compile(&Policy::default()) else { return };
    let view = Keys::find(EVENT).expect("it is an event").view(EVENT);
    let told = filter.judge(&view, EVENT);
    assert_eq!(told, filter.judge(&view, EVENT));
    // What can't be said is said without the event's values.
    if let Verdict::Unclear(why) = told {
        assert!(!why.contains("john"), "{why}");
    }
});

const EVENT: &[u8] = br#"{"event":"MessageNew","uri":"imap://john@h/INBOX;UIDVALIDITY=7/;UID=5","timestamp":"2026-08-20T13:34:14+02:00","user":"john","flagNames":["\\Flagged","$Junk"],"messageSize":14000,"service":"lmtp","vnd.example.list":{"id":"x","n":[1,2.5]},"vnd.example.my-score":-3}"#;
