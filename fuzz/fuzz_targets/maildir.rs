//! What lies in a Maildir: file names, folder names, keywords, and messages.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The readers are no one's business outside the source, so their files are taken in here.
#[allow(dead_code, reason = "only the readers are called")]
#[path = "../../crates/sources/src/maildir/body_structure.rs"]
mod body_structure;
#[allow(dead_code, reason = "only the readers are called")]
#[path = "../../crates/sources/src/maildir/header.rs"]
mod header;
#[allow(dead_code, reason = "only the readers are called")]
#[path = "../../crates/sources/src/maildir/layout.rs"]
mod layout;

fuzz_target!(|octets: &[u8]| {
    if let Ok(text) = std::str::from_utf8(octets) {
        read_names(text);
    }
    let structure = body_structure::body_structure(octets);
    assert_eq!(parenthesised(structure.as_bytes()), Some(structure.len()), "{structure:?}");
});

/// How many octets a parenthesised list of IMAP takes: atoms, quoted strings, literals and lists.
fn parenthesised(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match text.get(at)? {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b'"' => loop {
                at += 1;
                match text.get(at)? {
                    b'"' => break,
                    b'\\' => at += 1,
                    0 | b'\r' | b'\n' | 0x80.. => return None,
                    _ => {}
                }
            },
            b'{' => {
                let digits = text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let end = at + 1 + digits;
                let octets: usize = std::str::from_utf8(&text[at + 1..end]).ok()?.parse().ok()?;
                let literal = text.get(end..)?.strip_prefix(b"}\r\n")?.get(..octets)?;
                assert!(!literal.contains(&0));
                at = end + 2 + octets;
            }
            b' ' | b'0'..=b'9' | b'A'..=b'Z' => {}
            _ => return None,
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn read_names(text: &str) {
    let keywords = layout::Keywords::parse(text);
    for name in text.lines() {
        if let Some(file) = layout::FileName::parse(name) {
            assert!(!file.unique.contains(char::is_control));
            let flags = file.letters.named_by(&keywords).flags(&keywords);
            assert!(flags.len() <= 32);
            file.told_size(976);
        }
        if let Some(mailbox) = layout::mailbox(name) {
            assert!(!mailbox.contains(char::is_control), "{mailbox:?}");
            assert!(!mailbox.is_empty());
        }
        layout::listed(name, '\t');
    }
}
