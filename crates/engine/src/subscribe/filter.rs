//! Which events a subscription wants.

use mail_event::EventName;

use super::condition::{Condition, Truth};
use super::forms::FlagForms;
use super::pattern::Pattern;
use crate::names::GAP;
use crate::{Keys, View};

/// Tells wanted events from others by what their keys point at; an ordinary event is looked at
/// without allocating.
///
/// An event is wanted where it is one of the events, *and* of one of the users, *and* of one of
/// the mailboxes asked for, *and* meets the condition; a kind that nothing is asked of lets
/// everything through.
///
/// - A user is meant both as the one who acted and as the mailbox's owner (R149, R150).
/// - Where mailboxes are asked for, an event that has none (Login, a quota over all mailboxes)
///   isn't wanted. A rename counts under the new name.
/// - `vnd.postbell.Gap` is wanted whatever events are asked for: who misses something is to know
///   it. One that names no user or mailbox concerns all of them.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Those asked for, and those that may turn into one for this subscriber.
    pub(super) events: Events,
    /// Those asked for, under the names they are told by.
    pub(super) told: Events,
    /// The forms in which they are told.
    pub(super) forms: FlagForms,
    /// Sorted.
    pub(super) users: Box<[Box<str>]>,
    pub(super) mailboxes: Box<[Pattern]>,
    pub(super) condition: Option<Condition>,
}

/// What a filter says of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is wanted.
    Wanted,
    /// It isn't.
    Unwanted,
    /// Its condition can't be judged of this event, which counts as not wanted, and why. No value
    /// of the event is in it.
    Unclear(String),
}

/// Some of the events there may be.
#[derive(Clone, Debug)]
pub(super) enum Events {
    All,
    Some {
        /// The registered ones, a bit each in the registry's order.
        registered: u32,
        /// Whether all others.
        vendor: bool,
        /// Names outside the registry, sorted.
        names: Box<[Box<str>]>,
    },
}

impl Filter {
    /// Whether the event is wanted; `view` is of `json`.
    #[must_use]
    pub fn judge(&self, view: &View<'_>, json: &[u8]) -> Verdict {
        if !self.matches(view) {
            return Verdict::Unwanted;
        }
        if let Some((keys, json)) = self.recast(view, json) {
            return self.judge_told(&keys.view(&json), &json);
        }
        self.judge_told(view, json)
    }

    /// The event in the form this subscriber asks for, with what it is matched on; nothing where it
    /// is told as it is (R62). `view` is of `json`.
    #[must_use]
    pub fn recast(&self, view: &View<'_>, json: &[u8]) -> Option<(Keys, Vec<u8>)> {
        self.forms.recast(view, json)
    }

    /// The same for an event as it is told, whose places fit.
    fn judge_told(&self, view: &View<'_>, json: &[u8]) -> Verdict {
        if let Wanted::No = event(&self.told, view) {
            return Verdict::Unwanted;
        }
        // A gap is told whatever it would have been about.
        let condition = self.condition.as_ref().filter(|_| !is_gap(view));
        match condition.map_or(Truth::True, |condition| condition.holds(json)) {
            Truth::True => Verdict::Wanted,
            Truth::False => Verdict::Unwanted,
            Truth::Unknown(why) => Verdict::Unclear(why),
        }
    }

    /// Whether the event is wanted as far as its name, its users and its mailbox say; the
    /// condition isn't looked at, nor in which form the event is told.
    #[must_use]
    pub fn matches(&self, view: &View<'_>) -> bool {
        let (wanted, missing) = match event(&self.events, view) {
            Wanted::No => return false,
            Wanted::Yes => (true, false),
            Wanted::Gap => (true, true),
        };
        if !wanted || (self.users.is_empty() && self.mailboxes.is_empty()) {
            return wanted;
        }
        view.with_places(|owner, mailbox| {
            self.user(view, owner, missing) && self.mailbox(mailbox, missing)
        })
    }

    /// What an index is told of a reader who may have events of these users alone: of them it lets
    /// through whatever this one does, and of others' as little as it can.
    #[must_use]
    pub fn of_users(&self, users: Option<&[Box<str>]>) -> Self {
        let mut narrowed = Self { condition: None, ..self.clone() };
        if narrowed.users.is_empty()
            && let Some(users) = users
        {
            let mut users = users.to_vec();
            users.sort_unstable();
            users.dedup();
            narrowed.users = users.into();
        }
        narrowed
    }

    /// The same of a reader who may also have events of these mailboxes, whoever's they are; nothing
    /// where it lets none of them through, or whoever acts in them.
    #[must_use]
    pub fn of_mailboxes<'m>(&self, mailboxes: impl Iterator<Item = &'m str>) -> Option<Self> {
        if !self.users.is_empty() {
            return None;
        }
        let wanted = mailboxes.filter(|mailbox| self.mailbox(Some(mailbox), false));
        let mailboxes: Box<[_]> = wanted.map(Pattern::exactly).collect();
        (!mailboxes.is_empty()).then(|| Self { condition: None, mailboxes, ..self.clone() })
    }

    fn user(&self, view: &View<'_>, owner: Option<&str>, missing: bool) -> bool {
        if self.users.is_empty() || owner.is_some_and(|owner| contains(&self.users, owner)) {
            return true;
        }
        match view.user() {
            Some(user) => contains(&self.users, &user),
            None => missing && owner.is_none(),
        }
    }

    fn mailbox(&self, mailbox: Option<&str>, missing: bool) -> bool {
        match mailbox {
            _ if self.mailboxes.is_empty() => true,
            Some(name) => self.mailboxes.iter().any(|pattern| pattern.matches(name)),
            None => missing,
        }
    }
}

impl Events {
    /// These, and those that may turn into one of them.
    pub(super) fn in_any_form(&self, forms: FlagForms) -> Self {
        let Self::Some { registered, vendor, names } = self else { return self.clone() };
        let all = (0_u32..).zip(&EventName::REGISTERED);
        let is_in = |at: u32| registered & (1 << at) != 0;
        let turns =
            |from: &EventName| all.clone().any(|(at, to)| is_in(at) && forms.may_turn(from, to));
        let more =
            all.clone().filter(|(_, from)| turns(from)).fold(0, |bits, (at, _)| bits | 1 << at);
        Self::Some { registered: registered | more, vendor: *vendor, names: names.clone() }
    }
}

/// Whether an event is one of these, by its name.
fn event(events: &Events, view: &View<'_>) -> Wanted {
    let yes = |wanted| if wanted { Wanted::Yes } else { Wanted::No };
    let Some(place) = view.place() else {
        let name = view.name();
        if name == GAP {
            return Wanted::Gap;
        }
        // An event without a name is one this version can't read.
        return yes(!name.is_empty()
            && match events {
                Events::All => true,
                Events::Some { vendor, names, .. } => *vendor || contains(names, &name),
            });
    };
    yes(match events {
        Events::All => true,
        Events::Some { registered, .. } => registered & (1 << place) != 0,
    })
}

enum Wanted {
    No,
    Yes,
    /// Yes, and what it doesn't name it concerns.
    Gap,
}

fn is_gap(view: &View<'_>) -> bool {
    view.place().is_none() && view.name() == GAP
}

fn contains(sorted: &[Box<str>], text: &str) -> bool {
    sorted.binary_search_by(|one| (**one).cmp(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use mail_event::{EventGroup, EventName};
    use proptest::prelude::*;

    use crate::{Keys, Policy, Selection};

    fn json(event: &str, uri: &str, user: Option<&str>) -> String {
        let user = user.map(|user| format!(r#","user":"{user}""#)).unwrap_or_default();
        let time = "2026-08-20T13:34:14+02:00";
        format!(r#"{{"event":"{event}","uri":"{uri}","timestamp":"{time}"{user}}}"#)
    }

    fn wants(selection: &Selection, json: &str) -> bool {
        let (filter, _) = selection.compile(&Policy::default()).unwrap();
        filter.matches(&Keys::find(json.as_bytes()).unwrap().view(json.as_bytes()))
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn an_empty_selection_wants_everything() {
        for event in ["MessageNew", "Login", "vnd.example.Snooze", "vnd.postbell.Gap"] {
            assert!(wants(&Selection::default(), &json(event, "imap://h/", None)), "{event}");
        }
    }

    #[test]
    fn r22_a_group_is_all_its_events_and_no_other() {
        for group in EventGroup::ALL {
            let selection = Selection { events: texts(&[group.as_str()]), ..Selection::default() };
            for name in EventName::REGISTERED {
                let json = json(name.as_str(), "imap://h/", None);
                assert_eq!(wants(&selection, &json), name.group() == group, "{group} {name}");
            }
            let vendor = json("vnd.example.Snooze", "imap://h/", None);
            assert_eq!(wants(&selection, &vendor), group == EventGroup::Vendor);
        }
    }

    #[test]
    fn r150_a_user_is_meant_as_owner_and_as_the_one_who_acted() {
        let selection = Selection { users: texts(&["bob@x.org", "zoe"]), ..Selection::default() };
        let uri = "imap://alice@h/INBOX";
        assert!(wants(&selection, &json("MessageRead", uri, Some("bob@x.org"))));
        assert!(wants(&selection, &json("MessageRead", "imap://bob%40x.org@h/INBOX", None)));
        assert!(!wants(&selection, &json("MessageRead", uri, Some("alice"))));
        assert!(!wants(&selection, &json("MessageRead", "imap://h/INBOX", None)));
    }

    #[test]
    fn a_gap_reaches_everybody_it_may_concern() {
        let selection = Selection {
            events: texts(&["MessageNew"]),
            users: texts(&["bob"]),
            mailboxes: texts(&["INBOX"]),
            ..Selection::default()
        };
        for (uri, wanted) in [
            ("imap://h/", true),
            ("imap://bob@h/", true),
            ("imap://bob@h/inbox", true),
            ("imap://bob@h/Work", false),
            ("imap://eve@h/INBOX", false),
            ("imap://eve@h/", false),
        ] {
            assert_eq!(wants(&selection, &json("vnd.postbell.Gap", uri, None)), wanted, "{uri}");
        }
        assert!(!wants(&selection, &json("MessageNew", "imap://h/", None)));
    }

    #[test]
    fn long_and_escaped_names_are_matched_like_others() {
        let long = "é".repeat(120);
        let selection = Selection { mailboxes: vec![long.clone()], ..Selection::default() };
        let uri = format!("imap://h/{}", "%C3%A9".repeat(120));
        assert!(wants(&selection, &json("MessageRead", &uri, None)));
        let very = Selection { mailboxes: texts(&["*é"]), ..Selection::default() };
        let uri = format!("imap://h/{}", "%C3%A9".repeat(2_000));
        assert!(wants(&very, &json("MessageRead", &uri, None)));
        let quoted = Selection { users: texts(&["a\"b"]), ..Selection::default() };
        assert!(wants(&quoted, &json("MessageRead", "imap://h/INBOX", Some(r#"a\"b"#))));
    }

    /// The same in ten lines.
    fn naive(wanted: &Selection, event: &str, owner: &str, user: &str, mailbox: &str) -> bool {
        let name: EventName = event.parse().unwrap();
        let events = wanted.events.is_empty()
            || wanted.events.iter().any(|one| one == event || one == name.group().as_str());
        let users = wanted.users.is_empty() || wanted.users.iter().any(|x| x == owner || x == user);
        let mailboxes = wanted.mailboxes.is_empty()
            || wanted.mailboxes.iter().any(|one| match one.strip_suffix('%') {
                Some(start) => mailbox.strip_prefix(start).is_some_and(|rest| !rest.contains('/')),
                None => one == mailbox,
            });
        events && users && mailboxes
    }

    proptest! {
        #[test]
        fn the_filter_agrees_with_the_naive_one(
            events in prop::collection::vec(prop::sample::select(vec!["message", "flags", "vendor", "MessageNew", "Login", "vnd.a.B"]), 0..3),
            users in prop::collection::vec("[ab]@[xy]", 0..3),
            mailboxes in prop::collection::vec("[A-C](/[%A-C])?", 0..3),
            event in prop::sample::select(vec!["MessageNew", "FlagsSet", "Login", "MessageExpunge", "vnd.a.B", "vnd.a.C"]),
            owner in "[ab]@[xy]",
            user in "[ab]@[xy]",
            mailbox in "[A-C](/[A-C]){0,2}",
        ) {
            let selection = Selection {
                events: texts(&events), users, mailboxes, ..Selection::default()
            };
            let uri = format!("imap://{}@h/{mailbox}", owner.replace('@', "%40"));
            let json = json(event, &uri, Some(&user));
            prop_assert_eq!(
                wants(&selection, &json),
                naive(&selection, event, &owner, &user, &mailbox)
            );
        }
    }
}
