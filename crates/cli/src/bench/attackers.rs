//! Those who would wear a hub out, and what they send.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::isolation::subscription;
use super::wire::{Wire, post_json};

/// One thing that is sent again and again.
#[derive(Debug)]
pub(super) struct Attack {
    request: Vec<u8>,
    /// What a hub is documented to say: a status, and which problem.
    answers: &'static [(u16, &'static str)],
}

/// Which answers are right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answers {
    /// Those that a hub is documented to give.
    AsDocumented,
    /// Any that says no.
    AnyRefusal,
}

/// All who attack, on one thread.
#[derive(Debug)]
pub(super) struct Attackers {
    ended: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Attackers {
    /// Begins, once each attack was answered.
    pub(super) fn start(
        address: SocketAddr,
        attacks: &Arc<Vec<Attack>>,
        answers: Answers,
    ) -> anyhow::Result<Self> {
        let (ended, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (ended, asked, attacks) =
                (Arc::clone(&ended), Arc::clone(&asked), Arc::clone(attacks));
            move || {
                // Of this thread alone, in Linux: what attackers do themselves they do elsewhere.
                rustix::process::setpriority_process(None, LEAST_PRIORITY)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(attack_until(&ended, address, (&attacks, answers), &asked))
            }
        });
        let begun = Instant::now();
        // All connections are open, and each request was answered once, before anything is timed.
        while asked.load(Ordering::Acquire) < attacks.len() {
            if thread.is_finished() || begun.elapsed() > PATIENCE {
                ended.store(true, Ordering::Release);
                bail!("the attack didn't begin: {:?}", thread.join());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Self { ended, asked, thread })
    }

    /// Ends it; how many requests were refused.
    pub(super) fn stop(self) -> anyhow::Result<usize> {
        self.ended.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(ended) => ended.context("an attack")?,
            Err(_) => bail!("an attack panicked"),
        }
        Ok(self.asked.load(Ordering::Acquire))
    }
}

async fn attack_until(
    ended: &AtomicBool,
    address: SocketAddr,
    (attacks, answers): (&[Attack], Answers),
    asked: &AtomicUsize,
) -> anyhow::Result<()> {
    let mut idle = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut stream = TcpStream::connect(address).await?;
        if number % 2 == 0 {
            // A head that never ends.
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nX: ").await?;
        }
        idle.push(stream);
    }
    for at in 0.. {
        for attack in attacks {
            let mut wire = Wire::connect(address).await?;
            // The hub may have said no and closed before all was sent.
            drop(wire.send(&attack.request).await);
            let (status, problem) = wire.problem().await?;
            let is_right = match answers {
                Answers::AnyRefusal => (400..500).contains(&status),
                Answers::AsDocumented => problem
                    .as_deref()
                    .is_some_and(|problem| attack.answers.contains(&(status, problem))),
            };
            if !is_right {
                let line = attack.request.get(..60).unwrap_or_default();
                bail!("{status} {problem:?} to {:?}", String::from_utf8_lossy(line));
            }
            asked.fetch_add(1, Ordering::AcqRel);
            if ended.load(Ordering::Acquire) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        // Those that were let go come again.
        let count = idle.len();
        if let Some(one) = idle.get_mut(at % count.max(1)) {
            *one = TcpStream::connect(address).await?;
        }
    }
    Ok(())
}

/// What is sent, by somebody who may do everything, by a user who has all the subscriptions that a user
/// may have, and by others; that user is made here.
pub(super) async fn attacks(wire: &mut Wire, token: &str) -> anyhow::Result<Arc<Vec<Attack>>> {
    let greedy = greedy(wire, token).await?;
    let subscribe = |body: &str| post_json("/v1/subscriptions", token, body);
    let condition = |text: &str| {
        let own = format!(r#"{{"where":"{text}","#);
        // All else about it is in order.
        subscribe(&subscription("costly", NOBODY).replacen('{', &own, 1))
    };
    let sum = vec!["messageSize"; 200].join("+");
    let loops = "[1,2,3,4,5,6,7,8,9].all(a,[1,2,3,4,5,6,7,8,9].all(b,[1,2,3].all(c,a+b+c>0)))";
    let endless = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 1099511627776\r\n\r\n"
    );
    // As long as a link is: all but its signature is in order.
    let link = URL_SAFE_NO_PAD.encode([[1, 2].as_slice(), &[0; 8], &[255; 8], &[7; 48]].concat());
    let attacks = [
        (endless.into_bytes(), [(413, "too-large")].as_slice()),
        (subscribe(&"[".repeat(DEPTH)), INVALID),
        (subscribe(&r#"{"a":"#.repeat(10_000)), INVALID),
        (condition(&format!("{sum}>1")), INVALID),
        (condition(loops), INVALID),
        (condition(r#"user.matches(\"(a+)+$\")"#), INVALID),
        (
            post_json("/v1/subscriptions", &greedy, &subscription("one-more", NOBODY)),
            [(409, "too-many-subscriptions")].as_slice(),
        ),
        (get("/v1/status", "postbell_guessed"), GUESSED),
        (get(&format!("/v1/content/{link}"), token), [(404, "not-found")].as_slice()),
        (get("/v1/events?ticket=postbell_ticket_guessed", "none"), GUESSED),
    ];
    let attacks = attacks.map(|(request, answers)| Attack { request, answers });
    Ok(Arc::new(Vec::from(attacks)))
}

/// The token of a user who makes subscriptions until there may be no more.
async fn greedy(wire: &mut Wire, token: &str) -> anyhow::Result<String> {
    let new = r#"{"name":"greedy","role":"user","users":["greedy"]}"#;
    wire.send(&post_json("/v1/tokens", token, new)).await?;
    let made: serde_json::Value = serde_json::from_slice(&wire.body().await?)?;
    let token = made.get("token").and_then(serde_json::Value::as_str);
    let token = token.context("a token was not made")?.to_owned();
    for number in 0..SUBSCRIPTIONS {
        let body = subscription(&format!("s{number}"), NOBODY);
        wire.send(&post_json("/v1/subscriptions", &token, &body)).await?;
        match wire.answer().await? {
            201 => {}
            409 => return Ok(token),
            status => bail!("{status} to a subscription"),
        }
    }
    bail!("a user may have {SUBSCRIPTIONS} subscriptions")
}

fn get(path: &str, token: &str) -> Vec<u8> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    head.into_bytes()
}

/// Where subscriptions lead to: nothing listens on discard's port.
const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));
/// What is said of a subscription that can't be.
const INVALID: &[(u16, &str)] = &[(422, "invalid-subscription")];
/// What is said to a guess, and to many.
const GUESSED: &[(u16, &str)] = &[(401, "unauthorised"), (429, "too-many-guesses")];
/// More than any user may have.
const SUBSCRIPTIONS: usize = 10_000;
/// Connections that say little or nothing.
pub(super) const IDLE: usize = 1_000;
/// Between two requests: the attackers' own work, on the same processors, is not to be measured.
const PAUSE: Duration = Duration::from_millis(5);
/// The attackers' own nice value.
const LEAST_PRIORITY: i32 = 19;
/// Nested deeper than anything may be, in a body that is just not too long.
const DEPTH: usize = 500_000;
/// How long they may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
