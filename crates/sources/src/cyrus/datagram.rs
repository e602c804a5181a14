//! What Cyrus sends notifyd in a datagram: texts, each with a NUL after it.
//!
//! `method NUL class NUL priority NUL user NUL mailbox NUL nopt NUL (option NUL)* message NUL
//! [fname NUL]`. For an event only the method, the class `EVENT` and the message say anything.

/// The message of a datagram.
///
/// Read leniently: a NUL that is missing at the end is forgiven, and so is what stands behind the
/// message.
///
/// # Errors
///
/// Why it isn't one of Cyrus's.
pub(super) fn message(octets: &[u8]) -> Result<&[u8], InvalidDatagram> {
    let mut texts = octets.split(|octet| *octet == 0);
    let mut next = |what| texts.next().ok_or(InvalidDatagram::Short(what));
    next("method")?;
    let class = next("class")?;
    for what in ["priority", "user", "mailbox"] {
        next(what)?;
    }
    let count = next("number of options")?;
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<usize>().ok());
    let count = count.filter(|count| *count <= OPTIONS_MAX).ok_or(InvalidDatagram::Options)?;
    for _ in 0..count {
        next("option")?;
    }
    let message = next("message")?;
    if message.is_empty() {
        return Err(InvalidDatagram::Short("message"));
    }
    if class != b"EVENT" {
        return Err(InvalidDatagram::Class);
    }
    Ok(message)
}

/// Why a datagram is none of Cyrus's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidDatagram {
    /// It ends too early.
    #[error("a datagram without its {0}")]
    Short(&'static str),
    /// No number of options, or more than any have.
    #[error("a datagram with no sensible number of options")]
    Options,
    /// Something else than an event: Sieve's `notify`, or new mail told the old way.
    #[error("a notification that is no event")]
    Class,
}

/// Options of one datagram; Cyrus sends none with an event, and Sieve a few.
const OPTIONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_behind_what_stands_before_it() {
        assert_eq!(message(b"log\0EVENT\0\0\0\x000\0{}\0"), Ok(&b"{}"[..]));
        assert_eq!(message(b"log\0EVENT\0low\0u\0INBOX\x002\0a\0b\0{}\0/tmp/f\0"), Ok(&b"{}"[..]));
        assert_eq!(message(b"log\0EVENT\0\0\0\x000\0{}"), Ok(&b"{}"[..]), "without its last NUL");
    }

    #[test]
    fn what_is_no_event_says_why() {
        use InvalidDatagram::{Class, Options, Short};
        assert_eq!(message(b""), Err(Short("class")));
        assert_eq!(message(b"log\0EVENT\0\0\0\0"), Err(Options));
        assert_eq!(message(b"log\0EVENT\0\0\0\x000\0"), Err(Short("message")));
        assert_eq!(message(b"log\0EVENT\0\0\0\x003\0{}\0"), Err(Short("option")));
        for count in ["-1", "65", "99999999999999999999", "x"] {
            let octets = format!("log\0EVENT\0\0\0\0{count}\0{{}}\0");
            assert_eq!(message(octets.as_bytes()), Err(Options), "{count}");
        }
        assert_eq!(message(b"mailto\0SIEVE\0\0u\0\x000\0hello\0"), Err(Class));
    }
}
