//! What Cyrus sends notifyd over a stream: one list for each event, in Cyrus's `dlist` form, which
//! is IMAP's words with names before them.
//!
//! `NOTIFY %(METHOD log CLASS EVENT PRIORITY NIL USER NIL MAILBOX NIL OPTIONS () MESSAGE {2+}` CRLF
//! `{} FILEPATH NIL)` CRLF, answered by `OK ()` CRLF.

use std::borrow::Cow;
use std::ops::ControlFlow;

/// What the reader says when a notification is durable.
pub(super) const OK: &[u8] = b"OK ()\r\n";

/// What it says when it will never be; Cyrus logs it and goes on.
pub(super) const NO: &[u8] = b"NO ()\r\n";

/// How many of the octets that came so far are one whole notification.
///
/// Gives nothing while more must come.
///
/// # Errors
///
/// Where no more octets can make one of it.
pub(super) fn length(octets: &[u8]) -> Result<Option<usize>, InvalidDlist> {
    match parse(octets) {
        Ok((_, length)) => Ok(Some(length)),
        Err(ControlFlow::Continue(())) => Ok(None),
        Err(ControlFlow::Break(error)) => Err(error),
    }
}

/// The message of a notification.
///
/// # Errors
///
/// Why it isn't one of Cyrus's.
pub(super) fn message(octets: &[u8]) -> Result<Cow<'_, [u8]>, InvalidDlist> {
    match parse(octets) {
        Ok((found, _)) if found.class.as_deref() == Some(b"EVENT") => {
            found.message.ok_or(InvalidDlist::Message)
        }
        Ok(_) => Err(InvalidDlist::Class),
        Err(ControlFlow::Continue(())) => Err(InvalidDlist::Short),
        Err(ControlFlow::Break(error)) => Err(error),
    }
}

/// Why octets are no notification of Cyrus's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidDlist {
    /// It ends too early.
    #[error("a notification that ends within itself")]
    Short,
    /// Not in the shape of a list.
    #[error("octets that are no notification")]
    Shape,
    /// A list without a message.
    #[error("a notification without a message")]
    Message,
    /// Something else than an event.
    #[error("a notification that is no event")]
    Class,
}

#[derive(Debug, Default)]
struct Found<'a> {
    class: Option<Cow<'a, [u8]>>,
    message: Option<Cow<'a, [u8]>>,
}

/// Either more octets are wanted, or no more help.
type Parsed<T> = Result<T, ControlFlow<InvalidDlist>>;

fn parse(octets: &[u8]) -> Parsed<(Found<'_>, usize)> {
    let mut reader = Reader { octets, at: 0 };
    reader.expect(b"NOTIFY %(")?;
    let mut found = Found::default();
    for _ in 0..PAIRS_MAX {
        match reader.peek()? {
            b')' => {
                reader.at += 1;
                reader.expect(b"\r\n")?;
                return Ok((found, reader.at));
            }
            b' ' => reader.at += 1,
            _ => {
                let name = reader.atom()?;
                reader.expect(b" ")?;
                let value = reader.value()?;
                match name {
                    b"CLASS" => found.class = value,
                    b"MESSAGE" => found.message = value,
                    _ => {}
                }
            }
        }
    }
    Err(shape())
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.octets.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Parsed<u8> {
        self.rest().first().copied().ok_or_else(more)
    }

    fn expect(&mut self, wanted: &[u8]) -> Parsed<()> {
        let rest = self.rest();
        if rest.starts_with(wanted) {
            self.at += wanted.len();
            return Ok(());
        }
        Err(if wanted.starts_with(rest) { more() } else { shape() })
    }

    fn atom(&mut self) -> Parsed<&'a [u8]> {
        let rest = self.rest();
        let is_end = |octet: &u8| matches!(octet, b' ' | b'(' | b')' | b'"' | b'{' | 0..=31);
        let end = rest.iter().position(is_end).ok_or_else(more)?;
        let (atom, _) = rest.split_at_checked(end).ok_or_else(more)?;
        if atom.is_empty() {
            return Err(shape());
        }
        self.at += end;
        Ok(atom)
    }

    /// A word, none for `NIL` and for a list.
    fn value(&mut self) -> Parsed<Option<Cow<'a, [u8]>>> {
        match self.peek()? {
            b'"' => self.quoted().map(Some),
            b'{' => self.literal().map(|text| Some(Cow::Borrowed(text))),
            b'(' => {
                self.at += 1;
                for _ in 0..PAIRS_MAX {
                    match self.peek()? {
                        b')' => {
                            self.at += 1;
                            return Ok(None);
                        }
                        b' ' => self.at += 1,
                        // Options are words; a list within is none of Cyrus's.
                        b'(' => return Err(shape()),
                        b'"' => drop(self.quoted()?),
                        b'{' => drop(self.literal()?),
                        _ => drop(self.atom()?),
                    }
                }
                Err(shape())
            }
            _ => self.atom().map(|atom| (atom != b"NIL").then_some(Cow::Borrowed(atom))),
        }
    }

    fn quoted(&mut self) -> Parsed<Cow<'a, [u8]>> {
        self.at += 1;
        let rest = self.rest();
        let mut text = Vec::new();
        let mut octets = rest.iter().enumerate();
        while let Some((at, octet)) = octets.next() {
            match octet {
                b'"' => {
                    self.at += at + 1;
                    return Ok(Cow::Owned(text));
                }
                b'\\' => text.push(*octets.next().ok_or_else(more)?.1),
                b'\r' | b'\n' => return Err(shape()),
                octet => text.push(*octet),
            }
        }
        Err(more())
    }

    /// `{344+}` CRLF and so many octets.
    fn literal(&mut self) -> Parsed<&'a [u8]> {
        self.at += 1;
        let rest = self.rest();
        let count = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let digits = rest.get(..count).unwrap_or_default();
        if count == rest.len() && count <= DIGITS_MAX {
            return Err(more());
        }
        let length = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|_| count <= DIGITS_MAX).ok_or_else(shape)?;
        self.at += count;
        if self.peek()? == b'+' {
            self.at += 1;
        }
        self.expect(b"}\r\n")?;
        let text = self.rest().get(..length).ok_or_else(more)?;
        self.at += length;
        Ok(text)
    }
}

fn more() -> ControlFlow<InvalidDlist> {
    ControlFlow::Continue(())
}

fn shape() -> ControlFlow<InvalidDlist> {
    ControlFlow::Break(InvalidDlist::Shape)
}

/// Names, values and blanks of one list; Cyrus sends eight pairs.
const PAIRS_MAX: usize = 128;

/// Digits of a literal's length: up to a gigabyte, far beyond what is read.
const DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Cyrus writes it.
    pub(crate) fn written(message: &str) -> Vec<u8> {
        format!(
            "NOTIFY %(METHOD log CLASS EVENT PRIORITY NIL USER NIL MAILBOX NIL OPTIONS () MESSAGE {{{}+}}\r\n{message} FILEPATH NIL)\r\n",
            message.len()
        )
        .into_bytes()
    }

    #[test]
    fn a_notification_is_whole_when_its_last_octet_came_and_not_before() {
        let octets = written("{\"event\":\"Login\"}");
        for end in 0..octets.len() {
            assert_eq!(length(&octets[..end]), Ok(None), "{end}");
            assert_eq!(message(&octets[..end]), Err(InvalidDlist::Short));
        }
        assert_eq!(length(&octets), Ok(Some(octets.len())));
        assert_eq!(message(&octets).unwrap(), &b"{\"event\":\"Login\"}"[..]);
    }

    #[test]
    fn words_come_in_every_form_of_imap() {
        let octets =
            b"NOTIFY %(CLASS \"EVENT\" OPTIONS (a \"b c\" {1}\r\nd) MESSAGE \"a \\\"b\\\"\")\r\n";
        assert_eq!(message(octets).unwrap(), &b"a \"b\""[..]);
        assert_eq!(message(b"NOTIFY %(CLASS EVENT MESSAGE NIL)\r\n"), Err(InvalidDlist::Message));
        assert_eq!(message(b"NOTIFY %(CLASS SIEVE MESSAGE x)\r\n"), Err(InvalidDlist::Class));
    }

    #[test]
    fn what_can_never_become_one_is_refused_at_once() {
        for octets in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"NOTIFY (",
            b"NOTIFY %(MESSAGE {12x}",
            b"NOTIFY %(MESSAGE {9999999999}",
            b"NOTIFY %(OPTIONS ((",
            b"NOTIFY %(MESSAGE \"a\r\n",
            b"NOTIFY %()\0\n",
        ] {
            assert_eq!(length(octets), Err(InvalidDlist::Shape), "{octets:?}");
        }
        let many = [&b"NOTIFY %("[..], &b"a b ".repeat(1000)].concat();
        assert_eq!(length(&many), Err(InvalidDlist::Shape));
    }

    proptest! {
        #[test]
        fn any_message_comes_out_as_it_went_in(text in "[^\0]{1,200}", rest in "[ -~]{0,20}") {
            let octets = written(&text);
            let with_rest = [&octets[..], rest.as_bytes()].concat();
            prop_assert_eq!(length(&with_rest), Ok(Some(octets.len())));
            prop_assert_eq!(message(&octets).unwrap(), text.as_bytes());
        }

        #[test]
        fn whatever_comes_is_read_to_an_end(text in "(NOTIFY %\\()?[ ()\"\\\\{}+a0-9\r\n]{0,60}") {
            if let Ok(Some(found)) = length(text.as_bytes()) {
                prop_assert!(found <= text.len());
            }
        }
    }
}
