//! Parameters by event: lists that stand in the place of the one for all events (R42).

use std::collections::BTreeMap;
use std::fmt;

use mail_event::{EventGroup, EventName};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::filter::Events;
use super::selection::{InvalidSelection, Kind, Parameters, Private, named};
use crate::Policy;
use crate::names::GAP;

/// Lists of parameters by event or group of events, each in the grammar of a selection's
/// `parameters`.
///
/// For an event that a key names its list stands in the place of `parameters`; the event's own name
/// goes before its group. An event given twice is refused as it is read.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ParametersOf(BTreeMap<String, Vec<String>>);

impl ParametersOf {
    /// The lists, with the events or groups they are for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(event, list)| (event.as_str(), list.as_slice()))
    }

    /// Whether there is none at all, which a selection may not say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a list for exactly this.
    pub(super) fn has(&self, event: &str) -> bool {
        self.0.contains_key(event)
    }

    /// The same with each list changed.
    pub(super) fn map(&self, change: impl Fn(&[String]) -> Vec<String>) -> Self {
        Self(self.0.iter().map(|(event, list)| (event.clone(), change(list))).collect())
    }

    /// Each list checked, with what it is for; only events that are `told` may be meant.
    pub(super) fn compile(
        &self,
        told: &Events,
        policy: &Policy,
        private: Private,
    ) -> Result<Vec<(Kind, Parameters)>, InvalidSelection> {
        let invalid = |pointer: &str, message| Err(InvalidSelection::new(pointer, message));
        if self.is_empty() {
            return invalid(MEMBER, "names no event (leave it out for none)".to_owned());
        }
        if self.0.len() > CHOICES_MAX {
            let message =
                format!("{} events are more than the {CHOICES_MAX} there may be", self.0.len());
            return invalid(MEMBER, message);
        }
        let mut choices = Vec::with_capacity(self.0.len());
        for (event, list) in self.iter() {
            let pointer = format!("{MEMBER}/{}", escaped(event));
            let kind = match named(event) {
                Ok(kind) => kind,
                Err(message) => return invalid(&pointer, message),
            };
            if !is_told(told, &kind) {
                return invalid(&pointer, format!("{event:?} is not among the events asked for"));
            }
            choices.push((kind, Parameters::read(&pointer, list, policy, private)?));
        }
        Ok(choices)
    }
}

impl FromIterator<(String, Vec<String>)> for ParametersOf {
    fn from_iter<I: IntoIterator<Item = (String, Vec<String>)>>(lists: I) -> Self {
        Self(lists.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for ParametersOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Lists)
    }
}

/// Reads lists by event. Of two for the same event neither is better than the other.
struct Lists;

impl<'de> Visitor<'de> for Lists {
    type Value = ParametersOf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists by event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParametersOf, A::Error> {
        let mut lists = BTreeMap::new();
        while let Some((event, list)) = map.next_entry::<String, Vec<String>>()? {
            if lists.contains_key(&event) {
                return Err(A::Error::custom(format!("{event:?} is given twice")));
            }
            lists.insert(event, list);
        }
        Ok(ParametersOf(lists))
    }
}

/// Whether any event that a key names may be told.
fn is_told(told: &Events, kind: &Kind) -> bool {
    let Events::Some { registered, vendor, names } = told else { return true };
    match kind {
        Kind::Group(EventGroup::Vendor) => *vendor || !names.is_empty(),
        // A gap comes whatever is asked for.
        Kind::Name(EventName::Other(name)) => {
            let name = name.as_str();
            *vendor || name == GAP || names.iter().any(|one| **one == *name)
        }
        Kind::Group(_) | Kind::Name(_) => registered & kind.places() != 0,
    }
}

/// A name as a part of a JSON Pointer (RFC 6901, section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Where lists by event stand in a selection, as a JSON Pointer.
pub(super) const MEMBER: &str = "/parametersOf";

/// Lists by event at most: every registered event and group, and as many of vendors' own as a
/// subscriber may care to tell apart three times over.
const CHOICES_MAX: usize = 100;
