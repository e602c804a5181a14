//! Mail to mailboxes that are nobody's, what operators remove, and sessions of POP3 that time out, as a
//! real Cyrus tells them.

use postbell_testkit::cyrus::{MANAGER, Options};
use postbell_testkit::{ALICE, BOB, mail};

use super::{events, heard, told};
use crate::rig::{Rig, wait_until};

#[test]
fn r116_mail_for_a_shared_mailbox_is_told_as_nobodys_and_done_by_nobody() {
    for (unixhierarchysep, virtdomains, postuser) in
        [(true, true, ""), (true, true, "bulletins"), (false, false, "")]
    {
        for_a_shared_mailbox(unixhierarchysep, virtdomains, postuser);
    }
}

fn for_a_shared_mailbox(unixhierarchysep: bool, virtdomains: bool, postuser: &str) {
    let mut rig = Rig::new();
    rig.options.namespace.unix_separator = unixhierarchysep;
    rig.options.namespace.domains = virtdomains;
    let is_some = !postuser.is_empty();
    let some_postuser = is_some.then(|| ("postuser".to_owned(), postuser.to_owned()));
    let options = Options {
        unixhierarchysep,
        virtdomains,
        settings: some_postuser.into_iter().collect(),
        ..Options::default()
    };
    let Some((rig, cyrus)) = heard(rig, options) else { return };
    let at = if virtdomains { "@example.org" } else { "" };
    let mut manager = cyrus.imap(MANAGER).unwrap();
    let mut lmtp = cyrus.lmtp().unwrap();
    for name in ["team", "team/plans"] {
        let own = if unixhierarchysep { name.to_owned() } else { name.replace('/', ".") };
        let whole = format!("{own}{at}");
        manager.create(&whole).unwrap();
        manager.set_acl(&whole, "anyone", "p").unwrap();
        let to = format!("{postuser}+{own}@example.org");
        lmtp.deliver("sender@example.net", &to, &mail::plain(name)).unwrap();
    }
    lmtp.quit().unwrap();
    manager.logout().unwrap();
    wait_until(|| told(&rig).iter().any(|one| one.starts_with("logout")));
    let came = told(&rig).into_iter().filter(|one| one.contains("delivered"));
    let wanted = ["team", "team/plans"].map(|name| format!("- delivered {name}{at} 1"));
    assert_eq!(came.collect::<Vec<_>>(), wanted);
    let came = events(&rig).into_iter().filter(|event| event["event"] == "MessageNew");
    for (event, name) in came.zip(["team", "team/plans"]) {
        let uri = event["uri"].as_str().unwrap();
        let place = format!("imap://mail.example.org/{name}{at};UIDVALIDITY=");
        assert!(uri.starts_with(&place), "{uri}");
        assert!(event.get("user").is_none() && event["service"] == "lmtp", "{event}");
    }
}

#[test]
fn what_ipurge_removes_is_expunged_by_nobody() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create("Old").unwrap();
    for mailbox in ["Old", "Old", "INBOX"] {
        imap.append(mailbox, "", &mail::plain("one")).unwrap();
    }
    cyrus.tool("ipurge", &["-f", "-d", "1", &cyrus.whole_name(ALICE, "Old")]).unwrap();
    imap.logout().unwrap();
    wait_until(|| told(&rig).iter().any(|one| one.starts_with("logout")));
    let gone = told(&rig).into_iter().filter(|one| one.contains("expunged"));
    assert_eq!(gone.collect::<Vec<_>>(), [format!("{ALICE} expunged Old 1:2")]);
    // As Cyrus says it: what goes by a policy of its operator's would be MessageExpire (R31).
    let events = events(&rig);
    let gone = events.iter().find(|event| event["event"] == "MessageExpunge").unwrap();
    assert!(gone.get("user").is_none() && gone["service"] == "ipurge", "{gone}");
}

/// What ends it is Cyrus, not its client: as where its timeout has passed, which takes ten minutes at
/// least, or its operator sends the process away.
#[test]
fn r74_a_session_of_pop3_that_cyrus_ends_has_one_logout() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let watched = cyrus.pop3(BOB).unwrap();
    let pop3 = cyrus.pop3(ALICE).unwrap();
    cyrus.end_process(cyrus.process_of(ALICE).unwrap()).unwrap();
    let logout = format!("logout {ALICE}");
    wait_until(|| told(&rig).contains(&logout));
    drop(pop3);
    watched.quit().unwrap();
    cyrus.imap(ALICE).unwrap().logout().unwrap();
    let is_over = |rig: &Rig| told(rig).iter().filter(|one| **one == logout).count() > 1;
    wait_until(|| is_over(&rig));
    let of_alice = told(&rig).into_iter().filter(|one| one.ends_with(ALICE));
    let pair = [format!("login {ALICE}"), logout.clone()];
    assert_eq!(of_alice.collect::<Vec<_>>(), [&pair[..], &pair[..]].concat());
}
