//! Looks, as a server might answer them.

use proptest::prelude::*;

use mail_event::{Timestamp, UidSet};
use postbell_engine::Certainty;

use super::*;
use crate::ask::Asked;
use crate::dovecot::names::Names;

fn settled(memory: &mut Reconcile, looked: Looked) -> Vec<Observation> {
    let names = Names::new('.', &[]);
    memory.settle(looked, true, noon(), &Naming { scope: &names, server_fqdn: None })
}

fn noon() -> Timestamp {
    "2026-11-25T12:00:00+01:00".parse().unwrap()
}

fn set(text: &str) -> UidSet {
    if text.is_empty() { UidSet::new() } else { text.parse().unwrap() }
}

fn look(uidnext: u32, messages: u64, modseq: u64) -> BoxLook {
    BoxLook { uid_validity: 7, uidnext, messages, modseq }
}

fn status(look: BoxLook) -> BoxStatus {
    let BoxLook { uid_validity, uidnext, messages, modseq } = look;
    BoxStatus {
        val: Some(uid_validity),
        messages: Some(messages),
        uidnext: Some(uidnext),
        modseq: Some(modseq),
    }
}

/// A memory that looked at INBOX when it had messages 1 to 10.
fn ten() -> Reconcile {
    let mut memory = Reconcile::default();
    let place = ("alice".to_owned(), "INBOX".to_owned());
    memory.rebase(&place, look(11, 10, 50), Sets::default(), Sets::default());
    memory
}

fn settle(memory: &mut Reconcile, look: BoxLook, vanished: &str, changed: &[u32]) -> Vec<String> {
    let changed = changed.iter().map(|uid| (*uid, Asked::default())).collect();
    let changes = Changes { look, vanished: set(vanished), changed };
    let place = ("alice".to_owned(), "INBOX".to_owned());
    begin(memory, &place);
    told(settled(memory, Looked::Mailbox(place, Some(changes))))
}

/// As if the server had been asked.
fn begin(memory: &mut Reconcile, place: &Place) {
    memory.boxes.get_mut(place).unwrap().since = Some(Sets::default());
}

fn told(seen: Vec<Observation>) -> Vec<String> {
    let told = |one: Observation| {
        assert_eq!(one.certainty, Certainty::Inferred);
        match one.what {
            What::Appended(message) => format!("append {}", message.uid),
            What::Expunged { uids, .. } => format!("expunge {uids}"),
            What::MailboxCreated(mailbox) => format!("create {}", mailbox.name),
            What::MailboxDeleted(mailbox) => format!("delete {}", mailbox.name),
            What::MailboxRenamed { from, to, .. } => format!("rename {} {}", from.name, to.name),
            What::FlagsChanged { uids, set, cleared, .. } => {
                format!("flags {uids} +({set}) -({cleared})")
            }
            What::Missed { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    seen.into_iter().map(told).collect()
}

#[test]
fn what_the_spool_did_not_tell_is_told_as_inferred() {
    let mut memory = ten();
    memory.added("alice", "INBOX", (&set("11"), &Flags::new()), BoxStatus::default());
    memory.gone("alice", "INBOX", &set("2"), BoxStatus::default());
    memory.flagged("alice", "INBOX", &set("4"));
    let seen = settle(&mut memory, look(13, 9, 60), "2,5:6", &[4, 8, 11, 12]);
    assert_eq!(seen, ["append 12", "expunge 5:6", "flags changed, which ones nobody knows: UID 8"]);
    assert!(settle(&mut memory, look(13, 9, 60), "", &[]).is_empty());
}

#[test]
fn changed_flags_of_a_message_told_to_have_come_are_told_as_inferred() {
    let mut memory = ten();
    let flags = |text: &str| Flags::parse(text).unwrap();
    let noted = |memory: &mut Reconcile, uids: &str, came_with: &str| {
        memory.added("alice", "INBOX", (&set(uids), &flags(came_with)), BoxStatus::default());
    };
    noted(&mut memory, "11:13,16", "");
    noted(&mut memory, "14:15", "\\Flagged $a|b");
    memory.flagged("alice", "INBOX", &set("16"));
    let saved = memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?)));
    let mut memory = Reconcile::restore(saved.collect::<Vec<_>>());
    let now = ["", "\\Seen", "\\Seen", "$a|b \\Flagged", "\\Flagged \\Answered", "\\Seen"];
    let changed =
        (11..).zip(now).map(|(uid, now)| (uid, Asked { flags: flags(now), ..Asked::default() }));
    let changes =
        Changes { look: look(17, 16, 60), vanished: UidSet::new(), changed: changed.collect() };
    let place = ("alice".to_owned(), "INBOX".to_owned());
    begin(&mut memory, &place);
    assert_eq!(
        told(settled(&mut memory, Looked::Mailbox(place, Some(changes)))),
        ["flags 12:13 +(\\Seen) -()", "flags 15 +(\\Answered) -($a|b)"]
    );
}

/// The accuracies told, in milliseconds.
fn accuracies(seen: &[Observation]) -> Vec<Option<u64>> {
    let accuracy = |one: &Observation| {
        let named =
            one.extras.iter().find(|(name, _)| name.as_str() == "vnd.postbell.timeAccuracy");
        named.and_then(|(_, value)| value.as_u64())
    };
    seen.iter().map(accuracy).collect()
}

#[test]
fn r138_what_is_found_is_told_with_how_long_before_it_may_have_happened() {
    let mut memory = Reconcile::default();
    let place = ("alice".to_owned(), "INBOX".to_owned());
    memory.begin("2026-11-25T11:00:00+01:00".parse().unwrap());
    memory.rebase(&place, look(11, 10, 50), Sets::default(), Sets::default());
    // It is kept over a restart.
    let mut memory = Reconcile::restore(
        memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?))),
    );
    memory.begin("2026-11-25T11:59:59+01:00".parse().unwrap());
    for (uid, millis) in [(11, 3_600_000), (12, 1_000)] {
        begin(&mut memory, &place);
        let changed = [(uid, Asked::default())].into();
        let messages = u64::from(uid);
        let look = look(uid + 1, messages, 50 + messages);
        let changes = Changes { look, vanished: UidSet::new(), changed };
        let seen = settled(&mut memory, Looked::Mailbox(place.clone(), Some(changes)));
        assert_eq!(accuracies(&seen), [Some(millis)]);
    }
    begin(&mut memory, &place);
    let gone = settled(&mut memory, Looked::Mailbox(place, None));
    assert_eq!(accuracies(&gone), [Some(1_000)]);
    // Nobody knows since when.
    let mut memory = ten();
    let place = ("alice".to_owned(), "INBOX".to_owned());
    begin(&mut memory, &place);
    assert_eq!(accuracies(&settled(&mut memory, Looked::Mailbox(place, None))), [None]);
}

#[test]
fn what_was_inferred_is_not_told_again_when_its_line_comes_after_all() {
    let mut memory = ten();
    settle(&mut memory, look(13, 11, 60), "5", &[11, 12]);
    assert_eq!(
        memory.added("alice", "INBOX", (&set("11:13"), &Flags::new()), BoxStatus::default()),
        set("11:12")
    );
    assert_eq!(memory.gone("alice", "INBOX", &set("5:6"), BoxStatus::default()), set("5"));
    assert!(
        memory.added("bob", "INBOX", (&set("11"), &Flags::new()), BoxStatus::default()).is_empty()
    );
}

#[test]
fn a_server_that_names_more_than_can_have_gone_is_not_believed() {
    let mut memory = ten();
    // One is gone, and of three it is said.
    let seen = settle(&mut memory, look(11, 9, 60), "1:3", &[]);
    assert_eq!(seen, ["1 of these messages are gone: UID 1:3"]);
}

#[test]
fn messages_that_came_and_went_unseen_are_missed() {
    let mut memory = ten();
    memory.added("alice", "INBOX", (&set("12"), &Flags::new()), BoxStatus::default());
    let seen = settle(&mut memory, look(14, 11, 60), "11:12", &[13]);
    assert_eq!(seen, ["messages came and went: UID 11", "append 13", "expunge 12"]);
}

#[test]
fn a_new_uidvalidity_ends_all_that_was_known() {
    let mut memory = ten();
    let now = BoxLook { uid_validity: 8, ..look(3, 2, 9) };
    let seen = settle(&mut memory, now, "", &[1, 2]);
    assert_eq!(seen, ["UIDVALIDITY changed from 7 to 8: nothing known of the messages holds"]);
    assert!(settle(&mut memory, now, "", &[]).is_empty());
}

#[test]
fn mailboxes_that_came_went_or_were_renamed_unseen_are_told() {
    let mut memory = ten();
    let list = |names: &[(&str, u32)]| -> BTreeMap<String, Option<BoxLook>> {
        let one = |(name, validity): &(&str, u32)| {
            ((*name).to_owned(), Some(BoxLook { uid_validity: *validity, ..look(1, 0, 1) }))
        };
        names.iter().map(one).collect()
    };
    let mut user = |names: &[(&str, u32)]| {
        let looked = Looked::User("alice".to_owned(), list(names));
        let seen = told(settled(&mut memory, looked));
        (seen, memory.waiting.len())
    };
    // The first look is remembered, not told; INBOX changed since.
    assert_eq!(user(&[("INBOX", 7), ("a.b", 8), ("c", 9)]), (vec![], 1));
    assert_eq!(user(&[("INBOX", 7), ("a.b", 8), ("c", 9)]), (vec![], 1));
    let (seen, waiting) = user(&[("INBOX", 7), ("a.z", 8), ("d", 10)]);
    assert_eq!(
        (seen, waiting),
        (vec!["rename a/b a/z".to_owned(), "create d".to_owned(), "delete c".to_owned()], 3)
    );
    let place = ("alice".to_owned(), "d".to_owned());
    begin(&mut memory, &place);
    let gone = Looked::Mailbox(place, None);
    assert_eq!(told(settled(&mut memory, gone)), ["delete d"]);
}

#[test]
fn what_is_written_down_between_a_look_and_its_settling_is_not_told_twice() {
    let mut memory = ten();
    let place = ("alice".to_owned(), "INBOX".to_owned());
    let changes = Changes { look: look(11, 10, 50), ..Changes::default() };
    begin(&mut memory, &place);
    // The look is older than this message.
    memory.added("alice", "INBOX", (&set("11"), &Flags::new()), BoxStatus::default());
    let looked = Looked::Mailbox(place.clone(), Some(changes.clone()));
    assert!(settled(&mut memory, looked).is_empty());
    assert!(settle(&mut memory, look(12, 11, 51), "", &[11]).is_empty());

    // Or than the whole mailbox.
    begin(&mut memory, &place);
    memory.deleted("alice", "INBOX");
    memory.created("alice", "INBOX", Some(8));
    let looked = Looked::Mailbox(place, Some(changes));
    assert!(settled(&mut memory, looked).is_empty());
    let looked = Looked::User("alice".to_owned(), BTreeMap::new());
    assert!(settled(&mut memory, looked).is_empty());
    assert_eq!(memory.waiting.len(), 1, "the list is asked for again");
}

#[test]
fn a_mailbox_first_heard_of_by_its_mail_was_made_unheard() {
    let list = |memory: &mut Reconcile, names: &[&str]| {
        memory.moved.clear();
        memory.waiting.clear();
        memory.wanted.clear();
        let found = names.iter().map(|name| ((*name).to_owned(), Some(look(11, 10, 50))));
        let scope = Names::new('.', &[]);
        let naming = Naming { scope: &scope, server_fqdn: None };
        let looked = Looked::User("alice".to_owned(), found.collect());
        told(memory.settle(looked, false, noon(), &naming))
    };
    let no_flags = Flags::new();
    for hears_creations in [true, false] {
        let mut memory = ten();
        if hears_creations {
            memory = memory.hearing_creations();
        }
        memory.added("alice", "a", (&set("1"), &no_flags), BoxStatus::default());
        // When first listed, what was there and what came is not known.
        assert!(list(&mut memory, &["INBOX", "a"]).is_empty());
        memory.added("alice", "b", (&set("1"), &no_flags), BoxStatus::default());
        memory.added("alice", "gone", (&set("1"), &no_flags), BoxStatus::default());
        let saved = memory.drain_changes().into_iter();
        let saved = saved.filter_map(|(key, value)| Some((key, value?))).collect::<Vec<_>>();
        let mut memory = Reconcile { hears_creations, ..Reconcile::restore(saved) };
        memory.created("alice", "INBOX", Some(7));
        let found = list(&mut memory, &["INBOX", "a", "b"]);
        if hears_creations {
            assert_eq!(found, ["create b"]);
        } else {
            assert_eq!(found, ["delete gone"]);
        }
        // What was told of it is told no more.
        let place = ("alice".to_owned(), "b".to_owned());
        begin(&mut memory, &place);
        let changed = [(1, Asked::default())].into();
        let changes = Changes { look: look(12, 11, 60), vanished: UidSet::new(), changed };
        assert!(told(settled(&mut memory, Looked::Mailbox(place, Some(changes)))).is_empty());
    }
}

#[test]
fn a_mailbox_that_came_with_mail_is_known_from_its_first_look_on() {
    let mut memory = ten().hearing_creations();
    let found = |names: &[&str]| {
        let found = names.iter().map(|name| ((*name).to_owned(), Some(look(11, 10, 50))));
        Looked::User("alice".to_owned(), found.collect())
    };
    let naming = Naming { scope: &Names::new('.', &[]), server_fqdn: None };
    memory.settle(found(&["INBOX"]), false, noon(), &naming);
    memory.created("alice", "a", None);
    memory.moved.clear();
    assert!(memory.settle(found(&["INBOX", "a"]), false, noon(), &naming).is_empty());
    assert!(memory.waiting.is_empty());
    assert!(memory.stood("alice", "a", Some(7)));
}

#[test]
fn a_list_that_is_older_than_a_mailbox_made_unheard_is_asked_for_again() {
    for hears_creations in [true, false] {
        for is_listed in [true, false] {
            let mut memory = Reconcile { hears_creations, ..ten() };
            memory.listed.extend(is_listed.then(|| "alice".to_owned()));
            let found = [("INBOX".to_owned(), Some(look(11, 10, 50)))].into();
            memory.added("alice", "a", (&set("1"), &Flags::new()), BoxStatus::default());
            let told = told(settled(&mut memory, Looked::User("alice".to_owned(), found)));
            if hears_creations {
                assert!(told.is_empty() && memory.has("alice", "a"), "{told:?}");
                assert!(memory.wanted.contains(&Task::User("alice".to_owned())));
            } else {
                assert_eq!(told, ["delete a"]);
            }
        }
    }
}

#[test]
fn r89_r90_a_rename_takes_the_children_along_but_not_those_of_inbox() {
    let mut memory = ten();
    for name in ["a", "a.b", "ab", "INBOX.x"] {
        memory.created("alice", name, Some(9));
    }
    memory.renamed("alice", "a", "z.a", '.');
    memory.renamed("alice", "INBOX", "old", '.');
    memory.deleted("alice", "ab");
    let names: Vec<_> = memory.boxes.keys().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["INBOX.x", "old", "z.a", "z.a.b"]);
}

#[test]
fn what_waits_waits_once() {
    let mut memory = ten();
    memory.want("alice", "INBOX");
    memory.want("alice", "INBOX");
    memory.want_everything();
    assert_eq!(memory.progress(), (2, 0));
}

#[test]
fn looks_begin_where_a_line_first_told_how_the_mailbox_stood() {
    let mut memory = Reconcile::default();
    memory.flagged("alice", "INBOX", &set("3"));
    memory.added("alice", "INBOX", (&set("10"), &Flags::new()), status(look(11, 10, 50)));
    memory.added("alice", "INBOX", (&set("11"), &Flags::new()), status(look(12, 11, 51)));
    assert_eq!(settle(&mut memory, look(13, 12, 52), "", &[11, 12]), ["append 12"]);
}

fn blinded(memory: &mut Reconcile, is_holed: bool) -> Vec<String> {
    let names = Names::new('.', &[]);
    let naming = Naming { scope: &names, server_fqdn: None };
    told(memory.take_blinded(|_| is_holed, noon(), &naming))
}

/// Changes flags of every second message, so that each is a range.
fn crowd(memory: &mut Reconcile, mailbox: &str, count: u32) {
    for uid in 0..count {
        memory.flagged("alice", mailbox, &UidSet::single(uid * 2 + 1));
    }
}

#[test]
fn r157_a_mailbox_of_which_too_much_is_told_is_remembered_as_blind() {
    for is_holed in [true, false] {
        let mut memory = ten();
        crowd(&mut memory, "INBOX", 2_000);
        assert!(blinded(&mut memory, is_holed).is_empty());
        crowd(&mut memory, "INBOX", 2_001);
        assert_eq!(blinded(&mut memory, is_holed).len(), usize::from(is_holed));
        // Once, however much more there is, and whatever a line says of how it stands.
        crowd(&mut memory, "INBOX", 5_000);
        memory.added("alice", "INBOX", (&set("11"), &Flags::new()), status(look(12, 11, 60)));
        assert!(blinded(&mut memory, is_holed).is_empty());
        let place = ("alice".to_owned(), "INBOX".to_owned());
        assert_eq!(memory.boxes[&place], Kept::blind());

        let saved =
            memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut again = Reconcile::restore(saved.collect::<Vec<_>>());
        assert_eq!(again.boxes[&place], Kept::blind());

        // The next look is the beginning, and what was told meanwhile is known.
        begin(&mut again, &place);
        again.added("alice", "INBOX", (&set("12"), &Flags::new()), BoxStatus::default());
        let looked = Looked::Unknown(place, Some(look(12, 11, 60)));
        let [seen] = &told(settled(&mut again, looked))[..] else { panic!("one") };
        assert!(seen.contains("can't be found any more"), "{seen}");
        assert!(settle(&mut again, look(13, 12, 61), "", &[12]).is_empty());
    }
}

#[test]
fn r157_beyond_what_all_mailboxes_may_take_the_largest_are_remembered_as_blind() {
    let mut memory = Reconcile::default();
    for mailbox in 0..700 {
        let name = mailbox.to_string();
        memory.created("alice", &name, Some(9));
        let many = if mailbox % 7 == 0 { 5 } else { 1_800 };
        memory.flagged("alice", &name, &UidSet::from_uids((0..many).map(|uid| uid * 2 + 1)));
    }
    let is_blind = |name: u32| memory.boxes[&("alice".to_owned(), name.to_string())].is_blind;
    let (small, large): (Vec<_>, Vec<_>) = (0..700).partition(|name| name % 7 == 0);
    assert!(small.into_iter().all(|name| !is_blind(name)));
    assert!(large.into_iter().filter(|name| is_blind(*name)).count() >= 250);
    let ranges: usize = memory.boxes.values().map(Kept::ranges).sum();
    assert!(ranges <= ALL_RANGES_MAX, "{ranges}");
}

#[test]
fn a_users_mail_was_looked_at_when_nothing_waits_and_all_is_settled() {
    let mut memory = ten();
    let alice = ["alice".to_owned()];
    assert!(memory.has_looked_at(&alice) && memory.has_looked_at(&[]));
    memory.want("alice", "z");
    memory.want_user("bob");
    assert!(!memory.has_looked_at(&alice) && !memory.has_looked_at(&["bob".to_owned()]));
    assert!(!memory.has_looked_at(&[]) && memory.has_looked_at(&["carol".to_owned()]));
}

fn some_set() -> impl Strategy<Value = UidSet> {
    prop::option::of(some_uids()).prop_map(Option::unwrap_or_default)
}

fn some_uids() -> impl Strategy<Value = UidSet> {
    prop::collection::btree_set(1_u32..100, 1..8).prop_map(UidSet::from_uids)
}

proptest! {
    #[test]
    fn memory_outlives_a_restart(
        (added, gone, flagged) in (some_set(), some_set(), some_set()),
        (came, went) in (some_set(), some_set()),
        came_with in prop::collection::btree_map("[!-'+-z|}~]{1,5}( [$|a-z]{1,4})?", some_uids(), 0..3),
        base: bool,
        looked_at: Option<i64>,
    ) {
        let mut memory = ten();
        let kept = Kept {
            base: base.then(|| look(11, 10, u64::MAX)),
            looked_at,
            told: Sets { added, gone, flagged, came_with },
            since: None,
            inferred: Sets { added: came, gone: went, ..Sets::default() },
            is_blind: false,
            is_new: false,
        };
        memory.remember(("al ice".to_owned(), "a|b\u{e4}".to_owned()), kept);
        settled(&mut memory, Looked::User("bob".to_owned(), BTreeMap::new()));
        let saved: Vec<_> =
            memory.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let again = Reconcile::restore(saved);
        prop_assert_eq!(&again.boxes, &memory.boxes);
        prop_assert!(again.knows("bob"));
        prop_assert!(memory.drain_changes().is_empty());
    }

    #[test]
    fn memory_that_is_damaged_is_passed_over(value in "[-0-9 |:,]{0,30}") {
        Reconcile::restore([(b"box/a\0b".to_vec(), value.into_bytes())]);
    }
}
