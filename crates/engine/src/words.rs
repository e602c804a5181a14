//! Errors as people read them.

use std::fmt;

/// An error's text without the system's numbers: `No such file or directory`, where Rust adds
/// ` (os error 2)`. The words say the same, and the number only looks like a fault of ours.
#[must_use]
pub fn in_words(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let mut words = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(NUMBER) {
        words.push_str(before);
        let end = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
        rest = match end.strip_prefix(')') {
            Some(end) if end.len() + 1 < after.len() => end,
            _ => {
                words.push_str(NUMBER);
                after
            }
        };
    }
    words.push_str(rest);
    words
}

/// What Rust puts before an error's number.
const NUMBER: &str = " (os error ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_numbers_are_left_out_and_nothing_else() {
        for (text, words) in [
            ("/x: Permission denied (os error 13)", "/x: Permission denied"),
            ("a (os error 5): b (os error 28)!", "a: b!"),
            ("a (os error ) (os error x) (os error 5", "a (os error ) (os error x) (os error 5"),
            ("", ""),
        ] {
            assert_eq!(in_words(&text), words);
        }
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(in_words(&error), "No such file or directory");
    }
}
