//! Cyrus starts, answers and tells; the clients understand it.

use std::time::Duration;

use postbell_testkit::cyrus::{Cyrus, Listener, MANAGER, Notify, OTHERS, Options};
use postbell_testkit::{ALICE, BOB, CAROL, Error, MASTER, Quota, http, mail, password};
use tempfile::TempDir;

#[test]
fn cyrus_delivers_and_answers() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let message = mail::with_attachment("first");
    cyrus.lmtp()?.deliver("sender@example.net", ALICE, &message)?;

    let mut imap = cyrus.imap(ALICE)?;
    let status = imap.status("INBOX")?;
    assert_eq!((status.messages, status.uidnext, status.unseen), (1, 2, 1), "{}", cyrus.log());
    assert_eq!(imap.select("INBOX")?.uid_validity, status.uid_validity);
    let fetched = imap.fetch("1:*")?;
    assert_eq!(fetched.len(), 1);
    let fetched = &fetched[0];
    assert!(fetched.content.ends_with(&message), "Cyrus may only add headers");
    assert_eq!(fetched.size_octets, fetched.content.len() as u64);
    assert!(fetched.body_structure.contains("\"ALTERNATIVE\""), "{}", fetched.body_structure);
    imap.logout()?;

    let mut pop3 = cyrus.pop3(ALICE)?;
    assert_eq!(pop3.count()?, 1);
    assert!(pop3.retrieve(1)?.ends_with(&message));
    pop3.delete(1)?;
    pop3.quit()?;
    assert_eq!(cyrus.imap(ALICE)?.status("INBOX")?.messages, 0);
    Ok(())
}

#[test]
fn a_whole_session_is_understood() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let mut imap = cyrus.imap(BOB)?;
    imap.create("a/b/c")?;
    assert_eq!(imap.append("INBOX", "\\Seen", &mail::plain("one"))?, 1);
    let (two, three) = (mail::plain("two"), mail::plain("three"));
    assert_eq!(imap.append_many("INBOX", &[("", &two), ("\\Draft", &three)])?, "2:3");
    assert_eq!(imap.select("INBOX")?.exists, 3);
    imap.store("2", "+FLAGS", "\\Flagged $Important")?;
    imap.copy("1", "a/b/c")?;
    imap.move_to("2", "a/b/c")?;
    imap.store("1,3", "+FLAGS", "\\Deleted")?;
    imap.expunge_uids("3")?;
    imap.expunge()?;
    imap.rename("a/b/c", "x/y")?;
    imap.subscribe("x/y")?;
    imap.unsubscribe("x/y")?;
    assert_eq!(imap.status("INBOX")?.messages, 0);
    assert_eq!(imap.select("x/y")?.exists, 2);
    assert_eq!(imap.fetch("2")?[0].flags, "\\Recent \\Flagged $Important");
    imap.close()?;
    imap.delete("x/y")?;
    let refusal = imap.delete("x/y").unwrap_err();
    assert!(matches!(refusal, Error::Refused { .. }), "{refusal}");
    Ok(())
}

#[test]
fn the_manager_makes_shares_and_limits_mailboxes() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let mut manager = cyrus.imap(MANAGER)?;
    let team = cyrus.whole_name(BOB, "Team");
    manager.create(&team)?;
    manager.set_acl(&team, ALICE, "lrs")?;
    manager.command(&format!("SETQUOTA \"{}\" (MESSAGE 1)", cyrus.whole_name(BOB, "INBOX")))?;

    let mut bob = cyrus.imap(BOB)?;
    bob.append("INBOX", "", &mail::plain("one"))?;
    let refusal = bob.append("INBOX", "", &mail::plain("two")).unwrap_err();
    assert!(refusal.to_string().contains("Over quota"), "{refusal}");
    let quota = bob.quota("INBOX")?;
    assert_eq!((quota[0].name.as_str(), quota[0].usage, quota[0].limit), ("MESSAGE", 1, 1));

    let mut alice = cyrus.imap(ALICE)?;
    alice.select(&format!("{OTHERS}/bob/Team"))?;
    alice.close()?;
    manager.delete_acl(&team, ALICE)?;
    let refusal = alice.select(&format!("{OTHERS}/bob/Team")).unwrap_err();
    assert!(matches!(refusal, Error::Refused { .. }), "{refusal}");

    cyrus.set_quota(BOB, Quota { storage_kib: 1000, messages: 2 })?;
    bob.append("INBOX", "", &mail::plain("two")).map(drop)
}

#[test]
fn whoever_may_acts_as_another() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    cyrus.imap_as(ALICE, MASTER)?.append("INBOX", "", &mail::plain("one"))?;
    assert_eq!(cyrus.imap(ALICE)?.status("INBOX")?.messages, 1);
    let refusal = cyrus.imap_as(ALICE, BOB).unwrap_err();
    assert!(matches!(refusal, Error::Refused { .. }), "{refusal}");
    Ok(())
}

#[test]
fn cyr_expire_removes_what_is_older_than_its_mailbox_allows() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let mut imap = cyrus.imap(ALICE)?;
    imap.create("Old")?;
    imap.append("Old", "", b"Date: Tue, 1 Jan 2019 00:00:00 +0000\r\nSubject: old\r\n\r\nold\r\n")?;
    imap.append("Old", "", b"Subject: of now\r\n\r\nnew\r\n")?;
    cyrus.set_expiry(ALICE, "Old", 1)?;
    let printed = cyrus.tool("cyr_expire", &["-v", "-E", "3", "-u", ALICE])?;
    assert!(printed.contains("Expired 1 and expunged 0 out of 2 messages"), "{printed}");
    assert_eq!(imap.status("Old")?.messages, 1);
    cyrus.tool("ctl_cyrusdb", &["-c"]).map(drop)
}

#[test]
fn a_sieve_script_sorts_new_mail() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let mut imap = cyrus.imap(ALICE)?;
    imap.create("Lists")?;
    cyrus.set_sieve(ALICE, "require \"fileinto\";\nfileinto \"Lists\";\n")?;
    cyrus.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    assert_eq!(imap.status("Lists")?.messages, 1, "{}", cyrus.log());
    Ok(())
}

#[test]
fn jmap_answers_a_user() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let user = http::Basic { user: ALICE, password: &password(ALICE) };
    let session = http::get_as(cyrus.http_address(), "/jmap/", user)?;
    assert_eq!(session.status, 200, "{}", session.body);
    assert!(session.body.contains("urn:ietf:params:jmap:mail"), "{}", session.body);
    let nobody = http::get(cyrus.http_address(), "/jmap/", None)?;
    assert_eq!(nobody.status, 401, "{}", nobody.body);
    Ok(())
}

#[test]
fn a_killed_cyrus_starts_again_with_its_mail() -> Result<(), Error> {
    let Some(mut cyrus) = Cyrus::start()? else { return Ok(()) };
    let mut imap = cyrus.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    let pid = cyrus.process_of(ALICE)?;
    assert!(cyrus.processes("imapd").contains(&pid));
    cyrus.kill();
    assert!(imap.command("NOOP").is_err(), "process {pid} lives");
    cyrus.start_again()?;
    assert_eq!(cyrus.imap(ALICE)?.status("INBOX")?.messages, 1);
    cyrus.stop();
    cyrus.start_again()?;
    assert_eq!(cyrus.imap(ALICE)?.append("INBOX", "", &mail::plain("two"))?, 2);
    Ok(())
}

#[test]
fn nothing_of_a_dropped_cyrus_is_left() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start()? else { return Ok(()) };
    let (address, folder) = (cyrus.imap_address(), cyrus.folder().to_owned());
    drop(cyrus);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn the_names_of_an_older_site_are_had_too() -> Result<(), Error> {
    let options = Options {
        unixhierarchysep: false,
        altnamespace: false,
        virtdomains: false,
        ..Options::default()
    };
    let Some(cyrus) = Cyrus::start_with(options)? else { return Ok(()) };
    cyrus.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    let mut imap = cyrus.imap(ALICE)?;
    imap.create("INBOX.Lists")?;
    assert_eq!(imap.status("INBOX")?.messages, 1);
    assert_eq!(cyrus.whole_name(ALICE, "INBOX.Lists"), "user.alice.Lists");
    let listed = cyrus.imap(MANAGER)?.command("LIST \"\" user.alice.Lists")?.untagged;
    assert_eq!(listed.len(), 1, "{listed:?}");
    Ok(())
}

#[test]
fn cyrus_own_notifyd_takes_what_is_told() -> Result<(), Error> {
    let Some(cyrus) = Cyrus::start_with(Options::telling(Notify::Notifyd))? else { return Ok(()) };
    // Cyrus goes on without a reader too, so that it does proves nothing.
    assert_eq!(cyrus.processes("notifyd").len(), 1);
    cyrus.imap(ALICE)?.append("INBOX", "", &mail::plain("one")).map(drop)
}

#[test]
fn an_append_is_told_in_datagrams() -> Result<(), Error> {
    let place = place()?;
    let path = place.path().join("notify");
    let listener = Listener::datagrams(&path)?;
    let options = Options::telling(Notify::Datagrams(path));
    let Some(cyrus) = Cyrus::start_with(options)? else { return Ok(()) };
    // Nothing was told of what was done to prepare.
    let mut imap = cyrus.imap(ALICE)?;
    imap.append("INBOX", "\\Seen $Work", &mail::plain("one"))?;
    imap.logout()?;
    insta::assert_snapshot!(until_logout(&listener)?);
    Ok(())
}

#[test]
fn a_delivery_is_told_in_streams_that_are_answered() -> Result<(), Error> {
    let place = place()?;
    let path = place.path().join("notify");
    let listener = Listener::streams(&path)?;
    let options = Options::telling(Notify::Streams(path));
    let Some(cyrus) = Cyrus::start_with(options)? else { return Ok(()) };
    cyrus.lmtp()?.deliver("sender@example.net", CAROL, &mail::plain("one"))?;
    let mut imap = cyrus.imap(CAROL)?;
    imap.select("INBOX")?;
    imap.logout()?;
    insta::assert_snapshot!(until_logout(&listener)?);
    Ok(())
}

/// A folder that Cyrus' account may enter.
fn place() -> Result<TempDir, Error> {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("open up a temporary folder"))?;
    Ok(place)
}

/// What comes until somebody logged out, octet by octet but for what differs from run to run.
fn until_logout(listener: &Listener) -> Result<String, Error> {
    let mut text = String::new();
    while !text.contains("\"event\":\"Logout\"") {
        let Some(heard) = listener.next(PATIENCE) else {
            return Err(Error::Answer { expected: "a Logout".to_owned(), answer: text });
        };
        text.push_str(&shown(&heard));
        text.push('\n');
    }
    Ok(text)
}

fn shown(heard: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(heard).replace('\0', "␀").replace("\r\n", "⏎\n");
    for (before, end) in VARYING {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(before)) {
            let begun = from + at + before.len();
            let length = text.get(begun..).and_then(|rest| rest.find(end)).unwrap_or_default();
            text.replace_range(begun..begun + length, "…");
            from = begun;
        }
    }
    text
}

/// What differs from run to run: what stands before it, and what ends it.
const VARYING: [(&str, &[char]); 10] = [
    ("\"timestamp\":\"", &['"']),
    ("\"mailboxID\":\"", &['"']),
    ("\"vnd.cmu.sessionId\":\"", &['"']),
    ("\"pid\":", &[',']),
    ("\"clientPort\":", &[',']),
    ("\"serverPort\":", &[',']),
    (";UIDVALIDITY=", &['/', '"']),
    ("MESSAGE {", &['+']),
    ("\"messageSize\":", &[',']),
    ("\"modseq\":", &[',']),
];
/// A loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);
