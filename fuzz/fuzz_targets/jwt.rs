//! What somebody shows as a JWT, and what an issuer shows as its keys.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use libfuzzer_sys::fuzz_target;

// What judges is no one's business outside the hub, so its files are taken in here.
#[allow(dead_code, reason = "only the judging is called")]
#[path = "../../crates/hub/src/access/oidc/judge.rs"]
mod judge;
#[allow(dead_code, reason = "only the judging is called")]
#[path = "../../crates/hub/src/access/oidc/keys.rs"]
mod keys;
#[path = "../../crates/hub/src/access/oidc/verifier.rs"]
mod verifier;

fuzz_target!(|octets: &[u8]| {
    let rules = judge::Rules {
        issuer: "https://id.example.org".to_owned(),
        audience: "postbell".to_owned(),
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        parties: Vec::new(),
        lifetime_max_seconds: 86_400,
    };
    let own = keys::KeySet::parse(KEYS).expect("they are keys");
    // Nobody here has the keys' other halves.
    assert!(judge::judge(octets, &own, &rules, 0).is_err());
    // As header, claims and signature, of which the fuzzer need not know base64.
    let parts: Vec<_> = octets.splitn(3, |octet| *octet == 0).collect();
    if let [header, claims, signature] = parts.as_slice() {
        let token = [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        assert!(judge::judge(token.as_bytes(), &own, &rules, 0).is_err());
    }
    if let Ok(keys) = keys::KeySet::parse(octets) {
        assert!(keys.len() <= 100);
        assert!(judge::judge(octets, &keys, &rules, 0).is_err());
    }
});

const KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":"a","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
