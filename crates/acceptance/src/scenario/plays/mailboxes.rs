//! Mailboxes that come, go and change their names, and the list of subscriptions.

use postbell_testkit::{ALICE, Error, mail};

use crate::scenario::Stage;

/// CREATE, RENAME and DELETE, with implied parents and children (R79–R92).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn tree(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    stage.aside(|| Ok(()))?;
    stage.step("CREATE a/b/c: parents are implied", 1, || imap.create("a/b/c"))?;
    stage.step("CREATE p", 1, || imap.create("p"))?;
    stage.step("CREATE p/one", 1, || imap.create("p/one"))?;
    stage.step("CREATE p/two", 1, || imap.create("p/two"))?;
    stage.step("RENAME p q: children go along in silence", 1, || imap.rename("p", "q"))?;
    stage.step("RENAME q/one new/place/one: new parents are implied", 1, || {
        imap.rename("q/one", "new/place/one")
    })?;
    stage.step("CREATE Größe/邮件", 1, || imap.create("Gr&APYA3w-e/&kK5O9g-"))?;
    stage.aside(|| imap.append("q", "", &mail::plain("inside")).map(drop))?;
    stage.step("DELETE q/two", 1, || imap.delete("q/two"))?;
    stage.step("DELETE q, with a message in it", 1, || imap.delete("q"))?;
    Ok(())
}

/// DELETE of a mailbox that has children, which stay (R86); there are stores that refuse it.
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn parent(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    imap.create("p")?;
    imap.create("p/one")?;
    stage.aside(|| Ok(()))?;
    stage.step("DELETE p: its child stays", 1, || imap.delete("p"))?;
    stage.step("DELETE p/one", 1, || imap.delete("p/one"))?;
    Ok(())
}

/// RENAME INBOX moves what is in it, and leaves INBOX (R90, R93, R94).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn rename_inbox(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    for marker in ["one", "two"] {
        imap.append("INBOX", "", &mail::plain(marker))?;
    }
    stage.aside(|| Ok(()))?;
    stage.step("RENAME INBOX old-mail", 1, || imap.rename("INBOX", "old-mail"))?;
    stage
        .step("APPEND INBOX ()", 1, || imap.append("INBOX", "", &mail::plain("three")).map(drop))?;
    Ok(())
}

/// SUBSCRIBE and UNSUBSCRIBE, and the same again (R97–R100).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn subscriptions(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    imap.create("list")?;
    stage.aside(|| Ok(()))?;
    stage.step("SUBSCRIBE list", 1, || imap.subscribe("list"))?;
    stage.step("SUBSCRIBE list again", 0, || imap.subscribe("list"))?;
    stage.step("UNSUBSCRIBE list", 1, || imap.unsubscribe("list"))?;
    stage.step("UNSUBSCRIBE list again", 0, || {
        // Whether that is refused is the store's affair.
        let _answer = imap.unsubscribe("list");
        Ok(())
    })?;
    Ok(())
}
