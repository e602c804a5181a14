//! Flags that change, and that don't.

use postbell_testkit::{ALICE, Error, mail};

use crate::scenario::Stage;

/// STORE in all its forms, one event for each real change (R54–R70).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn stores(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    for marker in ["one", "two", "three"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    stage.step("STORE 1 +FLAGS (\\Seen)", 1, || imap.store("1", "+FLAGS", "\\Seen"))?;
    stage.step("STORE 1 +FLAGS (\\Seen) again", 0, || imap.store("1", "+FLAGS", "\\Seen"))?;
    stage.step("STORE 2 +FLAGS (\\Deleted)", 1, || imap.store("2", "+FLAGS", "\\Deleted"))?;
    stage.step("STORE 2 -FLAGS (\\Deleted)", 1, || imap.store("2", "-FLAGS", "\\Deleted"))?;
    stage.step("STORE 1:3 +FLAGS (\\Flagged $Work)", 1, || {
        imap.store("1:3", "+FLAGS", "\\Flagged $Work")
    })?;
    stage.step("STORE 1:3 -FLAGS ($Work)", 1, || imap.store("1:3", "-FLAGS", "$Work"))?;
    stage.step("STORE 1 FLAGS (\\Answered $Done): replaced", 2, || {
        imap.store("1", "FLAGS", "\\Answered $Done")
    })?;
    stage.step("STORE 1 FLAGS (\\Answered $Done) again", 0, || {
        imap.store("1", "FLAGS", "\\Answered $Done")
    })?;
    stage.step("STORE 3 +FLAGS (\\Seen \\Deleted \\Draft): three forms at once", 3, || {
        imap.store("3", "+FLAGS", "\\Seen \\Deleted \\Draft")
    })?;
    stage.step("FETCH 2 BODY.PEEK[]: reads nothing", 0, || {
        imap.command("UID FETCH 2 BODY.PEEK[]").map(drop)
    })?;
    stage.step("FETCH 2 BODY[]", 1, || imap.command("UID FETCH 2 BODY[]").map(drop))?;
    stage.step("FETCH 2 BODY[] again", 0, || imap.command("UID FETCH 2 BODY[]").map(drop))?;
    Ok(())
}

/// One command on four hundred messages is one event on a set (R60, R139).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn many(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    // Each another: there are stores that take no hundred copies of one.
    let messages: Vec<_> = (1..=400).map(|number| mail::plain(&format!("m-{number}"))).collect();
    for hundred in messages.chunks(100) {
        let batch: Vec<(&str, &[u8])> = hundred.iter().map(|message| ("", &message[..])).collect();
        imap.append_many("INBOX", &batch)?;
    }
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    stage
        .step("STORE 1:400 +FLAGS (\\Flagged)", 1, || imap.store("1:400", "+FLAGS", "\\Flagged"))?;
    stage.step("STORE 100 -FLAGS (\\Flagged)", 1, || imap.store("100", "-FLAGS", "\\Flagged"))?;
    stage.step("STORE 1:400 +FLAGS (\\Seen \\Flagged): one was unflagged", 2, || {
        imap.store("1:400", "+FLAGS", "\\Seen \\Flagged")
    })?;
    Ok(())
}
