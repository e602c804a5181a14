//! Messages that clients put into mailboxes.

use postbell_testkit::{ALICE, Error, mail};

use crate::scenario::Stage;

/// APPEND, several at once, COPY and MOVE (R27, R35, A13).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn appends(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    imap.create("Archive")?;
    imap.select("INBOX")?;
    stage.aside(|| Ok(()))?;
    stage.step("APPEND INBOX ()", 1, || imap.append("INBOX", "", &mail::plain("one")).map(drop))?;
    stage.step("APPEND INBOX (\\Seen $Work)", 1, || {
        imap.append("INBOX", "\\Seen $Work", &mail::plain("two")).map(drop)
    })?;
    stage.step("APPEND INBOX: three at once", 3, || {
        let [three, four, five] = ["three", "four", "five"].map(mail::plain);
        let messages: [(&str, &[u8]); 3] =
            [("", &three), ("\\Flagged", &four), ("\\Seen \\Draft", &five)];
        imap.append_many("INBOX", &messages).map(drop)
    })?;
    stage.step("UID COPY 1:2 Archive", 2, || imap.copy("1:2", "Archive"))?;
    stage.step("UID MOVE 3 Archive", 2, || imap.move_to("3", "Archive"))?;
    stage.step("UID MOVE 4:5 Archive", 3, || imap.move_to("4:5", "Archive"))?;
    stage.step("UID COPY 99 Archive: nothing there", 0, || imap.copy("99", "Archive"))?;
    Ok(())
}
