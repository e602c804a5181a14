//! An event in: what is read is written strictly, and read again it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::json::{self, Profile};

fuzz_target!(|bytes: &[u8]| {
    let checked = json::check(bytes);
    let Ok(parsed) = json::from_slice(bytes) else {
        assert!(checked.is_err(), "check let through what can't be read");
        return;
    };
    if let Ok(checked) = checked {
        assert!(parsed.repairs.is_empty(), "check let through {:?}", parsed.repairs);
        assert_eq!(checked.unix_millis, parsed.event.timestamp().unix_millis());
        assert_eq!(checked.name.of(bytes), parsed.event.name().as_str().as_bytes());
        assert!(!bytes.contains(&b'\n'));
    }
    let strict = json::to_string(&parsed.event);
    assert!(!strict.contains('\n'));
    let again = json::from_slice(strict.as_bytes()).expect("what was written can be read");
    assert!(again.repairs.is_empty(), "{:?} in {strict}", again.repairs);
    assert_eq!(again.event, parsed.event);
    let cyrus = json::to_vec(&parsed.event, Profile::Cyrus);
    json::from_slice(&cyrus).expect("what was written for Cyrus' consumers can be read");
});
