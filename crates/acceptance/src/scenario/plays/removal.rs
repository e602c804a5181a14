//! Messages that go.

use std::time::Duration;

use postbell_testkit::{ALICE, Error, Imap, mail};

use crate::scenario::{Deed, Stage};

/// EXPUNGE, UID EXPUNGE and CLOSE (R35, R36).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn expunges(stage: &mut Stage<'_>) -> Result<(), Error> {
    let mut imap = filled(stage, "INBOX", 6)?;
    imap.store("1:5", "+FLAGS", "\\Deleted")?;
    stage.aside(|| Ok(()))?;
    stage.step("UID EXPUNGE 2,4", 1, || imap.expunge_uids("2,4"))?;
    stage.step("EXPUNGE", 1, || imap.expunge())?;
    stage.step("EXPUNGE again", 0, || imap.expunge())?;
    imap.store("6", "+FLAGS", "\\Deleted")?;
    stage.aside(|| Ok(()))?;
    stage.step("CLOSE", 1, || imap.close())?;
    Ok(())
}

/// POP3 reads without telling and removes at QUIT (R55, R56).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn pop3(stage: &mut Stage<'_>) -> Result<(), Error> {
    let imap = filled(stage, "INBOX", 3)?;
    let store = stage.store();
    stage.step("IMAP logout", 1, || imap.logout())?;
    let mut held = None;
    stage.step("POP3 logs in", 1, || {
        held = Some(store.pop3(ALICE)?);
        Ok(())
    })?;
    let Some(mut pop) = held else { return Ok(()) };
    stage.step("RETR 1", 0, || pop.retrieve(1).map(drop))?;
    stage.step("DELE 1, RSET, QUIT", 1, || {
        pop.delete(1)?;
        pop.reset()?;
        pop.quit()
    })?;
    stage.step("POP3 again: DELE 1, DELE 3, QUIT", 3, || {
        let mut pop = store.pop3(ALICE)?;
        pop.delete(1)?;
        pop.delete(3)?;
        pop.quit()
    })?;
    Ok(())
}

/// What the server's policy takes is expired, and says by which policy (R31, R34).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn expiry(stage: &mut Stage<'_>) -> Result<(), Error> {
    let imap = filled(stage, "Old", 3)?;
    let store = stage.store();
    stage.step("IMAP logout", 1, || imap.logout())?;
    stage.step("the nightly job expires what is in Old", 1, || {
        store.operate(Deed::Expire { user: ALICE, mailbox: "Old" })
    })?;
    Ok(())
}

/// What has been in Spam for a second goes when a session ends, by the server's own policy (R31,
/// R34).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn spam(stage: &mut Stage<'_>) -> Result<(), Error> {
    let imap = filled(stage, "Spam", 3)?;
    // The age of the messages, to the second.
    std::thread::sleep(Duration::from_secs(2));
    stage.step("IMAP logout, at which Spam is cleared", 2, || imap.logout())?;
    Ok(())
}

/// A session with the mailbox open and so many messages in it, of which nothing is told.
fn filled(stage: &mut Stage<'_>, mailbox: &str, count: usize) -> Result<Imap, Error> {
    let mut imap = stage.store().imap(ALICE)?;
    if mailbox != "INBOX" {
        imap.create(mailbox)?;
    }
    for number in 1..=count {
        imap.append(mailbox, "", &mail::plain(&format!("message-{number}")))?;
    }
    imap.select(mailbox)?;
    stage.aside(|| Ok(()))?;
    Ok(imap)
}
