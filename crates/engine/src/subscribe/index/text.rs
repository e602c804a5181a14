//! A text in the place where it is looked for.

/// A text of which the usual length stands in itself, so that comparing it reads no other place
/// of memory.
#[derive(Debug)]
pub(super) enum Text {
    Short { length: u8, octets: [u8; SHORT_OCTETS] },
    Long(Box<[u8]>),
}

impl Text {
    /// Keeps a text.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut octets = [0; SHORT_OCTETS];
        match (u8::try_from(text.len()), octets.get_mut(..text.len())) {
            (Ok(length), Some(place)) => {
                place.copy_from_slice(text);
                Self::Short { length, octets }
            }
            _ => Self::Long(text.into()),
        }
    }

    /// The text.
    pub(super) fn octets(&self) -> &[u8] {
        match self {
            Self::Short { length, octets } => {
                octets.get(..usize::from(*length)).unwrap_or_default()
            }
            Self::Long(octets) => octets,
        }
    }
}

/// Most addresses are no longer.
const SHORT_OCTETS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_kept_whole_and_takes_half_a_cache_line() {
        for length in [0, 1, 29, 30, 31, 4_096] {
            let text = "x".repeat(length);
            assert_eq!(Text::new(text.as_bytes()).octets(), text.as_bytes());
        }
        assert_eq!(size_of::<Text>(), 32);
    }
}
