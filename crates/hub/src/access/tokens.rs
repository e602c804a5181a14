//! The tokens there are: made, shown once, recognised, revoked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postbell_engine::{Principal, Scope, Stores};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::warn;
use utoipa::ToSchema;

use super::grant::{Grant, folded};
use super::guesses::Guesses;
use super::tickets::{TICKET_LIFE, Tickets, TooManyTickets};
use crate::lock::locked;
use crate::state::{StateDb, StateError, TokenRow};
use crate::tls::Shown;
use crate::token::{Token, random_text};

/// Every token of one hub: the one in the data folder's file, and those made over the API.
#[derive(Debug)]
pub(crate) struct Tokens {
    file: Token,
    admin: Arc<Grant>,
    db: Arc<StateDb>,
    /// The host of the hub's own store, for which a publisher speaks that names no other, and whose
    /// users are meant where no other is named.
    own_store: String,
    /// Oldest first.
    made: RwLock<Vec<Arc<Made>>>,
    by_hash: RwLock<HashMap<[u8; 32], Arc<Grant>>>,
    guesses: Mutex<Guesses>,
    tickets: Tickets,
    started: Instant,
    /// Held while tokens are made or revoked: one at a time.
    changing: Mutex<()>,
}

/// A token that was made.
#[derive(Debug)]
struct Made {
    id: String,
    name: String,
    hash: [u8; 32],
    kept: Kept,
    grant: Arc<Grant>,
}

/// What a token opens, as `hub.db` keeps it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Kept {
    role: TokenRole,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    scope: Vec<String>,
    /// Hosts of the stores events may be of; for a publisher without any, or some users, the hub's
    /// own.
    #[serde(default)]
    stores: Vec<String>,
    /// The name on the client's certificate that stands in the place of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    created_unix_millis: i64,
    #[serde(default)]
    expires_unix_millis: Option<i64>,
}

/// A token to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "phone", "role": "user", "users": ["john@example.org"], "expires": "2027-01-01T00:00:00Z"
}))]
pub(crate) struct NewToken {
    /// A name of its own: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub(crate) name: String,
    /// Whose it is to be.
    pub(crate) role: TokenRole,
    /// For the role `user`, the one it is; for `service`, those whose events it reaches, and
    /// everybody's where there is none.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    /// What it is for: `publish`, `read`, `subscribe`, `monitor`. A `service` names at least one; a
    /// `user` may do with `read` and `subscribe`, and has both where none is named.
    #[serde(default)]
    pub(crate) scope: Vec<String>,
    /// The hosts of the stores whose events may be handed in (the scope `publish`), and in which the
    /// `users` have their mailboxes; `*` for any. The hub's own store where absent.
    #[serde(default)]
    pub(crate) stores: Vec<String>,
    /// A name on the client's certificate (`tls.client_ca`) that stands in the place of a secret: its
    /// DNS name, mail address, URI or common name. Then there is no `token` in the answer.
    #[serde(default)]
    pub(crate) certificate: Option<String>,
    /// When it ends (RFC 3339); never where absent.
    #[serde(default)]
    pub(crate) expires: Option<String>,
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenRole {
    /// Whoever runs the hub: everything.
    Admin,
    /// A program: what its scopes say, for all users or for some.
    Service,
    /// A person or their device: their own mailboxes.
    User,
}

/// A token as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownToken {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) role: TokenRole,
    /// Whose events it reaches; everybody's where there is none.
    pub(crate) users: Vec<String>,
    /// What it is for.
    pub(crate) scope: Vec<String>,
    /// Of which stores events may be handed in, and those of the `users` be seen; absent where it is
    /// neither for handing in nor for some users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stores: Vec<String>,
    /// The name on the client's certificate that stands in the place of a secret, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
    /// When it was made.
    pub(crate) created: String,
    /// When it ends, or ended; never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    /// Whether it has.
    pub(crate) expired: bool,
    /// The hour it was used last in; absent where it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_used: Option<String>,
    /// The token itself: only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// Why a token can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// Something in it is wrong.
    #[error("{message}")]
    Invalid {
        /// Where in it, as a JSON Pointer.
        pointer: &'static str,
        /// What is wrong there.
        message: String,
    },
    /// Another one is called that.
    #[error("a token called {0:?} exists already")]
    NameTaken(String),
    /// Another one is for that certificate.
    #[error("a token for the certificate of {0:?} exists already")]
    CertificateTaken(String),
    /// There are as many as there may be.
    #[error("there are {TOKENS_MAX} tokens already, and no more are made")]
    TooMany,
    /// So there are of a user's, by other spellings of their name.
    #[error(
        "there are {ALIKE_MAX} logins by this name in capitals and small letters, and no more are made"
    )]
    Alike,
    /// It can't be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What was shown is no token, or none any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Denied {
    /// How long to wait before the next try, where there were too many.
    pub(crate) pause: Option<Duration>,
}

impl Tokens {
    /// Reads what was kept.
    pub(crate) fn open(file: Token, db: Arc<StateDb>, own_store: &str) -> Result<Self, StateError> {
        let mut made = Vec::new();
        for row in db.tokens()? {
            let kept = serde_json::from_str::<Kept>(&row.body).map_err(|error| error.to_string());
            let principal = kept.and_then(|mut kept| {
                kept.complete(own_store);
                Ok((kept.principal(own_store).map_err(|(_, why)| why)?, kept))
            });
            match principal {
                Ok((principal, kept)) => {
                    let id = Some(row.id.clone());
                    let grant = Grant::new(id, principal, kept.expires(), row.used_unix_hours);
                    let (id, name, hash) = (row.id, row.name, row.hash);
                    made.push(Arc::new(Made { id, name, hash, kept, grant: Arc::new(grant) }));
                }
                Err(error) => {
                    warn!(token = %row.name, %error, "a token can't be read and opens nothing");
                }
            }
        }
        let by_hash = made.iter().map(|one| (one.hash, Arc::clone(&one.grant))).collect();
        Ok(Self {
            file,
            admin: Arc::new(Grant::new(None, Principal::admin(), None, 0)),
            db,
            own_store: own_store.to_owned(),
            made: RwLock::new(made),
            by_hash: RwLock::new(by_hash),
            guesses: Mutex::default(),
            tickets: Tickets::default(),
            started: Instant::now(),
            changing: Mutex::default(),
        })
    }

    /// The host of the hub's own store.
    pub(super) fn own_store(&self) -> &str {
        &self.own_store
    }

    /// The token in the data folder's file.
    pub(crate) fn file(&self) -> &Token {
        &self.file
    }

    /// What the token in the data folder's file opens.
    pub(crate) fn admin(&self) -> &Arc<Grant> {
        &self.admin
    }

    /// What the token with this id opens, if there is one.
    pub(crate) fn grant(&self, id: &str) -> Option<Arc<Grant>> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.iter().find(|one| one.id == id).map(|one| Arc::clone(&one.grant))
    }

    /// The name of the token with this id.
    pub(crate) fn name(&self, id: &str) -> Option<String> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.iter().find(|one| one.id == id).map(|one| one.name.clone())
    }

    /// What an `Authorization` header opens, for whoever is at `peer`.
    pub(crate) fn admit(
        self: &Arc<Self>,
        header: Option<&[u8]>,
        peer: IpAddr,
    ) -> Result<Arc<Grant>, Denied> {
        // Nothing shown is no guess.
        let Some(header) = header else { return Err(Denied { pause: None }) };
        if self.file.opens(header) {
            return Ok(Arc::clone(&self.admin));
        }
        if let Some(grant) = self.made_for(header).filter(|grant| grant.is_good()) {
            self.note_use(&grant);
            return Ok(grant);
        }
        Err(self.wrong(peer))
    }

    /// What a client's certificate opens until it ends, where a token is for one of its names.
    pub(crate) fn certified(self: &Arc<Self>, shown: &Shown) -> Option<Arc<Grant>> {
        let token = shown.names.iter().find_map(|name| {
            let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
            by_hash.get(&hash_of_name(name)).filter(|grant| grant.is_good()).cloned()
        })?;
        self.note_use(&token);
        let grant = Grant::certified(&token, shown.ends, &shown.trust);
        Some(Arc::new(grant)).filter(|grant| grant.is_good())
    }

    /// Somebody at `peer` showed what opens nothing.
    pub(crate) fn wrong(&self, peer: IpAddr) -> Denied {
        let mut guesses = locked(&self.guesses);
        Denied { pause: guesses.wrong(peer, self.started.elapsed()) }
    }

    /// A ticket that opens what `grant` does, once, and until when; the answer alone holds it.
    pub(crate) fn ticket(
        &self,
        grant: &Arc<Grant>,
    ) -> Result<Result<(String, String), TooManyTickets>, StateError> {
        let random = random_text().map_err(|source| StateError::Random { source })?;
        let text = format!("{TICKET_PREFIX}{random}");
        let ends = Timestamp::now() + TICKET_LIFE;
        let kept = self.tickets.add(hash(text.as_bytes()), grant, self.started.elapsed());
        Ok(kept.map(|()| (text, time(ends.as_millisecond()))))
    }

    /// What a ticket opens for whoever is at `peer`. One that was used, has ended, or never was is
    /// all the same, and a guess.
    pub(crate) fn redeem(&self, ticket: &str, peer: IpAddr) -> Result<Arc<Grant>, Denied> {
        let is_ours = ticket.starts_with(TICKET_PREFIX)
            && ticket.len() == TICKET_PREFIX.len() + RANDOM_LETTERS;
        let opened = is_ours
            .then(|| self.tickets.take(hash(ticket.as_bytes()), self.started.elapsed()))
            .flatten();
        opened.ok_or_else(|| self.wrong(peer))
    }

    /// By its hash: who measures how long a look-up takes learns of hashes, and no hash leads to a
    /// token.
    fn made_for(&self, header: &[u8]) -> Option<Arc<Grant>> {
        let (scheme, text) = header.split_at_checked("Bearer ".len())?;
        let is_ours =
            scheme.eq_ignore_ascii_case(b"Bearer ") && text.starts_with(PREFIX.as_bytes());
        if !is_ours || text.len() != PREFIX.len() + RANDOM_LETTERS {
            return None;
        }
        let hash = hash(text);
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let (found, grant) = by_hash.get_key_value(&hash)?;
        bool::from(found.ct_eq(&hash)).then(|| Arc::clone(grant))
    }

    fn note_use(self: &Arc<Self>, grant: &Arc<Grant>) {
        let Some(hour) = grant.used(Timestamp::now()) else { return };
        let (tokens, grant) = (Arc::clone(self), Arc::clone(grant));
        tokio::task::spawn_blocking(move || {
            let Some(id) = grant.id() else { return };
            if let Err(error) = tokens.db.token_used(id, hour) {
                warn!(%error, "when a token was used last can't be kept");
            }
        });
    }

    /// Makes a token; the answer alone holds it. Waits for the disk.
    pub(crate) fn create(&self, new: NewToken) -> Result<ShownToken, CreateError> {
        check_name(&new.name)?;
        self.make(new)
    }

    fn make(&self, new: NewToken) -> Result<ShownToken, CreateError> {
        let (name, mut kept) = (new.name.clone(), Kept::new(new)?);
        // Plain texts always serialise. Kept as it was given: the hub's own store may be named
        // otherwise one day.
        let body = serde_json::to_string(&kept).unwrap_or_default();
        kept.complete(&self.own_store);
        let principal =
            kept.principal(&self.own_store).map_err(|(pointer, why)| invalid(pointer, why))?;
        let random = || random_text().map_err(|source| StateError::Random { source });
        let text = match &kept.certificate {
            None => Some(format!("{PREFIX}{}", random()?)),
            Some(_) => None,
        };
        let id = format!("tok_{}", random()?.chars().take(ID_LETTERS).collect::<String>());
        let hash = match (&text, &kept.certificate) {
            (Some(text), _) => hash(text.as_bytes()),
            (None, name) => hash_of_name(name.as_deref().unwrap_or_default()),
        };
        let _changing = locked(&self.changing);
        if self.made.read().unwrap_or_else(PoisonError::into_inner).len() >= TOKENS_MAX {
            return Err(CreateError::TooMany);
        }
        if let Some(name) = &kept.certificate
            && self.by_hash.read().unwrap_or_else(PoisonError::into_inner).contains_key(&hash)
        {
            return Err(CreateError::CertificateTaken(name.clone()));
        }
        let row = TokenRow { id: id.clone(), name: name.clone(), hash, body, used_unix_hours: 0 };
        if !self.db.add_token(&row)? {
            return Err(CreateError::NameTaken(name));
        }
        let grant = Arc::new(Grant::new(Some(id.clone()), principal, kept.expires(), 0));
        let one = Arc::new(Made { id, name, hash, kept, grant: Arc::clone(&grant) });
        let mut shown = one.shown();
        self.made.write().unwrap_or_else(PoisonError::into_inner).push(one);
        self.by_hash.write().unwrap_or_else(PoisonError::into_inner).insert(hash, grant);
        shown.token = text;
        Ok(shown)
    }

    /// Makes a short-lived token of a user's whose password the store took; of those they have already,
    /// the oldest end beyond [`ENTERED_MAX`]. Waits for the disk.
    ///
    /// A store may tell `john` from `JOHN`, who are two people then, or not. So nobody ends tokens by
    /// another spelling than their own, and of all spellings together there are [`ALIKE_MAX`] at most.
    ///
    /// # Errors
    ///
    /// Where others' spellings have them all, and whatever keeps a token from being made.
    pub(super) fn entered(
        &self,
        user: &str,
        lifetime: Duration,
    ) -> Result<ShownToken, CreateError> {
        let (mut over, mut theirs, mut alike) = (Vec::new(), Vec::new(), 0_usize);
        for one in self.made.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let [name] = one.kept.users.as_slice() else { continue };
            if !one.name.starts_with(ENTERED) {
                continue;
            }
            if !one.grant.is_good() {
                over.push(one.id.clone());
            } else if folded(name) == folded(user) {
                alike += 1;
                theirs.extend((name == user).then(|| one.id.clone()));
            }
        }
        let beyond = (theirs.len() + 1).saturating_sub(ENTERED_MAX);
        let beyond = beyond.max((alike + 1).saturating_sub(ALIKE_MAX));
        if beyond > theirs.len() {
            return Err(CreateError::Alike);
        }
        for id in over.iter().chain(theirs.iter().take(beyond)) {
            self.revoke(id)?;
        }
        let random = random_text().map_err(|source| StateError::Random { source })?;
        let ends = Timestamp::now() + lifetime;
        self.make(NewToken {
            name: format!("{ENTERED}{}", random.chars().take(ID_LETTERS).collect::<String>()),
            role: TokenRole::User,
            users: vec![user.to_owned()],
            scope: Vec::new(),
            stores: Vec::new(),
            certificate: None,
            expires: Some(ends.to_string()),
        })
    }

    /// All that were made, oldest first.
    pub(crate) fn list(&self) -> Vec<ShownToken> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.iter().map(|one| one.shown()).collect()
    }

    /// Ends the one with this name or id and forgets it; `false` where there is none. Whoever was
    /// let in by it is told at once. Waits for the disk.
    pub(crate) fn revoke(&self, name_or_id: &str) -> Result<bool, StateError> {
        let _changing = locked(&self.changing);
        let found = {
            let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
            made.iter().find(|one| one.name == name_or_id || one.id == name_or_id).cloned()
        };
        let Some(one) = found else { return Ok(false) };
        // First, whatever the disk says: who wants a token ended wants it ended now.
        one.grant.revoke();
        self.by_hash.write().unwrap_or_else(PoisonError::into_inner).remove(&one.hash);
        self.db.remove_token(&one.id)?;
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.retain(|other| other.id != one.id);
        Ok(true)
    }
}

impl Made {
    fn shown(&self) -> ShownToken {
        let kept = self.kept.clone();
        let hours = self.grant.used_unix_hours();
        ShownToken {
            id: self.id.clone(),
            name: self.name.clone(),
            role: kept.role,
            users: kept.users,
            scope: kept.scope,
            stores: kept.stores,
            certificate: kept.certificate,
            created: time(self.kept.created_unix_millis),
            expires: self.kept.expires_unix_millis.map(time),
            expired: !self.grant.is_good(),
            last_used: hours.map(|hours| time(hours.saturating_mul(3_600_000))),
            token: None,
        }
    }
}

impl Kept {
    fn new(new: NewToken) -> Result<Self, CreateError> {
        let created = Timestamp::now();
        let expires = new.expires.map(|text| time_to_come(&text, created)).transpose();
        let expires = expires.map_err(|why| invalid("/expires", why))?;
        let expires = expires.map(Timestamp::as_millisecond);
        let mut scope = new.scope;
        match new.role {
            TokenRole::Admin
                if !scope.is_empty() || !new.users.is_empty() || !new.stores.is_empty() =>
            {
                let pointer = match (scope.is_empty(), new.users.is_empty()) {
                    (false, _) => "/scope",
                    (true, false) => "/users",
                    (true, true) => "/stores",
                };
                return Err(invalid(
                    pointer,
                    "an admin has no bounds (leave it out, or make a service)",
                ));
            }
            TokenRole::Service if scope.is_empty() => {
                return Err(invalid(
                    "/scope",
                    "a service needs one (publish, read, subscribe, monitor)",
                ));
            }
            TokenRole::User if new.users.len() != 1 => {
                return Err(invalid("/users", "a user's token names the user, and nobody else"));
            }
            TokenRole::User if scope.is_empty() => {
                scope = vec!["read".to_owned(), "subscribe".to_owned()];
            }
            TokenRole::Admin | TokenRole::Service | TokenRole::User => {}
        }
        let is_publisher = scope.iter().any(|scope| scope == "publish");
        if !new.stores.is_empty() && !is_publisher && new.users.is_empty() {
            let why = "is for who hands events in (the scope \"publish\") and for some users";
            return Err(invalid("/stores", why));
        }
        let wrong = |name: &String| name.is_empty() || name.len() > CERTIFICATE_NAME_OCTETS_MAX;
        if new.certificate.as_ref().is_some_and(wrong) {
            let why = format!("a certificate's name has 1 to {CERTIFICATE_NAME_OCTETS_MAX} octets");
            return Err(invalid("/certificate", why));
        }
        let unfit = |user: &String| user.is_empty() || user.chars().any(char::is_control);
        if new.users.iter().any(unfit) {
            return Err(invalid("/users", "a user's name has letters, and no control characters"));
        }
        Ok(Self {
            role: new.role,
            users: new.users,
            scope,
            stores: new.stores,
            certificate: new.certificate,
            created_unix_millis: created.as_millisecond(),
            expires_unix_millis: expires,
        })
    }

    /// When it ends. What no calendar has is past already.
    fn expires(&self) -> Option<Timestamp> {
        let at = Timestamp::from_millisecond(self.expires_unix_millis?);
        Some(at.unwrap_or(Timestamp::MIN))
    }

    /// Fills in what was left to the hub: a publisher that names no store speaks for its own, and
    /// users of no store are that one's.
    fn complete(&mut self, own_store: &str) {
        let is_publisher = self.scope.iter().any(|scope| scope == "publish");
        if self.stores.is_empty() && (is_publisher || !self.users.is_empty()) {
            self.stores = vec![own_store.to_owned()];
        }
    }

    /// Who is let in; why nobody, and where that stands, where what is kept makes no sense.
    fn principal(&self, own_store: &str) -> Result<Principal, (&'static str, String)> {
        let scopes = self.scope.iter().map(|text| {
            text.parse::<Scope>().map_err(|error| ("/scope", format!("{text:?} is {error}")))
        });
        let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
        let is_own = |host: &String| host.eq_ignore_ascii_case(own_store);
        let stores = match self.stores.iter().all(is_own) && !self.stores.is_empty() {
            true => Stores::own(own_store),
            false => Stores::of(&self.stores),
        };
        let stores = stores.map_err(|error| ("/stores", format!("{error} (or \"*\" for any)")))?;
        match (self.role, self.users.as_slice()) {
            (TokenRole::Admin, _) => Ok(Principal::admin()),
            (TokenRole::Service, users) => Ok(Principal::service(scopes, users.to_vec(), stores)),
            (TokenRole::User, [user]) => {
                let beyond = |scope: &&Scope| matches!(scope, Scope::Publish | Scope::Monitor);
                if let Some(scope) = scopes.iter().find(beyond) {
                    let why = format!("{:?} reaches beyond one user", scope.as_str());
                    return Err(("/scope", why));
                }
                Ok(Principal::user(scopes, user, stores))
            }
            (TokenRole::User, _) => Err(("/users", "a user's token names one user".to_owned())),
        }
    }
}

/// Whom a token like this would let in, where the hub's own store is this one.
pub(super) fn stands_for(new: NewToken, own_store: &str) -> Result<Principal, CreateError> {
    let mut kept = Kept::new(new)?;
    kept.complete(own_store);
    kept.principal(own_store).map_err(|(pointer, why)| invalid(pointer, why))
}

pub(super) fn time(unix_millis: i64) -> String {
    let instant = Timestamp::from_millisecond(unix_millis).unwrap_or_default();
    mail_event::Timestamp::new(instant, jiff::tz::Offset::UTC).to_string()
}

/// The RFC 3339 time that a text says, which is after `now`; or what is wrong with it.
pub(super) fn time_to_come(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let at: Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not an RFC 3339 time (try 2027-01-01T00:00:00Z)"))?;
    if at <= now { Err(format!("{text:?} is past")) } else { Ok(at) }
}

fn hash(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// What stands in the place of a secret's hash. No secret hashes to it: none begins like this.
fn hash_of_name(name: &str) -> [u8; 32] {
    hash(&[b"certificate\0", name.as_bytes()].concat())
}

fn check_name(name: &str) -> Result<(), CreateError> {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let is_path = name == "." || name == "..";
    if name.is_empty() || name.len() > NAME_OCTETS_MAX || !name.chars().all(fine) || is_path {
        let clipped: String = name.chars().take(NAME_OCTETS_MAX).collect();
        let why = format!(
            "{clipped:?} is not a name: 1 to {NAME_OCTETS_MAX} letters, digits, \".\", \"_\" and \"-\""
        );
        return Err(invalid("/name", why));
    }
    if name.starts_with("tok_") || name.starts_with(PREFIX) || name.starts_with(ENTERED) {
        return Err(invalid(
            "/name",
            format!("{name:?} looks like an id or a token, or a login's"),
        ));
    }
    if name == DENIED {
        return Err(invalid(
            "/name",
            format!("{name:?} stands in paths for whose JWTs are denied"),
        ));
    }
    Ok(())
}

fn invalid(pointer: &'static str, message: impl Into<String>) -> CreateError {
    CreateError::Invalid { pointer, message: message.into() }
}

/// What a token begins with, so that one that leaked is found by those who look for such.
const PREFIX: &str = "postbell_";

/// What a ticket begins with. No token is as long, so that none is taken for the other.
const TICKET_PREFIX: &str = "postbell_ticket_";

/// What the names of tokens begin with that were made for a password.
const ENTERED: &str = "login-";

/// Such tokens of one user at once: their devices and tabs.
const ENTERED_MAX: usize = 20;

/// Those of all names together that are alike but for capitals, where a store takes them for one: few
/// stores that don't have as many people so alike.
const ALIKE_MAX: usize = 3 * ENTERED_MAX;

/// What stands in the place of a token's name in the path of denials.
const DENIED: &str = "denied";

/// Letters of base64url for 256 random bits.
const RANDOM_LETTERS: usize = 43;

/// Letters of an id: 96 bits never meet twice.
const ID_LETTERS: usize = 16;

/// Tokens at most: all of them are held in memory.
const TOKENS_MAX: usize = 100_000;

/// Octets of a name on a certificate: a URI may be long.
const CERTIFICATE_NAME_OCTETS_MAX: usize = 255;

/// Octets of a name: it is part of paths.
const NAME_OCTETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(folder: &std::path::Path) -> Arc<Tokens> {
        let file = Token::load_or_make(&folder.join("token")).unwrap();
        let db = Arc::new(StateDb::open(&folder.join("hub.db")).unwrap());
        Arc::new(Tokens::open(file, db, "mail.example.org").unwrap())
    }

    fn new(role: TokenRole, users: &[&str], scope: &[&str]) -> NewToken {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let (users, scope) = (texts(users), texts(scope));
        NewToken {
            name: "phone".to_owned(),
            role,
            users,
            scope,
            stores: Vec::new(),
            certificate: None,
            expires: None,
        }
    }

    fn bearer(shown: &ShownToken) -> String {
        format!("Bearer {}", shown.token.as_ref().unwrap())
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn r161_a_token_opens_until_it_is_revoked_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let tokens_now = tokens(folder.path());
        let made = tokens_now.create(new(TokenRole::User, &["john"], &[])).unwrap();
        let header = bearer(&made);
        let grant = tokens_now.admit(Some(header.as_bytes()), HERE).unwrap();
        let own = Stores::own("mail.example.org").unwrap();
        let john = Principal::user(Scope::ALL, "john", own).with_token(&made.id);
        assert_eq!(grant.principal(), &john);
        assert!(tokens_now.list()[0].last_used.is_some() && tokens_now.list()[0].token.is_none());
        let text = made.token.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let octets = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!octets.windows(20).any(|part| part == &text.as_bytes()[9..29]));
        }
        drop(tokens_now);
        let again = tokens(folder.path());
        let grant = again.admit(Some(header.as_bytes()), HERE).unwrap();
        assert!(again.revoke("phone").unwrap() && !again.revoke("phone").unwrap());
        assert!(!grant.is_good());
        assert_eq!(again.admit(Some(header.as_bytes()), HERE).unwrap_err(), Denied { pause: None });
        drop(again);
        let after = tokens(folder.path());
        assert!(after.admit(Some(header.as_bytes()), HERE).is_err() && after.list().is_empty());
    }

    #[test]
    fn r162_a_users_token_is_for_the_hubs_own_store_or_for_those_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let first = tokens(folder.path());
        let made = |name: &str, stores: &[&str]| {
            let stores = stores.iter().map(|&host| host.to_owned()).collect();
            let name = name.to_owned();
            let new = NewToken { name, stores, ..new(TokenRole::User, &["john"], &[]) };
            let shown = first.create(new).unwrap();
            (shown.stores, first.grant(&shown.id).unwrap().owner().unwrap())
        };
        let own = (vec!["mail.example.org".to_owned()], "user:john".to_owned());
        assert_eq!(made("a", &[]), own);
        assert_eq!(made("b", &["MAIL.example.org"]).1, own.1);
        assert_eq!(made("c", &["mail2.example.org"]).1, "stores:mail2.example.org user:john");
        assert_eq!(made("d", &["*", "x"]).1, "stores:* user:john");
        // One of before there was anything to name is the own store's too.
        let old = r#"{"role":"user","users":["john"],"scope":["read"],"created_unix_millis":1}"#;
        let row = TokenRow {
            id: "tok_old".to_owned(),
            name: "old".to_owned(),
            hash: [7; 32],
            body: old.to_owned(),
            used_unix_hours: 0,
        };
        assert!(first.db.add_token(&row).unwrap());
        drop(first);
        let again = tokens(folder.path());
        let old = again.grant("tok_old").unwrap();
        assert_eq!(old.principal().stores(), &Stores::own("mail.example.org").unwrap());
    }

    #[test]
    fn r162_nobody_ends_the_tokens_of_who_has_their_name_but_for_capitals() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path());
        let enter = |user| tokens.entered(user, Duration::from_secs(60)).unwrap().name;
        let johns: Vec<_> = (0..ENTERED_MAX).map(|_| enter("john")).collect();
        for _ in 0..2 * ENTERED_MAX {
            enter("JOHN");
        }
        let left: Vec<_> = tokens.list().into_iter().map(|one| one.name).collect();
        assert_eq!(left.len(), 2 * ENTERED_MAX);
        assert!(johns.iter().all(|name| left.contains(name)));
    }

    #[test]
    fn r157_one_user_has_no_more_tokens_than_there_may_be_by_all_spellings_of_their_name() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path());
        let enter = |user: &str| tokens.entered(user, Duration::from_secs(60));
        for at in 0..4 * ENTERED_MAX {
            enter(["john", "John", "JOHN"][at % 3]).unwrap();
        }
        assert_eq!(tokens.list().len(), ALIKE_MAX);
        // Whose own there is none of to end has to wait, and ends nobody else's.
        assert!(matches!(enter("jOHN"), Err(CreateError::Alike)));
        enter("John").unwrap();
        enter("jane").unwrap();
        assert_eq!(tokens.list().len(), ALIKE_MAX + 1);
    }

    #[tokio::test]
    async fn r161_only_the_whole_token_opens_and_guessing_is_slowed_down() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path());
        let made = bearer(&tokens.create(new(TokenRole::Admin, &[], &[])).unwrap());
        let mut pauses = 0;
        for at in 7..made.len() {
            let mut wrong = made.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            pauses += u32::from(tokens.admit(Some(&wrong), HERE).unwrap_err().pause.is_some());
        }
        assert!(pauses > 10, "{pauses}");
        let octets = made.as_bytes();
        for wrong in [&octets[..octets.len() - 1], &octets[7..], b""] {
            assert!(tokens.admit(Some(wrong), HERE).is_err());
        }
        assert_eq!(tokens.admit(None, HERE).unwrap_err(), Denied { pause: None });
        // Who has a token is let in all the same, and so is the machine's own.
        assert!(tokens.admit(Some(made.as_bytes()), HERE).is_ok());
        let own = format!("Bearer {}", tokens.file().reveal());
        assert!(Arc::ptr_eq(&tokens.admit(Some(own.as_bytes()), HERE).unwrap(), tokens.admin()));
    }

    #[tokio::test]
    async fn an_expired_token_opens_nothing_and_is_still_listed() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path());
        let soon = Timestamp::now() + Duration::from_secs(5);
        let expires = Some(soon.to_string());
        let made = tokens.create(NewToken { expires, ..new(TokenRole::Admin, &[], &[]) }).unwrap();
        let header = bearer(&made);
        let grant = tokens.admit(Some(header.as_bytes()), HERE).unwrap();
        grant.ended().await;
        assert!(tokens.admit(Some(header.as_bytes()), HERE).is_err());
        assert!(tokens.list()[0].expired);
    }

    #[test]
    fn what_makes_no_sense_is_refused_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tokens(folder.path());
        let named =
            |name: &str| NewToken { name: name.to_owned(), ..new(TokenRole::Admin, &[], &[]) };
        let until = |text: &str| NewToken {
            expires: Some(text.to_owned()),
            ..new(TokenRole::Admin, &[], &[])
        };
        let wrong = [
            named("a b"),
            named(".."),
            named("tok_x"),
            named("postbell_x"),
            until("30d"),
            until("2020-01-01T00:00:00Z"),
            new(TokenRole::Admin, &["john"], &[]),
            new(TokenRole::Admin, &[], &["read"]),
            new(TokenRole::Service, &[], &[]),
            new(TokenRole::Service, &[], &["write"]),
            new(TokenRole::Service, &[""], &["read"]),
            new(TokenRole::User, &[], &[]),
            new(TokenRole::User, &["a", "b"], &[]),
            new(TokenRole::User, &["a"], &["publish"]),
            new(TokenRole::User, &["a"], &["read", "monitor"]),
            NewToken { stores: vec!["h".to_owned()], ..new(TokenRole::Admin, &[], &[]) },
            NewToken { stores: vec!["h".to_owned()], ..new(TokenRole::Service, &[], &["read"]) },
            NewToken {
                stores: vec!["a b".to_owned()],
                ..new(TokenRole::Service, &[], &["publish"])
            },
        ];
        let told = wrong.into_iter().map(|new| match tokens.create(new).unwrap_err() {
            CreateError::Invalid { pointer, message } => format!("{pointer}: {message}"),
            other => panic!("{other}"),
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
        assert!(tokens.list().is_empty());
        tokens.create(named("a")).unwrap();
        assert!(matches!(tokens.create(named("a")), Err(CreateError::NameTaken(_))));
    }
}
