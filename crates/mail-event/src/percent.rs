//! Percent-encoding as RFC 5092 has it.

use std::fmt;

/// Octets that stand for themselves in `enc-user`, beside the unreserved ones.
pub(crate) const USER: &[u8] = b"!$'()*+,&=";

/// Octets that stand for themselves in `enc-mailbox`, beside the unreserved ones.
pub(crate) const MAILBOX: &[u8] = b"!$'()*+,&=:@/";

/// Writes `text`, encoding what is neither unreserved nor in `plain`.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, text: &str, plain: &[u8]) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte, plain)) {
        let (clear, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        f.write_str(clear)?;
        let mut characters = tail.chars();
        if let Some(character) = characters.next() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                write!(f, "%{byte:02X}")?;
            }
        }
        rest = characters.as_str();
    }
    f.write_str(rest)
}

/// A user's name as `enc-user`.
pub(crate) fn encoded(user: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| write(f, user, USER))
}

/// Decodes, or gives nothing where the encoding is broken or the octets are not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
            out.push(high * 16 + low);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Whether `bytes` are encoded exactly as [`write`] does it, and stand for ASCII other than NUL.
pub(crate) fn is_canonical_ascii(bytes: &[u8], plain: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            if !is_plain(*byte, plain) {
                return false;
            }
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else { return false };
        if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
            return false;
        }
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return false };
        let decoded = high * 16 + low;
        if decoded == 0 || !decoded.is_ascii() || is_plain(decoded, plain) {
            return false;
        }
        rest = after;
    }
    !bytes.is_empty()
}

/// Whether `bytes` are something, and each is plain or well encoded.
pub(crate) fn is_encoded(bytes: &[u8], plain: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => after,
            _ if is_plain(*byte, plain) => after,
            _ => return false,
        };
    }
    !bytes.is_empty()
}

fn is_plain(byte: u8, plain: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
