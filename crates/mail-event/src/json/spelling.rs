//! The one spelling an event has in common with all its others.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use super::check::{Checked, Scan, known};
use crate::{ParameterName, Timestamp};

/// How far a strict text is from the canonical spelling of its event ([`super::canonical`]).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Spelling {
    /// It is that.
    Canonical,
    /// Its members are in another order, spaces stand between them, or zeros end its time.
    Scattered,
    /// A value may be written in another way; only [`super::from_slice`] can tell.
    Free,
}

impl Checked {
    /// The canonical spelling of the event that `json` is, the text this was found in; nothing
    /// where only [`super::from_slice`] and [`super::canonical`] find it.
    #[must_use]
    pub fn canonical<'a>(&self, json: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match self.spelling {
            Spelling::Canonical => Some(Cow::Borrowed(json)),
            Spelling::Scattered => gathered(json).map(Cow::Owned),
            Spelling::Free => None,
        }
    }
}

/// Where a member stands in the canonical order: `event`, `uri`, `timestamp`, `user`, the registry's
/// others, then the rest by their names.
pub(super) fn place<'a>(parameter: Option<&ParameterName>, key: &'a str) -> (u32, &'a str) {
    let place = match parameter {
        None if key == "event" => 0,
        None => u32::MAX,
        Some(ParameterName::Uri) => 1,
        Some(ParameterName::Timestamp) => 2,
        Some(ParameterName::User) => 3,
        Some(other) => other.index().map_or(u32::MAX, |index| 4 + index),
    };
    (place, if place == u32::MAX { key } else { "" })
}

/// Whether an address that was read from `text` is written as RFC 5952 wants it. There is one way
/// to write an IPv4 address, so that only IPv6 costs a second look.
pub(super) fn is_canonical_address(text: &str, address: IpAddr) -> bool {
    let IpAddr::V6(_) = address else { return true };
    let mut written = [0_u8; ADDRESS_OCTETS];
    let mut rest = &mut written[..];
    let fits = write!(rest, "{}", address.to_canonical()).is_ok();
    let left = rest.len();
    fits && written.get(..ADDRESS_OCTETS - left) == Some(text.as_bytes())
}

/// A strict text whose values are canonical, its members in order and nothing between them.
fn gathered(json: &[u8]) -> Option<Vec<u8>> {
    let mut scan = Scan::new(json)?;
    let mut members = Vec::with_capacity(USUAL_MEMBERS);
    scan.eat(b'{')?;
    loop {
        let key = scan.string()?.plain()?;
        scan.eat(b':')?;
        scan.space();
        let start = scan.at;
        scan.value()?;
        let value = scan.text.get(start..scan.at)?;
        members.push((place(known(key).as_ref(), key), key, value));
        if scan.next()? != b',' {
            break;
        }
    }
    members.sort_unstable();
    let mut out = Vec::with_capacity(json.len());
    for ((place, _), key, value) in members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        if place == TIMESTAMP {
            let time: Timestamp = value.trim_matches('"').parse().ok()?;
            write!(out, "\"{}\"", time.canonical()).ok()?;
        } else {
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'}');
    Some(out)
}

/// Where `timestamp` stands in the canonical order.
const TIMESTAMP: u32 = 2;

/// What an event usually has, so that the list grows once.
const USUAL_MEMBERS: usize = 24;

/// The longest form of an address, an IPv6 one that ends in an IPv4 one.
const ADDRESS_OCTETS: usize = 45;
