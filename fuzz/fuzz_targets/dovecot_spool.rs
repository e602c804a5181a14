//! A line of the spool that our script in Dovecot writes.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The reader is no one's business outside the source, so its file is taken in here.
#[allow(dead_code, reason = "only the reader is called")]
#[path = "../../crates/sources/src/dovecot/record.rs"]
mod record;
#[path = "../../crates/sources/src/reconcile/status.rs"]
mod status;
mod reconcile {
    pub(crate) use crate::status::BoxStatus;
}

fuzz_target!(|octets: &[u8]| {
    let Ok(found) = record::parse(octets) else { return };
    assert!(found.run.len() == 32 && found.seq > 0);
    assert!(!found.user.is_empty() || found.is_bye());
    for act in &found.acts {
        if let record::Act::Added { uids, .. } = act {
            assert!(uids.len() <= 1 << 20);
        }
    }
});
