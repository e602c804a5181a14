//! Whose JWTs are taken, and what they stand for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::read::not_absolute;
use super::values;
use crate::access::{TokenRole, check_role};

/// JWTs of an OpenID Connect issuer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct OidcConfig {
    /// Who issues them; empty for none.
    pub issuer: String,
    /// For whom they must be.
    pub audience: String,
    /// How they may be signed.
    pub algorithms: Vec<OidcAlgorithm>,
    /// To which programs they may have been given; none for any.
    pub authorized_parties: Vec<String>,
    /// File with the issuer's keys; empty asks the issuer.
    pub jwks_file: PathBuf,
    /// PEM file of the authorities the issuer's certificate may be from; empty for Mozilla's.
    pub ca: PathBuf,
    /// How long one lets in at most, from its `iat` on, whatever its `exp` says.
    #[serde(with = "values::duration")]
    pub lifetime_max: Duration,
    /// Which claim is the user's name in the store.
    pub user_claim: String,
    /// Which claim tells roles.
    pub roles_claim: String,
    /// What its values stand for.
    pub roles: Vec<OidcRoleConfig>,
}

/// How a JWT may be signed (RFC 7518, section 3.1; RFC 8037). Nothing that takes a shared secret,
/// and never nothing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OidcAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// EdDSA over Ed25519.
    EdDSA,
}

impl From<OidcAlgorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: OidcAlgorithm) -> Self {
        match algorithm {
            OidcAlgorithm::RS256 => Self::RS256,
            OidcAlgorithm::PS256 => Self::PS256,
            OidcAlgorithm::ES256 => Self::ES256,
            OidcAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OidcRole {
    /// Whoever runs the hub: everything.
    Admin,
    /// A program: what its scopes say.
    Service,
    /// A person: their own mailboxes.
    User,
}

impl From<OidcRole> for TokenRole {
    fn from(role: OidcRole) -> Self {
        match role {
            OidcRole::Admin => Self::Admin,
            OidcRole::Service => Self::Service,
            OidcRole::User => Self::User,
        }
    }
}

/// What one value of the claim that tells roles stands for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OidcRoleConfig {
    /// The value.
    pub value: String,
    /// Whose such a token is.
    pub role: OidcRole,
    /// What it is for.
    #[serde(default)]
    pub scope: Vec<String>,
    /// Hosts of the stores of which events may be handed in.
    #[serde(default)]
    pub stores: Vec<String>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            algorithms: vec![OidcAlgorithm::RS256],
            authorized_parties: Vec::new(),
            jwks_file: PathBuf::new(),
            ca: PathBuf::new(),
            lifetime_max: Duration::from_secs(24 * 60 * 60),
            user_claim: "sub".to_owned(),
            roles_claim: "groups".to_owned(),
            roles: Vec::new(),
        }
    }
}

/// Adds a line for each value that makes no sense.
pub(super) fn check(oidc: &OidcConfig, lines: &mut Vec<String>) {
    let mut bad = |key: &str, why: &str| lines.push(format!("oidc.{key}: {why}"));
    for (key, path, example) in [
        ("jwks_file", &oidc.jwks_file, "/etc/postbell/jwks.json"),
        ("ca", &oidc.ca, "/etc/ssl/certs/ca-certificates.crt"),
    ] {
        let given = !path.as_os_str().is_empty();
        if let Some(why) = not_absolute(path, example).filter(|_| given) {
            bad(key, &why);
        }
    }
    if oidc.lifetime_max.is_zero() || oidc.lifetime_max > LIFETIME_MAX {
        bad("lifetime_max", "is not between nothing and \"30d\" (try \"24h\")");
    }
    for why in oidc.roles.iter().filter_map(check_role) {
        bad("roles", &why);
    }
    if oidc.roles.iter().any(|one| one.value.is_empty()) {
        bad("roles", "\"\" is no value that a claim tells (try \"postbell-admin\")");
    }
    if oidc.issuer.is_empty() {
        if *oidc != OidcConfig::default() {
            bad(
                "issuer",
                "missing, as there are other keys of it (try \"https://id.example.org\")",
            );
        }
        return;
    }
    if !is_https(&oidc.issuer) && !is_http_here(&oidc.issuer) {
        let why = format!(
            "{:?} is not an https URL without query, nor an http one of this machine (try \"https://id.example.org\")",
            oidc.issuer
        );
        bad("issuer", &why);
    }
    if oidc.audience.is_empty() {
        bad("audience", "missing: any token of the issuer's would open the hub (try \"postbell\")");
    }
    if oidc.algorithms.is_empty() {
        bad("algorithms", "none would let nobody in (try [\"RS256\"])");
    }
    for (key, claim) in [("user_claim", &oidc.user_claim), ("roles_claim", &oidc.roles_claim)] {
        if claim.is_empty() {
            bad(key, "\"\" is no claim (try \"sub\")");
        }
    }
}

fn is_https(url: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'?' | b'#' | b'@');
    url.starts_with("https://")
        && url.bytes().all(is_plain)
        && url.parse::<axum::http::Uri>().is_ok()
}

/// Whether a URL is in clear, and of this machine.
pub(crate) fn is_http_here(url: &str) -> bool {
    let Ok(uri) = url.parse::<axum::http::Uri>() else { return false };
    let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    let is_here = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("http") && host.is_some_and(is_here)
}

/// A JWT that its issuer takes back lets in for no longer than this.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
