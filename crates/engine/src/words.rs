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
    without_codes(&words)
}

/// Without SQLite's numbers: `no database: Error code 26: no database` says one thing twice.
fn without_codes(text: &str) -> String {
    let Some((before, after)) = text.split_once(CODE) else { return text.to_owned() };
    match after.split_once(": ") {
        Some((number, same)) if number.bytes().all(|octet| octet.is_ascii_digit()) => {
            if before.ends_with(same) { before.to_owned() } else { format!("{before}: {same}") }
        }
        _ => text.to_owned(),
    }
}

/// What SQLite's binding puts before an error's number.
const CODE: &str = ": Error code ";

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
            ("x: not so: Error code 26: not so", "x: not so"),
            ("x: broken: Error code 5: busy", "x: broken: busy"),
            ("x: Error code y: z", "x: Error code y: z"),
            ("", ""),
        ] {
            assert_eq!(in_words(&text), words);
        }
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(in_words(&error), "No such file or directory");
    }
}
