//! What a token opens, as long as it is good.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use postbell_engine::{Principal, Role};
use tokio::sync::watch;

use super::denials::{Denials, Named};
use crate::tls::Trust;

/// What a token opens. Whoever was let in by it holds it, and asks it again for each delivery.
#[derive(Debug)]
pub(crate) struct Grant {
    /// The token's id; none for the one in the data folder's file.
    id: Option<String>,
    principal: Principal,
    expires: Option<Timestamp>,
    /// In which hour since 1970 it was used last.
    used_unix_hours: AtomicI64,
    revoked: watch::Sender<bool>,
    /// The grant it hangs on: it opens no longer than that.
    within: Option<Arc<Self>>,
    /// Whether the authority is still one whose certificate was shown for it.
    trust: Option<Arc<Trust>>,
    /// What its JWT is known by, and who is denied.
    standing: Option<Standing>,
    /// Whether the hub knows its token, and so finds the grant again.
    is_kept: bool,
}

/// What somebody is known by who may be denied, and who is.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) denials: Arc<Denials>,
    pub(super) names: Vec<Named>,
}

impl Grant {
    /// What a token opens until it expires or is revoked.
    pub(crate) fn new(
        id: Option<String>,
        principal: Principal,
        expires: Option<Timestamp>,
        used_unix_hours: i64,
    ) -> Self {
        let (revoked, _) = watch::channel(false);
        let principal = match &id {
            Some(id) => principal.with_token(id),
            None => principal,
        };
        let used_unix_hours = used_unix_hours.into();
        Self {
            id,
            principal,
            expires,
            used_unix_hours,
            revoked,
            within: None,
            trust: None,
            standing: None,
            is_kept: true,
        }
    }

    /// What a token opens that the hub doesn't keep, for whoever shows it, until it ends or they are
    /// denied.
    pub(super) fn shown(
        id: String,
        principal: Principal,
        ends: Timestamp,
        standing: Standing,
    ) -> Self {
        let own = Self::new(Some(id), principal, Some(ends), 0);
        Self { standing: Some(standing), is_kept: false, ..own }
    }

    /// What a token opens for whoever shows a certificate in its place: as long as both are good, and
    /// the certificate's authority is one.
    pub(super) fn certified(token: &Arc<Self>, ends: Timestamp, trust: &Arc<Trust>) -> Self {
        let (within, trust) = (Some(Arc::clone(token)), Some(Arc::clone(trust)));
        let own = Self::new(token.id.clone(), token.principal.clone(), Some(ends), 0);
        Self { within, trust, ..own }
    }

    /// The token's id; none for the one in the data folder's file.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether its token is one that the hub keeps: what goes on by itself needs such a one, so that
    /// it ends with it.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Who it lets in.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whose it is: a user's with whichever token, a service's with this one; none for whoever
    /// runs the hub.
    pub(crate) fn owner(&self) -> Option<String> {
        match (self.principal.role(), self.principal.users()) {
            (Role::Admin, _) => None,
            (Role::User, Some([user])) => {
                Some(user_of(user, self.principal.stores().elsewhere().as_deref()))
            }
            (Role::User | Role::Service, _) => self.id.as_ref().map(|id| format!("token:{id}")),
        }
    }

    /// Whose limits it counts against: a store may take a user's name in capitals and without, and
    /// nobody is to have as many shares as their name has spellings.
    pub(crate) fn counted_as(&self) -> Option<String> {
        self.owner().map(|owner| folded(&owner))
    }

    /// Whether it still opens anything.
    pub(crate) fn is_good(&self) -> bool {
        !*self.revoked.borrow()
            && self.expires.is_none_or(|at| Timestamp::now() < at)
            && self.within.as_ref().is_none_or(|within| within.is_good())
            && self.trust.as_ref().is_none_or(|trust| !trust.is_over())
            && self.standing.as_ref().is_none_or(|one| one.denials.holds(&one.names).is_none())
    }

    /// Waits until it opens nothing any more.
    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.own_end() => {}
            () = or_never(self.within.as_ref().map(|within| within.own_end())) => {}
            () = or_never(self.trust.as_ref().map(|trust| trust.over())) => {}
            () = or_never(self.standing.as_ref().map(|one| one.denials.held(&one.names))) => {}
        }
    }

    async fn own_end(&self) {
        let mut revoked = self.revoked.subscribe();
        let Some(expires) = self.expires else {
            // We hold the sender, so only a revocation ends the wait.
            drop(revoked.wait_for(|revoked| *revoked).await);
            return;
        };
        while self.is_good() {
            let left = Timestamp::now().duration_until(expires);
            // The clock may be set meanwhile.
            let pause = left.unsigned_abs().clamp(Duration::from_millis(1), LOOK_EVERY);
            drop(tokio::time::timeout(pause, revoked.wait_for(|revoked| *revoked)).await);
        }
    }

    /// Ends it, now and for everybody who holds it.
    pub(super) fn revoke(&self) {
        self.revoked.send_replace(true);
    }

    /// In which hour it was used last, if it ever was.
    pub(super) fn used_unix_hours(&self) -> Option<i64> {
        Some(self.used_unix_hours.load(Ordering::Relaxed)).filter(|hours| *hours > 0)
    }

    /// Notes a use; the hour, where it is the first in it.
    pub(super) fn used(&self, now: Timestamp) -> Option<i64> {
        let hour = now.as_second() / 3600;
        let before = self.used_unix_hours.load(Ordering::Relaxed);
        let is_first = before < hour && self.used_unix_hours.swap(hour, Ordering::Relaxed) < hour;
        is_first.then_some(hour)
    }
}

/// Waits for what there may be to wait for.
async fn or_never(end: Option<impl Future<Output = ()>>) {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

/// A user as an owner: of the hub's own store, or of those `elsewhere`.
pub(crate) fn user_of(user: &str, elsewhere: Option<&str>) -> String {
    match elsewhere {
        None => format!("user:{user}"),
        // No host holds a space, so that it is no user's of the hub's own.
        Some(stores) => format!("stores:{stores} user:{user}"),
    }
}

/// A user's name, or an owner's, in one spelling of all that a store may take for it.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// How often the clock is looked at, which may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use postbell_engine::{Scope, Stores};

    use super::super::denials::{Claim, NewDenial};
    use super::*;
    use crate::state::StateDb;

    #[tokio::test]
    async fn r162_a_grant_ends_when_it_is_revoked_or_expires() {
        let now = Timestamp::now();
        let short = Grant::new(None, Principal::admin(), Some(now + Duration::from_secs(2)), 0);
        assert!(short.is_good());
        short.ended().await;
        assert!(!short.is_good());
        let long = Grant::new(None, Principal::admin(), Some(now + Duration::from_secs(999)), 0);
        let waiting = async {
            tokio::task::yield_now().await;
            long.revoke();
        };
        tokio::join!(long.ended(), waiting);
        assert!(!long.is_good());
    }

    #[tokio::test]
    async fn r162_a_certificates_grant_ends_with_it_with_its_token_or_with_its_authority() {
        let token = || Arc::new(Grant::new(None, Principal::admin(), None, 0));
        let (now, trust) = (Timestamp::now(), Arc::new(Trust::default()));
        let far = now + Duration::from_secs(999);
        let (first, second) = (token(), token());
        let by_end = Grant::certified(&first, now + Duration::from_millis(50), &trust);
        by_end.ended().await;
        assert!(!by_end.is_good() && first.is_good());
        let by_token = Grant::certified(&second, far, &trust);
        assert!(by_token.is_good());
        second.revoke();
        by_token.ended().await;
        assert!(!by_token.is_good());
        let by_authority = Grant::certified(&first, far, &trust);
        assert!(by_authority.is_good());
        trust.end();
        by_authority.ended().await;
        assert!(!by_authority.is_good() && first.is_good());
    }

    #[tokio::test]
    async fn r162_a_grant_of_a_jwt_ends_when_what_it_is_known_by_is_denied() {
        let folder = tempfile::tempdir().unwrap();
        let db = Arc::new(StateDb::open(&folder.path().join("hub.db")).unwrap());
        let denials = Arc::new(Denials::open(db).unwrap());
        let named = |claim, value: &str| {
            let (issuer, value) = ("https://id.example.org".to_owned(), value.to_owned());
            Named { issuer, claim, value }
        };
        let of = |id: &str| {
            let names = vec![named(Claim::Subject, "4711"), named(Claim::Id, id)];
            let standing = Standing { denials: Arc::clone(&denials), names };
            let ends = Timestamp::now() + Duration::from_secs(999);
            Grant::shown("oidc_x".to_owned(), Principal::admin(), ends, standing)
        };
        let deny = |subject: Option<&str>, jti: Option<&str>| {
            let [subject, jti] = [subject, jti].map(|text| text.map(str::to_owned));
            let new = NewDenial { subject, jti, until: None };
            denials.deny("https://id.example.org", new).unwrap()
        };
        let (first, second) = (of("a"), of("b"));
        // Neither a person by the name of a token nor the other way round.
        deny(Some("a"), None);
        deny(None, Some("4711"));
        assert!(first.is_good() && second.is_good());
        let waiting = async {
            tokio::task::yield_now().await;
            deny(None, Some("a"));
        };
        tokio::join!(first.ended(), waiting);
        assert!(!first.is_good() && second.is_good());
        deny(Some("4711"), None);
        second.ended().await;
        assert!(!second.is_good());
        assert!(denials.allow(Claim::Subject, "4711").unwrap());
        assert!(!first.is_good() && second.is_good());
    }

    #[test]
    fn r162_a_user_of_another_store_is_another_owner_and_another_spelling_is_none_for_limits() {
        let of = |name: &str, stores| {
            Grant::new(None, Principal::user(Scope::ALL, name, stores), None, 0)
        };
        let own = of("john", Stores::own("h").unwrap());
        let other = of("john", Stores::of(&["G"]).unwrap());
        let spelt = of("JohN", Stores::own("h").unwrap());
        assert_eq!(own.owner().as_deref(), Some("user:john"));
        assert_eq!(other.owner().as_deref(), Some("stores:g user:john"));
        assert_ne!(own.owner(), spelt.owner());
        assert_eq!(own.counted_as(), spelt.counted_as());
        assert_ne!(own.counted_as(), other.counted_as());
    }

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let grant = Grant::new(None, Principal::admin(), None, 0);
        let at = |second| grant.used(Timestamp::from_second(second).unwrap());
        assert_eq!(
            [at(7200), at(7300), at(10799), at(10800), at(7200)],
            [Some(2), None, None, Some(3), None]
        );
        assert_eq!(grant.used_unix_hours(), Some(3));
    }
}
