//! What a real Cyrus said and nobody heard, where nobody may ask.

use postbell_engine::What;
use postbell_testkit::cyrus::{Cyrus, MANAGER, Options};
use postbell_testkit::{ALICE, BOB, Imap, mail};

use super::heard;
use crate::rig::{Rig, UNSAID, change_too_much, shown, wait_until};

/// What is told as missed.
fn missed(rig: &Rig) -> Vec<String> {
    let told = rig.kept.told();
    let missed = told.iter().filter(|seen| matches!(seen.what, What::Missed { .. }));
    missed.map(shown).collect()
}

#[test]
fn what_nobody_heard_and_nobody_may_ask_for_is_told_as_missed_of_its_mailbox() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    imap.append("Box", "", &mail::plain("one")).unwrap();
    change_too_much(&rig, &mut imap, "Box");
    wait_until(|| !missed(&rig).is_empty());
    assert_eq!(missed(&rig), [format!("{ALICE} missed Box: {UNSAID}")]);
}

#[test]
fn what_cyrus_tells_whole_is_not_told_as_missed() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    of_messages(&cyrus, &mut imap);
    of_mailboxes(&mut imap);
    of_operators(&cyrus);
    // What is not heard of bob's leaves a sign that is judged with all that is as old.
    let mut bob = cyrus.imap(BOB).unwrap();
    bob.append("INBOX", "", &mail::plain("one")).unwrap();
    change_too_much(&rig, &mut bob, "INBOX");
    wait_until(|| missed(&rig).iter().any(|one| one.starts_with(BOB)));
    let written = || rig.written().lines().map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(missed(&rig), [format!("{BOB} missed INBOX: {UNSAID}")], "{}", written());
}

/// Messages that come, change and go.
fn of_messages(cyrus: &Cyrus, imap: &mut Imap) {
    imap.create("Copies").unwrap();
    let [one, two, three] = ["one", "two", "three"].map(mail::plain);
    imap.append_many("INBOX", &[("\\Seen $Work", &one[..]), ("", &two[..]), ("", &three[..])])
        .unwrap();
    cyrus.lmtp().unwrap().deliver("sender@example.net", ALICE, &mail::plain("four")).unwrap();
    imap.select("INBOX").unwrap();
    imap.store("1:4", "+FLAGS", "\\Seen \\Flagged \\Deleted $Work").unwrap();
    imap.store("1:4", "FLAGS", "\\Answered").unwrap();
    imap.copy("1:3", "Copies").unwrap();
    imap.move_to("1", "Copies").unwrap();
    imap.store("2", "+FLAGS", "\\Deleted").unwrap();
    imap.expunge().unwrap();
    let mut pop3 = cyrus.pop3(ALICE).unwrap();
    pop3.retrieve(1).unwrap();
    pop3.delete(1).unwrap();
    pop3.quit().unwrap();
}

/// Mailboxes that come, change and go.
fn of_mailboxes(imap: &mut Imap) {
    imap.create("a/b/c").unwrap();
    imap.command("CREATE Sent (USE (\\Sent))").unwrap();
    imap.append("a/b/c", "", &mail::plain("five")).unwrap();
    imap.rename("a", "d").unwrap();
    imap.subscribe("d").unwrap();
    imap.unsubscribe("d").unwrap();
    imap.set_acl("d", BOB, "lrs").unwrap();
    imap.delete_acl("d", BOB).unwrap();
    for mailbox in ["d/b/c", "d/b", "d"] {
        imap.delete(mailbox).unwrap();
    }
}

/// What those who run the server do.
fn of_operators(cyrus: &Cyrus) {
    let mut manager = cyrus.imap(MANAGER).unwrap();
    let name = "Bulletin@example.org";
    manager.create(name).unwrap();
    manager.set_acl(name, MANAGER, "lrswipkxtecda").unwrap();
    manager.append(name, "\\Flagged", &mail::plain("six")).unwrap();
    manager.rename(&cyrus.whole_name(ALICE, "Copies"), &cyrus.whole_name(BOB, "Theirs")).unwrap();
    cyrus.set_expiry(BOB, "Theirs", 1).unwrap();
    cyrus.tool("cyr_expire", &["-E", "3", "-u", &cyrus.login_name(BOB)]).unwrap();
    manager.delete(name).unwrap();
}
