//! A real Cyrus, the process in notifyd's place and the source, end to end.

use postbell_testkit::cyrus::{Cyrus, Notify, Options};
use postbell_testkit::{ALICE, mail};

use crate::rig::{Rig, wait_until};

/// What is told of mail and mailboxes, without MailboxModseq.
fn told(rig: &Rig) -> Vec<String> {
    let told = rig.kept.told();
    let told = told.iter().map(crate::rig::shown);
    told.filter(|one| !one.ends_with("MailboxModseq")).collect()
}

fn play(notify: impl FnOnce(&Rig) -> Notify) {
    let mut rig = Rig::new();
    rig.start_notifyd();
    let options = Options::telling(notify(&rig));
    let Some(cyrus) = Cyrus::start_with(options).unwrap() else { return };
    rig.start_source();
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Box").unwrap();
    imap.append("INBOX", "\\Seen", &mail::plain("one")).unwrap();
    imap.append("INBOX", "", &mail::plain("two")).unwrap();
    imap.select("INBOX").unwrap();
    imap.copy("1", "Box").unwrap();
    imap.move_to("2", "Box").unwrap();
    imap.rename("Box", "Case").unwrap();
    imap.logout().unwrap();
    let alice = "alice@example.org";
    let wanted = [
        format!("login {alice}"),
        format!("{alice} created Box"),
        format!("{alice} appended INBOX 1"),
        format!("{alice} appended INBOX 2"),
        format!("{alice} appended Box 1 from INBOX 1"),
        format!("{alice} appended Box 2 from INBOX 2"),
        format!("{alice} expunged INBOX 2 to Box 2"),
        format!("{alice} renamed Box Case"),
        format!("logout {alice}"),
    ];
    wait_until(|| told(&rig).last() == wanted.last());
    assert_eq!(told(&rig), wanted);
}

#[test]
fn a_real_cyrus_is_told_whole_over_datagrams() {
    play(|rig| Notify::Datagrams(rig.datagrams()));
}

#[test]
fn a_real_cyrus_is_told_whole_over_streams() {
    play(|rig| Notify::Streams(rig.streams()));
}
