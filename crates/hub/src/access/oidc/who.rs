//! Who a JWT's claims stand for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postbell_engine::Principal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::tokens::{CreateError, NewToken, TokenRole, Tokens, stands_for};
use super::judge::{Claims, Invalid};
use crate::config::{OidcConfig, OidcRoleConfig};

/// By which claims somebody is known.
#[derive(Clone, Debug)]
pub(super) struct Who {
    issuer: String,
    user_claim: String,
    roles_claim: String,
    roles: Vec<OidcRoleConfig>,
}

impl Who {
    /// As it is configured.
    pub(super) fn new(config: &OidcConfig) -> Self {
        Self {
            issuer: config.issuer.clone(),
            user_claim: config.user_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            roles: config.roles.clone(),
        }
    }

    /// Whom these claims let in, and as which token that counts: the same person's tokens are one.
    pub(super) fn is(
        &self,
        claims: &Claims,
        tokens: &Tokens,
    ) -> Result<(String, Principal), Invalid> {
        let id = id(&self.issuer, &claims.subject);
        let role = self.roles.iter().find(|one| self.has(claims, &one.value));
        let user = match role.map_or(TokenRole::User, |one| one.role.into()) {
            TokenRole::User => Some(self.user(claims)?),
            TokenRole::Admin | TokenRole::Service => None,
        };
        let new = token(role, user);
        // Roles were checked when the configuration was read, so that only the name can be wrong.
        let principal = stands_for(new, tokens.own_store()).map_err(|_| Invalid::User)?;
        Ok((id, principal))
    }

    /// The user's name in the store.
    fn user(&self, claims: &Claims) -> Result<String, Invalid> {
        let user = claim(claims, &self.user_claim).and_then(Value::as_str).ok_or(Invalid::User)?;
        // Whoever may write any address into their profile would be anybody.
        let is_verified = claims.all.get("email_verified") == Some(&Value::Bool(true));
        let is_email = self.user_claim.rsplit('/').next() == Some("email");
        let is_theirs = !is_email || is_verified;
        let is_fit = is_theirs && user.len() <= USER_OCTETS_MAX;
        is_fit.then(|| user.to_owned()).ok_or(Invalid::User)
    }

    /// Whether `value` is among those of the claim that tells roles.
    fn has(&self, claims: &Claims, value: &str) -> bool {
        match claim(claims, &self.roles_claim) {
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(value)),
            // Scopes of OAuth stand in one text (RFC 8693, section 4.2).
            Some(Value::String(text)) if self.roles_claim == "scope" => {
                text.split(' ').any(|one| one == value)
            }
            Some(Value::String(text)) => text == value,
            _ => false,
        }
    }
}

/// What is wrong with a role as it is configured, if anything is.
pub(crate) fn check_role(role: &OidcRoleConfig) -> Option<String> {
    let user = (TokenRole::from(role.role) == TokenRole::User).then(|| "john".to_owned());
    match stands_for(token(Some(role), user), "localhost") {
        Err(CreateError::Invalid { pointer, message }) => {
            Some(format!("{:?}: {}: {message}", role.value, pointer.trim_start_matches('/')))
        }
        Err(error) => Some(format!("{:?}: {error}", role.value)),
        Ok(_) => None,
    }
}

/// A claim by its name; where it stands deeper, by its JSON Pointer.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else { return claims.all.get(name) };
    let mut steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
    let first = claims.all.get(&steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(&step))
}

/// The token an operator would have made for them.
fn token(role: Option<&OidcRoleConfig>, user: Option<String>) -> NewToken {
    NewToken {
        name: String::new(),
        role: role.map_or(TokenRole::User, |one| one.role.into()),
        users: user.into_iter().collect(),
        scope: role.map(|one| one.scope.clone()).unwrap_or_default(),
        stores: role.map(|one| one.stores.clone()).unwrap_or_default(),
        certificate: None,
        expires: None,
    }
}

/// As what a person counts, with however many tokens.
fn id(issuer: &str, subject: &str) -> String {
    let hash = Sha256::digest(format!("{issuer}\0{subject}"));
    let text: String = URL_SAFE_NO_PAD.encode(hash).chars().take(ID_LETTERS).collect();
    format!("oidc_{text}")
}

/// Octets of a user's name: more is none of a store's.
const USER_OCTETS_MAX: usize = 320;

/// Letters of an id: 132 bits, so that nobody finds a second name for another's.
const ID_LETTERS: usize = 22;
