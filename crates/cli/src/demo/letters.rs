//! The messages of the morning.

use std::io;

use mail_builder::MessageBuilder;

/// A short message to Alice, as it would come in.
pub(super) fn note(from: (&str, &str), subject: &str, text: &str) -> io::Result<Vec<u8>> {
    MessageBuilder::new()
        .from((from.0.to_owned(), from.1.to_owned()))
        .to((ALICE.0, ALICE.1))
        .subject(subject.to_owned())
        .text_body(text.to_owned())
        .write_to_vec()
}

/// What Alice answered.
pub(super) fn answer(to: (&str, &str), subject: &str, text: &str) -> io::Result<Vec<u8>> {
    MessageBuilder::new()
        .from((ALICE.0, ALICE.1))
        .to((to.0.to_owned(), to.1.to_owned()))
        .subject(subject.to_owned())
        .text_body(text.to_owned())
        .write_to_vec()
}

/// A message with something large attached.
pub(super) fn photo(from: (&str, &str), octets: usize) -> io::Result<Vec<u8>> {
    let mut dice = fastrand::Rng::with_seed(5423);
    let picture: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(octets).collect();
    MessageBuilder::new()
        .from((from.0.to_owned(), from.1.to_owned()))
        .to((ALICE.0, ALICE.1))
        .subject("The boat, finally")
        .text_body("See attached. I could not make it smaller, sorry!\n")
        .attachment("image/jpeg", "boat.jpg", picture)
        .write_to_vec()
}

/// Whose morning it is.
const ALICE: (&str, &str) = ("Alice", "alice@example.org");
/// A friend.
pub(super) const BEN: (&str, &str) = ("Ben", "ben@example.net");
/// Somebody who is everywhere.
pub(super) const NEWSLETTER: (&str, &str) = ("Cheap Boats", "offers@boats.example");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_a_message_with_its_fields_and_its_text() {
        let text = String::from_utf8(note(BEN, "Lunch?", "At noon?\n").unwrap()).unwrap();
        for part in ["From:", "ben@example.net", "To:", "Subject: Lunch?", "Date:", "At noon?"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_photo_is_as_large_as_it_was_asked_to_be_and_more() {
        assert!(photo(BEN, 60_000).unwrap().len() > 80_000, "base64 makes four octets of three");
    }
}
