//! What Cyrus, or anybody who may connect, sends over the stream in notifyd's place.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The reader is no one's business outside the source, so its file is taken in here.
#[allow(dead_code, reason = "only the reader is called")]
#[path = "../../crates/sources/src/cyrus/dlist.rs"]
mod dlist;

fuzz_target!(|octets: &[u8]| {
    let Ok(Some(length)) = dlist::length(octets) else { return };
    assert!(length <= octets.len() && octets[..length].ends_with(b"\r\n"));
    // Nothing less was whole, and what follows changes nothing.
    assert!(!matches!(dlist::length(&octets[..length - 1]), Ok(Some(_))));
    let message = dlist::message(&octets[..length]).ok();
    assert_eq!(message, dlist::message(octets).ok());
});
