//! The message transfer envelope.

use std::fmt;
use std::str::FromStr;

/// The SMTP envelope of a delivery: one `MAIL FROM` line and the `RCPT TO` lines of this delivery
/// alone, each ending in CRLF, ESMTP parameters kept (RFC 5423, section 5, envelope).
///
/// Never IMAP's ENVELOPE, which is made of header fields (A10).
///
/// ```
/// use mail_event::Envelope;
///
/// let envelope: Envelope = "MAIL FROM:<> SIZE=976\r\nRCPT TO:<a@example.org>\r\n".parse()?;
/// assert_eq!(envelope.recipients().count(), 1);
/// # Ok::<(), mail_event::InvalidEnvelope>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope(Box<str>);

impl Envelope {
    /// From lines without their line ends, such as `MAIL FROM:<a@example.net> SIZE=976`.
    ///
    /// # Errors
    ///
    /// Where the lines are not one `MAIL FROM` and at least one `RCPT TO`.
    pub fn new<'a>(
        sender: &str,
        recipients: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidEnvelope> {
        let mut text = format!("{sender}\r\n");
        for line in recipients {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.parse()
    }

    /// All lines as they go on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The `MAIL FROM` line, without its line end.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.0.split("\r\n").next().unwrap_or_default()
    }

    /// The `RCPT TO` lines, without their line ends.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator("\r\n").skip(1)
    }
}

impl FromStr for Envelope {
    type Err = InvalidEnvelope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_envelope(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks an envelope without keeping it.
pub(crate) fn check_envelope(text: &str) -> Result<(), InvalidEnvelope> {
    let Some(text) = text.strip_suffix("\r\n") else { return Err(InvalidEnvelope::NoLineEnd) };
    let mut lines = text.split("\r\n");
    let sender = lines.next().unwrap_or_default();
    if !sender.starts_with("MAIL FROM:") || has_line_end(sender) {
        return Err(InvalidEnvelope::NoSender);
    }
    let mut recipients = 0;
    for line in lines {
        if !line.starts_with("RCPT TO:") || has_line_end(line) {
            return Err(InvalidEnvelope::NotARecipient { line: recipients + 2 });
        }
        recipients += 1;
    }
    if recipients == 0 { Err(InvalidEnvelope::NoRecipient) } else { Ok(()) }
}

fn has_line_end(line: &str) -> bool {
    line.bytes().any(|byte| byte == b'\r' || byte == b'\n')
}

/// Why a text is not an envelope.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEnvelope {
    /// The last line does not end in CRLF.
    #[error("an envelope ends in CRLF")]
    NoLineEnd,
    /// The first line is not `MAIL FROM:`.
    #[error("an envelope begins with MAIL FROM:")]
    NoSender,
    /// There is no `RCPT TO:` line.
    #[error("an envelope names a recipient by RCPT TO:")]
    NoRecipient,
    /// A later line is not `RCPT TO:`.
    #[error("line {line} of an envelope must be RCPT TO: and end in CRLF")]
    NotARecipient {
        /// Its number, from 1.
        line: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r110_esmtp_parameters_and_the_null_sender_are_kept() {
        let envelope = Envelope::new(
            "MAIL FROM:<> SIZE=976 BODY=8BITMIME SMTPUTF8",
            ["RCPT TO:<jürgen@example.org> NOTIFY=SUCCESS", "RCPT TO:<a@example.org>"],
        )
        .unwrap();
        assert_eq!(envelope.sender(), "MAIL FROM:<> SIZE=976 BODY=8BITMIME SMTPUTF8");
        assert_eq!(envelope.recipients().count(), 2);
    }

    #[test]
    fn r110_what_is_no_envelope_is_refused() {
        use InvalidEnvelope as E;
        for (text, error) in [
            ("MAIL FROM:<a>\r\nRCPT TO:<b>", E::NoLineEnd),
            ("RCPT TO:<b>\r\n", E::NoSender),
            ("MAIL FROM:<a>\r\n", E::NoRecipient),
            ("MAIL FROM:<a>\nRCPT TO:<b>\r\n", E::NoSender),
            ("MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n", E::NotARecipient { line: 3 }),
        ] {
            assert_eq!(text.parse::<Envelope>(), Err(error), "{text}");
        }
    }
}
