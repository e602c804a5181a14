//! Which mailboxes of others a user may read, as the store has it at the moment.

use std::time::{Duration, Instant};

use postbell_engine::Shared;

use super::session::Session;
use super::{AskError, Asker, Master, NamingScope, answers};

/// Whose a mailbox is, if anybody's, and what it is called in events.
pub(crate) type Place = (Option<String>, String);

/// The mailboxes of others that `user` may see and read, by LIST and MYRIGHTS as that user (RFC
/// 4314). `place` says where a mailbox is, where that can be said. Opens
/// a connection of its own, for this alone: Dovecot's older ones remember what rights there were.
///
/// # Errors
///
/// What keeps the server from being asked, in words. A user whom it doesn't let in has none.
pub(crate) fn shared(
    master: &Master,
    user: &str,
    scope: &dyn NamingScope,
    place: impl Fn(&str) -> Option<Place>,
) -> Result<Shared, String> {
    let mut asker = Asker::new(master).map_err(|error| error.to_string())?;
    // No event waits for this alone, and a store lets whom it doesn't know wait for its refusal.
    asker.patience = PATIENCE;
    let told = asker.ask(user, |session| read(session, user, scope, &place));
    match told {
        Some(shared) => Ok(shared),
        None if asker.is_resting() => Err(asker.last_error.clone().unwrap_or_default()),
        // It answered: nobody of that name is let in, or what is theirs is hidden from us.
        None => Ok(Shared::default()),
    }
}

fn read(
    session: &mut Session,
    user: &str,
    scope: &dyn NamingScope,
    place: &dyn Fn(&str) -> Option<Place>,
) -> Result<Shared, AskError> {
    // Whoever has not all rights on their own INBOX isn't the one whose rights we would be told.
    let own = answers::rights(session, "INBOX", PATIENCE)?;
    if !(own.contains('l') && own.contains('r') && own.contains('a')) {
        return Err(AskError::NoInbox);
    }
    let until = Instant::now() + LONGEST;
    let mut shared = Shared::default();
    for name in answers::others(session, scope)?.into_iter().take(MAILBOXES_MAX) {
        let Some((owner, mailbox)) =
            place(&name).filter(|(owner, _)| owner.as_deref() != Some(user))
        else {
            continue;
        };
        if Instant::now() >= until {
            return Err(AskError::Lacking("rights in time"));
        }
        match answers::rights(session, &name, PATIENCE) {
            Ok(rights) => shared.add(owner.as_deref(), &mailbox, &rights),
            // Taken away between the two, or never theirs to see.
            Err(AskError::Refused { .. } | AskError::Lacking(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(shared)
}

/// Mailboxes of others asked about, for one user: each costs a command.
const MAILBOXES_MAX: usize = 1_000;

/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(10);
