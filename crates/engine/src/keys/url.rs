//! Owner and mailbox of an IMAP URL known to be strict, without building the URL's parts.
//!
//! [`mail_event::ImapUrl`] parses the same; this only finds two places in a text that it has
//! accepted already, for the sake of matching without allocation. A property test holds the two
//! together.

use std::borrow::Cow;
use std::ops::Range;

/// The user of an IMAP URL, still percent-encoded.
pub(super) fn raw_owner(uri: &str) -> Option<&str> {
    raw(uri).0
}

/// The mailbox of an IMAP URL, still percent-encoded.
pub(super) fn raw_mailbox(uri: &str) -> Option<&str> {
    raw(uri).1
}

/// Both, in one pass.
pub(super) fn raw(uri: &str) -> (Option<&str>, Option<&str>) {
    // All ends are at ASCII, so that a part is UTF-8 as the whole is.
    let part = |part: Part| uri.get(part.range).filter(|text| !text.is_empty());
    let (owner, mailbox) = parts(uri.as_bytes());
    (owner.and_then(part), mailbox.and_then(part))
}

/// A part of a URI.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    /// Whether anything in it is percent-encoded.
    pub(super) is_encoded: bool,
}

/// Where owner and mailbox stand; a part that is there may be empty.
pub(super) fn parts(uri: &[u8]) -> (Option<Part>, Option<Part>) {
    let Some(rest) = strip_scheme(uri) else { return (None, None) };
    let begin = uri.len() - rest.len();
    let (mut owner, mut owner_ends, mut is_encoded) = (None, None, false);
    let mut path = None;
    // Whatever parts a URL's parts from each other, or has to be decoded.
    let parts_it = |octet: &u8| matches!(octet, b'%' | b'/' | b';' | b'?' | b'@');
    let mut at = begin;
    while let Some(plain) = uri.get(at..).and_then(|rest| rest.iter().position(parts_it)) {
        at += plain;
        let Some(octet) = uri.get(at) else { break };
        match (octet, path) {
            (b'%', _) => is_encoded = true,
            (b'/', None) => (path, is_encoded) = (Some(at + 1), false),
            (b'@', None) => {
                let range = begin..owner_ends.unwrap_or(at);
                owner = Some(Part { range, is_encoded });
            }
            (b';', None) => owner_ends = owner_ends.or(Some(at)),
            // Neither can be part of a mailbox's name unencoded; the slash of `/;UID=` isn't part of it
            // either.
            (b';' | b'?', Some(begin)) => {
                let name = uri.get(begin..at).unwrap_or_default();
                let is_slash = name.last() == Some(&b'/');
                let range = begin..at - usize::from(is_slash && is_uid(uri.get(at..)));
                return (owner, Some(Part { range, is_encoded }));
            }
            _ => {}
        }
        at += 1;
    }
    (owner, path.map(|begin| Part { range: begin..uri.len(), is_encoded }))
}

/// Both, decoded.
pub(crate) fn owner_and_mailbox(uri: &str) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let (owner, mailbox) = raw(uri);
    (owner.map(decoded), mailbox.map(decoded))
}

/// Scheme, host and port of an IMAP URL.
pub(super) fn server(uri: &str) -> Option<String> {
    let rest = uri.get(SCHEME.len()..).filter(|_| strip_scheme(uri.as_bytes()).is_some())?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("imap://{host}/"))
}

/// The decoded user of an IMAP URL.
pub(super) fn owner(uri: &str) -> Option<Cow<'_, str>> {
    raw_owner(uri).map(decoded)
}

/// The decoded mailbox of an IMAP URL.
pub(super) fn mailbox(uri: &str) -> Option<Cow<'_, str>> {
    raw_mailbox(uri).map(decoded)
}

/// Decodes into `buffer` where that suffices and the text is UTF-8, so that nothing need be
/// allocated.
pub(super) fn decode_into<'b>(text: &str, buffer: &'b mut [u8]) -> Option<&'b str> {
    let mut length = 0;
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let (octet, behind) = match (octet, after.split_first_chunk::<2>()) {
            (b'%', Some((&[high, low], behind))) => (digit(high)? << 4 | digit(low)?, behind),
            _ => (octet, after),
        };
        *buffer.get_mut(length)? = octet;
        length += 1;
        rest = behind;
    }
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// Appends a text without its percent-encoding.
pub(super) fn decode_onto(text: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|octet| *octet == b'%') {
        let (plain, encoded) = rest.split_at(at);
        out.extend_from_slice(plain);
        let octet = match encoded {
            [_, high, low, ..] => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(octet.unwrap_or(b'%'));
        rest = encoded.get(if octet.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    let decoded = out.get(begin..).unwrap_or_default();
    if !decoded.is_ascii()
        && let Cow::Owned(lossy) = String::from_utf8_lossy(decoded)
    {
        out.truncate(begin);
        out.extend_from_slice(lossy.as_bytes());
    }
}

/// A URI up to where its mailbox's name ends.
pub(crate) fn lane(uri: &[u8]) -> &[u8] {
    parts(uri).1.and_then(|mailbox| uri.get(..mailbox.range.end)).unwrap_or(uri)
}

/// What follows `imap://`, in either case.
fn strip_scheme(uri: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = uri.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// Whether a message's number follows.
fn is_uid(after: Option<&[u8]>) -> bool {
    after
        .and_then(|after| after.get(..UID.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(UID))
}

/// A text without its percent-encoding.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut octets = Vec::with_capacity(text.len());
    decode_onto(text.as_bytes(), &mut octets);
    Cow::Owned(String::from_utf8_lossy(&octets).into_owned())
}

fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

const SCHEME: &[u8] = b"imap://";
const UID: &[u8] = b";UID=";

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str =
        "imap://john%40example.org@imap.example.org/Lists/caf%C3%A9;UIDVALIDITY=3/;UID=6";

    #[test]
    fn owner_and_mailbox_are_found_and_decoded() {
        assert_eq!(owner(MESSAGE).as_deref(), Some("john@example.org"));
        assert_eq!(mailbox(MESSAGE).as_deref(), Some("Lists/café"));
    }

    #[test]
    fn plain_texts_are_borrowed() {
        let uri = "imap://john@imap.example.org/INBOX/;UID=6";
        assert!(matches!(owner(uri), Some(Cow::Borrowed("john"))));
        assert!(matches!(mailbox(uri), Some(Cow::Borrowed("INBOX"))));
    }

    #[test]
    fn a_server_has_neither() {
        for uri in ["imap://imap.example.org", "imap://imap.example.org/", "imap://;AUTH=*@h/"] {
            assert_eq!((owner(uri), mailbox(uri)), (None, None), "{uri}");
        }
        assert_eq!(owner("mailto:john@example.org"), None);
    }

    #[test]
    fn a_lane_is_the_mailbox_whatever_its_uidvalidity() {
        let lane_of = |uri: &'static str| std::str::from_utf8(lane(uri.as_bytes())).unwrap();
        assert_eq!(lane_of(MESSAGE), "imap://john%40example.org@imap.example.org/Lists/caf%C3%A9");
        assert_eq!(lane_of("imap://h/A;UIDVALIDITY=1"), "imap://h/A");
        assert_eq!(lane_of("imap://h/A/;UID=1"), "imap://h/A");
        assert_eq!(lane_of("imap://h"), "imap://h");
        assert_eq!(lane_of("urn:x;y"), "urn:x;y");
    }
}
