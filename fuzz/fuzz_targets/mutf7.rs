//! Mailbox names in modified UTF-7, in and out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::mutf7;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = mutf7::decode(bytes) {
        assert_eq!(mutf7::decode(mutf7::encode(&name).as_bytes()).as_deref(), Ok(&*name));
    }
    if let Ok(name) = std::str::from_utf8(bytes) {
        let encoded = mutf7::encode(name);
        assert!(encoded.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{encoded:?}");
        assert_eq!(mutf7::decode(encoded.as_bytes()).as_deref(), Ok(name));
    }
});
