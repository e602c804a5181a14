//! An issuer's public keys (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The keys of one issuer that can sign what is taken here.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm it is for, where it says so.
    algorithm: Option<KeyAlgorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Shown {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK Set. Keys that aren't for signatures, or of which nothing here knows how to
    /// check one, are passed over.
    pub(crate) fn parse(octets: &[u8]) -> Result<Self, serde_json::Error> {
        let shown: Shown = serde_json::from_slice(octets)?;
        let keys = shown.keys.into_iter().filter_map(|value| {
            let jwk = serde_json::from_value::<Jwk>(value).ok()?;
            let signs = |stated: &PublicKeyUse| *stated == PublicKeyUse::Signature;
            if !jwk.common.public_key_use.as_ref().is_none_or(signs) {
                return None;
            }
            match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => {}
                AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {}
                AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {}
                // A shared secret in a public place, too, which whoever reads it could sign with.
                _ => return None,
            }
            let key = DecodingKey::from_jwk(&jwk).ok()?;
            Some(Key { id: jwk.common.key_id, algorithm: jwk.common.key_algorithm, key })
        });
        Ok(Self(keys.take(KEYS_MAX).collect()))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one key that can have signed a token whose header says this. Of two with one id none
    /// is: which of them was meant can't be told.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let fits = |key: &&Key| {
            id.is_none_or(|id| key.id.as_deref() == Some(id))
                && key.key.family() == algorithm.family()
                && key.algorithm.is_none_or(|stated| stated == KeyAlgorithm::from(algorithm))
        };
        let mut fitting = self.0.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(&one.key),
            _ => None,
        }
    }
}

/// Keys of one issuer: the largest show some dozens.
const KEYS_MAX: usize = 100;
