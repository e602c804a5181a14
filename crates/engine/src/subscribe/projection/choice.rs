//! What one list of parameters comes to, and which list is which event's.

use std::collections::BTreeSet;

use mail_event::{EventGroup, EventName, ParameterName, Presence, binding};

use super::{ALL, COMPANIONS, bit, bits, contains, index};
use crate::View;
use crate::subscribe::selection::{Kind, Parameters};

/// One list of parameters, made ready.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// Whether an event without private parameters leaves whole.
    pub(super) public_whole: bool,
    /// Whether one with private parameters does.
    pub(super) private_whole: bool,
    /// The registered parameters asked for, with companions, a bit each in the registry's order.
    pub(super) keep: u32,
    /// Whether every parameter outside the registry.
    all_vendors: bool,
    /// Parameters outside the registry, sorted.
    vendors: Box<[Box<str>]>,
    /// Whether `messageContent` is asked for.
    pub(super) asks_content: bool,
    /// The registered parameters asked for that policy keeps.
    kept: u32,
    /// Those outside the registry.
    pub(super) kept_vendors: Box<[Box<str>]>,
}

impl Choice {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let private = bits(&ParameterName::PRIVATE);
        let named: Vec<_> = parameters.named.iter().cloned().collect();
        let mut keep = bits(&named);
        if parameters.all {
            keep |= ALL & !private;
        }
        for (asked, companion) in COMPANIONS {
            if keep & bit(&asked) != 0 {
                keep |= bit(&companion);
            }
        }
        let vendors = parameters.named.iter().filter_map(|name| match name {
            ParameterName::Other(name) => Some(Box::from(name.as_str())),
            _ => None,
        });
        let (mut kept, mut kept_vendors) = (0, Vec::new());
        for name in &parameters.held_back {
            match index(name.as_bytes()) {
                Some(at) => kept |= 1 << at,
                None => kept_vendors.push(Box::from(name.as_str())),
            }
        }
        Self {
            public_whole: parameters.all && keep & !private == ALL & !private,
            private_whole: parameters.all && keep == ALL && names_all(&parameters.named),
            keep,
            all_vendors: parameters.all,
            vendors: vendors.collect(),
            asks_content: keep & bit(&ParameterName::MessageContent) != 0,
            kept,
            kept_vendors: kept_vendors.into(),
        }
    }

    /// The registered parameters asked for that policy keeps, as far as such an event may have them.
    pub(super) fn kept_of(&self, event: &EventName) -> u32 {
        let fits = |name: &&ParameterName| binding::presence(event, name) != Presence::Forbidden;
        let private = ParameterName::PRIVATE;
        self.kept & private.iter().filter(fits).map(bit).fold(0, |bits, bit| bits | bit)
    }

    /// Whether a parameter outside the registry leaves.
    pub(super) fn lets_leave(&self, name: &[u8]) -> bool {
        let is_private = || ParameterName::PRIVATE_VENDORS.iter().any(|one| one.as_bytes() == name);
        contains(&self.vendors, name) || (self.all_vendors && !is_private())
    }
}

/// Whether every private parameter of a vendor's is asked for.
fn names_all(named: &BTreeSet<ParameterName>) -> bool {
    let is_named = |name| named.iter().any(|one| one.as_str() == name);
    ParameterName::PRIVATE_VENDORS.into_iter().all(is_named)
}

/// Choices that hold for some events, in the place of the one for all.
#[derive(Clone, Debug)]
pub(super) struct ByEvent {
    all: Box<[Choice]>,
    /// Which of them each registered event has, in the registry's order.
    registered: [Option<usize>; 18],
    /// Which one events outside the registry have whose name has none.
    vendor: Option<usize>,
    /// Which one events of these names outside the registry have; sorted.
    names: Box<[(Box<str>, usize)]>,
}

impl ByEvent {
    /// None where there are no such choices.
    pub(super) fn new(choices: &[(Kind, Parameters)]) -> Option<Box<Self>> {
        if choices.is_empty() {
            return None;
        }
        let of = |wanted: &Kind| choices.iter().position(|(kind, _)| kind == wanted);
        let registered = EventName::REGISTERED.map(|event| {
            let group = Kind::Group(event.group());
            of(&Kind::Name(event)).or_else(|| of(&group))
        });
        let names = choices.iter().enumerate().filter_map(|(at, (kind, _))| match kind {
            Kind::Name(EventName::Other(name)) => Some((Box::from(name.as_str()), at)),
            Kind::Group(_) | Kind::Name(_) => None,
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        Some(Box::new(Self {
            all: choices.iter().map(|(_, parameters)| Choice::new(parameters)).collect(),
            registered,
            vendor: of(&Kind::Group(EventGroup::Vendor)),
            names: names.into(),
        }))
    }

    /// The choice for such an event, where there is one.
    pub(super) fn of(&self, view: &View<'_>) -> Option<&Choice> {
        let Some(place) = view.place() else {
            let name = view.name();
            let own = self.names.binary_search_by(|(one, _)| (**one).cmp(&name)).ok();
            let own = own.and_then(|at| self.names.get(at)).map(|(_, choice)| *choice);
            return self.all.get(own.or(self.vendor)?);
        };
        self.registered(usize::from(place))
    }

    /// The choice for the registered event at this place.
    pub(super) fn registered(&self, place: usize) -> Option<&Choice> {
        self.registered.get(place).copied().flatten().and_then(|at| self.all.get(at))
    }
}
