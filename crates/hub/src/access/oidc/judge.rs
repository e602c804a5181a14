//! Whether a JWT lets in, and what it says: decided by its octets, the issuer's keys and the time.

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::keys::KeySet;
use super::verifier;

/// What a token must meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Rules {
    /// Who must have issued it, letter for letter.
    pub(crate) issuer: String,
    /// For whom it must be.
    pub(crate) audience: String,
    /// How it may be signed. The token says how it was, and that is not believed beyond these.
    pub(crate) algorithms: Vec<Algorithm>,
    /// To which programs it may have been given; any where there is none.
    pub(crate) parties: Vec<String>,
    /// How long it lets in at most after it was issued, whatever it says itself.
    pub(crate) lifetime_max_seconds: i64,
}

/// What a token says that lets in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claims {
    /// All of it.
    pub(crate) all: Map<String, Value>,
    /// Whom the issuer means, in its own words.
    pub(crate) subject: String,
    /// What the issuer calls this one, if it calls it anything.
    pub(crate) id: Option<String>,
    /// When it ends, in seconds since 1970, with the leeway clocks are given.
    pub(crate) ends_unix_seconds: i64,
}

/// Why a token doesn't let in. In words that tell whoever shows it, and nobody anything else.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Invalid {
    /// It is none at all, or too large.
    #[error("it is not a signed JWT")]
    Malformed,
    /// It is signed as isn't taken here, or not at all.
    #[error("it is signed by an algorithm that is not taken here")]
    Algorithm,
    /// None of the issuer's keys can have signed it.
    #[error("it is signed with a key that is not the issuer's")]
    Key,
    /// Somebody changed it, or signed it with another key.
    #[error("its signature does not fit")]
    Signature,
    /// It is for something else than asking.
    #[error("it is another kind of token")]
    Kind,
    /// Somebody else issued it.
    #[error("iss: it is not from the issuer trusted here")]
    Issuer,
    /// It is for somebody else.
    #[error("aud: it is not for this hub")]
    Audience,
    /// It was given to another program.
    #[error("azp: it was given to a program that may not ask here")]
    Party,
    /// It is over.
    #[error("exp: it has expired, or doesn't say when it does")]
    Expired,
    /// It would be good for too long, and doesn't say since when.
    #[error("exp: it would let in for longer than here, and has no iat to count from")]
    TooLong,
    /// It is not good yet.
    #[error("nbf or iat: it is not good yet")]
    NotYet,
    /// Who it is for can't be read, or can't be a user of the store.
    #[error("it names no user that could be one of this store")]
    User,
}

/// What `token` says, where it lets in at this time.
pub(crate) fn judge(
    token: &[u8],
    keys: &KeySet,
    rules: &Rules,
    now_unix_seconds: i64,
) -> Result<Claims, Invalid> {
    verifier::install();
    if token.len() > TOKEN_OCTETS_MAX {
        return Err(Invalid::Malformed);
    }
    let header = decode_header(token).map_err(|error| why(&error))?;
    if !rules.algorithms.contains(&header.alg) {
        return Err(Invalid::Algorithm);
    }
    if !header.typ.as_deref().is_none_or(is_access) {
        return Err(Invalid::Kind);
    }
    let key = keys.find(header.kid.as_deref(), header.alg).ok_or(Invalid::Key)?;
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&[&rules.audience]);
    // The time is judged below, by the time that was given.
    validation.validate_exp = false;
    let all = decode::<Map<String, Value>>(token, key, &validation).map_err(|error| why(&error))?;
    claims(all.claims, rules, now_unix_seconds)
}

/// What remains to be judged of a token that is signed, by the issuer, and for us.
fn claims(
    all: Map<String, Value>,
    rules: &Rules,
    now_unix_seconds: i64,
) -> Result<Claims, Invalid> {
    let text = |name| all.get(name).and_then(Value::as_str);
    // A list would do for the library.
    if text("iss") != Some(&rules.issuer) {
        return Err(Invalid::Issuer);
    }
    // Keycloak signs refresh and log-out tokens with the same keys, and says so here. What holds
    // `events` tells of something and lets nobody in (RFC 8417).
    let is_bearer = text("typ").is_none_or(|typ| typ == "Bearer" || typ == "ID" || typ == "JWT");
    let has_kind = all.get("typ").is_none_or(Value::is_string);
    // One with `cnf` is good in the hands of whoever has a key alone, for which nobody looks here
    // (RFC 7800, section 3).
    if !is_bearer || !has_kind || all.contains_key("events") || all.contains_key("cnf") {
        return Err(Invalid::Kind);
    }
    let party = text("azp").or_else(|| text("client_id"));
    let is_theirs = |party: &str| rules.parties.iter().any(|one| one == party);
    if !rules.parties.is_empty() && !party.is_some_and(is_theirs) {
        return Err(Invalid::Party);
    }
    let exp = all.get("exp").and_then(seconds).ok_or(Invalid::Expired)?;
    // Without `iat` nobody knows how long it has been good.
    let issued = all.get("iat").and_then(seconds);
    let latest = issued.unwrap_or(now_unix_seconds).saturating_add(rules.lifetime_max_seconds);
    if issued.is_none() && exp > latest {
        return Err(Invalid::TooLong);
    }
    let ends_unix_seconds = exp.min(latest).saturating_add(LEEWAY_SECONDS);
    if ends_unix_seconds <= now_unix_seconds {
        return Err(Invalid::Expired);
    }
    for name in ["nbf", "iat"] {
        let Some(value) = all.get(name) else { continue };
        let begins = seconds(value).ok_or(Invalid::NotYet)?;
        if begins > now_unix_seconds.saturating_add(LEEWAY_SECONDS) {
            return Err(Invalid::NotYet);
        }
    }
    let subject = text("sub").filter(|text| !text.is_empty()).ok_or(Invalid::User)?.to_owned();
    let id = text("jti").map(str::to_owned);
    Ok(Claims { all, subject, id, ends_unix_seconds })
}

/// Whether the header's `typ` is that of a token that lets in (RFC 7519, section 5.1; RFC 9068).
fn is_access(typ: &str) -> bool {
    let typ = typ.strip_prefix("application/").unwrap_or(typ);
    typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt")
}

/// A NumericDate (RFC 7519, section 2), in whole seconds.
fn seconds(value: &Value) -> Option<i64> {
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let number = value.as_f64().filter(|number| number.abs() < SECONDS_MAX)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is bounded, and below the second")]
    Some(number.floor() as i64)
}

fn why(error: &Error) -> Invalid {
    match error.kind() {
        ErrorKind::InvalidSignature => Invalid::Signature,
        ErrorKind::InvalidIssuer => Invalid::Issuer,
        ErrorKind::InvalidAudience => Invalid::Audience,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Invalid::Algorithm,
        ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
            if name == "iss" { Invalid::Issuer } else { Invalid::Audience }
        }
        // `none`, and whatever else the library doesn't know.
        ErrorKind::Json(error) if error.is_data() => Invalid::Algorithm,
        _ => Invalid::Malformed,
    }
}

/// How far clocks may be apart.
pub(crate) const LEEWAY_SECONDS: i64 = 30;

/// A token with hundreds of groups has some thousand octets.
const TOKEN_OCTETS_MAX: usize = 16 * 1024;

/// Beyond, a float has no whole seconds.
const SECONDS_MAX: f64 = 9e15;
