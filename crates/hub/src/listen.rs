//! Connections: taken up to a limit, served over HTTP/1.1 with TLS or without, drained at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::api::Door;
use crate::config::HttpConfig;
use crate::hub::stopped;
use crate::outlet::{CLOSE_TIME, Watched};
use crate::timer::ConnectionTimer;
use crate::tls::Tls;

/// Serves `listener`, with TLS where there is some, until `stopping` turns true, then lets what is
/// under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    door: Door,
    http: HttpConfig,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(http.max_connections as usize));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = take(&listener, &permits) => match taken {
                Ok((stream, peer, permit)) => {
                    let door = door.before(peer.ip());
                    let (tls, stopping) = (tls.clone(), stopping.clone());
                    let times = Times { header: http.header_timeout, stall: http.stall_timeout };
                    connections.spawn(async move {
                        connection(stream, tls, door, times, stopping).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        warn!(seconds = DRAIN_MAX.as_secs(), "connections did not end in time and are cut");
    }
    connections.shutdown().await;
}

/// Waits for room, then for somebody.
async fn take(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// For a handshake, and for a request's head.
    header: Duration,
    /// To take anything of what is sent.
    stall: Duration,
}

/// One connection to its end.
async fn connection(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    door: Door,
    times: Times,
    mut stopping: watch::Receiver<bool>,
) {
    prepare(&stream, times.stall);
    let stream = Watched::new(stream, door.outlet());
    let Some(tls) = tls else { return requests(stream, door, times, stopping).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(times.header, tls.accept(stream)) => shaken,
        () = stopped(&mut stopping) => return,
    };
    match shaken {
        Ok(Ok((stream, shown))) => {
            requests(stream, door.shown(shown), times, stopping).await;
        }
        // Whoever knocks with something else, or takes too long, is their own affair.
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => debug!("a TLS handshake was not done in time"),
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    door: Door,
    times: Times,
    mut stopping: watch::Receiver<bool>,
) {
    let (cut, outlet) = (door.cut(), door.outlet());
    let mut builder = http1::Builder::new();
    builder
        .timer(ConnectionTimer::default())
        .header_read_timeout(times.header)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_OCTETS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), door).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = stopped(&mut stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        () = cut.notified() => return,
        () = outlet.spent(times.stall, CLOSE_TIME) => return,
    };
    if let Err(error) = ended {
        // A client that goes away, or sends what is no HTTP, is its own affair.
        debug!(%error, "a connection ended badly");
    }
}

/// Small answers leave at once, and of a client that takes nothing the system holds nothing for much
/// longer than the hub does, who tells it first.
fn prepare(stream: &TcpStream, stall: Duration) {
    let longest = stall.saturating_add(2 * CLOSE_TIME);
    let millis = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
    let prepared = stream.set_nodelay(true).and_then(|()| {
        rustix::net::sockopt::set_tcp_user_timeout(stream, millis).map_err(io::Error::from)
    });
    if let Err(error) = prepared {
        debug!(%error, "a connection keeps the system's settings");
    }
}

/// After a failed accept (no file handles left, mostly): time for one to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a request under way may take to end when the hub stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Header lines of a request: browsers send twenty.
const HEADERS_MAX: usize = 64;

/// What one connection may have in memory in either direction; also the longest request head.
const BUFFER_OCTETS_MAX: usize = 128 * 1024;
