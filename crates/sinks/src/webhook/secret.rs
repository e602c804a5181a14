//! What deliveries are signed with (Standard Webhooks 1.0.0).

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::Sha256;

/// What deliveries are signed with: a key shared with the receiver, or the private half of a pair
/// whose public half it has. Printing it shows `…`.
#[derive(Clone)]
pub struct Secret(Key);

#[derive(Clone)]
enum Key {
    /// `v1`: HMAC-SHA256.
    Shared {
        key: Box<[u8]>,
        /// Has taken the key in, which need not be done for each delivery.
        mac: Hmac<Sha256>,
    },
    /// `v1a`: Ed25519.
    Pair { seed: [u8; SEED_OCTETS], pair: Arc<Ed25519KeyPair> },
}

impl Secret {
    /// A shared key of 32 octets, best random ones.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self::shared(key.into())
    }

    /// A pair made of 32 octets, which must be random.
    #[must_use]
    pub fn pair(seed: [u8; 32]) -> Self {
        // Every 32 octets are a seed.
        match Ed25519KeyPair::from_seed_unchecked(&seed) {
            Ok(pair) => Self(Key::Pair { seed, pair: Arc::new(pair) }),
            Err(_) => Self::new(seed),
        }
    }

    /// Of a key that is no longer than it may be.
    fn shared(key: Box<[u8]>) -> Self {
        // Short keys count as followed by zeros (RFC 2104, section 2).
        let mut block = [0; KEY_OCTETS_MAX];
        for (octet, given) in block.iter_mut().zip(&*key) {
            *octet = *given;
        }
        Self(Key::Shared { mac: Hmac::new(&block.into()), key })
    }

    /// Reads `whsec_` and 24 to 64 octets in base64, or `whsk_` and a private key of Ed25519: its
    /// seed, with the public key behind it or without.
    ///
    /// # Errors
    ///
    /// Where it is anything else; the error doesn't repeat it.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        if let Some(encoded) = text.strip_prefix(PRIVATE) {
            let octets = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
            let (seed, public) = octets.split_first_chunk().ok_or(InvalidSecret)?;
            let secret = Self::pair(*seed);
            let is_whole = public.is_empty() || secret.public_octets() == Some(public);
            return if is_whole { Ok(secret) } else { Err(InvalidSecret) };
        }
        let encoded = text.strip_prefix(SHARED).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(KEY_OCTETS_MIN..=KEY_OCTETS_MAX).contains(&key.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self::shared(key.into()))
    }

    /// The text that [`Secret::parse`] reads; for the one place that shows it.
    #[must_use]
    pub fn reveal(&self) -> String {
        match &self.0 {
            Key::Shared { key, .. } => format!("{SHARED}{}", STANDARD.encode(key)),
            Key::Pair { seed, pair } => {
                let whole = [seed, pair.public_key().as_ref()].concat();
                format!("{PRIVATE}{}", STANDARD.encode(whole))
            }
        }
    }

    /// `whpk_` and the public key in base64, where there is one: it is all that a receiver needs.
    #[must_use]
    pub fn public(&self) -> Option<String> {
        self.public_octets().map(|octets| format!("{PUBLIC}{}", STANDARD.encode(octets)))
    }

    fn public_octets(&self) -> Option<&[u8]> {
        match &self.0 {
            Key::Shared { .. } => None,
            Key::Pair { pair, .. } => Some(pair.public_key().as_ref()),
        }
    }

    /// The signature of a delivery, over `id.timestamp.body`: `v1,` and its HMAC-SHA256, or `v1a,`
    /// and its Ed25519 signature.
    #[must_use]
    pub fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let head = format!("{id}.{unix_seconds}.");
        match &self.0 {
            Key::Shared { mac, .. } => {
                let mut mac = mac.clone();
                mac.update(head.as_bytes());
                mac.update(body);
                encoded("v1,", &mac.finalize().into_bytes())
            }
            Key::Pair { pair, .. } => {
                encoded("v1a,", pair.sign(&[head.as_bytes(), body].concat()).as_ref())
            }
        }
    }
}

fn encoded(version: &str, signature: &[u8]) -> String {
    let mut text = String::with_capacity(96);
    text.push_str(version);
    STANDARD.encode_string(signature, &mut text);
    text
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A text is no secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not \"whsec_\" and {KEY_OCTETS_MIN} to {KEY_OCTETS_MAX} octets in base64, nor \"whsk_\" and a key of Ed25519"
)]
pub struct InvalidSecret;

/// Before a shared key.
const SHARED: &str = "whsec_";

/// Before the private half of a pair.
const PRIVATE: &str = "whsk_";

/// Before the public half.
const PUBLIC: &str = "whpk_";

/// Octets of an Ed25519 seed (RFC 8032, section 5.1.5).
const SEED_OCTETS: usize = 32;

/// The fewest octets of a key that Standard Webhooks allows.
const KEY_OCTETS_MIN: usize = 24;

/// The most; also the block of SHA-256.
const KEY_OCTETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r164_the_signature_is_that_of_the_reference_implementation() {
        // The vector of the standard-webhooks reference libraries (test_sign).
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            secret.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    #[test]
    fn a_secret_is_read_back_as_it_is_shown() {
        let secret = Secret::new([7; 32]);
        assert_eq!(Secret::parse(&secret.reveal()).unwrap().reveal(), secret.reveal());
        assert_eq!(secret.public(), None);
    }

    #[test]
    fn a_secret_prints_as_dots() {
        assert_eq!(format!("{:?}", Secret::new([7; 32])), "…");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for text in ["", "whsec_", "hunter2", "whsec_!!", &short, &long] {
            let message = Secret::parse(text).unwrap_err().to_string();
            assert_eq!(
                message,
                "not \"whsec_\" and 24 to 64 octets in base64, nor \"whsk_\" and a key of Ed25519"
            );
        }
        let wrong = format!("whsk_{}", STANDARD.encode([7; 64]));
        assert!(Secret::parse("whsk_").is_err() && Secret::parse(&wrong).is_err());
    }

    #[test]
    fn r164_a_pair_signs_as_the_standard_has_it_and_its_public_half_verifies() {
        // RFC 8032, section 7.1, test 1: the seed and its public key.
        let seed = STANDARD.decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
        let public = STANDARD.decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap();
        let secret = Secret::pair(seed.clone().try_into().unwrap());
        assert_eq!(secret.public(), Some(format!("whpk_{}", STANDARD.encode(&public))));
        for text in [secret.reveal(), format!("whsk_{}", STANDARD.encode(&seed))] {
            assert_eq!(Secret::parse(&text).unwrap().reveal(), secret.reveal());
        }
        let signature = secret.sign("msg_1", 1_649_367_553, b"{}");
        let octets = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &public);
        key.verify(b"msg_1.1649367553.{}", &octets).unwrap();
        assert!(key.verify(b"msg_1.1649367553.{ }", &octets).is_err());
        assert_eq!(format!("{secret:?}"), "…");
    }

    /// RFC 5423, section 7: whoever changes `user` or `messageContent` on the way has no signature
    /// for it.
    #[test]
    fn r159_r160_a_user_or_content_changed_in_a_travelling_webhook_does_not_fit_its_signature() {
        let body = r#"{"event":"MessageNew","user":"jo","messageContent":"I agree"}"#;
        let (key, pair) = (Secret::new([7; 32]), Secret::pair([7; 32]));
        let public = STANDARD.decode(pair.public().unwrap().trim_start_matches("whpk_")).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &public);
        let signature = pair.sign("msg_1", 1, body.as_bytes());
        let signature = STANDARD.decode(signature.trim_start_matches("v1a,")).unwrap();
        public.verify(format!("msg_1.1.{body}").as_bytes(), &signature).unwrap();
        for (from, to) in [("\"jo\"", "\"al\""), ("agree", "don't")] {
            let changed = body.replace(from, to);
            assert_ne!(
                key.sign("msg_1", 1, body.as_bytes()),
                key.sign("msg_1", 1, changed.as_bytes())
            );
            assert!(public.verify(format!("msg_1.1.{changed}").as_bytes(), &signature).is_err());
        }
        // Nor does one that was recorded pass as another, or as of another time.
        assert_ne!(key.sign("msg_1", 1, body.as_bytes()), key.sign("msg_2", 1, body.as_bytes()));
        assert_ne!(key.sign("msg_1", 1, body.as_bytes()), key.sign("msg_1", 2, body.as_bytes()));
    }
}
