//! JWTs of an OpenID Connect issuer, taken in the place of tokens of the hub's own.

mod cache;
mod fetch;
mod judge;
mod keys;
#[cfg(test)]
mod tests;
mod verifier;
mod who;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use self::cache::Keys;
use self::fetch::Place;
use self::judge::{Claims, Invalid, Rules, judge};
use self::who::Who;
use super::denials::{Claim, Denials, DenyError, Named, NewDenial, ShownDenial};
use super::grant::{Grant, Standing};
use super::tokens::Tokens;
use crate::config::OidcConfig;
use crate::tls::TlsError;

pub(crate) use who::check_role;

/// One issuer, whose tokens let in.
#[derive(Debug)]
pub(crate) struct Oidc {
    rules: Rules,
    who: Who,
    keys: Keys,
    /// Whom it calls what lets in no more.
    denials: Arc<Denials>,
}

/// Why a token doesn't let in, in words for the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is not good.
    #[error("{0}")]
    Invalid(Invalid),
    /// It would be, were it not denied.
    #[error("its {0} is denied")]
    Denied(Claim),
    /// The issuer's keys can't be had, so that nobody can say.
    #[error("the issuer's keys can't be had")]
    Unavailable,
}

impl Refused {
    /// What whoever shows it is told is wrong with it, if anything is: of one that is denied what is
    /// told of any other that is over, or that names nobody of this store.
    pub(crate) fn told(self) -> Option<Invalid> {
        match self {
            Self::Invalid(why) => Some(why),
            Self::Denied(Claim::Id) => Some(Invalid::Expired),
            Self::Denied(Claim::Subject) => Some(Invalid::User),
            Self::Unavailable => None,
        }
    }
}

impl Oidc {
    /// The issuer that is configured, if one is. Reads the authorities' file.
    pub(crate) fn open(
        config: &OidcConfig,
        denials: &Arc<Denials>,
    ) -> Result<Option<Self>, TlsError> {
        if config.issuer.is_empty() {
            return Ok(None);
        }
        let rules = Rules {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            algorithms: config.algorithms.iter().map(|one| (*one).into()).collect(),
            parties: config.authorized_parties.clone(),
            lifetime_max_seconds: i64::try_from(config.lifetime_max.as_secs()).unwrap_or(i64::MAX),
        };
        let keys = Keys::new(Place::open(config)?);
        Ok(Some(Self { rules, who: Who::new(config), keys, denials: Arc::clone(denials) }))
    }

    /// Keeps the issuer's keys up to date until the hub stops.
    pub(crate) async fn watch(self: Arc<Self>, stopping: watch::Receiver<bool>) {
        self.keys.watch(stopping).await;
    }

    /// What an `Authorization` header shows, where it is a JWT. No token of the hub's own has a dot.
    pub(crate) fn shown(header: &[u8]) -> Option<&[u8]> {
        let (scheme, text) = header.split_at_checked("Bearer ".len())?;
        let is_jwt = scheme.eq_ignore_ascii_case(b"Bearer ") && text.contains(&b'.');
        is_jwt.then_some(text)
    }

    /// What a JWT opens, until it ends.
    pub(crate) async fn admit(&self, tokens: &Tokens, token: &[u8]) -> Result<Arc<Grant>, Refused> {
        let claims = self.claims(token).await?;
        let (id, principal) = self.who.is(&claims, tokens).map_err(Refused::Invalid)?;
        let ends = Timestamp::from_second(claims.ends_unix_seconds).unwrap_or(Timestamp::MAX);
        // Last, so that nothing that isn't good tells who is denied.
        let names = self.names(claims);
        if let Some(claim) = self.denials.holds(&names) {
            return Err(Refused::Denied(claim));
        }
        let standing = Standing { denials: Arc::clone(&self.denials), names };
        Ok(Arc::new(Grant::shown(id, principal, ends, standing)))
    }

    /// Denies one of the issuer's; whether it wasn't denied before. Waits for the disk.
    pub(crate) fn deny(&self, new: NewDenial) -> Result<(bool, ShownDenial), DenyError> {
        self.denials.deny(&self.rules.issuer, new)
    }

    /// By what these claims may be denied.
    fn names(&self, claims: Claims) -> Vec<Named> {
        let named = |claim, value| Named { issuer: self.rules.issuer.clone(), claim, value };
        let by_id = claims.id.map(|id| named(Claim::Id, id));
        [named(Claim::Subject, claims.subject)].into_iter().chain(by_id).collect()
    }

    async fn claims(&self, token: &[u8]) -> Result<Claims, Refused> {
        let now = Timestamp::now().as_second();
        let known = self.keys.current();
        let judged = match &known {
            Some(keys) => judge(token, keys, &self.rules, now),
            // Without keys it is good for nothing, but what isn't even a token needs none.
            None => judge(token, &keys::KeySet::default(), &self.rules, now),
        };
        let Err(Invalid::Key) = judged else { return judged.map_err(Refused::Invalid) };
        match (self.keys.newer(known.as_ref()).await, known) {
            (Some(keys), _) => judge(token, &keys, &self.rules, now).map_err(Refused::Invalid),
            (None, Some(_)) => Err(Refused::Invalid(Invalid::Key)),
            (None, None) => Err(Refused::Unavailable),
        }
    }
}
