//! What a JWT may not be, and what becomes of one that is good.

use postbell_testkit::issuer::{SigningKey, jwks};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::judge::{Invalid, LEEWAY_SECONDS, Rules, judge};
use super::keys::KeySet;
use jsonwebtoken::Algorithm;

const NOW: i64 = 1_800_000_000;

fn rules() -> Rules {
    Rules {
        issuer: "https://id.example.org".to_owned(),
        audience: "postbell".to_owned(),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        parties: Vec::new(),
        lifetime_max_seconds: 3_600,
    }
}

fn good() -> Value {
    json!({
        "iss": "https://id.example.org", "sub": "4711", "aud": "postbell",
        "exp": NOW + 300, "iat": NOW, "preferred_username": "john",
    })
}

/// Those claims with some changed; `null` takes one away.
fn with(change: Value) -> String {
    let mut claims = good();
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims.to_string()
}

fn keys(keys: &[&SigningKey]) -> KeySet {
    KeySet::parse(jwks(keys.iter().copied()).as_bytes()).unwrap()
}

fn said(token: &str, keys: &KeySet) -> Result<(), Invalid> {
    judge(token.as_bytes(), keys, &rules(), NOW).map(drop)
}

#[test]
fn r161_a_jwt_by_each_pinned_algorithm_lets_in() {
    let folder = tempfile::tempdir().unwrap();
    let (p256, ed25519) = (SigningKey::p256("a"), SigningKey::ed25519("b"));
    let rsa = SigningKey::rsa("c", folder.path());
    let all: Vec<_> = [&p256, &ed25519].into_iter().chain(&rsa).collect();
    let set = keys(&all);
    for key in &all {
        assert_eq!(said(&key.token(&good().to_string()), &set), Ok(()), "{}", key.algorithm());
        // The only one there is needs no name.
        let header = format!(r#"{{"alg":"{}"}}"#, key.algorithm());
        assert_eq!(said(&key.sign(&header, &good().to_string()), &set), Ok(()));
    }
    if let Some(rsa) = &rsa {
        let pss = rsa.sign(r#"{"alg":"PS256","kid":"c"}"#, &good().to_string());
        assert_eq!(said(&pss, &set), Ok(()));
        let swapped = rsa.token(&good().to_string()).replacen(
            base64(r#"{"alg":"RS256","typ":"JWT","kid":"c"}"#).as_str(),
            base64(r#"{"alg":"PS256","typ":"JWT","kid":"c"}"#).as_str(),
            1,
        );
        assert_eq!(said(&swapped, &set), Err(Invalid::Signature));
    }
}

#[test]
fn r162_a_jwt_lets_in_no_longer_than_the_operator_says_whatever_it_says_itself() {
    let key = SigningKey::p256("a");
    let set = keys(&[&key]);
    let ends = |iat: Value, exp: i64| {
        let token = key.token(&with(json!({ "iat": iat, "exp": exp })));
        let judged = judge(token.as_bytes(), &set, &rules(), NOW);
        judged.map(|claims| claims.ends_unix_seconds - LEEWAY_SECONDS - NOW)
    };
    let year = NOW + 365 * 24 * 3_600;
    assert_eq!(ends(NOW.into(), NOW + 300), Ok(300));
    assert_eq!(ends(NOW.into(), year), Ok(3_600));
    assert_eq!(ends((NOW - 3_000).into(), year), Ok(600));
    assert_eq!(ends((NOW - 3_600 - LEEWAY_SECONDS).into(), year), Err(Invalid::Expired));
    assert_eq!(ends(Value::Null, NOW + 3_600), Ok(3_600));
    assert_eq!(ends(Value::Null, NOW + 3_601), Err(Invalid::TooLong));
}

fn base64(header: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header)
}

#[test]
fn r161_a_jwt_that_is_signed_otherwise_opens_nothing() {
    let (key, other) = (SigningKey::p256("a"), SigningKey::ed25519("b"));
    let set = keys(&[&key, &other]);
    let body = good().to_string();
    let unsigned = |header: &str| format!("{}.{}.", base64(header), base64(&body));
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        assert_eq!(said(&unsigned(&header), &set), Err(Invalid::Algorithm), "{algorithm}");
        assert_eq!(said(&key.sign(&header, &body), &set), Err(Invalid::Algorithm));
    }
    // With the public key as the secret, as it is shown and as it is read.
    let point = key.jwk();
    for secret in [point.as_bytes(), jwks([&key]).as_bytes()] {
        for (name, kind) in [("HS256", ring::hmac::HMAC_SHA256), ("HS512", ring::hmac::HMAC_SHA512)]
        {
            let message =
                format!("{}.{}", base64(format!(r#"{{"alg":"{name}","kid":"a"}}"#)), base64(&body));
            let tag = ring::hmac::sign(&ring::hmac::Key::new(kind, secret), message.as_bytes());
            let forged = format!("{message}.{}", base64(tag));
            assert_eq!(said(&forged, &set), Err(Invalid::Algorithm));
        }
    }
    for (what, token, wanted) in [
        ("an unpinned one", key.sign(r#"{"alg":"ES384","kid":"a"}"#, &body), Invalid::Algorithm),
        ("a key of another type", key.sign(r#"{"alg":"EdDSA","kid":"a"}"#, &body), Invalid::Key),
        ("an unknown key", SigningKey::p256("x").token(&body), Invalid::Key),
        ("another key under its name", SigningKey::p256("a").token(&body), Invalid::Signature),
        (
            "its own key",
            key.sign(&format!(r#"{{"alg":"ES256","kid":"x","jwk":{point}}}"#), &body),
            Invalid::Key,
        ),
        (
            "an extension",
            key.sign(r#"{"alg":"ES256","kid":"a","crit":["x"],"x":1}"#, &body),
            Invalid::Malformed,
        ),
        ("no signature", unsigned(r#"{"alg":"ES256","kid":"a"}"#), Invalid::Signature),
        (
            "a refresh token",
            key.sign(r#"{"alg":"ES256","kid":"a","typ":"logout+jwt"}"#, &body),
            Invalid::Kind,
        ),
        (
            "a huge one",
            key.token(&with(json!({ "groups": "x".repeat(20_000) }))),
            Invalid::Malformed,
        ),
        ("none", "a.b.c".to_owned(), Invalid::Malformed),
        ("five parts", format!("{}.a.b", key.token(&body)), Invalid::Malformed),
    ] {
        assert_eq!(said(&token, &set), Err(wanted), "{what}");
    }
}

#[test]
fn r161_a_jwt_of_somebody_else_for_somebody_else_or_at_another_time_opens_nothing() {
    let key = SigningKey::ed25519("a");
    let set = keys(&[&key]);
    for (change, wanted) in [
        (json!({}), Ok(())),
        (json!({ "aud": ["other", "postbell"] }), Ok(())),
        (json!({ "exp": NOW as f64 + 0.5 }), Ok(())),
        (json!({ "exp": NOW - LEEWAY_SECONDS + 1 }), Ok(())),
        (json!({ "nbf": NOW + LEEWAY_SECONDS, "iat": null }), Ok(())),
        (json!({ "typ": "Bearer", "azp": "webmail" }), Ok(())),
        (json!({ "iss": "https://id.example.org/" }), Err(Invalid::Issuer)),
        (json!({ "iss": "https://evil.example" }), Err(Invalid::Issuer)),
        (json!({ "iss": ["https://id.example.org"] }), Err(Invalid::Issuer)),
        (json!({ "iss": null }), Err(Invalid::Issuer)),
        (json!({ "aud": "postbell2" }), Err(Invalid::Audience)),
        (json!({ "aud": ["other"] }), Err(Invalid::Audience)),
        (json!({ "aud": [] }), Err(Invalid::Audience)),
        (json!({ "aud": null }), Err(Invalid::Audience)),
        (json!({ "aud": 5 }), Err(Invalid::Audience)),
        (json!({ "exp": NOW - LEEWAY_SECONDS }), Err(Invalid::Expired)),
        (json!({ "exp": -5 }), Err(Invalid::Expired)),
        (json!({ "exp": null }), Err(Invalid::Expired)),
        (json!({ "exp": "9999999999" }), Err(Invalid::Expired)),
        (json!({ "exp": 1e300 }), Err(Invalid::Expired)),
        (json!({ "nbf": NOW + LEEWAY_SECONDS + 1 }), Err(Invalid::NotYet)),
        (json!({ "iat": NOW + LEEWAY_SECONDS + 1 }), Err(Invalid::NotYet)),
        (json!({ "nbf": "soon" }), Err(Invalid::NotYet)),
        (json!({ "typ": "Refresh" }), Err(Invalid::Kind)),
        (json!({ "typ": ["Bearer"] }), Err(Invalid::Kind)),
        (json!({ "events": {} }), Err(Invalid::Kind)),
        (json!({ "sub": null }), Err(Invalid::User)),
        (json!({ "sub": "" }), Err(Invalid::User)),
    ] {
        assert_eq!(said(&key.token(&with(change.clone())), &set), wanted, "{change}");
    }
    let parties = Rules { parties: vec!["webmail".to_owned()], ..rules() };
    for (change, wanted) in [
        (json!({ "azp": "webmail" }), Ok(())),
        (json!({ "client_id": "webmail" }), Ok(())),
        (json!({ "azp": "game", "client_id": "webmail" }), Err(Invalid::Party)),
        (json!({}), Err(Invalid::Party)),
    ] {
        let token = key.token(&with(change.clone()));
        let told = judge(token.as_bytes(), &set, &parties, NOW).map(drop);
        assert_eq!(told, wanted, "{change}");
    }
}

#[test]
fn r161_of_two_keys_of_one_name_none_counts_and_what_is_no_signing_key_is_passed_over() {
    let (one, two) = (SigningKey::p256("a"), SigningKey::p256("a"));
    let set = keys(&[&one, &two]);
    assert_eq!(said(&one.token(&good().to_string()), &set), Err(Invalid::Key));
    let others = [
        one.jwk().replace("sig", "enc"),
        one.jwk().replace("P-256", "P-384"),
        one.jwk().replace("\"EC\"", "\"XX\""),
        r#"{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0"}"#.to_owned(),
        r#"{"kty":"RSA","kid":"a","n":"!","e":"AQAB"}"#.to_owned(),
        "5".to_owned(),
        two.jwk(),
    ];
    let set = KeySet::parse(format!(r#"{{"keys":[{}]}}"#, others.join(",")).as_bytes()).unwrap();
    assert_eq!((set.len(), said(&two.token(&good().to_string()), &set)), (1, Ok(())));
    let bound = one.jwk().replace("\"use\":\"sig\"", "\"alg\":\"ES384\"");
    let set = KeySet::parse(format!(r#"{{"keys":[{bound}]}}"#).as_bytes()).unwrap();
    assert_eq!(said(&one.token(&good().to_string()), &set), Err(Invalid::Key));
    assert!(KeySet::parse(b"{}").is_err() && KeySet::parse(b"[]").is_err());
}

proptest! {
    /// Whatever octet of a good token is changed, it is good no more.
    #[test]
    fn r161_a_jwt_changed_anywhere_opens_nothing(at in any::<prop::sample::Index>(), by in 1_u8..) {
        let key = SigningKey::ed25519("a");
        let set = keys(&[&key]);
        let mut token = key.token(&good().to_string()).into_bytes();
        let at = at.index(token.len());
        token[at] = token[at].wrapping_add(by);
        prop_assert!(judge(&token, &set, &rules(), NOW).is_err());
    }

    #[test]
    fn r157_whatever_octets_are_shown_as_a_jwt_nothing_panics(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let set = keys(&[]);
        prop_assert!(judge(&octets, &set, &rules(), NOW).is_err());
    }
}
