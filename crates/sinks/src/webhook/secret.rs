//! What deliveries are signed with (Standard Webhooks 1.0.0).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A key shared with a receiver. Printing it shows `…`.
#[derive(Clone)]
pub struct Secret {
    key: Box<[u8]>,
    /// Has taken the key in, which need not be done for each delivery.
    mac: Hmac<Sha256>,
}

impl Secret {
    /// A secret of 32 octets, best random ones.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self::of(key.into())
    }

    /// Of a key that is no longer than it may be.
    fn of(key: Box<[u8]>) -> Self {
        // Short keys count as followed by zeros (RFC 2104, section 2).
        let mut block = [0; KEY_OCTETS_MAX];
        for (octet, given) in block.iter_mut().zip(&*key) {
            *octet = *given;
        }
        Self { mac: Hmac::new(&block.into()), key }
    }

    /// Reads `whsec_` and 24 to 64 octets in base64.
    ///
    /// # Errors
    ///
    /// Where it is anything else; the error doesn't repeat it.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(KEY_OCTETS_MIN..=KEY_OCTETS_MAX).contains(&key.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self::of(key.into()))
    }

    /// The text a receiver is given; for the one place that shows it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.key))
    }

    /// The signature of a delivery: `v1,` and the HMAC-SHA256 of `id.timestamp.body`.
    #[must_use]
    pub fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(unix_seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        let mut text = String::with_capacity(48);
        text.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut text);
        text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A text is no secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not \"whsec_\" and {KEY_OCTETS_MIN} to {KEY_OCTETS_MAX} octets in base64")]
pub struct InvalidSecret;

const PREFIX: &str = "whsec_";

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
        assert_eq!(Secret::parse(&secret.reveal()).unwrap().key, secret.key);
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
            assert_eq!(message, "not \"whsec_\" and 24 to 64 octets in base64");
        }
    }
}
