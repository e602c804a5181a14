//! The one spelling an event has in common with all its others.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use super::check::Checked;
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

/// A strict event, and the way to its canonical spelling.
#[derive(Clone, Debug)]
pub struct Spelled<'a> {
    /// What was found in it.
    pub checked: Checked,
    /// How far it is from its canonical spelling.
    pub spelling: Spelling,
    pub(super) text: &'a str,
    pub(super) order: Order<'a>,
}

impl<'a> Spelled<'a> {
    /// The canonical spelling of the event; nothing where only [`super::from_slice`] and
    /// [`super::canonical`] find it.
    #[must_use]
    pub fn canonical(mut self) -> Option<Cow<'a, [u8]>> {
        match self.spelling {
            Spelling::Canonical => Some(Cow::Borrowed(self.text.as_bytes())),
            Spelling::Scattered => self.order.gathered(self.text).map(Cow::Owned),
            Spelling::Free => None,
        }
    }
}

/// Where the members of a text stand, in the order they came.
#[derive(Clone, Debug)]
pub(super) struct Order<'a> {
    members: [Member<'a>; MEMBERS_MAX],
    /// How many came; more than [`MEMBERS_MAX`] are only counted.
    count: usize,
    last: Option<(u8, &'a str)>,
    /// Whether zeros end its time.
    pub(super) padded: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
struct Member<'a> {
    place: u8,
    key: &'a str,
    /// Where its value begins and ends.
    value: (usize, usize),
}

impl Default for Order<'_> {
    fn default() -> Self {
        Self { members: [Member::default(); MEMBERS_MAX], count: 0, last: None, padded: false }
    }
}

impl<'a> Order<'a> {
    /// A member whose value begins at `start`. Whether the canonical order has it there.
    pub(super) fn begin(&mut self, place: u8, key: &'a str, start: usize) -> bool {
        if let Some(member) = self.members.get_mut(self.count) {
            *member = Member { place, key, value: (start, start) };
        }
        self.count += 1;
        // Only what is not registered is told apart by its name.
        let here = (place, if place == OTHERS { key } else { "" });
        self.last.replace(here).is_none_or(|last| last < here)
    }

    /// The value of the last member ends at `end`.
    pub(super) fn end(&mut self, end: usize) {
        let last = self.count.checked_sub(1).and_then(|last| self.members.get_mut(last));
        if let Some(Member { value: (_, to), .. }) = last {
            *to = end;
        }
    }

    /// A text whose values are canonical, its members in order and nothing between them.
    fn gathered(&mut self, text: &str) -> Option<Vec<u8>> {
        let members = self.members.get_mut(..self.count)?;
        members.sort_unstable_by_key(|member| (member.place, member.key));
        let mut out = Vec::with_capacity(text.len());
        for Member { place, key, value: (start, end) } in members {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.push(b'"');
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            let value = text.get(*start..*end)?;
            if *place == TIMESTAMP && self.padded {
                let time: Timestamp = value.trim_matches('"').parse().ok()?;
                write!(out, "\"{}\"", time.canonical()).ok()?;
            } else {
                out.extend_from_slice(value.as_bytes());
            }
        }
        out.push(b'}');
        Some(out)
    }
}

/// Where a member stands in the canonical order: `event`, `uri`, `timestamp`, `user`, the registry's
/// others, then the rest by their names.
pub(super) fn place(parameter: Option<&ParameterName>, key: &str) -> u8 {
    match parameter {
        None if key == "event" => 0,
        None => OTHERS,
        Some(ParameterName::Uri) => 1,
        Some(ParameterName::Timestamp) => TIMESTAMP,
        Some(ParameterName::User) => 3,
        Some(other) => {
            other.index().and_then(|index| u8::try_from(4 + index).ok()).unwrap_or(OTHERS)
        }
    }
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

/// Where `timestamp` stands in the canonical order.
const TIMESTAMP: u8 = 2;

/// Where what is not registered stands: at the end.
const OTHERS: u8 = u8::MAX;

/// The members that are put in order; with more, an event is parsed.
const MEMBERS_MAX: usize = 32;

/// The longest form of an address, an IPv6 one that ends in an IPv4 one.
const ADDRESS_OCTETS: usize = 45;
