//! Mailboxes that others may see.

use postbell_testkit::{ALICE, BOB, Error, mail};

use crate::scenario::Stage;

/// Access given and taken comes and goes for whom it concerns (R79, R80, R85); what is done in
/// another's mailbox names who did it and whose it is (R150).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn access(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut bob = store.imap(BOB)?;
    bob.create("Team")?;
    bob.append("Team", "", &mail::plain("minutes"))?;
    let mut alice = store.imap(ALICE)?;
    stage.aside(|| Ok(()))?;
    stage.step("SETACL Team alice lrwsi: it comes into her view", 1, || {
        bob.set_acl("Team", ALICE, "lrwsit")
    })?;
    stage.step("SETACL Team alice +k: nothing comes into view", 0, || {
        bob.set_acl("Team", ALICE, "+k")
    })?;
    let team = store.shared(BOB, "Team");
    alice.select(&team)?;
    stage.aside(|| Ok(()))?;
    stage.step("alice STORE 1 +FLAGS (\\Flagged) in bob's Team", 1, || {
        alice.store("1", "+FLAGS", "\\Flagged")
    })?;
    stage.step("alice APPEND to bob's Team", 1, || {
        alice.append(&team, "", &mail::plain("reply")).map(drop)
    })?;
    alice.close()?;
    stage.aside(|| Ok(()))?;
    stage.step("DELETEACL Team alice: it goes out of her view", 1, || {
        bob.delete_acl("Team", ALICE)
    })?;
    Ok(())
}
