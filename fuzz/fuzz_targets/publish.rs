//! What publishers send: frames, their answers, and lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postbell_sources::publish::{Answer, Decoder, Lines, frame};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new(bytes);
    let mut written = Vec::new();
    for found in decoder.by_ref() {
        let Ok(range) = found else { break };
        frame(&mut written, &bytes[range]);
    }
    let consumed = decoder.consumed();
    assert_eq!(written, bytes[..consumed], "frames come back as they went");
    assert!(decoder.wanted() > 0);

    let mut rest = bytes;
    while let Ok(Some((answer, octets))) = Answer::read(rest) {
        let mut again = Vec::new();
        answer.write(&mut again);
        assert_eq!(Answer::read(&again), Ok(Some((answer, again.len()))));
        rest = &rest[octets..];
    }

    let mut last = 0;
    for line in Lines::new(bytes) {
        assert!(line.number > last);
        last = line.number;
        let text = &bytes[line.range];
        assert!(!text.is_empty() && !text.contains(&b'\n') && text.trim_ascii() == text);
    }
});
