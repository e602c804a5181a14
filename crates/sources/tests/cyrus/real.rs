//! A real Cyrus, the process in notifyd's place and the source, end to end.

mod administered;
mod delivered;
mod further;
mod names;
mod signs;
mod subscribed;

use mail_event::json;
use postbell_engine::{Memory, Policy, Store, normalise};
use postbell_testkit::cyrus::{Cyrus, Notify, Options};
use postbell_testkit::{ALICE, BOB, Error, mail};

use crate::rig::{Rig, wait_until};

/// What is told of mail and mailboxes, without MailboxModseq.
fn told(rig: &Rig) -> Vec<String> {
    let told = rig.kept.told();
    let told = told.iter().map(crate::rig::shown);
    told.filter(|one| !one.ends_with("MailboxModseq")).collect()
}

/// What is told, as events by the usual policy.
fn events(rig: &Rig) -> Vec<serde_json::Value> {
    let store = Store::new("mail.example.org", None).unwrap();
    let mut memory = Memory::default();
    let told = rig.kept.told().into_iter();
    let meant = told.map(|seen| normalise(&mut memory, &store, &Policy::default(), "mail", seen));
    let events = meant.flat_map(|meaning| meaning.events);
    events.map(|one| serde_json::from_str(&json::to_string(&one.event)).unwrap()).collect()
}

/// A Cyrus with these options, heard over datagrams; nothing where there is none to be had.
fn heard(mut rig: Rig, options: Options) -> Option<(Rig, Cyrus)> {
    rig.start_notifyd();
    let notify = Notify::Datagrams(rig.datagrams());
    let cyrus = Cyrus::start_with(Options { notify, ..options }).unwrap()?;
    rig.start_source();
    Some((rig, cyrus))
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

#[test]
fn r74_however_a_real_session_ends_it_has_one_logout() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    // Seen as long as it lasts, so that others who aren't seen are known to be gone.
    let watched = cyrus.pop3(BOB).unwrap();
    // One at a time, so that each Logout is the one of the Login before it.
    let ends: [&dyn Fn() -> Result<(), Error>; 6] = [
        &|| cyrus.imap(ALICE)?.logout(),
        &|| cyrus.imap(ALICE).map(drop),
        &|| cyrus.imap(ALICE)?.cut(),
        &|| cyrus.pop3(ALICE)?.quit(),
        &|| cyrus.pop3(ALICE).map(drop),
        &|| cyrus.pop3(ALICE)?.cut(),
    ];
    let of_alice = |rig: &Rig| {
        let all = told(rig).into_iter();
        all.filter(|one| one.ends_with(ALICE)).collect::<Vec<_>>()
    };
    for (before, end) in ends.iter().enumerate() {
        end().unwrap();
        wait_until(|| of_alice(&rig).len() > 2 * before + 1);
    }
    // And nothing of them comes late.
    watched.quit().unwrap();
    cyrus.imap(ALICE).unwrap().logout().unwrap();
    let pairs = ends.len() + 1;
    wait_until(|| told(&rig).len() >= 2 * pairs + 2);
    let pair = [format!("login {ALICE}"), format!("logout {ALICE}")];
    let wanted: Vec<_> = pair.iter().cycle().take(2 * pairs).cloned().collect();
    assert_eq!(of_alice(&rig), wanted);
}
