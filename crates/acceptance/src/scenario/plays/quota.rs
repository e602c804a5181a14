//! Limits.

use postbell_testkit::{ALICE, BOB, Error, Imap, mail};

use crate::scenario::{Deed, Stage};

/// Refused for want of quota, back within, and the limit changed (R46–R53).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn messages(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    for marker in ["one", "two"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    imap.logout()?;
    store.operate(Deed::Limit { user: ALICE, storage_kib: 10_000, messages: 3 })?;
    let mut imap = store.imap(ALICE)?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    stage.step("APPEND the third of three", 1, || {
        imap.append("INBOX", "", &mail::plain("three")).map(drop)
    })?;
    stage.step("APPEND a fourth: refused", 1, || {
        refused(imap.append("INBOX", "", &mail::plain("four")))
    })?;
    stage.step("APPEND again: refused again, told or not", 0, || {
        refused(imap.append("INBOX", "", &mail::plain("four")))
    })?;
    stage.step("COPY: refused", 0, || refused(imap.copy("1", "INBOX")))?;
    let mut lmtp = store.lmtp()?;
    stage.step("LMTP delivers: refused", 0, || {
        refused(lmtp.deliver("sender@example.net", ALICE, &mail::plain("five")))
    })?;
    stage.step("two are removed: within again, once", 2, || remove(&mut imap, "1:2"))?;
    stage.step("one more is removed", 1, || remove(&mut imap, "3"))?;
    imap.logout()?;
    stage.aside(|| Ok(()))?;
    store.operate(Deed::Limit { user: ALICE, storage_kib: 10_000, messages: 5 })?;
    let mut imap = store.imap(ALICE)?;
    stage.aside(|| Ok(()))?;
    stage.step("the limit was raised; APPEND", 2, || {
        imap.append("INBOX", "", &mail::plain("six")).map(drop)
    })?;
    Ok(())
}

/// A storage limit, met by a delivery.
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn storage(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    store.operate(Deed::Limit { user: BOB, storage_kib: 20, messages: 1000 })?;
    let mut imap = store.imap(BOB)?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    let mut lmtp = store.lmtp()?;
    let mut large = mail::plain("large");
    large.extend(b"0123456789abcdef0123456789abcdef0123456789abcdef012345678901\r\n".repeat(200));
    stage.step("LMTP delivers 12 KiB into 20", 1, || {
        lmtp.deliver("sender@example.net", BOB, &large)
    })?;
    stage.step("LMTP delivers 12 KiB more: refused", 1, || {
        refused(lmtp.deliver("sender@example.net", BOB, &large))
    })?;
    stage.step("the first is removed: within again", 2, || remove(&mut imap, "1"))?;
    Ok(())
}

fn remove(imap: &mut Imap, uids: &str) -> Result<(), Error> {
    // \Deleted and the expunge in one go, lest the flags be told as well.
    imap.command(&format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)"))?;
    imap.expunge()
}

fn refused<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Refused { .. }) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(Error::Answer {
            expected: "a refusal".to_owned(),
            answer: "it was taken".to_owned(),
        }),
    }
}
