//! What Dovecot's exporter posts, and the words of IMAP that stand in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postbell_sources::dovecot::{Exporter, ExporterCounts};

// The reader is no one's business outside the source, so its file is taken in here.
#[allow(dead_code, reason = "only the reader is called")]
#[path = "../../crates/sources/src/words.rs"]
mod words;

fuzz_target!(|octets: &[u8]| {
    let exporter = Exporter::new();
    let is_taken = exporter.take(octets).is_ok();
    let ExporterCounts { taken, ignored, malformed, refused } = exporter.counts();
    assert_eq!((taken + ignored + malformed, refused), (1, 0));
    assert_eq!(is_taken, malformed == 0);
    assert_eq!(exporter.silent_for().is_some(), is_taken);

    let mut left = octets;
    while let Some((word, rest)) = words::word(left) {
        assert!(rest.len() < left.len(), "each word takes something");
        if let words::Word::List(list) = word {
            assert!(list.starts_with(b"(") && list.ends_with(b")"));
        }
        left = rest;
    }
});
