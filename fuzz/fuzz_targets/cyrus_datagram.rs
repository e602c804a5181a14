//! A datagram that Cyrus, or anybody who may write to the socket, sends in notifyd's place.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The readers are no one's business outside the source, so their files are taken in here.
#[allow(dead_code, reason = "only the reader is called")]
#[path = "../../crates/sources/src/cyrus/datagram.rs"]
mod datagram;
#[allow(dead_code, reason = "only the reader is called")]
#[path = "../../crates/sources/src/cyrus/notification.rs"]
mod notification;

fuzz_target!(|octets: &[u8]| {
    let Ok(message) = datagram::message(octets) else { return };
    assert!(!message.is_empty() && !message.contains(&0));
    let Ok(said) = notification::parse(message) else { return };
    assert!(said.user.is_none_or(|user| !user.is_empty()));
    assert!(said.flags.iter().all(|flag| !flag.as_str().eq_ignore_ascii_case("\\Recent")));
});
