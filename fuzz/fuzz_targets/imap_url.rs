//! A URI in: what is read is written strictly, and read again it is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::Uri;

fuzz_target!(|text: &str| {
    let Ok((uri, is_strict)) = Uri::parse_lenient(text) else { return };
    let strict = uri.to_string();
    assert!(strict.bytes().all(|byte| byte.is_ascii_graphic()), "{strict:?}");
    assert_eq!(strict.parse::<Uri>().as_ref(), Ok(&uri), "{strict}");
    assert_eq!(text.parse::<Uri>().is_ok(), is_strict);
    if let Some(url) = uri.as_imap() {
        let mailbox = url.without_message().to_string();
        assert_eq!(mailbox.parse::<Uri>(), Ok(url.without_message().into()), "{mailbox}");
    }
});
