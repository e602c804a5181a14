//! A content on its way to a client, which may be slow, and may not be so for long.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use mail_event::MessageContent;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;

use super::content::Held;
use crate::access::Grant;

/// A body that holds its content, and the content's place, until it is sent or dropped.
///
/// A client that takes nothing for `stall`, or the whole more slowly than
/// [`SLOWEST_OCTETS`] a second, is cut off: the connection ends, and the place is free.
#[derive(Debug)]
pub(super) struct Sending {
    content: MessageContent,
    taken: Arc<AtomicUsize>,
    /// Looks at the clock; a body isn't asked for anything while its client takes nothing.
    watch: AbortHandle,
    _held: Held,
}

impl Sending {
    /// Sends `content` as long as `grant` is good; `cut` ends the connection.
    pub(super) fn new(
        content: MessageContent,
        held: Held,
        stall: Duration,
        grant: Arc<Grant>,
        cut: Arc<Notify>,
    ) -> Self {
        let taken = Arc::new(AtomicUsize::new(0));
        let octets = content.as_bytes().len() as u64;
        let whole = (stall + Duration::from_secs(octets / SLOWEST_OCTETS)).min(WHOLE_MAX);
        let watching = watch(Arc::clone(&taken), stall, whole);
        let watch = tokio::spawn(async move {
            tokio::select! {
                () = watching => {}
                () = grant.ended() => debug!("who may not have a content any more is cut off"),
            }
            cut.notify_one();
        });
        let watch = watch.abort_handle();
        Self { content, taken, watch, _held: held }
    }

    /// What is not taken yet.
    fn rest(&self) -> &[u8] {
        self.content.as_bytes().get(self.taken.load(Ordering::Relaxed)..).unwrap_or_default()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl From<Sending> for Body {
    fn from(sending: Sending) -> Self {
        Self::new(sending)
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = self.rest();
        let Some(piece) = rest.get(..rest.len().min(PIECE_OCTETS)).filter(|it| !it.is_empty())
        else {
            return Poll::Ready(None);
        };
        // Copied: a piece that waits in the connection must not keep the whole.
        let piece = Bytes::copy_from_slice(piece);
        self.taken.fetch_add(piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest().len() as u64)
    }
}

/// Waits until nothing is taken for `stall`, or the whole takes longer than `whole`.
async fn watch(taken: Arc<AtomicUsize>, stall: Duration, whole: Duration) {
    let ends = Instant::now() + whole;
    let mut before = 0;
    loop {
        tokio::time::sleep_until(ends.min(Instant::now() + stall)).await;
        let now = taken.load(Ordering::Relaxed);
        if now == before || Instant::now() >= ends {
            debug!(octets = now, "a client that takes too little of a content is cut off");
            return;
        }
        before = now;
    }
}

/// Octets handed to the connection at once; it holds about two of these.
const PIECE_OCTETS: usize = 64 * 1024;

/// Octets a second at least, over the whole: a telephone at the edge of its network.
const SLOWEST_OCTETS: u64 = 16 * 1024;

/// How long the largest may take, lest a few who are slow hold everybody's places.
const WHOLE_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;
    use postbell_engine::Principal;

    use super::super::content::Fetches;
    use super::*;

    async fn sending(octets: usize, stall: Duration) -> (Sending, Arc<Notify>) {
        let held = Fetches::new().place("a".to_owned()).await.unwrap();
        let cut = Arc::new(Notify::new());
        let content = MessageContent::new(vec![b'x'; octets]);
        let grant = Arc::new(Grant::new(None, Principal::admin(), None, 0));
        (Sending::new(content, held, stall, grant, Arc::clone(&cut)), cut)
    }

    fn piece(sending: &mut Sending) -> Option<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(sending).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|it| it.unwrap().into_data().unwrap().len()),
            Poll::Pending => panic!("it never waits"),
        }
    }

    #[tokio::test]
    async fn r45_a_content_is_sent_whole_and_in_pieces() {
        let (mut sending, _) = sending(2 * PIECE_OCTETS + 1, Duration::from_secs(60)).await;
        assert_eq!(sending.size_hint().exact(), Some(2 * PIECE_OCTETS as u64 + 1));
        let pieces: Vec<_> = std::iter::from_fn(|| piece(&mut sending)).collect();
        assert_eq!(pieces, [PIECE_OCTETS, PIECE_OCTETS, 1]);
        assert!(sending.is_end_stream());
    }

    #[tokio::test]
    async fn r157_who_takes_nothing_is_cut_off_and_so_is_who_sips() {
        let stall = Duration::from_millis(100);
        let (mut nothing, cut) = sending(8 * PIECE_OCTETS, stall).await;
        assert_eq!(piece(&mut nothing), Some(PIECE_OCTETS));
        cut.notified().await;
        // Always a little, and the whole is never done.
        let (mut sips, cut) = sending(PIECE_OCTETS, stall).await;
        let sipping = async {
            loop {
                sips.taken.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = cut.notified() => {}
            () = sipping => {}
        }
        assert!(piece(&mut sips).is_some());
    }
}
