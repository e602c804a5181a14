//! Names as a real Cyrus says them under each of its settings.

use postbell_testkit::cyrus::{Cyrus, Notify, Options};
use postbell_testkit::{ALICE, mail};

use super::told;
use crate::rig::{Rig, wait_until};

#[test]
fn r116_r146_names_are_the_owners_whatever_the_settings_of_names_are() {
    for virtdomains in ["off", "userid", "on"] {
        for (unixhierarchysep, altnamespace) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            told_as_the_owner_has_it(virtdomains, unixhierarchysep, altnamespace);
        }
    }
}

fn told_as_the_owner_has_it(virtdomains: &str, unixhierarchysep: bool, altnamespace: bool) {
    let has_domains = virtdomains != "off";
    let mut rig = Rig::new();
    rig.options.namespace.domains = has_domains;
    rig.options.namespace.unix_separator = unixhierarchysep;
    rig.options.namespace.alternative = altnamespace;
    rig.start_notifyd();
    let options = Options {
        notify: Notify::Datagrams(rig.datagrams()),
        unixhierarchysep,
        altnamespace,
        virtdomains: has_domains,
        settings: vec![("virtdomains".to_owned(), virtdomains.to_owned())],
        ..Options::default()
    };
    let Some(cyrus) = Cyrus::start_with(options).unwrap() else { return };
    rig.start_source();
    let (below, separator) =
        (if altnamespace { "" } else { "INBOX" }, if unixhierarchysep { "/" } else { "." });
    let name = |name: &str| {
        let levels: Vec<_> = [below, name].into_iter().filter(|one| !one.is_empty()).collect();
        levels.join("/").replace('/', separator)
    };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.create(&name("Box")).unwrap();
    // A mailbox whose ACL lets anybody post is delivered to by its name behind a plus.
    imap.set_acl(&name("Box"), "anyone", "p").unwrap();
    imap.create(&name("Box/Sub")).unwrap();
    imap.append(&name("Box/Sub"), "", &mail::plain("one")).unwrap();
    imap.rename(&name("Box/Sub"), &name("Sub")).unwrap();
    let alice = cyrus.login_name(ALICE);
    let (local, domain) = alice.split_once('@').unwrap_or((&alice, ""));
    let at = if domain.is_empty() { "" } else { "@" };
    let plus = format!("{local}+Box{at}{domain}");
    cyrus.lmtp().unwrap().deliver("sender@example.net", &plus, &mail::plain("two")).unwrap();
    imap.delete(&name("Sub")).unwrap();
    imap.logout().unwrap();
    let told_name = |one: &str| name(one).replace(separator, "/");
    let wanted = [
        format!("login {alice}"),
        format!("{alice} created {}", told_name("Box")),
        format!("{alice} created {}", told_name("Box/Sub")),
        format!("{alice} appended {} 1", told_name("Box/Sub")),
        format!("{alice} renamed {} {}", told_name("Box/Sub"), told_name("Sub")),
        format!("{alice} delivered {} 1", told_name("Box")),
        format!("{alice} deleted {}", told_name("Sub")),
        format!("logout {alice}"),
    ];
    wait_until(|| told(&rig).last() == wanted.last());
    let told: Vec<_> = told(&rig).into_iter().filter(|one| !one.ends_with("AclChange")).collect();
    assert_eq!(told, wanted, "{virtdomains} {unixhierarchysep} {altnamespace}");
}
