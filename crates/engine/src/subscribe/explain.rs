//! A selection in words: what it will match, and what policy takes away.

use mail_event::{EventGroup, EventName, ParameterName};
use serde::Serialize;

use super::choices::ParametersOf;
use super::forms::FlagForms;
use super::projection::COMPANIONS;
use super::selection::{InvalidSelection, Selection};
use crate::{FlagForm, Policy, Role};

/// What a selection comes to, in words.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// What an event has to be; all of it.
    pub wanted: Vec<String>,
    /// What is told of it.
    pub told: Vec<String>,
    /// What isn't, and which key of the configuration says so.
    pub kept: Vec<String>,
}

impl Selection {
    /// Says in words what the selection will match under `policy`, and what that takes away.
    ///
    /// # Errors
    ///
    /// Names the first thing that can't be, as [`Selection::compile`] does.
    pub fn explain(&self, policy: &Policy) -> Result<Explanation, InvalidSelection> {
        self.compile(policy)?;
        Ok(Explanation { wanted: self.wanted(), told: self.told(), kept: self.kept(policy) })
    }

    fn wanted(&self) -> Vec<String> {
        let mut wanted = Vec::new();
        match &*self.events {
            [] => wanted.push("it is any event".to_owned()),
            events => wanted.push(format!("it is {}", any_of(events.iter().map(|one| event(one))))),
        }
        if !self.users.is_empty() {
            let users = any_of(self.users.iter().map(|user| quoted(user)));
            wanted.push(format!("{users} owns the mailbox or acted"));
        }
        if !self.mailboxes.is_empty() {
            let mailboxes = any_of(self.mailboxes.iter().map(|pattern| mailbox(pattern)));
            wanted.push(format!(
                "its mailbox is {mailboxes}; events without a mailbox are not meant"
            ));
        }
        if let Some(condition) = &self.condition {
            wanted.push(format!("this is true of it: {condition}"));
        }
        let to_everything = self.events.is_empty() && self.condition.is_none();
        if !to_everything || !self.users.is_empty() || !self.mailboxes.is_empty() {
            let whose = match self.users.is_empty() && self.mailboxes.is_empty() {
                true => "",
                false => " of these users and mailboxes",
            };
            wanted.push(format!(
                "or it is vnd.postbell.Gap: something{whose} that can't be told any more"
            ));
        }
        wanted
    }

    fn told(&self) -> Vec<String> {
        let mut told = listed(&self.parameters);
        for (event, list) in self.parameters_of.iter().flat_map(ParametersOf::iter) {
            let of = self.meant(event);
            told.extend(listed(list).iter().map(|line| format!("of {of} instead: {line}")));
        }
        if !self.tags.is_empty() {
            told.push(format!(
                "tags {}, in the place of its own",
                joined(self.tags.iter().map(|tag| quoted(tag)), "and")
            ));
        }
        told
    }

    /// The events that get the list for this event or group: of a group those that are asked for
    /// and have no list of their own.
    fn meant(&self, kind: &str) -> String {
        let is_own = |name: &str| self.parameters_of.as_ref().is_some_and(|lists| lists.has(name));
        match kind.parse::<EventGroup>() {
            Ok(EventGroup::Vendor) => {
                let mut lists = self.parameters_of.iter().flat_map(ParametersOf::iter);
                let other = if lists.any(|(one, _)| one.contains('.')) { "other " } else { "" };
                format!("any {other}that begins with \"vnd.\"")
            }
            Ok(group) => {
                let is_meant = |name: &&EventName| {
                    name.group() == group && self.asks_for(name) && !is_own(name.as_str())
                };
                let events = EventName::REGISTERED;
                let events: Vec<_> = events.iter().filter(is_meant).collect();
                match &*events {
                    [] => format!("{group} (of which each has a list of its own)"),
                    all => {
                        format!("{group} ({})", joined(all.iter().map(ToString::to_string), "or"))
                    }
                }
            }
            Err(_) => kind.to_owned(),
        }
    }

    fn kept(&self, policy: &Policy) -> Vec<String> {
        let mut kept = Vec::new();
        let of = |asked: Option<FlagForm>, made, own, key| match asked {
            Some(form) => (form, own),
            None => (made, key),
        };
        let FlagForms { seen, deleted } = self.flag_forms;
        let seen = of(seen, policy.seen_form, "flagForms.seen", "policy.seen_form");
        let deleted = of(deleted, policy.deleted_form, "flagForms.deleted", "policy.deleted_form");
        for (name, (form, key)) in
            [(EventName::MessageRead, seen), (EventName::MessageTrash, deleted)]
        {
            let flag = if name == EventName::MessageRead { "\\Seen" } else { "\\Deleted" };
            if form == FlagForm::Flags && self.asks_for(&name) {
                kept.push(format!("{name}: the store's {flag} is told as FlagsSet ({key})"));
            }
            if form == FlagForm::Simple
                && self.asks_for(&EventName::FlagsSet)
                && !self.asks_for(&name)
            {
                kept.push(format!("FlagsSet of {flag}: it is told as {name} ({key})"));
            }
        }
        for group in EventGroup::ALL {
            let is_meant =
                EventName::REGISTERED.iter().any(|one| one.group() == group && self.asks_for(one));
            if is_meant && !policy.groups.contains(group) {
                kept.push(format!("{group}: none of its events are made (policy.groups_off)"));
            }
        }
        for name in ParameterName::PRIVATE {
            let is_named = self.names(name.as_str());
            match (policy.keeps(name.as_str()), is_named) {
                (Some(key), _) => kept.push(format!("{name}: it never leaves ({key})")),
                (None, false) => kept.push(format!("{name}: it leaves only where it is named")),
                (None, true) => {}
            }
            if let (Some(octets), true, ParameterName::MessageContent) =
                (policy.content_leaves(), is_named, &name)
            {
                let (key, linked) = (policy.content_key(), policy.content_had().unwrap_or(0));
                if octets < linked {
                    kept.push(format!(
                        "messageContent of messages over {octets} octets: in its place goes a link (policy.content_inline_octets)"
                    ));
                }
                kept.push(format!("messageContent of messages over {linked} octets ({key})"));
            }
        }
        if let Some((ceiling, section)) = policy.ceiling().zip(section(policy.role)) {
            kept.push(format!(
                "the largest parameters of an event over {} octets ({section}.event_max_octets)",
                ceiling.event_max_octets
            ));
            if let Some(most) = ceiling.events_per_minute {
                let events = if most.get() == 1 { "event" } else { "events" };
                kept.push(format!(
                    "more than {most} {events} a minute: the rest waits ({section}.events_per_minute)"
                ));
            }
        }
        kept
    }

    /// Whether any list of parameters names this one.
    fn names(&self, parameter: &str) -> bool {
        let by_event = self.parameters_of.iter().flat_map(ParametersOf::iter);
        let lists = by_event.map(|(_, list)| list).chain([&*self.parameters]);
        lists.flatten().any(|one| one == parameter)
    }

    fn asks_for(&self, event: &EventName) -> bool {
        let is_meant = |one: &String| *one == event.as_str() || *one == event.group().as_str();
        self.events.is_empty() || self.events.iter().any(is_meant)
    }
}

/// What leaves by a list of parameters.
fn listed(parameters: &[String]) -> Vec<String> {
    let all = parameters.is_empty() || parameters.iter().any(|name| name == "*");
    let named: Vec<_> = parameters.iter().filter(|name| *name != "*").collect();
    let names = joined(named.iter().map(|name| (*name).clone()), "and");
    let mut told = vec![match (all, &*named) {
        (true, []) => "every parameter that is not private".to_owned(),
        (true, _) => format!("every parameter that is not private, and {names}"),
        (false, _) => format!("{names}, and what the event can't be without"),
    }];
    for (asked, companion) in COMPANIONS.iter().filter(|_| !all) {
        let is_named = |one: &ParameterName| named.iter().any(|name| *name == one.as_str());
        if is_named(asked) && !is_named(companion) {
            told.push(format!("{companion}, which comes with {asked}"));
        }
    }
    told
}

/// The section of the configuration that says what a role gets.
fn section(role: Role) -> Option<&'static str> {
    match role {
        Role::Admin => None,
        Role::Service => Some("policy.service"),
        Role::User => Some("policy.user"),
    }
}

/// An event, or a group with what is in it.
fn event(text: &str) -> String {
    match text.parse::<EventGroup>() {
        Ok(EventGroup::Vendor) => "any that begins with \"vnd.\"".to_owned(),
        Ok(group) => {
            let events = EventName::REGISTERED.iter().filter(|name| name.group() == group);
            format!("{group} ({})", joined(events.map(ToString::to_string), "or"))
        }
        Err(_) => text.to_owned(),
    }
}

/// What a mailbox pattern stands for.
fn mailbox(pattern: &str) -> String {
    let is_wild = |letter| matches!(letter, '*' | '%');
    let start = pattern.split(is_wild).next().unwrap_or_default();
    match pattern.get(start.len()..).unwrap_or_default() {
        "" if pattern.eq_ignore_ascii_case("INBOX") => "INBOX".to_owned(),
        "" => quoted(pattern),
        "*" if start.is_empty() => "any".to_owned(),
        "%" if start.is_empty() => "any at the top".to_owned(),
        "*" => format!("any that begins with {}", quoted(start)),
        "%" => format!("any that begins with {} and has no \"/\" after it", quoted(start)),
        _ => format!("any that fits {}", quoted(pattern)),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn any_of(all: impl Iterator<Item = String>) -> String {
    joined(all, "or")
}

/// `a, b or c`
fn joined(all: impl Iterator<Item = String>, last: &str) -> String {
    let mut all: Vec<_> = all.collect();
    let end = all.pop().unwrap_or_default();
    match &*all {
        [] => end,
        before => format!("{} {last} {end}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ceiling;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn told(selection: &Selection, policy: &Policy) -> String {
        serde_json::to_string_pretty(&selection.explain(policy).unwrap()).unwrap()
    }

    #[test]
    fn an_empty_selection_is_everything_that_may_leave() {
        insta::assert_snapshot!(told(&Selection::default(), &Policy::default()));
    }

    #[test]
    fn r21_r158_what_is_asked_for_and_what_policy_takes_away_are_told_in_words() {
        let selection = Selection {
            events: texts(&["message", "FlagsSet", "vendor", "vnd.example.Snooze"]),
            users: texts(&["john@example.org", "zoe"]),
            mailboxes: texts(&["inbox", "Work", "Lists/%", "Archive/*", "%", "a*b"]),
            condition: Some("messageSize > 5".to_owned()),
            parameters: texts(&["service", "messageContent"]),
            tags: texts(&["home", "büro"]),
            flag_forms: FlagForms { seen: Some(FlagForm::Flags), ..FlagForms::default() },
            ..Selection::default()
        };
        let policy = Policy {
            content_max_octets: Some(2_048),
            deleted_form: FlagForm::Flags,
            groups: crate::Groups::all().without(EventGroup::Flags),
            ..Policy::default()
        };
        insta::assert_snapshot!(told(&selection, &policy));
    }

    #[test]
    fn r43_what_a_role_does_not_get_is_told_with_the_key_that_says_so() {
        let selection = Selection {
            events: texts(&["MessageNew"]),
            parameters: texts(&["*", "messageContent"]),
            ..Selection::default()
        };
        let user = Ceiling {
            content_max_octets: Some(2_048),
            body_structure: false,
            event_max_octets: 65_536,
            events_per_minute: std::num::NonZeroU32::new(60),
            ..Ceiling::default()
        };
        let policy = Policy {
            content_max_octets: Some(100_000),
            body_structure: true,
            user,
            ..Policy::default()
        };
        insta::assert_snapshot!(told(&selection, &policy.for_role(Role::User)));
    }

    #[test]
    fn r42_what_goes_with_which_event_is_told_and_what_policy_takes_of_it() {
        let of = |event: &str, list: &[&str]| (event.to_owned(), texts(list));
        let lists = [
            of("MessageNew", &["*", "messageContent"]),
            of("message", &["service"]),
            of("vendor", &["*"]),
            of("vnd.example.Snooze", &["uri"]),
            of("Login", &["clientPort"]),
            of("Logout", &[]),
            of("access", &["user"]),
        ];
        let selection = Selection {
            events: texts(&["message", "vendor", "access"]),
            parameters: texts(&["uri"]),
            parameters_of: Some(lists.into_iter().collect()),
            ..Selection::default()
        };
        let policy =
            Policy { content_max_octets: Some(2_048), envelope: true, ..Policy::default() };
        insta::assert_snapshot!(told(&selection, &policy));
        let error = selection.explain(&Policy::default()).unwrap_err();
        assert_eq!(error.pointer, "/parametersOf/MessageNew/1");
    }

    #[test]
    fn what_can_not_be_is_not_explained() {
        let selection = Selection { parameters: texts(&["envelope"]), ..Selection::default() };
        assert_eq!(selection.explain(&Policy::default()).unwrap_err().pointer, "/parameters/0");
    }
}
