//! A UID set in: canonical once read, and strict just where it is written so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::UidSet;

fuzz_target!(|text: &str| {
    let Ok((set, is_canonical)) = UidSet::parse_lenient(text) else {
        assert!(text.parse::<UidSet>().is_err());
        return;
    };
    let strict = set.to_string();
    assert_eq!(is_canonical, strict == text, "{strict} and {text}");
    assert_eq!(strict.parse::<UidSet>().as_ref(), Ok(&set));
    assert!(set.ranges().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{strict}");
    // Grown one by one, it is the same set.
    if set.len() <= 1_000 {
        let mut grown = UidSet::new();
        let uids: Vec<u32> = set.iter().collect();
        for uid in uids.iter().rev() {
            grown.insert(*uid);
        }
        assert_eq!(grown, set);
        assert_eq!(UidSet::from_uids(uids), set);
    }
});
