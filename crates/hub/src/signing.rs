//! The hub's own key, and what it signs with it: notes in the form of C2SP's signed-note.
//!
//! A note is a text, an empty line, and a line for each signature. Other programs read them, too:
//! <https://c2sp.org/signed-note>.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use crate::token::{PathSecret, SIGNING_KEY, TokenError};

/// What the hub signs with: Ed25519. Printing it shows `…`.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// What its signatures are checked with, which anyone may know.
///
/// Its text is a verifier key of signed-note: name, `+`, id, `+`, type and key in base64.
///
/// ```
/// use postbell_hub::PublicKey;
///
/// let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// assert_eq!(text.parse::<PublicKey>()?.to_string(), text);
/// # Ok::<(), postbell_hub::InvalidKey>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    name: String,
    key: [u8; KEY_OCTETS],
}

/// A text is no key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("is not a public key (try what `postbell journal key` prints)")]
pub struct InvalidKey;

impl SigningKey {
    /// Reads the key in the data folder, making it first where there is none.
    ///
    /// # Errors
    ///
    /// Where the file can't be read or written, is open to others, or holds no key.
    pub fn load_or_make(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(SIGNING_KEY);
        let secret = PathSecret::load_or_make(&path)?;
        Self::new(&secret).ok_or(TokenError::Malformed { path })
    }

    /// Reads the key in the data folder, where a hub has made one.
    ///
    /// # Errors
    ///
    /// As [`SigningKey::load_or_make`], and where there is none.
    pub fn load(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(SIGNING_KEY);
        let secret = PathSecret::load(&path)?;
        Self::new(&secret).ok_or(TokenError::Malformed { path })
    }

    /// From the 64 digits of its seed.
    fn new(secret: &PathSecret) -> Option<Self> {
        let mut seed = [0; KEY_OCTETS];
        let (pairs, _) = secret.reveal().as_bytes().as_chunks::<2>();
        for (octet, pair) in seed.iter_mut().zip(pairs) {
            *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let key = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public: PublicKey { name: NAME.to_owned(), key } })
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A note that holds `text`, which ends with a line's end and has no empty line.
    pub(crate) fn note(&self, text: &str) -> String {
        let mut signed = self.public.id().to_vec();
        signed.extend_from_slice(&self.sign(text.as_bytes()));
        format!("{text}\n{SIGNATURE}{} {}\n", self.public.name, STANDARD.encode(signed))
    }

    /// Puts into the JSON object that stands in `out` from `begin` on, as its last member, the
    /// signature of it as it was.
    pub(crate) fn seal(&self, out: &mut Vec<u8>, begin: usize) {
        let Some(object) = out.get(begin..).filter(|object| object.ends_with(b"}")) else { return };
        let signature = STANDARD.encode(self.sign(object));
        out.pop();
        out.extend_from_slice(MEMBER.as_bytes());
        out.extend_from_slice(signature.as_bytes());
        out.extend_from_slice(b"\"}");
    }

    /// The signature of `octets`.
    pub(crate) fn sign(&self, octets: &[u8]) -> [u8; SIGNATURE_OCTETS] {
        let signature = self.pair.sign(octets);
        let mut copy = [0; SIGNATURE_OCTETS];
        for (to, from) in copy.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        copy
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl PublicKey {
    /// The first four octets of the hash of name and key.
    fn id(&self) -> [u8; 4] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_TYPE])
            .chain_update(self.key)
            .finalize()
            .into();
        hash.first_chunk().copied().unwrap_or_default()
    }

    /// Whether `signature` is this key's of `octets`.
    #[must_use]
    pub fn verifies(&self, octets: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(octets, signature).is_ok()
    }

    /// The event that was sealed, where it is as the hub wrote it; `None` where anything in it was
    /// changed, or it is not sealed.
    ///
    /// The last member is `vnd.postbell.signature`: Ed25519, in base64, over all octets of the object
    /// without that member, its closing brace included.
    #[must_use]
    pub fn unseal(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (front, signature) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_OCTETS)?)?;
        let signature = signature.strip_prefix(MEMBER.as_bytes())?.strip_suffix(b"\"}")?;
        let mut object = front.to_vec();
        object.push(b'}');
        let signature = STANDARD.decode(signature).ok()?;
        self.verifies(&object, &signature).then_some(object)
    }

    /// Whether `line` is the signature this key gave `text`, a note's.
    pub(crate) fn signed(&self, text: &str, line: &str) -> bool {
        let of_line = || {
            let (name, signed) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
            let signed = STANDARD.decode(signed).ok()?;
            let (id, signature) = signed.split_first_chunk::<4>()?;
            let is_ours = name == self.name && *id == self.id();
            Some(is_ours && self.verifies(text.as_bytes(), signature))
        };
        of_line().unwrap_or(false)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_TYPE];
        key.extend_from_slice(&self.key);
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.trim().split_once('+').ok_or(InvalidKey)?;
        let (_, key) = rest.split_once('+').ok_or(InvalidKey)?;
        let key = STANDARD.decode(key).map_err(|_| InvalidKey)?;
        let (&[ED25519_TYPE], key) = key.split_first_chunk().ok_or(InvalidKey)? else {
            return Err(InvalidKey);
        };
        let key = key.try_into().map_err(|_| InvalidKey)?;
        let made = Self { name: name.to_owned(), key };
        (made.to_string() == text.trim()).then_some(made).ok_or(InvalidKey)
    }
}

/// What the key is called in notes.
const NAME: &str = "postbell-journal";

/// Begins the line of a signature.
pub(crate) const SIGNATURE: &str = "— ";

/// Ed25519 among the signatures of signed-note.
const ED25519_TYPE: u8 = 1;

/// Begins the member that holds an event's signature.
const MEMBER: &str = ",\"vnd.postbell.signature\":\"";

/// That member and the end of the object: 64 octets are 88 letters in base64.
const SEAL_OCTETS: usize = MEMBER.len() + 88 + 2;

const KEY_OCTETS: usize = 32;
const SIGNATURE_OCTETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const EXAMPLE_SIGNATURE: &str = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=";

    #[test]
    fn a_note_others_signed_is_verified_and_a_changed_one_is_not() {
        let key: PublicKey = EXAMPLE.parse().unwrap();
        assert!(key.signed("This is an example message.\n", EXAMPLE_SIGNATURE));
        assert!(!key.signed("This is an example message!\n", EXAMPLE_SIGNATURE));
        assert!(!key.signed("This is an example message.\n", "— example.com/foo Uw2Q"));
    }

    #[test]
    fn a_key_is_made_once_and_its_notes_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        let again = SigningKey::load_or_make(folder.path()).unwrap();
        assert_eq!(again.public(), key.public());
        let note = key.note("one\ntwo\n");
        let (text, signature) = note.split_once("\n\n").unwrap();
        assert!(again.public().signed(&format!("{text}\n"), signature.trim_end()));
        assert_eq!(key.public().to_string().parse().as_ref(), Ok(key.public()));
        let other = tempfile::tempdir().unwrap();
        let other = SigningKey::load_or_make(other.path()).unwrap();
        assert!(!other.public().signed(&format!("{text}\n"), signature.trim_end()));
    }

    #[test]
    fn a_sealed_event_changed_in_any_octet_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        let event = br#"{"event":"MessageNew","user":"jo"}"#;
        let mut sealed = b"data: ".to_vec();
        sealed.extend_from_slice(event);
        key.seal(&mut sealed, 6);
        assert_eq!(key.public().unseal(&sealed[6..]).as_deref(), Some(&event[..]));
        for at in 6..sealed.len() {
            let mut changed = sealed[6..].to_vec();
            changed[at - 6] ^= 1;
            assert_eq!(key.public().unseal(&changed), None, "octet {at}");
        }
        assert_eq!(key.public().unseal(event), None);
        assert_eq!(key.public().unseal(b""), None);
    }

    #[test]
    fn a_signing_key_prints_as_an_ellipsis() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(folder.path()).unwrap();
        assert_eq!(format!("{key:?}"), "…");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "a+b", "a+530d903a+AekyeRrm", &EXAMPLE.replace("530d", "530e")] {
            assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey), "{text}");
        }
    }
}
