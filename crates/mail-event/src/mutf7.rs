//! Modified UTF-7, the form of mailbox names in IMAP4rev1 (RFC 3501, section 5.1.3).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Reads a mailbox name in modified UTF-7.
///
/// # Errors
///
/// Where a byte is not printable ASCII, a shift does not end, or what is shifted is not UTF-16.
///
/// ```
/// assert_eq!(mail_event::mutf7::decode(b"Entw&APw-rfe")?, "Entwürfe");
/// # Ok::<(), mail_event::mutf7::InvalidMutf7>(())
/// ```
pub fn decode(name: &[u8]) -> Result<String, InvalidMutf7> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    let mut at = 0;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'&' {
            if !matches!(byte, 0x20..=0x7e) {
                return Err(InvalidMutf7 { at });
            }
            out.push(char::from(*byte));
            rest = after;
            at += 1;
            continue;
        }
        let end = after.iter().position(|byte| *byte == b'-').ok_or(InvalidMutf7 { at })?;
        let (shifted, tail) = after.split_at_checked(end).ok_or(InvalidMutf7 { at })?;
        if shifted.is_empty() {
            out.push('&');
        } else {
            shift_in(shifted, &mut out).ok_or(InvalidMutf7 { at })?;
        }
        rest = tail.get(1..).unwrap_or_default();
        at += end + 2;
    }
    Ok(out)
}

/// Writes a mailbox name in modified UTF-7.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut pending = Vec::new();
    for character in name.chars() {
        match character {
            '\u{20}'..='\u{7e}' => {
                shift_out(&mut pending, &mut out);
                out.push(character);
                if character == '&' {
                    out.push('-');
                }
            }
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    pending.extend_from_slice(&unit.to_be_bytes());
                }
            }
        }
    }
    shift_out(&mut pending, &mut out);
    out
}

fn shift_in(shifted: &[u8], out: &mut String) -> Option<()> {
    let octets = ENGINE.decode(shifted).ok()?;
    if octets.len() % 2 != 0 {
        return None;
    }
    let units = octets.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    for character in char::decode_utf16(units) {
        out.push(character.ok()?);
    }
    Some(())
}

fn shift_out(pending: &mut Vec<u8>, out: &mut String) {
    if !pending.is_empty() {
        out.push('&');
        ENGINE.encode_string(&*pending, out);
        out.push('-');
        pending.clear();
    }
}

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why bytes are not modified UTF-7.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not modified UTF-7 at octet {at}")]
pub struct InvalidMutf7 {
    /// Where it goes wrong, counted from 0.
    pub at: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_3501_section_5_1_3() {
        let name = "~peter/mail/台北/日本語";
        assert_eq!(encode(name), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(decode(encode(name).as_bytes()).unwrap(), name);
    }

    #[test]
    fn what_is_broken_is_pointed_at() {
        assert_eq!(decode(b"ab&"), Err(InvalidMutf7 { at: 2 }));
        assert_eq!(decode(b"\xff"), Err(InvalidMutf7 { at: 0 }));
        assert_eq!(decode(b"a&2D0-"), Err(InvalidMutf7 { at: 1 }));
    }

    proptest! {
        #[test]
        fn every_name_survives_the_round_trip(name in "\\PC{0,40}") {
            prop_assert_eq!(decode(encode(&name).as_bytes()).unwrap(), name);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            decode(&bytes).ok();
        }
    }
}
