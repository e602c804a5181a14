//! People who come and go.

use postbell_testkit::{ALICE, BOB, Error};

use crate::scenario::{Deed, Stage};

/// Login and Logout, exactly one of each, however it ends (R71–R78).
///
/// # Errors
/// Where the store refuses or doesn't tell.
pub fn sessions(stage: &mut Stage<'_>) -> Result<(), Error> {
    let store = stage.store();
    let mut held = None;
    stage.step("IMAP login", 1, || {
        held = Some(store.imap(ALICE)?);
        Ok(())
    })?;
    stage.step("IMAP logout", 1, || held.take().map_or(Ok(()), postbell_testkit::Imap::logout))?;
    stage.step("the helpdesk logs in as alice, and out", 2, || {
        store.imap_as_admin(ALICE)?.logout()
    })?;
    stage.step("POP3 login and QUIT", 2, || store.pop3(BOB)?.quit())?;
    stage.step("IMAP login, then the connection is dropped", 2, || store.imap(BOB).map(drop))?;
    let mut killed = None;
    stage.step("IMAP login", 1, || {
        killed = Some(store.imap(BOB)?);
        Ok(())
    })?;
    stage.step("the process that serves it is killed", 1, || {
        store.operate(Deed::Kill { user: BOB })
    })?;
    drop(killed);
    stage.step("a wrong password", 0, || match store.imap("nobody@example.org") {
        Err(Error::Refused { .. }) => Ok(()),
        other => other.map(drop),
    })?;
    Ok(())
}
