//! Subscription lists, asked for.

use postbell_testkit::cyrus::{MANAGER, OTHERS, Options};
use postbell_testkit::{ALICE, BOB};

use super::{asked, hear, known, set_mailboxes, told};
use crate::rig::wait_until;

/// What is told of subscriptions.
fn subscriptions(rig: &crate::rig::Rig) -> Vec<String> {
    told(rig).into_iter().filter(|one| one.contains("subscribed")).collect()
}

#[test]
fn r97_what_was_on_the_list_before_anybody_heard_is_not_told_as_new() {
    for (unixhierarchysep, altnamespace) in [(true, true), (false, false)] {
        let options = Options { unixhierarchysep, altnamespace, ..Options::default() };
        let Some((mut rig, cyrus)) = asked(options) else { return };
        rig.stop_source();
        rig.stop_notifyd();
        rig.options.namespace.user_prefix = OTHERS.to_owned();
        let separator = if unixhierarchysep { "/" } else { "." };
        let below = if altnamespace { "" } else { "INBOX/" };
        let name = |name: &str| format!("{below}{name}").replace('/', separator);
        let (of_bob, shared) = match altnamespace {
            true => (format!("{OTHERS}/bob/Plans"), "Shared Folders/Bulletin".to_owned()),
            false => ("user.bob.Plans".to_owned(), "Bulletin".to_owned()),
        };
        let mut imap = cyrus.imap(ALICE).unwrap();
        rig.lose(|| {
            let mut bob = cyrus.imap(BOB).unwrap();
            bob.create(&name("Plans")).unwrap();
            bob.set_acl(&name("Plans"), ALICE, "lrs").unwrap();
            cyrus.imap(MANAGER).unwrap().create("Bulletin@example.org").unwrap();
            for mailbox in ["Box", "Box/Entw&APw-rfe", "New"] {
                imap.create(&name(mailbox)).unwrap();
            }
            for mailbox in ["INBOX", &name("Box"), &name("Box/Entw&APw-rfe"), &of_bob, &shared] {
                imap.subscribe(mailbox).unwrap();
            }
        });
        rig.start_notifyd();
        rig.start_source();
        known(&rig, &mut imap);
        for mailbox in ["INBOX", &name("Box"), &name("Box/Entw&APw-rfe"), &of_bob, &shared] {
            imap.subscribe(mailbox).unwrap();
        }
        imap.subscribe(&name("New")).unwrap();
        imap.unsubscribe(&name("Box")).unwrap();
        imap.subscribe(&name("Box")).unwrap();
        imap.unsubscribe(&name("New")).unwrap();
        let wanted = [
            format!("{ALICE} subscribed {below}New"),
            format!("{ALICE} unsubscribed {below}Box"),
            format!("{ALICE} subscribed {below}Box"),
            format!("{ALICE} unsubscribed {below}New"),
        ];
        hear(&rig, &wanted[3]);
        assert_eq!(subscriptions(&rig), wanted);
    }
}

#[test]
fn r97_a_subscription_that_was_on_the_list_when_it_was_heard_of_is_told() {
    let Some((mut rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    known(&rig, &mut imap);
    rig.stop_source();
    rig.stop_notifyd();
    // It waits where nobody reads, while the list is asked for.
    imap.subscribe("Box").unwrap();
    rig.start_source();
    let key = format!("subscribed/{ALICE}\0user/alice/Box@example.org");
    wait_until(|| rig.kept.keys().contains(&key));
    rig.start_notifyd();
    imap.subscribe("INBOX").unwrap();
    hear(&rig, &format!("{ALICE} subscribed INBOX"));
    let wanted = ["Box", "INBOX"].map(|mailbox| format!("{ALICE} subscribed {mailbox}"));
    assert_eq!(subscriptions(&rig), wanted);
}

#[test]
fn r97_what_is_on_no_list_any_more_that_is_asked_for_is_told_when_it_comes_back() {
    let Some((mut rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    imap.subscribe("Box").unwrap();
    known(&rig, &mut imap);
    rig.stop_source();
    rig.stop_notifyd();
    rig.lose(|| imap.unsubscribe("Box").unwrap());
    rig.start_notifyd();
    rig.start_source();
    let key = format!("subscribed/{ALICE}\0user/alice/Box@example.org");
    wait_until(|| !rig.kept.keys().contains(&key));
    imap.subscribe("Box").unwrap();
    imap.unsubscribe("Box").unwrap();
    hear(&rig, &format!("{ALICE} unsubscribed Box"));
    let wanted =
        ["subscribed", "subscribed", "unsubscribed"].map(|deed| format!("{ALICE} {deed} Box"));
    assert_eq!(subscriptions(&rig), wanted);
}

#[test]
fn r97_what_jmap_put_on_the_list_is_known_from_the_look_that_finds_its_mailbox() {
    let Some((rig, cyrus)) = asked(Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    set_mailboxes(&cyrus, r#""create":{"a":{"name":"Jay","isSubscribed":true}}"#);
    hear(&rig, &format!("~{ALICE} created Jay"));
    imap.subscribe("Jay").unwrap();
    imap.unsubscribe("Jay").unwrap();
    let wanted = [format!("{ALICE} unsubscribed Jay")];
    hear(&rig, &wanted[0]);
    assert_eq!(subscriptions(&rig), wanted);
}
