//! Whether a connection's client takes what is sent to it, and how a stream is cut off where it doesn't.
//!
//! Nothing is asked of a body while its client takes nothing, so that no stream could notice by itself:
//! the socket is looked at instead, below TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use crate::hub::stopped;
use crate::lock::locked;
use crate::metrics::Metrics;

/// What a connection's client takes, as its socket has it, and the stream that it takes it of.
#[derive(Debug)]
pub(crate) struct Outlet {
    opened: Instant,
    /// Since when the socket takes nothing: milliseconds after `opened`, and one; 0 while it does.
    full_since: AtomicU64,
    stream: Mutex<Option<Arc<Sent>>>,
}

/// What is known of a stream beside it: how far it was sent, and whether its client is too slow.
#[derive(Debug)]
pub(crate) struct Sent {
    peer: IpAddr,
    /// In which form it is sent, for the log.
    form: &'static str,
    metrics: Arc<Metrics>,
    /// The last record handed to the connection; 0 before any.
    last: AtomicU64,
    slow: watch::Sender<bool>,
    /// Whether that was handed to the connection.
    is_parting: AtomicBool,
}

impl Outlet {
    /// That of a connection of which nothing was asked yet.
    pub(crate) fn new() -> Self {
        Self { opened: Instant::now(), full_since: AtomicU64::new(0), stream: Mutex::default() }
    }

    /// From here on this is what is sent; none where that is no stream.
    pub(crate) fn carry(&self, stream: Option<Arc<Sent>>) {
        *locked(&self.stream) = stream;
    }

    /// Waits until the connection has to be cut: nothing was taken for `stall`, and the client of a
    /// stream has been told so, or hasn't taken that for `close` either.
    ///
    /// Whoever polls the connection polls this after it.
    pub(crate) async fn spent(&self, stall: Duration, close: Duration) {
        self.stalled(stall).await;
        let stream = locked(&self.stream).clone();
        let Some(stream) = stream else {
            debug!("a client that takes nothing is cut off");
            return;
        };
        stream.cut_off(stream.last());
        // Where the socket takes more after that, it has taken all: whatever is there is written
        // before the connection waits for anything.
        let told = poll_fn(|_| match stream.is_parting() && self.full_since().is_none() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        drop(timeout(close, told).await);
    }

    async fn stalled(&self, stall: Duration) {
        let mut alarm = pin!(sleep(stall));
        poll_fn(|context| {
            // When it takes nothing any more, the connection was polled, and so is this.
            let Some(since) = self.full_since() else { return Poll::Pending };
            let deadline = since + stall;
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            alarm.as_mut().poll(context)
        })
        .await;
    }

    fn full_since(&self) -> Option<Instant> {
        let millis = self.full_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.opened + Duration::from_millis(millis))
    }

    /// Learns from what became of a try to write.
    fn learn<T>(&self, written: &Poll<T>) {
        let was_full = self.full_since.load(Ordering::Relaxed) > 0;
        if written.is_pending() != was_full {
            let millis = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            let since = if was_full { 0 } else { millis + 1 };
            self.full_since.store(since, Ordering::Relaxed);
        }
    }
}

impl Sent {
    /// A stream of which nothing was sent to `peer` yet.
    pub(crate) fn new(peer: IpAddr, form: &'static str, metrics: Arc<Metrics>) -> Self {
        let (slow, _) = watch::channel(false);
        let (last, is_parting) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { peer, form, metrics, last, slow, is_parting }
    }

    /// The connection has this record now, and all before it.
    pub(crate) fn reach(&self, seq: u64) {
        self.last.store(seq, Ordering::Relaxed);
    }

    /// The last record that the connection has; none before any.
    pub(crate) fn last(&self) -> Option<u64> {
        Some(self.last.load(Ordering::Relaxed)).filter(|last| *last > 0)
    }

    /// Counts and logs that the client takes nothing, whom `last` was sent last, and has the stream
    /// tell it.
    pub(crate) fn cut_off(&self, last: Option<u64>) {
        self.metrics.streams_slow.increment(1);
        let seq = last.unwrap_or(0);
        info!(peer = %self.peer, form = self.form, seq, "a stream is cut off: its client takes nothing");
        self.slow.send_replace(true);
    }

    /// Whether the client takes nothing, and is to be told.
    pub(crate) fn is_slow(&self) -> bool {
        *self.slow.borrow()
    }

    /// Waits until that is so.
    pub(crate) async fn slow(&self) {
        stopped(&mut self.slow.subscribe()).await;
    }

    /// Says that the client's being told is next, and whether it was so before.
    pub(crate) fn part(&self) -> bool {
        self.is_parting.swap(true, Ordering::Relaxed)
    }

    fn is_parting(&self) -> bool {
        self.is_parting.load(Ordering::Relaxed)
    }
}

/// What a client is told that takes nothing, in every form of a stream.
pub(crate) fn too_slow(last: Option<u64>) -> String {
    let last = last.map_or_else(|| "nothing".to_owned(), |seq| seq.to_string());
    format!("too slow: come back; last sent: {last}")
}

/// A socket whose outlet learns what it takes.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    outlet: Arc<Outlet>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, outlet: Arc<Outlet>) -> Self {
        Self { socket, outlet }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, octets);
        self.outlet.learn(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.outlet.learn(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// How long a farewell may take; also for who was slow, and may be waking up just now.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const STALL: Duration = Duration::from_millis(400);
    const CLOSE: Duration = Duration::from_secs(2);

    /// A socket that holds ten octets, and the end its client reads.
    fn watched() -> (Watched<DuplexStream>, DuplexStream, Arc<Outlet>) {
        let (socket, client) = duplex(10);
        let outlet = Arc::new(Outlet::new());
        (Watched::new(socket, Arc::clone(&outlet)), client, outlet)
    }

    /// The same for a stream.
    fn carrying() -> (Watched<DuplexStream>, DuplexStream, Arc<Outlet>, Arc<Sent>) {
        let (socket, client, outlet) = watched();
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        let stream = Arc::new(Sent::new(here, "sse", Arc::new(Metrics::new())));
        outlet.carry(Some(Arc::clone(&stream)));
        (socket, client, outlet, stream)
    }

    /// Sends as a connection does until it is cut, and says after how long that was.
    async fn cut(sending: impl Future<Output = ()>, outlet: &Outlet) -> Duration {
        let begun = Instant::now();
        tokio::select! {
            biased;
            () = sending => panic!("it never ends"),
            () = outlet.spent(STALL, CLOSE) => {}
        }
        begun.elapsed()
    }

    async fn send(mut socket: Watched<DuplexStream>) {
        loop {
            socket.write_all(b"octet").await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_no_stream_is_cut_once_nothing_was_taken_for_long_and_not_while_some_is() {
        let (socket, mut client, outlet) = watched();
        let reading = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(STALL / 10).await;
                assert!(client.read(&mut [0; 10]).await.unwrap() > 0);
            }
            client
        });
        let cut = cut(send(socket), &outlet).await;
        assert!(cut >= STALL * 3, "{cut:?}");
        drop(reading.await.unwrap());
    }

    #[tokio::test]
    async fn whoever_has_nothing_to_take_is_not_slow() {
        let (mut socket, _client, outlet) = watched();
        socket.write_all(b"octet").await.unwrap();
        assert!(timeout(STALL * 2, outlet.spent(STALL, CLOSE)).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_has_a_while_to_tell_its_client_and_no_more() {
        let (socket, _client, outlet, stream) = carrying();
        stream.reach(7);
        let cut = cut(send(socket), &outlet).await;
        assert!(cut >= STALL + CLOSE && stream.is_slow() && !stream.is_parting(), "{cut:?}");
        assert_eq!(too_slow(stream.last()), "too slow: come back; last sent: 7");
    }

    #[tokio::test]
    async fn who_has_taken_the_farewell_is_let_go_at_once_and_not_before() {
        let (mut socket, mut client, outlet, stream) = carrying();
        let sending = async {
            socket.write_all(b"0123456789").await.unwrap();
            tokio::select! {
                _ = socket.write_all(b"more") => panic!("there was no room"),
                () = stream.slow() => {}
            }
            assert!(!stream.part());
            socket.write_all(b"farewell").await.unwrap();
            std::future::pending::<()>().await;
        };
        let reading = tokio::spawn(async move {
            sleep(STALL + CLOSE / 4).await;
            let mut taken = [0; 18];
            client.read_exact(&mut taken).await.unwrap();
            taken
        });
        let cut = cut(sending, &outlet).await;
        assert!(cut >= STALL + CLOSE / 4 && cut < STALL + CLOSE, "{cut:?}");
        assert_eq!(&reading.await.unwrap(), b"0123456789farewell");
    }
}
