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
/// What keeps the server from saying it. An answer is whole: where one mailbox can't be told of at
/// the moment, none is.
pub(crate) fn shared(
    master: &Master,
    user: &str,
    scope: &dyn NamingScope,
    place: impl Fn(&str) -> Option<Place>,
) -> Result<Shared, SharedError> {
    let mut asker = Asker::new(master).map_err(SharedError::of)?;
    // No event waits for this alone, and a store lets whom it doesn't know wait for its refusal.
    asker.patience = PATIENCE;
    asker
        .ask_afresh(user, &mut |session| read(session, user, scope, &place))
        .map_err(SharedError::of)
}

/// Why the store doesn't say what is shared with a user.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SharedError {
    /// It can't be asked at the moment, whoever it is about.
    #[error("{0}")]
    Away(String),
    /// It doesn't let this user in, or hides what is theirs from who asks: there is no such user, or
    /// the master user's password is another one by now. It doesn't say which.
    #[error("{0}")]
    NotLetIn(String),
    /// It said that it can't at the moment, or not in time, of this user.
    #[error("{0}")]
    Unsaid(String),
}

impl SharedError {
    /// The same, said of one store of several.
    #[must_use]
    pub fn at(self, store: &str) -> Self {
        let named = |why: String| format!("{store}: {why}");
        match self {
            Self::Away(why) => Self::Away(named(why)),
            Self::NotLetIn(why) => Self::NotLetIn(named(why)),
            Self::Unsaid(why) => Self::Unsaid(named(why)),
        }
    }

    fn of(error: AskError) -> Self {
        let why = error.to_string();
        match &error {
            AskError::Refused { answer } if is_for_now(answer) => Self::Unsaid(why),
            AskError::Refused { .. } | AskError::NoInbox => Self::NotLetIn(why),
            AskError::Lacking(_) => Self::Unsaid(why),
            AskError::Away { .. }
            | AskError::Closed
            | AskError::Io(_)
            | AskError::TooLarge
            | AskError::NotLoopback { .. } => Self::Away(why),
        }
    }
}

/// Whether a refusal says that it may end by itself (RFC 5530).
fn is_for_now(answer: &str) -> bool {
    let code = answer.split_once('[').and_then(|(_, rest)| rest.split([']', ' ']).next());
    code.is_some_and(|code| FOR_NOW.iter().any(|one| code.eq_ignore_ascii_case(one)))
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
            Err(AskError::Refused { answer }) if !is_for_now(&answer) => {}
            Err(AskError::Lacking(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(shared)
}

/// Mailboxes of others asked about, for one user: each costs a command.
const MAILBOXES_MAX: usize = 1_000;

/// What a refusal says that has nothing to do with who asks, or what about.
const FOR_NOW: [&str; 5] = ["UNAVAILABLE", "INUSE", "SERVERBUG", "LIMIT", "CONTACTADMIN"];

/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r162_what_the_store_can_not_say_now_is_not_taken_for_nothing() {
        let refused =
            |answer: &str| SharedError::of(AskError::Refused { answer: answer.to_owned() });
        for answer in [
            "NO [UNAVAILABLE] Temporary authentication failure.",
            "NO [SERVERBUG] Internal error occurred.",
            "NO [inuse] Mailbox is locked",
            "NO [LIMIT 10] Too many connections",
        ] {
            assert!(matches!(refused(answer), SharedError::Unsaid(_)), "{answer}");
        }
        for answer in ["NO [AUTHENTICATIONFAILED] Authentication failed.", "NO no mechanism", "NO"]
        {
            assert!(matches!(refused(answer), SharedError::NotLetIn(_)), "{answer}");
        }
        assert!(matches!(SharedError::of(AskError::Closed), SharedError::Away(_)));
        assert!(matches!(SharedError::of(AskError::NoInbox), SharedError::NotLetIn(_)));
        let late = SharedError::of(AskError::Lacking("rights in time"));
        assert!(matches!(late, SharedError::Unsaid(_)));
    }
}
