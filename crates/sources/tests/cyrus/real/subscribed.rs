//! Subscriptions as a real Cyrus tells them, where nobody may ask.

use postbell_testkit::cyrus::Options;
use postbell_testkit::{ALICE, Imap};

use super::{heard, told};
use crate::rig::{Rig, send, wait_until};

/// What is told of subscriptions.
fn subscriptions(rig: &Rig) -> Vec<String> {
    told(rig).into_iter().filter(|one| one.contains("subscribed")).collect()
}

#[test]
fn r97_after_a_loss_what_was_subscribed_to_is_told_once_too_often_rather_than_never() {
    let Some((mut rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    imap.subscribe("Box").unwrap();
    imap.subscribe("Box").unwrap();
    wait_until(|| !subscriptions(&rig).is_empty());
    rig.stop_notifyd();
    rig.lose(|| imap.unsubscribe("Box").unwrap());
    rig.start_notifyd();
    // What can't be read may have been anything.
    send(&rig.datagrams(), b"nothing");
    imap.subscribe("Box").unwrap();
    imap.subscribe("Box").unwrap();
    imap.unsubscribe("Box").unwrap();
    let wanted =
        ["subscribed", "subscribed", "unsubscribed"].map(|deed| format!("{ALICE} {deed} Box"));
    wait_until(|| subscriptions(&rig).len() >= wanted.len());
    assert_eq!(subscriptions(&rig), wanted);
}

/// What IMAP says is on the list.
fn listed(imap: &mut Imap) -> Vec<String> {
    let answer = imap.command("LSUB \"\" \"*\"").unwrap();
    let lines = answer.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
    lines.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect()
}

#[test]
fn r97_a_mailbox_that_is_made_anew_is_on_the_list_still() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    imap.subscribe("Box").unwrap();
    imap.delete("Box").unwrap();
    imap.create("Box").unwrap();
    assert_eq!(listed(&mut imap), ["Box"]);
    imap.subscribe("Box").unwrap();
    imap.unsubscribe("Box").unwrap();
    let wanted = ["subscribed", "unsubscribed"].map(|deed| format!("{ALICE} {deed} Box"));
    wait_until(|| subscriptions(&rig).last() == wanted.last());
    assert_eq!(subscriptions(&rig), wanted);
}

#[test]
fn r97_what_went_from_the_list_with_a_mailbox_above_it_is_told_when_it_comes_back() {
    let settings = vec![("delete_unsubscribe".to_owned(), "yes".to_owned())];
    let options = Options { settings, ..Options::default() };
    let Some((rig, cyrus)) = heard(Rig::new(), options) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("a").unwrap();
    imap.create("a/b").unwrap();
    for name in ["a", "a/b"] {
        imap.subscribe(name).unwrap();
    }
    imap.rename("a", "z").unwrap();
    assert!(listed(&mut imap).is_empty(), "{:?}", listed(&mut imap));
    imap.create("a").unwrap();
    imap.create("a/b").unwrap();
    for name in ["a", "a/b"] {
        imap.subscribe(name).unwrap();
    }
    assert_eq!(listed(&mut imap), ["a", "a/b"]);
    let both = ["subscribed a", "subscribed a/b"];
    // Of what was below nothing is said.
    let deeds = [&both[..], &["unsubscribed a"], &both[..]].concat();
    let wanted: Vec<_> = deeds.into_iter().map(|deed| format!("{ALICE} {deed}")).collect();
    imap.logout().unwrap();
    wait_until(|| told(&rig).iter().any(|one| one.starts_with("logout")));
    assert_eq!(subscriptions(&rig), wanted);
}

#[test]
fn r97_whoever_is_made_anew_is_subscribed_to_nothing() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let subscribes = || {
        let mut imap = cyrus.imap(ALICE).unwrap();
        imap.create("Box").unwrap();
        assert!(listed(&mut imap).is_empty(), "{:?}", listed(&mut imap));
        imap.subscribe("Box").unwrap();
        imap.logout().unwrap();
    };
    subscribes();
    let commands = [
        "setaclmailbox user/alice@example.org cyrus c",
        "deletemailbox user/alice@example.org",
        "createmailbox user/alice@example.org",
    ];
    let printed = cyrus.cyradm(&format!("{}\n", commands.join("\n"))).unwrap();
    assert!(!printed.contains("mailbox: "), "{printed}");
    subscribes();
    let told = || subscriptions(&rig);
    wait_until(|| told().iter().filter(|one| one.ends_with(" subscribed Box")).count() == 2);
}
