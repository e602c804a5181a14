//! What a real `cyradm` does, as told.

use postbell_testkit::cyrus::Options;

use super::{heard, told};
use crate::rig::{Rig, wait_until};

#[test]
fn r79_r80_r85_what_cyradm_does_is_told_of_whose_mailboxes_it_does_it_to() {
    let Some((rig, cyrus)) = heard(Rig::new(), Options::default()) else { return };
    let commands = [
        "createmailbox user/dora@example.org",
        "createmailbox user/alice/Team@example.org",
        "setaclmailbox user/alice/Team@example.org bob@example.org lrs",
        "setquota user/alice@example.org STORAGE 1000",
        "renamemailbox user/alice/Team@example.org user/alice/Crew@example.org",
        "deleteaclmailbox user/alice/Crew@example.org bob@example.org",
        "setaclmailbox user/alice/Crew@example.org cyrus c",
        "deletemailbox user/alice/Crew@example.org",
    ];
    let printed = cyrus.cyradm(&format!("{}\n", commands.join("\n"))).unwrap();
    assert!(!printed.contains("mailbox: "), "{printed}");
    wait_until(|| told(&rig).iter().any(|one| one.starts_with("logout")));
    assert_eq!(
        told(&rig),
        [
            "login cyrus",
            "dora@example.org created INBOX",
            "alice@example.org created Team",
            "bob@example.org created Other Users/alice/Team",
            "alice@example.org vnd.cmu.AclChange",
            "alice@example.org renamed Team Crew",
            "bob@example.org deleted Other Users/alice/Crew",
            "alice@example.org vnd.cmu.AclChange",
            "alice@example.org vnd.cmu.AclChange",
            "alice@example.org deleted Crew",
            "logout cyrus",
        ]
    );
}
