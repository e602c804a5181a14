//! Many who follow the hub's stream, on one thread and with one buffer, so that they cost little.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memchr::memmem;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::path::Counter;
use super::processor::{self, Charged};

/// Clients of the stream, each of which waits for so many events.
#[derive(Debug)]
pub(super) struct Crowd {
    following: Charged<Instant>,
}

impl Crowd {
    /// Opens `clients` streams of server-sent events, each until it has had `events`; all are open
    /// when this returns.
    pub(super) fn start(
        address: SocketAddr,
        token: &str,
        clients: usize,
        events: usize,
    ) -> anyhow::Result<Self> {
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             accept: text/event-stream\r\n\r\n"
        );
        let (open, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shared = Arc::new(Shared {
            request,
            events,
            open: Arc::clone(&open),
            buffer: Mutex::new(vec![0; BUFFER_OCTETS]),
        });
        let count = Arc::clone(&seen);
        let following = processor::charged(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let ended = runtime.block_on(follow_all(address, clients, &shared));
            count.store(usize::MAX, Ordering::Release);
            ended
        });
        let begun = Instant::now();
        while open.load(Ordering::Acquire) < clients {
            if seen.load(Ordering::Acquire) == usize::MAX {
                following.join()?;
                bail!("the streams ended before they began");
            }
            if begun.elapsed() > PATIENCE {
                bail!("only {} of {clients} streams opened", open.load(Ordering::Acquire));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { following })
    }

    /// Waits until each has had its events; when the last one did, and the processor time they took.
    pub(super) fn join(self) -> anyhow::Result<(Instant, Duration)> {
        self.following.join()
    }
}

/// What all clients have in common.
#[derive(Debug)]
struct Shared {
    request: String,
    events: usize,
    open: Arc<AtomicUsize>,
    /// They are on one thread, and what was read is counted at once.
    buffer: Mutex<Vec<u8>>,
}

async fn follow_all(
    address: SocketAddr,
    clients: usize,
    shared: &Arc<Shared>,
) -> anyhow::Result<Instant> {
    let mut following = JoinSet::new();
    for at in 0..clients {
        // A few at a time: the hub's backlog is no part of this.
        while following.len() - shared.open.load(Ordering::Acquire).min(at) > OPENING_MAX {
            tokio::task::yield_now().await;
        }
        following.spawn(follow(address, Arc::clone(shared)));
    }
    while let Some(ended) = following.join_next().await {
        ended??;
    }
    Ok(Instant::now())
}

async fn follow(address: SocketAddr, shared: Arc<Shared>) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
    let mut sent = 0;
    while let Some(rest) = shared.request.as_bytes().get(sent..).filter(|rest| !rest.is_empty()) {
        stream.writable().await?;
        sent += stream.try_write(rest).or_else(would_block)?;
    }
    let mut counter = Counter::default();
    let mut is_open = false;
    while counter.events < shared.events {
        stream.readable().await?;
        let mut buffer = shared.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let got = match stream.try_read(&mut buffer) {
            Ok(0) => bail!("a stream ended after {} of {} events", counter.events, shared.events),
            got => got.or_else(would_block)?,
        };
        let piece = buffer.get(..got).unwrap_or_default();
        if !is_open && memmem::find(piece, b"\r\n\r\n").is_some() {
            if !piece.starts_with(b"HTTP/1.1 200") {
                bail!("a stream was refused: {}", String::from_utf8_lossy(piece));
            }
            is_open = true;
            shared.open.fetch_add(1, Ordering::AcqRel);
        }
        counter.add(piece);
    }
    Ok(())
}

fn would_block(error: std::io::Error) -> std::io::Result<usize> {
    if error.kind() == std::io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

/// Read at once.
const BUFFER_OCTETS: usize = 64 * 1024;
/// Streams being opened at once.
const OPENING_MAX: usize = 64;
/// How long the streams may take to open.
const PATIENCE: Duration = Duration::from_secs(60);
