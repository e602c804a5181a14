//! The whole message.

use std::fmt;

/// The entire message itself, every octet of BODY[] (RFC 5423, section 5, messageContent).
///
/// It is whole or it is absent (R119). Its `Debug` form shows the size alone, so that no log
/// holds mail by accident.
#[derive(Clone, Eq, PartialEq)]
pub struct MessageContent(Box<[u8]>);

impl MessageContent {
    /// The octets of a message.
    #[must_use]
    pub fn new(octets: impl Into<Box<[u8]>>) -> Self {
        Self(octets.into())
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many octets it takes in JSON, as a text or as base64.
    ///
    /// ```
    /// use mail_event::MessageContent;
    ///
    /// assert_eq!(MessageContent::new(*b"A: b\r\n").json_octets(), r#""A: b\r\n""#.len());
    /// ```
    #[must_use]
    pub fn json_octets(&self) -> usize {
        let escape = |byte: &u8| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
            0..0x20 => 5,
            _ => 0,
        };
        match self.as_text() {
            Some(_) => self.0.len() + self.0.iter().map(escape).sum::<usize>() + r#""""#.len(),
            None => self.0.len().div_ceil(3) * 4 + r#"{"base64":""}"#.len(),
        }
    }

    /// The text, where the octets are UTF-8; in JSON other messages are given as base64.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for MessageContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageContent({} octets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r158_the_debug_form_shows_no_mail() {
        let content = MessageContent::new(*b"Subject: secret\r\n\r\n");
        assert_eq!(format!("{content:?}"), "MessageContent(19 octets)");
    }
}
