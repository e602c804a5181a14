//! In which form a subscriber has it told that `\Seen` and `\Deleted` were set (R62).

use mail_event::{EventName, Flag};
use serde::{Deserialize, Serialize};

use crate::members::Members;
use crate::{FlagForm, Keys, View};

/// The forms one subscription wants, whatever form policy has events made in; one that isn't named
/// stays as it is made. Never both forms for one change (R63).
///
/// A FlagsSet of other flags beside such a one stays a FlagsSet: it is one event, and is told once.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FlagForms {
    /// Of `\Seen`: MessageRead or FlagsSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<FlagForm>,
    /// Of `\Deleted`: MessageTrash or FlagsSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<FlagForm>,
}

impl FlagForms {
    /// Whether every event stays as it is.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Each form that is asked for, with the event that is the simple one and the flag it means.
    fn asked(self) -> impl Iterator<Item = (FlagForm, EventName, Flag)> {
        let seen = self.seen.map(|form| (form, EventName::MessageRead, Flag::seen()));
        let deleted = self.deleted.map(|form| (form, EventName::MessageTrash, Flag::deleted()));
        seen.into_iter().chain(deleted)
    }

    /// Whether events of the first name may come out under the second.
    pub(super) fn may_turn(self, from: &EventName, to: &EventName) -> bool {
        self.asked().any(|(form, simple, _)| match form {
            FlagForm::Simple => *from == EventName::FlagsSet && *to == simple,
            FlagForm::Flags => *from == simple && *to == EventName::FlagsSet,
        })
    }

    /// The event in the form asked for; nothing where it stays as it is. `view` is of `json`.
    pub(super) fn recast(self, view: &View<'_>, json: &[u8]) -> Option<(Keys, Vec<u8>)> {
        if self.is_default() {
            return None;
        }
        let name = view.event_name()?;
        let told = self.asked().find_map(|(form, simple, flag)| match form {
            FlagForm::Flags if name == simple => {
                Some(told(json, &EventName::FlagsSet, Some(&flag)))
            }
            FlagForm::Simple if name == EventName::FlagsSet && is_alone(json, &flag) => {
                Some(told(json, &simple, None))
            }
            FlagForm::Flags | FlagForm::Simple => None,
        })?;
        Some((Keys::find(&told)?, told))
    }
}

/// Whether an event's flags are this one and no other.
fn is_alone(json: &[u8], flag: &Flag) -> bool {
    let flags = Members::new(json).find(|member| member.name == b"flagNames");
    let flags = flags.and_then(|member| serde_json::from_slice::<Vec<String>>(member.value).ok());
    flags.is_some_and(|flags| matches!(&*flags, [one] if one == flag.as_str()))
}

/// The event under another name, with this flag or with none.
fn told(json: &[u8], name: &EventName, flag: Option<&Flag>) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + NAMES_OCTETS);
    out.extend_from_slice(format!(r#"{{"event":"{name}""#).as_bytes());
    let stays = |name: &[u8]| !matches!(name, b"event" | b"flagNames");
    for member in Members::new(json).filter(|member| stays(member.name)) {
        out.push(b',');
        out.extend_from_slice(member.text);
    }
    if let Some(flag) = flag {
        out.extend_from_slice(br#","flagNames":["#);
        // A text always serialises.
        serde_json::to_writer(&mut out, flag.as_str()).unwrap_or_default();
        out.push(b']');
    }
    out.push(b'}');
    out
}

/// Octets that a name and a flag add at most, about.
const NAMES_OCTETS: usize = 64;

#[cfg(test)]
mod tests {
    use mail_event::json;
    use proptest::prelude::*;

    use super::*;
    use crate::{Policy, Selection, Verdict};

    fn event(name: &str, flags: &str) -> String {
        let flags =
            if flags.is_empty() { String::new() } else { format!(r#","flagNames":{flags}"#) };
        format!(
            r#"{{"event":"{name}","uri":"imap://a@h/INBOX;UIDVALIDITY=7","mailboxID":"imap://a@h/INBOX;UIDVALIDITY=7","timestamp":"2026-08-20T13:34:14+02:00","user":"a","uidset":"1:3"{flags},"vnd.example.x":"flagNames"}}"#
        )
    }

    /// The name and the flags under which an event is delivered, where it is.
    fn delivered(selection: &Selection, json: &str) -> Option<(String, String)> {
        let (filter, _) = selection.compile(&Policy::default()).unwrap();
        let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
        if filter.judge(&view, json.as_bytes()) != Verdict::Wanted {
            return None;
        }
        let told = match filter.recast(&view, json.as_bytes()) {
            Some((keys, told)) => {
                assert_eq!(Keys::find(&told), Some(keys));
                String::from_utf8(told).unwrap()
            }
            None => json.to_owned(),
        };
        assert!(json::check(told.as_bytes()).is_ok(), "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["vnd.example.x"], "flagNames");
        let flags = told.get("flagNames").map(ToString::to_string).unwrap_or_default();
        Some((told["event"].as_str().unwrap().to_owned(), flags))
    }

    fn wanting(seen: Option<FlagForm>, deleted: Option<FlagForm>, events: &[&str]) -> Selection {
        Selection {
            events: events.iter().map(|&name| name.to_owned()).collect(),
            flag_forms: FlagForms { seen, deleted },
            ..Selection::default()
        }
    }

    const SEEN: &str = r#"["\\Seen"]"#;
    const DELETED: &str = r#"["\\Deleted"]"#;
    const MIXED: &str = r#"["\\Deleted","\\Seen"]"#;

    #[test]
    fn r62_r63_a_subscription_has_each_change_in_the_form_it_asks_for_and_in_that_alone() {
        use FlagForm::{Flags, Simple};
        for (seen, deleted, name, flags, wanted) in [
            (Some(Flags), None, "MessageRead", "", ("FlagsSet", SEEN)),
            (Some(Flags), None, "MessageTrash", "", ("MessageTrash", "")),
            (None, Some(Flags), "MessageTrash", "", ("FlagsSet", DELETED)),
            (None, Some(Flags), "MessageRead", "", ("MessageRead", "")),
            (Some(Simple), None, "FlagsSet", SEEN, ("MessageRead", "")),
            (Some(Simple), None, "FlagsSet", DELETED, ("FlagsSet", DELETED)),
            (Some(Simple), Some(Simple), "FlagsSet", DELETED, ("MessageTrash", "")),
            (Some(Flags), Some(Simple), "FlagsSet", DELETED, ("MessageTrash", "")),
            (Some(Simple), Some(Simple), "FlagsSet", MIXED, ("FlagsSet", MIXED)),
            (Some(Simple), None, "MessageRead", "", ("MessageRead", "")),
            (Some(Flags), None, "FlagsSet", SEEN, ("FlagsSet", SEEN)),
            (Some(Simple), None, "FlagsClear", SEEN, ("FlagsClear", SEEN)),
            (None, None, "FlagsSet", SEEN, ("FlagsSet", SEEN)),
        ] {
            let wanted = Some((wanted.0.to_owned(), wanted.1.to_owned()));
            let told = delivered(&wanting(seen, deleted, &[]), &event(name, flags));
            assert_eq!(told, wanted, "{seen:?} {deleted:?} {name} {flags}");
        }
    }

    #[test]
    fn r62_what_is_matched_is_the_event_as_the_subscriber_sees_it() {
        let flags = |events: &[&str]| wanting(Some(FlagForm::Flags), None, events);
        let read = event("MessageRead", "");
        assert!(delivered(&flags(&["FlagsSet"]), &read).is_some());
        assert!(delivered(&flags(&["flags"]), &read).is_some());
        assert!(delivered(&flags(&["MessageRead"]), &read).is_none());
        let asking =
            |condition: &str| Selection { condition: Some(condition.to_owned()), ..flags(&[]) };
        assert!(delivered(&asking(r#""\\Seen" in flagNames"#), &read).is_some());
        assert!(delivered(&asking(r#"event == "MessageRead""#), &read).is_none());
    }

    proptest! {
        #[test]
        fn the_index_never_misses_what_is_wanted_in_another_form(
            seen in prop::option::of(prop::sample::select(vec![FlagForm::Simple, FlagForm::Flags])),
            deleted in prop::option::of(prop::sample::select(vec![FlagForm::Simple, FlagForm::Flags])),
            events in prop::sample::subsequence(vec!["MessageRead", "MessageTrash", "FlagsSet", "FlagsClear", "Login"], 0..4),
            (name, flags) in prop::sample::select(vec![
                ("MessageRead", ""), ("MessageTrash", ""), ("FlagsSet", SEEN), ("FlagsSet", DELETED),
                ("FlagsSet", MIXED), ("FlagsClear", SEEN),
            ]),
        ) {
            let selection = wanting(seen, deleted, &events);
            let json = event(name, flags);
            let (filter, _) = selection.compile(&Policy::default()).unwrap();
            let view = Keys::find(json.as_bytes()).unwrap().view(json.as_bytes());
            let told = delivered(&Selection { events: Vec::new(), ..selection.clone() }, &json);
            let told = told.unwrap().0;
            let is_wanted = events.is_empty() || events.contains(&told.as_str());
            prop_assert_eq!(filter.judge(&view, json.as_bytes()) == Verdict::Wanted, is_wanted);
            prop_assert!(!is_wanted || filter.matches(&view));
        }
    }
}
