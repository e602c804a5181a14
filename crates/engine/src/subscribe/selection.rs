//! The grammar of a subscription, compiled once.

use std::collections::BTreeSet;

use mail_event::limits::{NAME_OCTETS_MAX, TEXT_OCTETS_MAX};
use mail_event::{EventGroup, EventName, ParameterName};
use serde::{Deserialize, Serialize};

use super::choices::{MEMBER, ParametersOf};
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
    /// The same by event, in the place of `parameters` (R42).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_of: Option<ParametersOf>,
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
        self.compile_as(policy, Private::IsRefused)
    }

    /// The same for one that was fine when it was made, and may ask by now for more than `policy`
    /// lets leave: private parameters stay here, and deliveries name them as held back. A
    /// condition on one of them is refused: without it more would be told than was asked for.
    ///
    /// # Errors
    ///
    /// As [`Selection::compile`].
    pub fn compile_again(&self, policy: &Policy) -> Result<(Filter, Projection), InvalidSelection> {
        self.compile_as(policy, Private::IsHeldBack)
    }

    fn compile_as(
        &self,
        policy: &Policy,
        private: Private,
    ) -> Result<(Filter, Projection), InvalidSelection> {
        limit("/events", &self.events, ENTRIES_MAX)?;
        limit("/users", &self.users, ENTRIES_MAX)?;
        limit("/mailboxes", &self.mailboxes, ENTRIES_MAX)?;
        limit("/parameters", &self.parameters, ENTRIES_MAX)?;
        limit("/tags", &self.tags, TAGS_MAX)?;
        let told = events(&self.events)?;
        let filter = Filter {
            events: told.in_any_form(self.flag_forms),
            told,
            forms: self.flag_forms,
            users: users(&self.users)?,
            mailboxes: mailboxes(&self.mailboxes)?,
            condition: self.condition.as_deref().map(|text| condition(text, policy)).transpose()?,
        };
        let parameters = Parameters::read("/parameters", &self.parameters, policy, private)?;
        let by_event = self.parameters_of.as_ref();
        let by_event = by_event.map(|lists| lists.compile(&filter.told, policy, private));
        let by_event = by_event.transpose()?.unwrap_or_default();
        tags(&self.tags)?;
        Ok((filter, Projection::new(&parameters, &by_event, &self.tags, policy)))
    }

    /// The same without the private parameters that `policy` doesn't let leave.
    #[must_use]
    pub fn under(&self, policy: &Policy) -> Self {
        let allowed = |list: &[String]| {
            let leaves = |name: &&String| policy.keeps(name).is_none();
            let mut left: Vec<_> = list.iter().filter(leaves).cloned().collect();
            // Nothing left must not come to mean everything.
            if left.is_empty() && !list.is_empty() {
                left.push("uri".to_owned());
            }
            left
        };
        Self {
            parameters: allowed(&self.parameters),
            parameters_of: self.parameters_of.as_ref().map(|lists| lists.map(allowed)),
            ..self.clone()
        }
    }
}

/// What becomes of private parameters that are asked for and policy keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Private {
    /// They stay here, and deliveries say so.
    IsHeldBack,
    /// Nothing that asks for them is taken.
    IsRefused,
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

impl InvalidSelection {
    pub(super) fn new(pointer: &str, message: String) -> Self {
        Self { pointer: pointer.to_owned(), message }
    }

    /// The selection's member in which it is; empty for the selection itself.
    #[must_use]
    pub fn member(&self) -> &str {
        self.pointer.split('/').nth(1).unwrap_or_default()
    }

    /// The event or group whose list of parameters it is in, where it is in one.
    #[must_use]
    pub fn event(&self) -> Option<String> {
        let within = self.pointer.strip_prefix(MEMBER)?.strip_prefix('/')?;
        let event = within.split('/').next()?;
        Some(event.replace("~1", "/").replace("~0", "~"))
    }
}

/// The parameters asked for.
#[derive(Debug)]
pub(super) struct Parameters {
    /// Whether every one that is not private.
    pub(super) all: bool,
    pub(super) named: BTreeSet<ParameterName>,
    /// Private ones asked for that policy keeps.
    pub(super) held_back: BTreeSet<String>,
}

impl Parameters {
    /// Checks the list that stands at `pointer`.
    pub(super) fn read(
        pointer: &str,
        list: &[String],
        policy: &Policy,
        private: Private,
    ) -> Result<Self, InvalidSelection> {
        limit(pointer, list, ENTRIES_MAX)?;
        let (named, held_back) = (BTreeSet::new(), BTreeSet::new());
        let mut parameters = Self { all: list.is_empty(), named, held_back };
        for (at, text) in list.iter().enumerate() {
            if text == "*" {
                parameters.all = true;
                continue;
            }
            match (policy.keeps(text), private) {
                (Some(key), Private::IsRefused) => {
                    let message =
                        format!("{text:?} is private, and the policy lets none leave ({key})");
                    return invalid(pointer, at, message);
                }
                (Some(_), Private::IsHeldBack) => {
                    parameters.held_back.insert(text.clone());
                    continue;
                }
                (None, _) => {}
            }
            let name = match text.parse::<ParameterName>() {
                Ok(ParameterName::Other(other)) if !other.is_vendor() => None,
                Ok(name) => Some(name),
                Err(_) => None,
            };
            let Some(name) = name else {
                let known = ParameterName::REGISTERED;
                let message = unknown(text, "a parameter", known.iter().map(ParameterName::as_str));
                return invalid(pointer, at, message);
            };
            parameters.named.insert(name);
        }
        Ok(parameters)
    }
}

/// What a word for events stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Group(EventGroup),
    Name(EventName),
}

impl Kind {
    /// The registered events it stands for, a bit each in the registry's order.
    pub(super) fn places(&self) -> u32 {
        match self {
            Self::Group(group) => places(|name| name.group() == *group),
            Self::Name(name) => places(|one| one == name),
        }
    }
}

/// What a word for events stands for, or why it is none.
pub(super) fn named(text: &str) -> Result<Kind, String> {
    if let Ok(group) = text.parse::<EventGroup>() {
        return Ok(Kind::Group(group));
    }
    match text.parse::<EventName>() {
        Ok(EventName::Other(other)) if other.is_vendor() => Ok(Kind::Name(EventName::Other(other))),
        Ok(known) if EventName::REGISTERED.contains(&known) => Ok(Kind::Name(known)),
        _ => {
            let events = EventName::REGISTERED;
            let mut known: Vec<_> = events.iter().map(EventName::as_str).collect();
            known.extend(EventGroup::ALL.map(EventGroup::as_str));
            Err(unknown(text, "an event or a group", known.into_iter()))
        }
    }
}

/// `pointer` is the list's.
fn invalid<T>(pointer: &str, at: usize, message: String) -> Result<T, InvalidSelection> {
    Err(InvalidSelection { pointer: format!("{pointer}/{at}"), message })
}

fn limit(pointer: &str, entries: &[String], max: usize) -> Result<(), InvalidSelection> {
    if entries.len() <= max {
        return Ok(());
    }
    let list = if pointer.starts_with(MEMBER) { "parameters" } else { pointer.trim_matches('/') };
    let message = format!("{} {list} are more than the {max} there may be", entries.len());
    Err(InvalidSelection::new(pointer, message))
}

fn events(list: &[String]) -> Result<Events, InvalidSelection> {
    if list.is_empty() {
        return Ok(Events::All);
    }
    let (mut registered, mut vendor, mut names) = (0, false, BTreeSet::new());
    for (at, text) in list.iter().enumerate() {
        match named(text) {
            Ok(Kind::Name(EventName::Other(_))) => {
                names.insert(Box::from(text.as_str()));
            }
            Ok(kind) => {
                vendor |= kind == Kind::Group(EventGroup::Vendor);
                registered |= kind.places();
            }
            Err(message) => return invalid("/events", at, message),
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
            return invalid("/users", at, message);
        }
        if user.contains(char::is_control) {
            let message = format!("{user:?} holds a control character, which no user's name has");
            return invalid("/users", at, message);
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
            Err(error) => return invalid("/mailboxes", at, error.to_string()),
        }
    }
    Ok(patterns.into())
}

fn condition(text: &str, policy: &Policy) -> Result<Condition, InvalidSelection> {
    let invalid = |message| InvalidSelection { pointer: "/where".to_owned(), message };
    Condition::parse(text, policy).map_err(invalid)
}

fn tags(list: &[String]) -> Result<(), InvalidSelection> {
    for (at, tag) in list.iter().enumerate() {
        if tag.is_empty() || tag.len() > TAG_OCTETS_MAX {
            return invalid("/tags", at, format!("a tag has 1 to {TAG_OCTETS_MAX} octets"));
        }
        // A comma would part it in two where tags are joined by commas (R134).
        let bad = |letter: &char| matches!(letter, ',' | '"' | '\\') || letter.is_control();
        if let Some(letter) = tag.chars().find(bad) {
            return invalid("/tags", at, format!("{letter:?} may not stand in a tag"));
        }
        if list.iter().take(at).any(|before| before == tag) {
            return invalid("/tags", at, format!("{tag:?} is given twice"));
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

    fn by_event(events: &[&str], lists: &[(&str, &[&str])]) -> Selection {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let lists = lists.iter().map(|(event, list)| ((*event).to_owned(), texts(list)));
        Selection {
            events: texts(events),
            parameters_of: Some(lists.collect()),
            ..Selection::default()
        }
    }

    #[test]
    fn r42_what_is_wrong_with_a_choice_by_event_is_named() {
        for (events, event, list, pointer, message) in [
            (
                &[][..],
                "MessageGnu",
                &[][..],
                "/parametersOf/MessageGnu",
                r#""MessageGnu" is not an event or a group (did you mean "MessageNew"?)"#,
            ),
            (
                &[],
                "MessageNew",
                &["*", "uidSet"],
                "/parametersOf/MessageNew/1",
                r#""uidSet" is not a parameter (did you mean "uidset"?)"#,
            ),
            (
                &[],
                "message",
                &["envelope"],
                "/parametersOf/message/0",
                r#""envelope" is private, and the policy lets none leave (policy.envelope)"#,
            ),
            (
                &["message", "vnd.a.B"],
                "FlagsSet",
                &[],
                "/parametersOf/FlagsSet",
                r#""FlagsSet" is not among the events asked for"#,
            ),
            (
                &["message", "vnd.a.B"],
                "vnd.a/C~",
                &[],
                "/parametersOf/vnd.a~1C~0",
                r#""vnd.a/C~" is not among the events asked for"#,
            ),
            (
                &["message"],
                "vendor",
                &[],
                "/parametersOf/vendor",
                r#""vendor" is not among the events asked for"#,
            ),
        ] {
            let selection = by_event(events, &[(event, list)]);
            let found = selection.compile(&Policy::default()).unwrap_err();
            assert_eq!((found.pointer.as_str(), found.message.as_str()), (pointer, message));
            assert_eq!((found.member(), found.event().as_deref()), ("parametersOf", Some(event)));
        }
        let (pointer, message) = error(&by_event(&[], &[]));
        assert_eq!(pointer, "/parametersOf");
        assert_eq!(message, "names no event (leave it out for none)");
        for (events, event) in [
            (&["message"][..], "MessageNew"),
            (&["MessageNew"], "message"),
            (&["vendor"], "vnd.a.B"),
            (&["vnd.a.B"], "vendor"),
            (&["message"], "vnd.postbell.Gap"),
            (&[], "vnd.a.B"),
        ] {
            let selection = by_event(events, &[(event, &["uri"])]);
            assert!(selection.compile(&Policy::default()).is_ok(), "{events:?} {event}");
        }
        let many: Vec<_> = (0..101).map(|number| format!("vnd.{number}")).collect();
        let many: Vec<_> = many.iter().map(|event| (event.as_str(), &[][..])).collect();
        assert!(by_event(&[], &many[..100]).compile(&Policy::default()).is_ok());
        assert_eq!(error(&by_event(&[], &many)).0, "/parametersOf");
        let (pointer, message) = error(&by_event(&[], &[("message", &["uri"; 1_001])]));
        assert_eq!(pointer, "/parametersOf/message");
        assert_eq!(message, "1001 parameters are more than the 1000 there may be");
    }

    #[test]
    fn r42_a_choice_by_event_is_written_as_it_is_read_and_not_at_all_where_there_is_none() {
        let json = r#"{"events":[],"users":[],"mailboxes":[],"parameters":[],"parametersOf":{"MessageNew":["*"],"flags":[]},"tags":[]}"#;
        let selection: Selection = serde_json::from_str(json).unwrap();
        assert_eq!(selection, by_event(&[], &[("flags", &[]), ("MessageNew", &["*"])]));
        assert_eq!(serde_json::to_string(&selection).unwrap(), json);
        let before = r#"{"events":[],"users":[],"mailboxes":[],"parameters":[],"tags":[]}"#;
        let selection: Selection = serde_json::from_str(before).unwrap();
        assert_eq!(selection, Selection::default());
        assert_eq!(serde_json::to_string(&selection).unwrap(), before);
        let twice = r#"{"parametersOf":{"Login":["uri"],"Login":[]}}"#;
        let error = serde_json::from_str::<Selection>(twice).unwrap_err().to_string();
        assert!(error.starts_with(r#""Login" is given twice"#), "{error}");
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
