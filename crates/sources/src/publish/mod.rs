//! What publishers send, taken apart: the frames of the Unix stream and the lines of NDJSON.
//!
//! Octets in, ranges out; sockets are the hub's affair. Both sides of the protocol are here, so
//! that a publisher written in Rust needs nothing else:
//!
//! ```
//! use postbell_sources::publish::{Answer, Decoder, GREETING, frame};
//!
//! // A publisher sends the greeting and its frames at once.
//! let mut sent = GREETING.to_vec();
//! frame(&mut sent, b"{\"event\":\"Login\"}");
//!
//! // The hub cuts them…
//! let frames = sent.strip_prefix(GREETING).unwrap();
//! let mut decoder = Decoder::new(frames);
//! assert_eq!(decoder.next(), Some(Ok(4..21)));
//! assert_eq!(decoder.consumed(), frames.len());
//!
//! // …and answers each, in order.
//! let mut answers = Vec::new();
//! Answer::Accepted(7).write(&mut answers);
//! assert_eq!(Answer::read(&answers), Ok(Some((Answer::Accepted(7), 13))));
//! ```

mod answer;
mod decoder;
mod lines;

pub use answer::{Answer, InvalidAnswer};
pub use decoder::{Decoder, TooLong};
pub use lines::{Line, Lines};

/// What both sides send first.
pub const GREETING: &[u8] = b"postbell-publish 1\n";

/// The same where the publisher wants to be told what anybody wants ([`Answer::Demand`]), and confirms
/// each time that it has been, with an empty frame.
pub const GREETING_2: &[u8] = b"postbell-publish 2\n";

/// What the hub's first line begins with where it will have nothing to do with the publisher.
pub const REFUSAL: &[u8] = b"error ";

/// Frames the hub reads ahead of its answers; a publisher that sends more waits for some. Enough for
/// a disk that takes some milliseconds for a commit not to keep a busy one waiting.
pub const FRAMES_AHEAD_MAX: usize = 16_384;

/// Octets of events the hub reads ahead of its answers.
pub const OCTETS_AHEAD_MAX: usize = 8 * 1024 * 1024;

/// Octets before a frame's event: its length.
pub const LENGTH_OCTETS: usize = 4;

/// Appends one frame: the event's length and the event.
///
/// An event longer than four octets can count is cut to an empty frame, which is refused.
pub fn frame(out: &mut Vec<u8>, json: &[u8]) {
    let length = u32::try_from(json.len());
    out.extend_from_slice(&length.unwrap_or(0).to_be_bytes());
    if length.is_ok() {
        out.extend_from_slice(json);
    }
}
