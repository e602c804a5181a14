//! The grammar of a subscription, compiled once.

use std::collections::BTreeSet;

use mail_event::limits::{NAME_OCTETS_MAX, TEXT_OCTETS_MAX};
use mail_event::{EventGroup, EventName, ParameterName};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::filter::Events;
use super::forms::FlagForms;
use super::nearest::nearest;
use super::pattern::Pattern;
use super::{Filter, Projection};
use crate::Policy;

/// What a subscription or a stream asks for; an empty list asks for everything of its kind.
///
/// ```
/// use postbell_engine::{Policy, Selection};
///
/// let selection = Selection {
///     events: vec!["message".to_owned(), "MessageGnu".to_owned()],
///     ..Selection::default()
/// };
/// let error = selection.compile(&Policy::default()).unwrap_err();
/// assert_eq!(error.pointer, "/events/1");
/// assert_eq!(
///     error.to_string(),
///     "\"MessageGnu\" is not an event or a group (did you mean \"MessageNew\"?)"
/// );
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selection {
    /// Events and groups of events, by name.
    pub events: Vec<String>,
    /// Users: who owns the mailbox, or who acted.
    pub users: Vec<String>,
    /// Mailboxes, with IMAP's wildcards `*` and `%`.
    pub mailboxes: Vec<String>,
    /// A condition on the event's parameters, in the Common Expression Language; `where` in JSON.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Parameters, by name; `*` is every one that is not private.
    pub parameters: Vec<String>,
    /// Tags put on each delivery (R135).
    pub tags: Vec<String>,
    /// In which form it is told that `\Seen` and `\Deleted` were set (R62).
    #[serde(skip_serializing_if = "FlagForms::is_default")]
    pub flag_forms: FlagForms,
}

impl Selection {
    /// Checks the selection and makes it ready for use under `policy`.
    ///
    /// # Errors
    ///
    /// Names the first thing that can't be.
    pub fn compile(&self, policy: &Policy) -> Result<(Filter, Projection), InvalidSelection> {
        limit("events", &self.events, ENTRIES_MAX)?;
        limit("users", &self.users, ENTRIES_MAX)?;
        limit("mailboxes", &self.mailboxes, ENTRIES_MAX)?;
        limit("parameters", &self.parameters, ENTRIES_MAX)?;
        limit("tags", &self.tags, TAGS_MAX)?;
        let told = events(&self.events)?;
        let filter = Filter {
            events: told.in_any_form(self.flag_forms),
            told,
            forms: self.flag_forms,
            users: users(&self.users)?,
            mailboxes: mailboxes(&self.mailboxes)?,
            condition: self.condition.as_deref().map(|text| condition(text, policy)).transpose()?,
        };
        let parameters = parameters(&self.parameters, policy)?;
        tags(&self.tags)?;
        Ok((filter, Projection::new(&parameters, &self.tags, policy)))
    }

    /// The same for one that was fine when it was made, and may ask by now for more than `policy`
    /// lets leave: private parameters stay here, and deliveries name them as held back. A
    /// condition on one of them is refused: without it more would be told than was asked for.
    ///
    /// # Errors
    ///
    /// As [`Selection::compile`].
    pub fn compile_again(&self, policy: &Policy) -> Result<(Filter, Projection), InvalidSelection> {
        let (filter, projection) = self.under(policy).compile(policy)?;
        let kept = self.parameters.iter().filter(|name| policy.keeps(name).is_some());
        Ok((filter, projection.holding_back(kept.map(String::as_str))))
    }

    /// The same without the private parameters that `policy` doesn't let leave.
    #[must_use]
    pub fn under(&self, policy: &Policy) -> Self {
        let mut selection = self.clone();
        selection.parameters.retain(|name| policy.keeps(name).is_none());
        // Nothing left must not come to mean everything.
        if selection.parameters.is_empty() && !self.parameters.is_empty() {
            selection.parameters.push("uri".to_owned());
        }
        selection
    }
}

/// Why a selection can't be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidSelection {
    /// Where in the selection's JSON, as a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

/// The parameters asked for.
#[derive(Debug)]
pub(super) struct Parameters {
    /// Whether every one that is not private.
    pub(super) all: bool,
    pub(super) named: BTreeSet<ParameterName>,
}

fn invalid<T>(list: &str, at: usize, message: String) -> Result<T, InvalidSelection> {
    Err(InvalidSelection { pointer: format!("/{list}/{at}"), message })
}

fn limit(list: &str, entries: &[String], max: usize) -> Result<(), InvalidSelection> {
    if entries.len() <= max {
        return Ok(());
    }
    let message = format!("{} {list} are more than the {max} there may be", entries.len());
    Err(InvalidSelection { pointer: format!("/{list}"), message })
}

fn events(list: &[String]) -> Result<Events, InvalidSelection> {
    if list.is_empty() {
        return Ok(Events::All);
    }
    let (mut registered, mut vendor, mut names) = (0, false, BTreeSet::new());
    for (at, text) in list.iter().enumerate() {
        if let Ok(group) = text.parse::<EventGroup>() {
            vendor |= group == EventGroup::Vendor;
            registered |= places(|name| name.group() == group);
            continue;
        }
        match text.parse::<EventName>() {
            Ok(EventName::Other(other)) if other.is_vendor() => {
                names.insert(Box::from(text.as_str()));
            }
            Ok(known) if EventName::REGISTERED.contains(&known) => {
                registered |= places(|name| *name == known);
            }
            _ => {
                let events = EventName::REGISTERED;
                let mut known: Vec<_> = events.iter().map(EventName::as_str).collect();
                known.extend(EventGroup::ALL.map(EventGroup::as_str));
                let message = unknown(text, "an event or a group", known.into_iter());
                return invalid("events", at, message);
            }
        }
    }
    Ok(Events::Some { registered, vendor, names: names.into_iter().collect() })
}

/// The registered events for which `wanted` says yes, a bit each in the registry's order.
fn places(wanted: impl Fn(&EventName) -> bool) -> u32 {
    let bits = (0_u32..).zip(&EventName::REGISTERED);
    bits.filter(|(_, name)| wanted(name)).fold(0, |bits, (at, _)| bits | 1 << at)
}

fn users(list: &[String]) -> Result<Box<[Box<str>]>, InvalidSelection> {
    for (at, user) in list.iter().enumerate() {
        if user.is_empty() || user.len() > TEXT_OCTETS_MAX {
            let message = format!("a user has 1 to {TEXT_OCTETS_MAX} octets");
            return invalid("users", at, message);
        }
        if user.contains(char::is_control) {
            let message = format!("{user:?} holds a control character, which no user's name has");
            return invalid("users", at, message);
        }
    }
    let users: BTreeSet<_> = list.iter().map(|user| Box::from(user.as_str())).collect();
    Ok(users.into_iter().collect())
}

fn mailboxes(list: &[String]) -> Result<Box<[Pattern]>, InvalidSelection> {
    let mut patterns = Vec::with_capacity(list.len());
    for (at, text) in list.iter().enumerate() {
        match text.parse::<Pattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => return invalid("mailboxes", at, error.to_string()),
        }
    }
    Ok(patterns.into())
}

fn condition(text: &str, policy: &Policy) -> Result<Condition, InvalidSelection> {
    let invalid = |message| InvalidSelection { pointer: "/where".to_owned(), message };
    Condition::parse(text, policy).map_err(invalid)
}

fn parameters(list: &[String], policy: &Policy) -> Result<Parameters, InvalidSelection> {
    let mut parameters = Parameters { all: list.is_empty(), named: BTreeSet::new() };
    for (at, text) in list.iter().enumerate() {
        if text == "*" {
            parameters.all = true;
            continue;
        }
        if let Some(key) = policy.keeps(text) {
            let message = format!("{text:?} is private, and the policy lets none leave ({key})");
            return invalid("parameters", at, message);
        }
        let name = match text.parse::<ParameterName>() {
            Ok(ParameterName::Other(other)) if !other.is_vendor() => None,
            Ok(name) => Some(name),
            Err(_) => None,
        };
        let Some(name) = name else {
            let known = ParameterName::REGISTERED;
            let message = unknown(text, "a parameter", known.iter().map(ParameterName::as_str));
            return invalid("parameters", at, message);
        };
        parameters.named.insert(name);
    }
    Ok(parameters)
}

fn tags(list: &[String]) -> Result<(), InvalidSelection> {
    for (at, tag) in list.iter().enumerate() {
        if tag.is_empty() || tag.len() > TAG_OCTETS_MAX {
            return invalid("tags", at, format!("a tag has 1 to {TAG_OCTETS_MAX} octets"));
        }
        // A comma would part it in two where tags are joined by commas (R134).
        let bad = |letter: &char| matches!(letter, ',' | '"' | '\\') || letter.is_control();
        if let Some(letter) = tag.chars().find(bad) {
            return invalid("tags", at, format!("{letter:?} may not stand in a tag"));
        }
        if list.iter().take(at).any(|before| before == tag) {
            return invalid("tags", at, format!("{tag:?} is given twice"));
        }
    }
    Ok(())
}

fn unknown<'a>(text: &str, what: &str, known: impl Iterator<Item = &'a str>) -> String {
    let shown: String = text.chars().take(NAME_OCTETS_MAX).collect();
    match nearest(&shown, known) {
        Some(near) => format!("{shown:?} is not {what} (did you mean {near:?}?)"),
        None => format!("{shown:?} is not {what}; names of your own begin with \"vnd.\""),
    }
}

/// Entries of one list at most. A thousand users are found as fast as one; a thousand mailbox
/// patterns are still tried in less time than a delivery takes.
const ENTRIES_MAX: usize = 1_000;

/// Tags of one subscription: as many as a reader of events takes without a closer look.
const TAGS_MAX: usize = 16;

/// Octets of one tag: a word or a topic, not a text.
const TAG_OCTETS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(selection: &Selection) -> (String, String) {
        let error = selection.compile(&Policy::default()).unwrap_err();
        (error.pointer.clone(), error.to_string())
    }

    fn parameters(names: &[&str]) -> Selection {
        let parameters = names.iter().map(|&name| name.to_owned()).collect();
        Selection { parameters, ..Selection::default() }
    }

    #[test]
    fn what_is_unknown_is_named_with_what_was_meant() {
        let events = |name: &str| Selection {
            events: vec!["flags".to_owned(), name.to_owned()],
            ..Selection::default()
        };
        for (name, message) in [
            ("messages", r#""messages" is not an event or a group (did you mean "message"?)"#),
            (
                "MESSAGENEW",
                r#""MESSAGENEW" is not an event or a group (did you mean "MessageNew"?)"#,
            ),
            ("Zzz", r#""Zzz" is not an event or a group; names of your own begin with "vnd.""#),
            ("vnd.", r#""vnd." is not an event or a group; names of your own begin with "vnd.""#),
        ] {
            assert_eq!(error(&events(name)), ("/events/1".to_owned(), message.to_owned()));
        }
        let (pointer, message) = error(&parameters(&["uidSet"]));
        assert_eq!(pointer, "/parameters/0");
        assert_eq!(message, r#""uidSet" is not a parameter (did you mean "uidset"?)"#);
    }

    #[test]
    fn r158_a_private_parameter_that_policy_keeps_is_refused_naming_the_key() {
        for (name, key) in [
            ("messageContent", "policy.content_max_octets"),
            ("bodyStructure", "policy.body_structure"),
            ("envelope", "policy.envelope"),
            ("vnd.cmu.envelope", "policy.envelope"),
        ] {
            let (pointer, message) = error(&parameters(&["*", name]));
            assert_eq!(pointer, "/parameters/1");
            assert_eq!(
                message,
                format!("{name:?} is private, and the policy lets none leave ({key})")
            );
        }
        let under = parameters(&["envelope"]).under(&Policy::default());
        assert_eq!(under, parameters(&["uri"]), "nothing left is not everything");
        assert!(under.compile(&Policy::default()).is_ok());
    }

    #[test]
    fn r134_a_tag_that_could_not_be_told_from_two_is_refused() {
        let tags = |tags: &[&str]| Selection {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Selection::default()
        };
        assert!(tags(&["home", "büro 🔔"]).compile(&Policy::default()).is_ok());
        for (bad, message) in [
            ("a,b", "',' may not stand in a tag"),
            ("a\"b", "'\"' may not stand in a tag"),
            ("a\nb", r"'\n' may not stand in a tag"),
            ("", "a tag has 1 to 128 octets"),
            ("fine", "\"fine\" is given twice"),
        ] {
            assert_eq!(error(&tags(&["fine", bad])), ("/tags/1".to_owned(), message.to_owned()));
        }
    }

    #[test]
    fn every_list_has_its_limit() {
        let many = |number: usize| vec!["message".to_owned(); number];
        let full = Selection { events: many(1_000), ..Selection::default() };
        assert!(full.compile(&Policy::default()).is_ok());
        let over = Selection { events: many(1_001), ..Selection::default() };
        assert_eq!(error(&over).0, "/events");
        for (list, selection) in [
            ("/users/0", Selection { users: vec![String::new()], ..Selection::default() }),
            ("/users/0", Selection { users: vec!["a\0b".to_owned()], ..Selection::default() }),
            (
                "/mailboxes/0",
                Selection { mailboxes: vec!["a\0".to_owned()], ..Selection::default() },
            ),
            (
                "/mailboxes/0",
                Selection { mailboxes: vec!["x".repeat(256)], ..Selection::default() },
            ),
        ] {
            assert_eq!(error(&selection).0, list);
        }
    }
}
