//! Connections to one receiver, kept from one delivery to the next.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use tower::Service;

use super::connect::{Connector, Stream};

/// Connections to one receiver.
///
/// Each is driven by the attempt that uses it, on that attempt's own task: handing every request
/// to a task of the connection's own, and its answer back, costs more than sending it.
pub(crate) struct Connections {
    connector: Connector,
    target: Uri,
    /// The one used longest ago stands first.
    idle: Mutex<Vec<Connection>>,
    /// Exchanges that have a connection, and so may have sent something.
    exchanging: AtomicUsize,
}

/// What kept an exchange from ending well.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// One connection, between two exchanges or in one.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None once it has ended: only what drops it learns what it never sent.
    driver: Driver,
    used: Instant,
}

/// What moves a connection's octets, as long as there is a connection.
type Driver = Option<Pin<Box<http1::Connection<Stream, Full<Bytes>>>>>;

/// An exchange that failed, and the request where not an octet of it was sent.
struct Failed {
    fault: Fault,
    unsent: Option<Request<Full<Bytes>>>,
}

impl Connections {
    /// None yet, to where `target` leads by way of `connector`.
    pub(crate) fn new(connector: Connector, target: Uri) -> Self {
        Self { connector, target, idle: Mutex::default(), exchanging: AtomicUsize::new(0) }
    }

    /// Sends a request, reads the answer to its end and gives what `judge` makes of it. A connection
    /// that was kept and turns out to be closed is replaced by another.
    pub(crate) async fn exchange<T>(
        &self,
        mut request: Request<Full<Bytes>>,
        judge: impl Fn(&Response<Incoming>) -> T,
    ) -> Result<T, Fault> {
        loop {
            let (mut connection, is_new) = match self.take() {
                Some(kept) => (kept, false),
                // Rare and large: apart, it isn't moved about with each attempt.
                None => (Box::pin(self.connect()).await?, true),
            };
            let exchanging = Counted::new(&self.exchanging);
            let ended = connection.exchange(request, &judge).await;
            drop(exchanging);
            match ended {
                Ok((answer, Rest::Read)) => {
                    self.keep(connection);
                    return Ok(answer);
                }
                Ok((answer, Rest::Left)) => return Ok(answer),
                Err(Failed { unsent: Some(unsent), .. }) if !is_new => request = unsent,
                Err(Failed { fault, .. }) => return Err(fault),
            }
        }
    }

    /// Lets go of connections that were kept long enough, or that the other end has closed.
    pub(crate) fn sweep(&self) {
        self.idle().retain_mut(|kept| kept.used.elapsed() < IDLE && kept.is_open());
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        self.idle().len()
    }

    /// How many exchanges may have sent something and wait for its answer.
    pub(super) fn exchanging(&self) -> usize {
        self.exchanging.load(Ordering::Relaxed)
    }

    /// The connection used last that is still open.
    fn take(&self) -> Option<Connection> {
        loop {
            let mut kept = self.idle().pop()?;
            let idle = kept.used.elapsed();
            // Used just now it isn't looked at: should it be closed, the request comes back unsent.
            if idle < FRESH && kept.sender.is_ready() || idle < IDLE && kept.is_open() {
                return Some(kept);
            }
        }
    }

    fn keep(&self, mut connection: Connection) {
        if connection.driver.is_none() || connection.sender.is_closed() {
            return;
        }
        connection.used = Instant::now();
        let mut idle = self.idle();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let mut connector = self.connector.clone();
        poll_fn(|context| connector.poll_ready(context)).await?;
        let stream = connector.call(self.target.clone()).await?;
        let (sender, driver) = http1::handshake(stream).await?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)), used: Instant::now() })
    }

    /// A thread that died while holding the lock left whole connections behind.
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("kept", &self.kept()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Looks whether the other end has closed it meanwhile.
    fn is_open(&mut self) -> bool {
        // Nobody is to be woken: whoever uses it next looks again.
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    async fn exchange<T>(
        &mut self,
        request: Request<Full<Bytes>>,
        judge: &impl Fn(&Response<Incoming>) -> T,
    ) -> Result<(T, Rest), Failed> {
        let Self { sender, driver, .. } = self;
        let mut exchange = pin!(async {
            let response = sender.try_send_request(request).await.map_err(|mut error| {
                let unsent = error.take_message();
                Failed { fault: error.into_error().into(), unsent }
            })?;
            let answer = judge(&response);
            Ok((answer, drain(response.into_body()).await))
        });
        let mut is_sent = false;
        poll_fn(|context| {
            // Later there is nothing to be had but what the connection brings.
            if !is_sent && let Poll::Ready(result) = exchange.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            is_sent = true;
            drive(driver, context);
            exchange.as_mut().poll(context)
        })
        .await
    }
}

/// What became of an answer's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    /// It was read to its end, so the connection can be used again.
    Read,
    /// It was not, which costs the connection.
    Left,
}

/// Reads an answer to its end, unless it is too long or too slow; what it says is not for us.
async fn drain(body: Incoming) -> Rest {
    if body.is_end_stream() {
        return Rest::Read;
    }
    let drained = Limited::new(body, ANSWER_OCTETS_MAX).collect();
    match tokio::time::timeout(DRAIN, drained).await {
        Ok(Ok(_)) => Rest::Read,
        Ok(Err(_)) | Err(_) => Rest::Left,
    }
}

/// Counts one for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Moves a connection on, and lets go of it where it has ended: that hands back a request it never
/// looked at, which would wait for its timeout otherwise.
fn drive(driver: &mut Driver, context: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
        *driver = None;
    }
}

/// How long a connection is kept for the next delivery; less than the 60 s after which many
/// servers end it, so that ours rarely meets theirs.
const IDLE: Duration = Duration::from_secs(50);

/// How long a connection is taken to be open without a look at it.
const FRESH: Duration = Duration::from_millis(100);

/// Connections kept for one receiver.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Octets of an answer read at most; what a receiver has to say is its status.
pub(super) const ANSWER_OCTETS_MAX: usize = 4 * 1024;

/// How long the rest of an answer may take once its status is there.
const DRAIN: Duration = Duration::from_secs(1);
