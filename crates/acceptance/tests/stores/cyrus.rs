//! Cyrus as the scenarios reach it.
//!
//! The hub doesn't listen in notifyd's place yet, so the plays are not played here: what Cyrus says
//! of an operator's deeds is heard by a listener of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use postbell_acceptance::scenario::{Deed, MARKER, MailStore};
use postbell_testkit::cyrus::{Cyrus, Listener, Notify, OTHERS, Options};
use postbell_testkit::{ADMIN, ALICE, BOB, Error, Imap, Lmtp, Pop3, Quota, mail};
use tempfile::TempDir;

/// A Cyrus that tells.
#[derive(Debug)]
struct Whole {
    cyrus: Cyrus,
    // Kept for its removal.
    _place: TempDir,
}

impl MailStore for Whole {
    fn name(&self) -> &'static str {
        "cyrus"
    }

    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap(user)
    }

    fn imap_as_admin(&self, user: &str) -> Result<Imap, Error> {
        self.cyrus.imap_as(user, ADMIN)
    }

    fn pop3(&self, user: &str) -> Result<Pop3, Error> {
        self.cyrus.pop3(user)
    }

    fn lmtp(&self) -> Result<Lmtp, Error> {
        self.cyrus.lmtp()
    }

    fn operate(&self, deed: Deed<'_>) -> Result<(), Error> {
        match deed {
            Deed::Expire { user, mailbox } => {
                // All mail of the plays is older than a day by its Date, which is what counts.
                self.cyrus.set_expiry(user, mailbox, 1)?;
                let user = self.cyrus.login_name(user);
                self.cyrus.tool("cyr_expire", &["-E", "3", "-u", &user]).map(drop)
            }
            Deed::Limit { user, storage_kib, messages } => {
                self.cyrus.set_quota(user, Quota { storage_kib, messages })
            }
            Deed::Kill { user } => self.cyrus.kill_process(self.cyrus.process_of(user)?),
            Deed::Sieve { user, script } => self.cyrus.set_sieve(user, script),
        }
    }

    fn shared(&self, owner: &str, mailbox: &str) -> String {
        // Users of one domain don't see it.
        let (local, _) = owner.split_once('@').unwrap_or((owner, ""));
        format!("{OTHERS}/{local}/{mailbox}")
    }

    fn ports(&self) -> Vec<(u16, &'static str)> {
        vec![
            (self.cyrus.imap_address().port(), "imap"),
            (self.cyrus.pop3_address().port(), "pop3"),
            (self.cyrus.lmtp_address().port(), "lmtp"),
        ]
    }

    fn log(&self) -> String {
        self.cyrus.log()
    }
}

/// One that tells a listener in datagrams.
fn heard() -> Result<Option<(Whole, Listener)>, Error> {
    let place = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    // Cyrus runs as somebody else where root tests.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("open up a temporary folder"))?;
    let path = place.path().join("notify");
    let listener = Listener::datagrams(&path)?;
    let cyrus = Cyrus::start_with(Options::telling(Notify::Datagrams(path)))?;
    Ok(cyrus.map(|cyrus| (Whole { cyrus, _place: place }, listener)))
}

/// The names of the events told until the marker subscribed to a mailbox, which it does now; its
/// own are left out, and so are mere changes of MODSEQ.
fn told(store: &dyn MailStore, listener: &Listener) -> Result<Vec<String>, Error> {
    store.imap(MARKER)?.subscribe("INBOX")?;
    let mut names = Vec::new();
    loop {
        let Some(event) = listener.next(PATIENCE) else {
            let answer = format!("{names:?}\n{}", store.log());
            return Err(Error::Answer { expected: "the marker's event".to_owned(), answer });
        };
        let event = String::from_utf8_lossy(&event).into_owned();
        let name = event.split('"').nth(3).unwrap_or_default();
        if !event.contains(&format!("\"user\":\"{MARKER}\"")) {
            if name != "MailboxModseq" {
                names.push(name.to_owned());
            }
        } else if name == "MailboxSubscribe" {
            return Ok(names);
        }
    }
}

#[test]
fn what_expires_is_told_as_that() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    imap.create("Old")?;
    imap.append("Old", "", &mail::plain("one"))?;
    told(&store, &listener)?;
    store.operate(Deed::Expire { user: ALICE, mailbox: "Old" })?;
    assert_eq!(told(&store, &listener)?, ["MessageExpire"]);
    assert_eq!(imap.status("Old")?.messages, 0);
    Ok(())
}

#[test]
fn a_limit_is_kept_and_not_told() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    told(&store, &listener)?;
    store.operate(Deed::Limit { user: ALICE, storage_kib: 1000, messages: 1 })?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    assert!(imap.append("INBOX", "", &mail::plain("two")).is_err());
    assert_eq!(told(&store, &listener)?, ["MessageAppend"]);
    Ok(())
}

#[test]
fn a_killed_process_ends_its_session_in_silence() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(BOB)?;
    store.operate(Deed::Kill { user: BOB })?;
    assert!(imap.command("NOOP").is_err());
    assert_eq!(told(&store, &listener)?, ["Login"]);
    Ok(())
}

#[test]
fn a_script_sorts_with_flags() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut imap = store.imap(ALICE)?;
    imap.create("Lists")?;
    told(&store, &listener)?;
    let script =
        "require [\"fileinto\", \"imap4flags\"];\naddflag \"$List\";\nfileinto \"Lists\";\n";
    store.operate(Deed::Sieve { user: ALICE, script })?;
    assert!(told(&store, &listener)?.is_empty(), "what the operator does is no part of a play");
    store.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    assert_eq!(told(&store, &listener)?, ["MessageNew"]);
    imap.select("Lists")?;
    assert!(imap.fetch("1")?[0].flags.contains("$List"), "{}", store.log());
    Ok(())
}

#[test]
fn anothers_mailbox_is_reached_by_its_shared_name() -> Result<(), Error> {
    let Some((store, listener)) = heard()? else { return Ok(()) };
    let mut bob = store.imap(BOB)?;
    bob.create("Team")?;
    bob.set_acl("Team", ALICE, "lrs")?;
    assert_eq!(told(&store, &listener)?, ["Login", "MailboxCreate", "AclChange"]);
    store.imap_as_admin(ALICE)?.select(&store.shared(BOB, "Team")).map(drop)
}

/// A loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(20);
