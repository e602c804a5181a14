//! Mail that comes in by LMTP.

use postbell_testkit::{ALICE, BOB, Error, mail};

use crate::scenario::{Deed, Stage};

/// One recipient, several, and an envelope with parameters (R38, R39, R110).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn deliveries(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut lmtp = store.lmtp()?;
    stage.step("LMTP delivers to one", 1, || {
        lmtp.deliver("sender@example.net", ALICE, &mail::plain("one"))
    })?;
    let from = "<sender@example.net> BODY=8BITMIME";
    let (alice, bob) = (format!("<{ALICE}>"), format!("<{BOB}>"));
    stage.step("LMTP delivers to two, each of whom sees but their own", 2, || {
        all_taken(&lmtp.transact(from, &[&alice, &bob], &mail::plain("two"))?)
    })?;
    stage.step("LMTP delivers a bounce, with an empty return path", 1, || {
        all_taken(&lmtp.transact("<>", &[&alice], &mail::plain("bounce"))?)
    })?;
    Ok(())
}

/// Sieve files a message elsewhere and flags it: the message came there, and nowhere else.
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn sorted(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut imap = store.imap(ALICE)?;
    imap.create("Lists")?;
    stage.aside(|| Ok(()))?;
    stage.step("IMAP logout", 1, || imap.logout())?;
    let script = "require [\"fileinto\", \"imap4flags\"];\n\
        if header :contains \"subject\" \"list\" {\n\
          addflag [\"\\\\Flagged\", \"$List\"];\n  fileinto \"Lists\";\n}\n";
    store.operate(Deed::Sieve { user: ALICE, script })?;
    let mut lmtp = store.lmtp()?;
    stage.step("LMTP delivers what Sieve files into Lists with flags", 1, || {
        lmtp.deliver("sender@example.net", ALICE, &mail::plain("list"))
    })?;
    stage.step("LMTP delivers what Sieve keeps", 1, || {
        lmtp.deliver("sender@example.net", ALICE, &mail::plain("kept"))
    })?;
    Ok(())
}

fn all_taken(answers: &[String]) -> Result<(), Error> {
    match answers.iter().find(|answer| !answer.starts_with('2')) {
        None => Ok(()),
        Some(answer) => Err(Error::Refused { command: "DATA".to_owned(), answer: answer.clone() }),
    }
}
