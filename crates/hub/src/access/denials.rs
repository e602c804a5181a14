//! Whose JWTs let in no more, whatever their issuer says of them.
//!
//! A JWT is good by itself until it ends, so that whoever is to be kept out before has to be named
//! here: by the claim `sub` all JWTs of a person, by `jti` a single one. Nothing else is known of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;
use utoipa::ToSchema;

use super::tokens::{time, time_to_come};
use crate::lock::locked;
use crate::state::{DenialRow, StateDb, StateError};

/// Everybody who is denied.
#[derive(Debug)]
pub(crate) struct Denials {
    db: Arc<StateDb>,
    /// Whoever was let in waits for a change.
    all: watch::Sender<HashMap<Named, Term>>,
    /// Held while they are changed: one at a time.
    changing: Mutex<()>,
}

/// What a JWT is known by.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Named {
    pub(super) issuer: String,
    pub(super) claim: Claim,
    pub(super) value: String,
}

/// Which claim.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Claim {
    /// `jti`: one JWT.
    Id,
    /// `sub`: all JWTs of whom the issuer calls so.
    Subject,
}

/// From when to when.
#[derive(Clone, Copy, Debug)]
struct Term {
    since_unix_millis: i64,
    until: Option<Timestamp>,
}

/// Whom to deny: by one of the two.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "subject": "f3b1c2d4-4711", "until": "2027-01-01T00:00:00Z" }))]
pub(crate) struct NewDenial {
    /// The `sub` of the JWTs: all that the issuer gives this person.
    #[serde(default)]
    pub(crate) subject: Option<String>,
    /// The `jti` of a single JWT.
    #[serde(default)]
    pub(crate) jti: Option<String>,
    /// Until when (RFC 3339); until it is taken back where absent.
    #[serde(default)]
    pub(crate) until: Option<String>,
}

/// A denial as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ShownDenial {
    /// Whose JWTs.
    pub(crate) issuer: String,
    /// The `sub` that is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Or the `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
    /// Since when.
    pub(crate) since: String,
    /// Until when; until it is taken back where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
}

/// Why nobody can be denied like this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DenyError {
    /// Something in it is wrong.
    #[error("{message}")]
    Invalid {
        /// Where in it, as a JSON Pointer.
        pointer: &'static str,
        /// What is wrong there.
        message: String,
    },
    /// Nobody's JWTs let in.
    #[error("oidc.issuer is not configured: no JWT lets in")]
    NoIssuer,
    /// There are as many as there may be.
    #[error("{DENIALS_MAX} are denied already, and no more are kept")]
    TooMany,
    /// It can't be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Denials {
    /// Reads what was kept.
    pub(crate) fn open(db: Arc<StateDb>) -> Result<Self, StateError> {
        let mut all = HashMap::new();
        for row in db.denials()? {
            let Some(claim) = Claim::of(&row.claim) else {
                warn!(claim = %row.claim, "a denial can't be read and denies nothing");
                continue;
            };
            // What no calendar has is never.
            let until = row.until_unix_millis.and_then(|at| Timestamp::from_millisecond(at).ok());
            let term = Term { since_unix_millis: row.since_unix_millis, until };
            all.insert(Named { issuer: row.issuer, claim, value: row.value }, term);
        }
        Ok(Self { db, all: watch::Sender::new(all), changing: Mutex::default() })
    }

    /// Denies, from now on and for whoever was let in already; whether it wasn't denied before.
    /// Waits for the disk.
    pub(super) fn deny(
        &self,
        issuer: &str,
        new: NewDenial,
    ) -> Result<(bool, ShownDenial), DenyError> {
        let now = Timestamp::now();
        let (claim, value) = new.named()?;
        let until = new.until.map(|text| time_to_come(&text, now)).transpose();
        let until = until.map_err(|message| DenyError::Invalid { pointer: "/until", message })?;
        let named = Named { issuer: issuer.to_owned(), claim, value };
        let term = Term { since_unix_millis: now.as_millisecond(), until };
        let _changing = locked(&self.changing);
        let is_new = {
            let all = self.all.borrow();
            let known = all.get(&named).filter(|term| term.holds(now));
            if known.is_none() && all.values().filter(|term| term.holds(now)).count() >= DENIALS_MAX
            {
                return Err(DenyError::TooMany);
            }
            known.is_none()
        };
        // First, whatever the disk says: who wants somebody kept out wants it now. (Where a change
        // before this one still waits for the disk, this one waits for it.)
        self.all.send_modify(|all| {
            all.retain(|_, term| term.holds(now));
            all.insert(named.clone(), term);
        });
        self.db.forget_denials(now.as_millisecond())?;
        self.db.deny(&DenialRow {
            issuer: named.issuer.clone(),
            claim: claim.as_str().to_owned(),
            value: named.value.clone(),
            since_unix_millis: term.since_unix_millis,
            until_unix_millis: until.map(Timestamp::as_millisecond),
        })?;
        Ok((is_new, shown(&named, &term)))
    }

    /// Takes back what denies this claim's value, of whichever issuer; `false` where nothing does.
    /// Waits for the disk.
    pub(crate) fn allow(&self, claim: Claim, value: &str) -> Result<bool, StateError> {
        let _changing = locked(&self.changing);
        let now = Timestamp::now();
        self.db.allow(claim.as_str(), value)?;
        let mut held = false;
        self.all.send_modify(|all| {
            all.retain(|named, term| {
                let is_it = named.claim == claim && named.value == value;
                held |= is_it && term.holds(now);
                !is_it
            });
        });
        Ok(held)
    }

    /// All that hold, the longest-standing first.
    pub(crate) fn list(&self) -> Vec<ShownDenial> {
        let now = Timestamp::now();
        let all = self.all.borrow();
        let mut holding: Vec<_> = all.iter().filter(|(_, term)| term.holds(now)).collect();
        holding.sort_by_key(|(named, term)| (term.since_unix_millis, &named.value));
        holding.into_iter().map(|(named, term)| shown(named, term)).collect()
    }

    /// How many hold.
    pub(crate) fn count(&self) -> usize {
        let now = Timestamp::now();
        self.all.borrow().values().filter(|term| term.holds(now)).count()
    }

    /// By which of these names somebody is denied now, if by any.
    pub(super) fn holds(&self, names: &[Named]) -> Option<Claim> {
        holding(&self.all.borrow(), names)
    }

    /// Waits until one of these names is denied.
    pub(super) async fn held(&self, names: &[Named]) {
        // We hold the sender, so only a denial ends the wait.
        drop(self.all.subscribe().wait_for(|all| holding(all, names).is_some()).await);
    }
}

fn holding(all: &HashMap<Named, Term>, names: &[Named]) -> Option<Claim> {
    if all.is_empty() {
        return None;
    }
    let now = Timestamp::now();
    let held = |named: &&Named| all.get(*named).is_some_and(|term| term.holds(now));
    names.iter().find(held).map(|named| named.claim)
}

fn shown(named: &Named, term: &Term) -> ShownDenial {
    let of = |claim| (named.claim == claim).then(|| named.value.clone());
    ShownDenial {
        issuer: named.issuer.clone(),
        subject: of(Claim::Subject),
        jti: of(Claim::Id),
        since: time(term.since_unix_millis),
        until: term.until.map(|until| time(until.as_millisecond())),
    }
}

impl NewDenial {
    fn named(&self) -> Result<(Claim, String), DenyError> {
        let invalid = |pointer, message| Err(DenyError::Invalid { pointer, message });
        let (pointer, claim, value) = match (&self.subject, &self.jti) {
            (Some(subject), None) => ("/subject", Claim::Subject, subject),
            (None, Some(jti)) => ("/jti", Claim::Id, jti),
            (None, None) => {
                let why = "whose JWTs are denied is not said (or a single one, by jti)";
                return invalid("/subject", why.to_owned());
            }
            (Some(_), Some(_)) => {
                let why = "stands beside subject: each is denied by itself";
                return invalid("/jti", why.to_owned());
            }
        };
        if value.is_empty() || value.len() > VALUE_OCTETS_MAX {
            return invalid(pointer, format!("has 1 to {VALUE_OCTETS_MAX} octets"));
        }
        Ok((claim, value.clone()))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Term {
    fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Claim {
    /// Its name in a JWT (RFC 7519, section 4.1).
    fn as_str(self) -> &'static str {
        match self {
            Self::Id => "jti",
            Self::Subject => "sub",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Id, Self::Subject].into_iter().find(|claim| claim.as_str() == name)
    }
}

/// Denials at most, all of which are held in memory: more than leave a large house in years.
const DENIALS_MAX: usize = 10_000;

/// Octets of a `sub` or `jti`: the one has 255 at most (OpenID Connect Core, section 2).
const VALUE_OCTETS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(subject: String, until: Option<Timestamp>) -> NewDenial {
        let until = until.map(|at| at.to_string());
        NewDenial { subject: Some(subject), jti: None, until }
    }

    #[test]
    fn r157_denials_are_bounded_and_those_that_are_over_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let db = Arc::new(StateDb::open(&folder.path().join("hub.db")).unwrap());
        let denials = Denials::open(Arc::clone(&db)).unwrap();
        let now = Timestamp::now();
        let named = |value: String| Named { issuer: "i".to_owned(), claim: Claim::Subject, value };
        let term = |until| Term { since_unix_millis: now.as_millisecond(), until };
        denials.all.send_modify(|all| {
            all.extend((0..DENIALS_MAX).map(|at| (named(at.to_string()), term(None))));
        });
        let one_more = denials.deny("i", whom("x".to_owned(), None));
        assert!(matches!(one_more, Err(DenyError::TooMany)), "{one_more:?}");
        let again = denials.deny("i", whom("7".to_owned(), None)).unwrap();
        assert!(!again.0);
        denials.all.send_modify(|all| all.extend([(named("7".to_owned()), term(Some(now)))]));
        assert!(denials.deny("i", whom("x".to_owned(), None)).unwrap().0);
        assert_eq!((denials.count(), denials.all.borrow().len()), (DENIALS_MAX, DENIALS_MAX));
    }
}
