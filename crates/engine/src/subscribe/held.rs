//! What was asked for and stays here all the same, and how the delivery says so.

use crate::members::Member;

/// The parameters of one event that its subscriber asked for and doesn't get.
#[derive(Debug, Default)]
pub(super) struct Held<'a>(Vec<(&'a [u8], Why)>);

/// Why a parameter stays here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// The operator doesn't let it leave.
    Policy,
    /// It is larger than the operator lets leave, or the event would be.
    Size,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Size => "size",
        }
    }
}

impl<'a> Held<'a> {
    /// Adds one, unless it is named already. `name` is the inside of a JSON text.
    pub(super) fn add(&mut self, name: &'a [u8], why: Why) {
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, why));
        }
    }

    /// Octets of what [`Held::write`] appends.
    fn octets(&self) -> usize {
        let of = |(name, why): &(&[u8], Why)| name.len() + why.as_str().len() + r#""":"","#.len();
        match &*self.0 {
            [] => 0,
            held => PREFIX.len() + held.iter().map(of).sum::<usize>(),
        }
    }

    /// Appends the parameter that names them, with a comma before it; nothing where there are
    /// none.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        out.extend_from_slice(PREFIX);
        for (at, (name, why)) in self.0.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(name);
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(why.as_str().as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}

/// Holds back the largest of `members` that may be, until all take at most `max` octets together
/// with what is held and `others`. Where nothing is left that may be, they take more.
///
/// The same members always lose the same ones.
pub(super) fn fit<'a>(
    members: &mut Vec<Member<'a>>,
    held: &mut Held<'a>,
    others: usize,
    max: usize,
    may_stay_here: impl Fn(&[u8]) -> bool,
) {
    // Each has a brace or a comma before it.
    let mut octets: usize = members.iter().map(|member| member.text.len() + 1).sum();
    let mut largest: Vec<_> = members.iter().filter(|member| may_stay_here(member.name)).collect();
    // From the smallest on, so that the next one to go is the last.
    largest.sort_by_key(|member| (member.text.len(), member.name));
    let mut largest: Vec<&[u8]> = largest.into_iter().map(|member| member.name).collect();
    while octets + held.octets() + others > max
        && let Some(name) = largest.pop()
    {
        members.retain(|member| {
            let stays = member.name != name;
            octets -= if stays { 0 } else { member.text.len() + 1 };
            stays
        });
        held.add(name, Why::Size);
    }
}

/// What stands before those that are held back. It says of each why.
const PREFIX: &[u8] = br#","vnd.postbell.suppressed":{"#;
