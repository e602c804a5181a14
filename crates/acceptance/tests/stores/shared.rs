//! One file for what every store tells, and how it is read by a store and put together of two.
//!
//! What both tell stands there once. What one tells alone is marked with it, and with the rule of
//! [`rules`] that says why: a step, an event with all that is below it, or parameters.
//!
//! ```text
//! > STORE 1 +FLAGS (\Seen)
//! MessageRead alice%40example.org/INBOX;V
//!     mailboxID=alice%40example.org/INBOX;V service=imap uidset=1
//!     [cyrus: flag-state] messages=3 uidnext=4
//!     [dovecot: process] process=imap
//! [cyrus: own] vnd.cmu.MailboxModseq alice%40example.org/INBOX;V
//!     mailboxID=alice%40example.org/INBOX;V service=imap
//! ```
//!
//! What one store tells by itself, as a play writes it down, is such a file without marks.

use std::collections::BTreeMap;
use std::fmt;

use similar::{Algorithm, DiffTag};

use crate::rules;

/// A store that plays the scenarios.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Store {
    Cyrus,
    Dovecot,
}

/// What is expected of one play.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Shared {
    /// Whose it is, where the other store doesn't play it.
    alone: Option<Mark>,
    steps: Vec<Step>,
}

/// Who tells something that the other doesn't, and the name of the rule that explains it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mark {
    pub(crate) rule: String,
    pub(crate) store: Store,
}

/// Something that is marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked<'a> {
    pub(crate) mark: &'a Mark,
    /// The name of the event; none where a whole play or step is marked.
    pub(crate) event: Option<&'a str>,
    /// None where the whole event is marked.
    pub(crate) parameter: Option<&'a str>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Step {
    mark: Option<Mark>,
    what: String,
    events: Vec<Event>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Event {
    mark: Option<Mark>,
    name: String,
    /// By mark and name, as they are written. The place is one of them, by the name of [`PLACE`].
    parameters: BTreeMap<(Option<Mark>, String), String>,
}

impl Store {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cyrus => "cyrus",
            Self::Dovecot => "dovecot",
        }
    }
}

impl Shared {
    /// Reads a file, or what one store told.
    pub(crate) fn parse(text: &str) -> Self {
        let mut shared = Self::default();
        for line in text.lines() {
            let (mark, rest) = Mark::before(line.trim_start());
            let is_indented = line.starts_with(' ');
            match (rest.strip_prefix("> ").filter(|_| !is_indented), shared.steps.last_mut()) {
                (Some(WHOLE), None) if mark.is_some() => shared.alone = mark,
                (Some(what), _) => {
                    shared.steps.push(Step { mark, what: what.to_owned(), events: Vec::new() });
                }
                (None, Some(step)) if !is_indented => step.events.push(Event::begin(mark, rest)),
                (None, Some(step)) => {
                    if let Some(event) = step.events.last_mut() {
                        let read = words(rest).into_iter();
                        event
                            .parameters
                            .extend(read.map(|(name, value)| ((mark.clone(), name), value)));
                    }
                }
                (None, None) => {}
            }
        }
        shared
    }

    /// What is expected of one store, without marks; nothing where it doesn't play this.
    pub(crate) fn of(&self, store: Store) -> Option<Self> {
        let tells = |mark: &Option<Mark>| mark.as_ref().is_none_or(|mark| mark.store == store);
        let event = |event: &Event| Event {
            mark: None,
            name: event.name.clone(),
            parameters: (event.parameters.iter())
                .filter(|((mark, _), _)| tells(mark))
                .map(|((_, name), value)| ((None, name.clone()), value.clone()))
                .collect(),
        };
        let step = |step: &Step| Step {
            mark: None,
            what: step.what.clone(),
            events: step.events.iter().filter(|event| tells(&event.mark)).map(event).collect(),
        };
        tells(&self.alone).then(|| Self {
            alone: None,
            steps: self.steps.iter().filter(|step| tells(&step.mark)).map(step).collect(),
        })
    }

    /// Puts together what is told by those who play this, and marks all in which they differ.
    pub(crate) fn woven(play: &str, dovecot: Option<Self>, cyrus: Option<Self>) -> Self {
        let alone = |store, steps| {
            let mark = Mark { rule: rules::of_play(store, play).to_owned(), store };
            Self { alone: Some(mark), steps }
        };
        match (dovecot, cyrus) {
            (Some(dovecot), Some(cyrus)) => {
                let pairs = pairs(&dovecot.steps, &cyrus.steps, |step| step.what.clone());
                Self { alone: None, steps: pairs.into_iter().map(Step::woven).collect() }
            }
            (Some(dovecot), None) => alone(Store::Dovecot, dovecot.steps),
            (None, Some(cyrus)) => alone(Store::Cyrus, cyrus.steps),
            (None, None) => Self::default(),
        }
    }

    /// All that is marked.
    pub(crate) fn marked(&self) -> impl Iterator<Item = Marked<'_>> {
        let whole = |mark| Marked { mark, event: None, parameter: None };
        let steps = self.steps.iter().filter_map(|step| step.mark.as_ref());
        let events = self.steps.iter().flat_map(|step| &step.events).flat_map(Event::marked);
        self.alone.iter().chain(steps).map(whole).chain(events)
    }

    /// What no rule explains, a line each.
    pub(crate) fn unexplained(&self) -> String {
        let odd = self.marked().filter(|marked| marked.mark.rule == rules::NONE);
        odd.map(|Marked { mark, event, parameter }| {
            let of = [event, parameter].into_iter().flatten().collect::<Vec<_>>();
            format!(
                "{mark}{}\n",
                if of.is_empty() { "a play or a step".to_owned() } else { of.join(" ") }
            )
        })
        .collect()
    }
}

impl Mark {
    /// The mark at the beginning of a line, and what is behind it.
    fn before(line: &str) -> (Option<Self>, &str) {
        let read = || {
            let (mark, rest) = line.strip_prefix('[')?.split_once("] ")?;
            let (store, rule) = mark.split_once(": ")?;
            let mut stores = [Store::Cyrus, Store::Dovecot].into_iter();
            let store = stores.find(|one| one.as_str() == store)?;
            Some((Some(Self { rule: rule.to_owned(), store }), rest))
        };
        read().unwrap_or((None, line))
    }
}

impl Step {
    fn woven(pair: Pair<'_, Self>) -> Self {
        match pair {
            Pair::One(store, step) => {
                let mark = Mark { rule: rules::NONE.to_owned(), store };
                Self { mark: Some(mark), ..step.clone() }
            }
            Pair::Both { dovecot, cyrus } => {
                let pairs = pairs(&dovecot.events, &cyrus.events, Event::key);
                let event = |pair: &Pair<'_, Event>| match *pair {
                    Pair::Both { dovecot, cyrus } => Event::woven(dovecot, cyrus),
                    Pair::One(store, event) => {
                        let is_elsewhere = pairs.iter().any(|other| other.is_same(store, event));
                        let rule = rules::of_event(store, &event.name, is_elsewhere).to_owned();
                        Event { mark: Some(Mark { rule, store }), ..event.clone() }
                    }
                };
                let events = pairs.iter().map(event).collect();
                Self { mark: None, what: dovecot.what.clone(), events }
            }
        }
    }
}

impl Event {
    fn begin(mark: Option<Mark>, head: &str) -> Self {
        let (name, place) = head.split_once(' ').unzip();
        let place = place.map(|place| ((None, PLACE.to_owned()), place.to_owned()));
        Self {
            mark,
            name: name.unwrap_or(head).to_owned(),
            parameters: place.into_iter().collect(),
        }
    }

    /// What it has in common with the other store's.
    fn key(&self) -> (String, String) {
        let place = self.parameters.get(&(None, PLACE.to_owned()));
        (self.name.clone(), rules::place(place.map(String::as_str).unwrap_or_default()))
    }

    fn woven(dovecot: &Self, cyrus: &Self) -> Self {
        let mut parameters = BTreeMap::new();
        for at in dovecot.parameters.keys().chain(cyrus.parameters.keys()) {
            let both = [dovecot, cyrus].map(|event| event.parameters.get(at).map(String::as_str));
            let [one, other] = both;
            if one == other {
                parameters.extend(one.map(|value| (at.clone(), value.to_owned())));
                continue;
            }
            let rule = rules::of_parameter(&dovecot.name, &at.1, both);
            for (store, value) in [(Store::Dovecot, one), (Store::Cyrus, other)] {
                let mark = Some(Mark { rule: rule.to_owned(), store });
                parameters.extend(value.map(|value| ((mark, at.1.clone()), value.to_owned())));
            }
        }
        Self { mark: None, name: dovecot.name.clone(), parameters }
    }

    fn marked(&self) -> impl Iterator<Item = Marked<'_>> {
        let event = Some(self.name.as_str());
        let whole = self.mark.iter().map(move |mark| Marked { mark, event, parameter: None });
        let parameters = self.parameters.keys().filter_map(move |(mark, name)| {
            Some(Marked { mark: mark.as_ref()?, event, parameter: Some(name) })
        });
        whole.chain(parameters)
    }
}

/// What both stores have at one place, or one alone.
#[derive(Debug)]
enum Pair<'a, T> {
    Both { dovecot: &'a T, cyrus: &'a T },
    One(Store, &'a T),
}

impl Pair<'_, Event> {
    /// Whether this is the other store's telling of `event`, but for what rules explain.
    fn is_same(&self, store: Store, event: &Event) -> bool {
        let Pair::One(of, other) = *self else { return false };
        let woven = match store {
            Store::Dovecot => Event::woven(event, other),
            Store::Cyrus => Event::woven(other, event),
        };
        let is_explained = woven.marked().all(|marked| marked.mark.rule != rules::NONE);
        of != store && other.key() == event.key() && is_explained
    }
}

/// Both lists in one, in the order of each, with as many at one place as can be.
fn pairs<'a, T, K: Eq + std::hash::Hash + Ord>(
    dovecot: &'a [T],
    cyrus: &'a [T],
    key: impl Fn(&T) -> K,
) -> Vec<Pair<'a, T>> {
    let keys = |of: &[T]| of.iter().map(&key).collect::<Vec<_>>();
    let mut pairs = Vec::new();
    for part in similar::capture_diff_slices(Algorithm::Myers, &keys(dovecot), &keys(cyrus)) {
        let (tag, from, to) = part.as_tag_tuple();
        let (from, to) = (&dovecot[from], &cyrus[to]);
        if tag == DiffTag::Equal {
            let both = from.iter().zip(to);
            pairs.extend(both.map(|(dovecot, cyrus)| Pair::Both { dovecot, cyrus }));
        } else {
            pairs.extend(from.iter().map(|one| Pair::One(Store::Dovecot, one)));
            pairs.extend(to.iter().map(|one| Pair::One(Store::Cyrus, one)));
        }
    }
    pairs
}

/// The parameters of one line. A value may have blanks, but no `name=` behind one.
fn words(line: &str) -> Vec<(String, String)> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '.')
    };
    let mut read: Vec<(String, String)> = Vec::new();
    for word in line.split(' ') {
        let named = word.split_once('=').filter(|(name, _)| is_name(name));
        match (named, read.last_mut()) {
            (Some((name, value)), _) => read.push((name.to_owned(), value.to_owned())),
            (None, Some((_, value))) => value.extend([" ", word]),
            (None, None) => {}
        }
    }
    read
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mark) = &self.alone {
            writeln!(f, "{mark}> {WHOLE}")?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}> {}", shown(self.mark.as_ref()), self.what)?;
        self.events.iter().try_for_each(|event| write!(f, "{event}"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", shown(self.mark.as_ref()), self.name)?;
        let mut lines: Vec<(&Option<Mark>, String)> = Vec::new();
        for ((mark, name), value) in &self.parameters {
            if mark.is_none() && name == PLACE {
                write!(f, " {value}")?;
                continue;
            }
            let word = format!("{name}={value}");
            match lines.last_mut() {
                Some((of, line)) if *of == mark && line.len() + word.len() < WIDTH => {
                    line.extend([" ", &word]);
                }
                _ => lines.push((mark, word)),
            }
        }
        writeln!(f)?;
        lines.iter().try_for_each(|(mark, line)| writeln!(f, "    {}{line}", shown(mark.as_ref())))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}: {}] ", self.store.as_str(), self.rule)
    }
}

fn shown(mark: Option<&Mark>) -> String {
    mark.map(ToString::to_string).unwrap_or_default()
}

/// Where an event was: beside its name, or among the parameters where each store says otherwise.
const PLACE: &str = "uri";
/// Marked, it says that one store alone plays this.
const WHOLE: &str = "the whole play";
/// How wide a line of parameters gets.
const WIDTH: usize = 110;

mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Puts together what the two told, and holds the file against it.
    fn weave(dovecot: &str, cyrus: &str) -> String {
        let [dovecot, cyrus] = [dovecot, cyrus].map(Shared::parse);
        let shared = Shared::woven("a_play", Some(dovecot.clone()), Some(cyrus.clone()));
        assert_eq!(shared.of(Store::Dovecot), Some(dovecot));
        assert_eq!(shared.of(Store::Cyrus), Some(cyrus));
        shared.to_string()
    }

    #[test]
    fn what_one_store_tells_is_marked_with_it_and_with_the_rule() {
        let dovecot = "> a step\nMessageRead a/INBOX;V\n    process=imap service=imap\n";
        let cyrus = "> a step\nMessageRead a/INBOX;V\n    messages=3 service=imap uidnext=4\n\
                     vnd.cmu.MailboxModseq a/INBOX;V\n    service=imap\n";
        let shared = "> a step\nMessageRead a/INBOX;V\n    service=imap\n    \
                      [cyrus: flag-state] messages=3 uidnext=4\n    \
                      [dovecot: process] process=imap\n\
                      [cyrus: own] vnd.cmu.MailboxModseq a/INBOX;V\n    service=imap\n";
        assert_eq!(weave(dovecot, cyrus), shared);
        assert_eq!(Shared::parse(shared).unexplained(), "");
    }

    #[test]
    fn a_place_that_each_says_otherwise_is_a_parameter() {
        let dovecot = "> a step\nMailboxDelete a/q\n    service=imap\n";
        let cyrus = "> a step\nMailboxDelete a/q;V\n    service=imap\n";
        let shared = "> a step\nMailboxDelete\n    service=imap\n    \
                      [cyrus: gone] uri=a/q;V\n    [dovecot: gone] uri=a/q\n";
        assert_eq!(weave(dovecot, cyrus), shared);
    }

    #[test]
    fn a_value_may_have_blanks() {
        let told = "> a step\nMessageNew a/INBOX;V\n    \
                    envelope=MAIL FROM:<> BODY=8BITMIME⏎ quotaRoot=User quota service=lmtp\n";
        let told = told.to_owned();
        assert_eq!(weave(&told, &told), told);
    }

    #[test]
    fn what_no_rule_explains_is_marked_so_and_listed() {
        let dovecot = "> a step\nMessageRead a/INBOX;V\n    service=imap uidset=1\n";
        let cyrus = "> a step\nMessageRead a/INBOX;V\n    service=imap\nLogin a\n> another\n";
        let shared = weave(dovecot, cyrus);
        assert_eq!(
            shared,
            "> a step\nMessageRead a/INBOX;V\n    service=imap\n    [dovecot: ?] uidset=1\n\
             [cyrus: ?] Login a\n[cyrus: ?] > another\n"
        );
        let odd =
            "[cyrus: ?] a play or a step\n[dovecot: ?] MessageRead uidset\n[cyrus: ?] Login\n";
        assert_eq!(Shared::parse(&shared).unexplained(), odd);
    }

    #[test]
    fn another_order_is_no_excuse_for_other_parameters() {
        let read = "MessageRead a/INBOX;V\n    uidset=1\n";
        let trash = "MessageTrash a/INBOX;V\n    uidset=1\n";
        let [one, other] =
            [[read, trash], [trash, read]].map(|told| format!("> a step\n{}", told.concat()));
        assert_eq!(Shared::parse(&weave(&one, &other)).unexplained(), "");
        let other = other.replace("uidset=1", "uidset=2");
        assert_ne!(Shared::parse(&weave(&one, &other)).unexplained(), "");
    }

    #[test]
    fn a_play_of_one_store_says_so_first_and_asks_nothing_of_the_other() {
        let told = Shared::parse("> a step\nLogin a\n    service=imap\n");
        let shared = Shared::woven("web_jmap", None, Some(told.clone()));
        let text = "[cyrus: http] > the whole play\n> a step\nLogin a\n    service=imap\n";
        assert_eq!(shared.to_string(), text);
        assert_eq!(Shared::parse(text), shared);
        assert_eq!(shared.of(Store::Cyrus), Some(told.clone()));
        assert_eq!(shared.of(Store::Dovecot), None);
        assert_ne!(Shared::woven("web_jmap", Some(told), None).unexplained(), "");
    }

    /// What one store may tell: few names, so that two of them have much in common.
    fn told() -> impl Strategy<Value = Shared> {
        let name =
            |names: &'static [&'static str]| prop::sample::select(names).prop_map(str::to_owned);
        let value = "[A-Z(#;/]{0,3}( [A-Z(#]{1,60}){0,2}";
        let parameter = (name(&[PLACE, "process", "service", "uidset", "vnd.cmu.mbtype"]), value);
        let parameters = prop::collection::btree_map(
            parameter.0.prop_map(|name| (None, name)),
            parameter.1,
            0..6,
        );
        let event =
            (name(&["Login", "MessageRead", "MessageTrash", "vnd.cmu.AclChange"]), parameters)
                .prop_map(|(name, parameters)| Event { mark: None, name, parameters });
        let step = (name(&["one", "two: again", "three"]), prop::collection::vec(event, 0..5))
            .prop_map(|(what, events)| Step { mark: None, what, events });
        prop::collection::vec(step, 0..5).prop_map(|steps| Shared { alone: None, steps })
    }

    proptest! {
        #[test]
        fn the_file_gives_back_to_each_what_it_told_and_is_made_of_that_alone(
            dovecot in told(), cyrus in told(),
        ) {
            let shared = Shared::woven("a_play", Some(dovecot.clone()), Some(cyrus.clone()));
            prop_assert_eq!(&Shared::parse(&shared.to_string()), &shared, "{}", shared);
            let [one, other] = [Store::Dovecot, Store::Cyrus].map(|store| shared.of(store));
            prop_assert_eq!(one.as_ref(), Some(&dovecot));
            prop_assert_eq!(other.as_ref(), Some(&cyrus));
            prop_assert_eq!(Shared::woven("a_play", one, other), shared);
        }
    }
}
