use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Index;
use crate::{Filter, Keys, Policy, Selection, View};

fn filter(events: &[&str], users: &[&str], mailboxes: &[&str]) -> Filter {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    let selection = Selection {
        events: texts(events),
        users: texts(users),
        mailboxes: texts(mailboxes),
        ..Selection::default()
    };
    selection.compile(&Policy::default()).unwrap().0
}

fn json(event: &str, uri: &str, user: Option<&str>) -> Vec<u8> {
    let user = user.map(|user| format!(r#","user":"{user}""#)).unwrap_or_default();
    let time = "2026-08-20T13:34:14+02:00";
    format!(r#"{{"event":"{event}","uri":"{uri}","timestamp":"{time}"{user}}}"#).into_bytes()
}

fn told(index: &Index, json: &[u8]) -> Vec<u32> {
    let mut told = Vec::new();
    let view = Keys::find(json).unwrap().view(json);
    index.for_each_match(&view, |id| told.push(id));
    told.sort_unstable();
    told
}

/// The same in ten lines: everybody is asked.
fn naive(filters: &BTreeMap<u32, Filter>, view: &View<'_>) -> Vec<u32> {
    filters.iter().filter(|(_, filter)| filter.matches(view)).map(|(id, _)| *id).collect()
}

fn view(json: &[u8]) -> Option<View<'_>> {
    Some(Keys::find(json)?.view(json))
}

#[test]
fn r150_who_is_owner_and_acts_is_told_once() {
    let mut index = Index::new();
    index.insert(1, &filter(&[], &["zoe"], &[]));
    index.insert(2, &filter(&[], &["zoe", "bob"], &[]));
    index.insert(3, &filter(&[], &["bob"], &[]));
    let uri = "imap://zoe@h/INBOX";
    assert_eq!(told(&index, &json("MessageRead", uri, Some("zoe"))), [1, 2]);
    assert_eq!(told(&index, &json("MessageRead", uri, Some("bob"))), [1, 2, 3]);
    assert_eq!(told(&index, &json("MessageRead", uri, None)), [1, 2]);
}

#[test]
fn inbox_is_found_in_any_case_and_other_names_are_not() {
    let mut index = Index::new();
    for (id, pattern) in (0..).zip(["inbox", "INBOX", "inb*", "*bOx", "%box/a", "Work", "wor%"]) {
        index.insert(id, &filter(&[], &[], &[pattern]));
    }
    let uri = |mailbox: &str| json("MessageRead", &format!("imap://h/{mailbox}"), None);
    assert_eq!(told(&index, &uri("Inbox")), [0, 1, 2, 3]);
    assert_eq!(told(&index, &uri("inbetween")), [2]);
    assert_eq!(told(&index, &uri("INBETWEEN")), [0; 0]);
    assert_eq!(told(&index, &uri("mailbox/a")), [4]);
    assert_eq!(told(&index, &uri("Work")), [5]);
}

#[test]
fn what_was_taken_out_is_told_no_more_and_leaves_nothing_behind() {
    let one = filter(&["MessageNew", "vnd.a.B"], &["zoe", "bob"], &["INBOX", "L*", "*/x"]);
    let two = filter(&["MessageNew", "vnd.a.B"], &[], &["INBOX", "L*", "*/x", "*"]);
    let mut index = Index::new();
    for round in 0..3 {
        for id in 0..20 {
            index.insert(id, if id % 2 == 0 { &one } else { &two });
        }
        assert_eq!(index.len(), 20, "{round}");
        assert!(!index.remove(20, &one), "nobody is called that");
        assert!(!index.remove(1, &one), "it was put in with another filter");
        for id in 0..20 {
            assert!(index.remove(id, if id % 2 == 0 { &one } else { &two }));
        }
        assert!(index.is_empty());
        for event in ["MessageNew", "vnd.a.B", "vnd.postbell.Gap"] {
            assert_eq!(told(&index, &json(event, "imap://zoe@h/INBOX", Some("bob"))), [0; 0]);
            assert_eq!(told(&index, &json(event, "imap://h/", None)), [0; 0]);
        }
    }
}

#[test]
fn many_users_come_and_go() {
    let user = |number: u32| format!("user{number}@example.org");
    let of = |number: u32| filter(&["message"], &[&user(number)], &[]);
    let mut index = Index::new();
    for number in 0..5_000 {
        index.insert(number, &of(number));
    }
    for number in (0..5_000).filter(|number| number % 4 != 0) {
        assert!(index.remove(number, &of(number)));
    }
    for number in 0..5_000 {
        let uri = format!("imap://user{number}%40example.org@h/INBOX");
        let wanted: &[u32] = if number % 4 == 0 { &[number] } else { &[] };
        assert_eq!(told(&index, &json("MessageNew", &uri, None)), wanted);
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    let events = prop::sample::select(vec![
        "message",
        "flags",
        "vendor",
        "MessageNew",
        "Login",
        "vnd.a.B",
        "vnd.a.C",
    ]);
    let mailboxes =
        prop_oneof!["[A-C](/[%*A-C]{1,2})?", "A/é[*]?", "[iI]nb[o*]x?", "[*%][A-Cx]", "[*%]{1,2}"];
    (
        prop::collection::vec(events, 0..3),
        prop::collection::vec("[abc]|c@é", 0..3),
        prop::collection::vec(mailboxes, 0..4),
    )
        .prop_map(|(events, users, mailboxes)| {
            let texts = |list: &[String]| list.to_vec();
            let selection = Selection {
                events: events.iter().map(|&event| event.to_owned()).collect(),
                users: texts(&users),
                mailboxes: texts(&mailboxes),
                ..Selection::default()
            };
            selection.compile(&Policy::default()).unwrap().0
        })
}

fn events() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "MessageNew",
        "FlagsSet",
        "Login",
        "MessageExpunge",
        "vnd.a.B",
        "vnd.a.D",
        "vnd.postbell.Gap",
    ]);
    let owner = prop::option::of("[abc]|c%40%C3%A9|a;AUTH=x|%FF|%4");
    let mailbox = prop_oneof![
        Just(String::new()),
        "[A-C](/[A-C]){0,2}",
        "A/%C3%A9[A-C]?",
        "[iI][nN]b[oO]x",
        "inb"
    ];
    let behind = prop::sample::select(vec!["", "", ";UIDVALIDITY=3/;UID=6", "/;uid=6", "?x"]);
    let user = prop::option::of("[abc]|c@é|c@\\\\u00e9");
    (names, owner, mailbox, behind, user, any::<bool>()).prop_map(
        |(name, owner, mailbox, behind, user, escaped)| {
            let owner = owner.map(|owner| format!("{owner}@")).unwrap_or_default();
            let slash = if escaped { "\\/" } else { "/" };
            let uri = format!("imap:/{slash}{owner}h/{mailbox}{behind}");
            json(name, &uri, user.as_deref())
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Add(Filter),
    Remove(prop::sample::Index),
    Events(Vec<Vec<u8>>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => filters().prop_map(Step::Add),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        3 => prop::collection::vec(events(), 0..40).prop_map(Step::Events),
    ];
    prop::collection::vec(step, 1..50)
}

proptest! {
    #[test]
    fn the_index_agrees_with_asking_everybody(steps in steps()) {
        let (mut index, mut filters) = (Index::new(), BTreeMap::new());
        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Add(filter) => {
                    index.insert(id, &filter);
                    filters.insert(id, filter);
                }
                Step::Remove(which) if !filters.is_empty() => {
                    let id = *filters.keys().nth(which.index(filters.len())).unwrap();
                    let filter = filters.remove(&id).unwrap();
                    prop_assert!(index.remove(id, &filter));
                }
                Step::Remove(_) => {}
                Step::Events(events) => {
                    let views: Vec<_> = events.iter().filter_map(|json| view(json)).collect();
                    let mut told = vec![Vec::new(); views.len()];
                    // One after the other, and some together: as many as are told.
                    let mut looked = 0;
                    while looked < views.len() {
                        let count = std::cell::Cell::new(0);
                        looked += index.for_each_match_while(
                            &views[looked..],
                            |place, id| {
                                told[looked + place].push(id);
                                count.set(count.get() + 1);
                            },
                            || count.get() < 5,
                        );
                    }
                    for (view, mut told) in views.iter().zip(told) {
                        told.sort_unstable();
                        prop_assert_eq!(told, naive(&filters, view));
                    }
                }
            }
            prop_assert_eq!(index.len(), filters.len());
        }
    }
}
