//! A receiver of webhooks that trusts nobody: it checks each signature by the words of Standard
//! Webhooks, with none of the code that signs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

/// What came in: the event of a delivery whose signature is right, or what is wrong with it.
pub(super) type Received = Result<Value, String>;

/// A receiver on a free port of this machine, until the runtime ends.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Where it is.
    pub(super) address: SocketAddr,
    door: Arc<Door>,
}

#[derive(Debug)]
struct Door {
    key: OnceLock<Key>,
    heard: UnboundedSender<Received>,
}

impl Receiver {
    /// Starts one that tells `heard` of everything.
    pub(super) async fn start(heard: UnboundedSender<Received>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let door = Arc::new(Door { key: OnceLock::new(), heard });
        let router = Router::new().route("/", post(take)).with_state(Arc::clone(&door));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, door })
    }

    /// Sets the secret that the subscription was answered with.
    pub(super) fn trust(&self, secret: &str) -> anyhow::Result<()> {
        let key = Key::parse(secret)?;
        if self.door.key.set(key).is_err() {
            bail!("the receiver trusts a secret already");
        }
        Ok(())
    }
}

async fn take(State(door): State<Arc<Door>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let now = jiff::Timestamp::now().as_second();
    let received = door
        .key
        .get()
        .context("a delivery before the secret was known")
        .and_then(|key| key.verify(&headers, &body, now))
        .map_err(|error| format!("{error:#}"));
    let status = if received.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
    // The demo ends before its receiver does.
    door.heard.send(received).unwrap_or_default();
    status
}

/// The key both ends share. Printing it shows `…`.
struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Key {
    fn parse(secret: &str) -> anyhow::Result<Self> {
        let text =
            secret.strip_prefix("whsec_").context("the secret does not begin with whsec_")?;
        Ok(Self(STANDARD.decode(text).context("the secret is not base64")?))
    }

    /// The event in a delivery, once its signature and its time are found right.
    fn verify(&self, headers: &HeaderMap, body: &[u8], now: i64) -> anyhow::Result<Value> {
        let header = |name: &str| -> anyhow::Result<&str> {
            Ok(headers.get(name).with_context(|| format!("no {name}"))?.to_str()?)
        };
        let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
        let sent: i64 = time.parse().with_context(|| format!("webhook-timestamp: {time:?}"))?;
        if now.abs_diff(sent) > TOLERANCE_SECONDS {
            bail!("webhook-timestamp: {time} is too far from now");
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)?;
        for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
            mac.update(part);
        }
        let right = header("webhook-signature")?
            .split(' ')
            .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .any(|signature| mac.clone().verify_slice(&signature).is_ok());
        if !right {
            bail!("webhook-signature: does not fit {id}");
        }
        let mut envelope: Value = serde_json::from_slice(body).context("the body is not JSON")?;
        if envelope.get("id").and_then(Value::as_str) != Some(id) {
            bail!("webhook-id: {id} is not the id of the event in the body");
        }
        envelope.get_mut("data").map(Value::take).context("the body has no data")
    }
}

/// How far a delivery's time may be from ours (Standard Webhooks, “Verifying webhook
/// authenticity”).
const TOLERANCE_SECONDS: u64 = 5 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    // The example of Standard Webhooks' own test suites.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", TIME.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    fn verify(signature: &str, body: &[u8], now: i64) -> String {
        Key::parse(SECRET).unwrap().verify(&headers(signature), body, now).unwrap_err().to_string()
    }

    #[test]
    fn a_right_signature_is_taken_and_then_the_body_is_looked_at() {
        let several = format!("v1,AAAA v1a,BBBB {SIGNATURE}");
        for signature in [SIGNATURE, several.as_str()] {
            assert!(verify(signature, BODY, TIME).contains("is not the id"));
        }
    }

    #[test]
    fn a_signature_that_does_not_fit_is_refused() {
        assert!(verify("v1,AAAA", BODY, TIME).contains("does not fit"));
        assert!(verify(SIGNATURE, br#"{"test": 2432232315}"#, TIME).contains("does not fit"));
    }

    #[test]
    fn a_delivery_from_another_time_is_refused() {
        assert!(verify(SIGNATURE, BODY, TIME + 301).contains("too far"));
        assert!(verify(SIGNATURE, BODY, TIME - 301).contains("too far"));
    }

    #[test]
    fn r161_the_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::parse(SECRET).unwrap()), "…");
        assert!(Key::parse("secret").is_err());
    }
}
