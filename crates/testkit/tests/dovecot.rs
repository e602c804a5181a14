//! Dovecot starts, answers and writes Maildirs; the clients understand it.

use postbell_testkit::{ALICE, BOB, Dovecot, Error, Extent, Options, Quota, mail};

#[test]
fn dovecot_delivers_and_answers() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let message = mail::with_attachment("first");
    dovecot.lmtp()?.deliver("sender@example.net", ALICE, &message)?;

    let mut imap = dovecot.imap(ALICE)?;
    let status = imap.status("INBOX")?;
    assert_eq!((status.messages, status.uidnext, status.unseen), (1, 2, 1), "{}", dovecot.log());
    assert_eq!(imap.select("INBOX")?.uid_validity, status.uid_validity);
    let fetched = imap.fetch("1:*")?;
    assert_eq!(fetched.len(), 1);
    let fetched = &fetched[0];
    assert!(fetched.content.ends_with(&message), "Dovecot may only add headers");
    assert_eq!(fetched.size_octets, fetched.content.len() as u64);
    assert!(fetched.body_structure.contains("\"alternative\""), "{}", fetched.body_structure);
    imap.logout()?;
    assert!(dovecot.maildir(ALICE).join("dovecot-uidlist").is_file());
    Ok(())
}

#[test]
fn a_whole_session_is_understood() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let mut imap = dovecot.imap(BOB)?;
    imap.create("a/b/c")?;
    assert_eq!(imap.append("INBOX", "\\Seen", &mail::plain("one"))?, 1);
    assert_eq!(imap.append("INBOX", "", &mail::plain("two"))?, 2);
    assert_eq!(imap.select("INBOX")?.exists, 2);
    imap.store("2", "+FLAGS", "\\Flagged $Important")?;
    imap.copy("1", "a/b/c")?;
    imap.move_to("2", "a/b/c")?;
    imap.store("1", "+FLAGS", "\\Deleted")?;
    imap.expunge()?;
    imap.rename("a/b/c", "x/y")?;
    imap.subscribe("x/y")?;
    imap.unsubscribe("x/y")?;
    assert_eq!(imap.status("INBOX")?.messages, 0);
    assert_eq!(imap.select("x/y")?.exists, 2);
    assert_eq!(imap.fetch("2")?[0].flags, "\\Flagged \\Recent $Important");
    imap.select("INBOX")?;
    imap.delete("x/y")?;
    let refusal = imap.delete("x/y").unwrap_err();
    assert!(matches!(refusal, Error::Refused { .. }), "{refusal}");
    Ok(())
}

#[test]
fn a_quota_is_kept_in_maildirsize() -> Result<(), Error> {
    let quota = Some(Quota { storage_kib: 512, messages: 2 });
    let Some(dovecot) = Dovecot::start_with(Options { quota, ..Options::default() })? else {
        return Ok(());
    };
    let mut lmtp = dovecot.lmtp()?;
    for marker in ["one", "two"] {
        lmtp.deliver("sender@example.net", ALICE, &mail::plain(marker))?;
    }
    let refusal = lmtp.deliver("sender@example.net", ALICE, &mail::plain("three")).unwrap_err();
    assert!(refusal.to_string().contains("Quota exceeded"), "{refusal}");
    let size = std::fs::read_to_string(dovecot.maildir(ALICE).join("maildirsize")).unwrap();
    assert!(size.starts_with("524288S,2C\n"), "{size}");
    Ok(())
}

#[test]
fn a_quota_of_ones_own_is_in_force_at_once_for_new_sessions_and_deliveries() -> Result<(), Error> {
    let all = Quota { storage_kib: 1000, messages: 100 };
    let options = Options { quota: Some(all), extent: Extent::Whole, ..Options::default() };
    let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(()) };
    let limits = |user: &str| -> Result<Vec<_>, Error> {
        let resources = dovecot.imap(user)?.quota("INBOX")?;
        Ok(resources.into_iter().map(|one| (one.name, one.limit)).collect())
    };
    let of = |storage: u64, messages: u64| {
        vec![("STORAGE".to_owned(), storage), ("MESSAGE".to_owned(), messages)]
    };
    // Authentication has just looked at the file.
    assert_eq!(limits(ALICE)?, of(1000, 100));
    dovecot.set_quota(ALICE, Quota { storage_kib: 20, messages: 1 })?;
    assert_eq!(limits(ALICE)?, of(20, 1));
    dovecot.set_quota(BOB, Quota { storage_kib: 30, messages: 2 })?;
    assert_eq!((limits(ALICE)?, limits(BOB)?), (of(20, 1), of(30, 2)));
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    let refusal = lmtp.deliver("sender@example.net", ALICE, &mail::plain("two")).unwrap_err();
    assert!(refusal.to_string().contains("Quota exceeded"), "{refusal}");
    dovecot.set_quota(ALICE, Quota { storage_kib: 20, messages: 2 })?;
    lmtp.deliver("sender@example.net", ALICE, &mail::plain("two"))?;
    Ok(())
}

#[test]
fn nothing_of_a_dropped_dovecot_is_left() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let (address, mail) = (dovecot.imap_address(), dovecot.mail());
    drop(dovecot);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!mail.exists());
    Ok(())
}
