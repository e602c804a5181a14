//! An OpenID Connect issuer on loopback: keys made for the test, and what it says of itself.

#![expect(clippy::expect_used, reason = "without random octets no test has a key to go on with")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};

use crate::Error;

/// A key that signs JWTs.
#[derive(Debug)]
pub struct SigningKey {
    /// Its id.
    pub id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A new one for ES256.
    ///
    /// # Panics
    /// Where the system has no random octets to give.
    #[must_use]
    pub fn p256(id: &str) -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("random octets");
        let pair = EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).expect("what was made");
        Self { id: id.to_owned(), pair: Pair::P256(pair) }
    }

    /// A new one for EdDSA.
    ///
    /// # Panics
    /// Where the system has no random octets to give.
    #[must_use]
    pub fn ed25519(id: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random octets");
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("what was made");
        Self { id: id.to_owned(), pair: Pair::Ed25519(pair) }
    }

    /// A new one for RS256 and PS256, made by openssl in `folder`; none where there is no openssl.
    #[must_use]
    pub fn rsa(id: &str, folder: &Path) -> Option<Self> {
        let path = folder.join(format!("{id}.der"));
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-outform", "DER", "-out"])
            .arg(&path)
            .status()
            .ok()?;
        let octets = std::fs::read(path).ok().filter(|_| made.success())?;
        let pair = RsaKeyPair::from_pkcs8(&octets).ok()?;
        Some(Self { id: id.to_owned(), pair: Pair::Rsa(pair) })
    }

    /// The algorithm it signs by, where nothing else is said.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// Its public half as a JWK.
    #[must_use]
    pub fn jwk(&self) -> String {
        let id = &self.id;
        match &self.pair {
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (point.get(1..33), point.get(33..));
                let (x, y) = (text(x.unwrap_or_default()), text(y.unwrap_or_default()));
                format!(
                    r#"{{"kty":"EC","crv":"P-256","use":"sig","kid":"{id}","x":"{x}","y":"{y}"}}"#
                )
            }
            Pair::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{id}","x":"{x}"}}"#)
            }
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                let (n, e) = (text(&public.n), text(&public.e));
                format!(r#"{{"kty":"RSA","use":"sig","kid":"{id}","n":"{n}","e":"{e}"}}"#)
            }
        }
    }

    /// Claims, signed: a JWT.
    #[must_use]
    pub fn token(&self, claims: &str) -> String {
        let (algorithm, id) = (self.algorithm(), &self.id);
        self.sign(&format!(r#"{{"alg":"{algorithm}","typ":"JWT","kid":"{id}"}}"#), claims)
    }

    /// The same under a header of the test's. An RSA key signs by PS256 where that says so.
    ///
    /// # Panics
    /// Where the system has no random octets to give.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", text(header.as_bytes()), text(claims.as_bytes()));
        let (random, octets) = (SystemRandom::new(), message.as_bytes());
        let signature = match &self.pair {
            Pair::P256(pair) => {
                pair.sign(&random, octets).expect("random octets").as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(octets).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = match header.contains("PS256") {
                    true => pair.sign(&RSA_PSS_SHA256, &random, octets, &mut signature),
                    false => pair.sign(&RSA_PKCS1_SHA256, &random, octets, &mut signature),
                };
                signed.expect("random octets");
                signature
            }
        };
        format!("{message}.{}", text(&signature))
    }
}

fn text(octets: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(octets)
}

/// A JWK Set of these keys.
#[must_use]
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> String {
    let keys: Vec<_> = keys.into_iter().map(SigningKey::jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Serves documents over HTTP until the test ends.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    documents: BTreeMap<String, String>,
    asked: usize,
}

impl Issuer {
    /// Starts one that shows these keys.
    ///
    /// # Errors
    /// [`Error::Io`] where no port is to be had.
    pub fn start<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Result<Self, Error> {
        let doing = || Error::io("listen as an issuer");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(doing())?;
        let address = listener.local_addr().map_err(doing())?;
        let kept = Arc::new(Mutex::new(Kept::default()));
        let serve = Arc::clone(&kept);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&serve);
                thread::spawn(move || answer(stream, &kept));
            }
        });
        let issuer = Self { address, kept };
        issuer.discovery(&issuer.url(), &format!("{}/keys", issuer.url()));
        issuer.show(&jwks(keys));
        Ok(issuer)
    }

    /// Who it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows other keys from now on.
    pub fn show(&self, jwks: &str) {
        lock(&self.kept).documents.insert("/keys".to_owned(), jwks.to_owned());
    }

    /// Calls itself so from now on, and says where its keys are.
    pub fn discovery(&self, issuer: &str, jwks_uri: &str) {
        let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}"}}"#);
        lock(&self.kept).documents.insert(DISCOVERY.to_owned(), document);
    }

    /// Answers nothing but 404 from now on.
    pub fn fail(&self) {
        lock(&self.kept).documents.clear();
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        lock(&self.kept).asked
    }
}

/// Answers one request.
fn answer(stream: TcpStream, kept: &Mutex<Kept>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first).ok()?;
    while line.trim_end() != "" || line.is_empty() {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
    }
    let found = {
        let mut kept = lock(kept);
        kept.asked += 1;
        kept.documents.get(first.split(' ').nth(1)?).cloned()
    };
    let (status, body) = match found {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    writer.write_all(answer.as_bytes()).ok()
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// A thread that died while holding the lock left whole documents behind.
fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
