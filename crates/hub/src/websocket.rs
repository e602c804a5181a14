//! A stream over WebSocket (RFC 6455): each delivery a message of its own, and nothing taken back.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use postbell_journal::ReadError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tracing::debug;

use crate::access::Grant;
use crate::hub::stopped;
use crate::outlet::{CLOSE_TIME, Sent, too_slow};

/// A stream about to be sent over a connection that was one of HTTP.
pub(crate) struct Socket {
    /// The connection, once hyper lets go of it.
    pub(crate) upgrade: OnUpgrade,
    /// Who reads it, for why it ends.
    pub(crate) grant: Arc<Grant>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// How long the client may take nothing.
    pub(crate) stall: Duration,
    /// What counts it, and tells of it in the log, where the client is too slow.
    pub(crate) sent: Arc<Sent>,
}

impl Socket {
    /// Sends `pieces`, which are NDJSON, until they end or the client is no good any more.
    pub(crate) async fn serve(self, pieces: impl Stream<Item = Result<Bytes, ReadError>>) {
        let Self { upgrade, grant, stopping, stall, sent } = self;
        match upgrade.await {
            Ok(upgraded) => {
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits()));
                let socket = socket.await;
                let (unanswered, heard, seq) = (0, 0, None);
                let open = Open { socket, grant, stopping, stall, sent, unanswered, heard, seq };
                open.run(pieces).await;
            }
            // A client that goes away at once is its own affair.
            Err(error) => debug!(%error, "a connection did not become a WebSocket"),
        }
    }
}

/// A stream being sent.
struct Open<S> {
    socket: WebSocketStream<S>,
    grant: Arc<Grant>,
    stopping: watch::Receiver<bool>,
    stall: Duration,
    sent: Arc<Sent>,
    /// Pings since the client was heard last.
    unanswered: u32,
    /// What the client said since a piece was sent.
    heard: u32,
    /// The last record sent.
    seq: Option<u64>,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// There is no more of what was asked for.
    Done,
    /// The hub stops.
    Stopping,
    /// The token it was opened by has ended.
    Ended,
    /// The journal can't be read; the last message said more.
    Unreadable,
    /// The client takes nothing.
    Slow,
    /// The client answers no ping.
    Silent,
    /// The client sends what nobody asked for.
    Unwanted,
    /// The client has gone, or breaks the protocol.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Open<S> {
    async fn run(mut self, pieces: impl Stream<Item = Result<Bytes, ReadError>>) {
        let mut pieces = std::pin::pin!(pieces);
        let end = loop {
            tokio::select! {
                biased;
                said = self.socket.next() => match self.heard(said) {
                    Some(end) => break end,
                    None => continue,
                },
                piece = pieces.next() => match piece {
                    Some(Ok(piece)) => if let Some(end) = self.send(&piece).await {
                        break end;
                    },
                    Some(Err(_)) => break End::Unreadable,
                    None => break self.why_done(),
                },
            }
        };
        self.close(end).await;
    }

    /// What a client says: nothing but that it lives, and that it goes.
    fn heard(&mut self, said: Option<Result<Message, Error>>) -> Option<End> {
        match said {
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                self.unanswered = 0;
                self.heard += 1;
                // Each ping is answered, and the answers wait here for whoever doesn't read them.
                (self.heard > HEARD_MAX).then_some(End::Unwanted)
            }
            Some(Ok(Message::Text(_) | Message::Binary(_)) | Err(Error::Capacity(_))) => {
                Some(End::Unwanted)
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Some(End::Gone),
        }
    }

    /// Sends the deliveries of a piece, each as a message; a piece without any is a heartbeat, and
    /// goes as a ping. Why not, where it can't be sent.
    async fn send(&mut self, piece: &Bytes) -> Option<End> {
        self.heard = 0;
        let mut lines = piece.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
        let mut next = lines.next();
        if next.is_none() {
            if self.unanswered >= UNANSWERED_MAX {
                return Some(End::Silent);
            }
            self.unanswered += 1;
            return self.put(Message::Ping(Bytes::new()), None, true).await;
        }
        while let Some(line) = next {
            next = lines.next();
            // What the journal holds is UTF-8.
            let Ok(text) = Utf8Bytes::try_from(piece.slice_ref(line)) else { continue };
            let seq = seq_of(line);
            if let Some(end) = self.put(Message::Text(text), seq, next.is_none()).await {
                return Some(end);
            }
        }
        None
    }

    /// Sends a message, together with those before where it is the last for now. Holds no more of a
    /// client that takes nothing than what is under way.
    async fn put(&mut self, message: Message, seq: Option<u64>, is_last: bool) -> Option<End> {
        let Self { socket, stopping, seq: last, .. } = self;
        let sent = async {
            poll_fn(|context| socket.poll_ready_unpin(context)).await?;
            socket.start_send_unpin(message)?;
            // From here on it goes before everything else, also before a farewell.
            *last = seq.or(*last);
            if is_last { socket.flush().await } else { Ok(()) }
        };
        let late = async {
            stopped(stopping).await;
            tokio::time::sleep(CLOSE_TIME).await;
        };
        tokio::select! {
            biased;
            sent = timeout(self.stall, sent) => match sent {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(End::Gone),
                Err(_) => Some(End::Slow),
            },
            () = late => Some(End::Gone),
        }
    }

    fn why_done(&self) -> End {
        match (*self.stopping.borrow(), self.grant.is_good()) {
            (true, _) => End::Stopping,
            (false, false) => End::Ended,
            (false, true) => End::Done,
        }
    }

    /// Says why, and waits a little for the client to say so too.
    async fn close(mut self, end: End) {
        if end == End::Slow {
            self.sent.cut_off(self.seq);
        }
        let Some(frame) = self.farewell(end) else { return };
        let parting = async {
            self.socket.close(Some(frame)).await?;
            while let Some(said) = self.socket.next().await {
                said?;
            }
            Ok::<_, Error>(())
        };
        // Whoever is slow or gone is cut off.
        drop(timeout(CLOSE_TIME, parting).await);
    }

    fn farewell(&self, end: End) -> Option<CloseFrame> {
        let (code, reason) = match end {
            End::Done => (CloseCode::Normal, "done".to_owned()),
            End::Stopping => (CloseCode::Away, "the hub stops: come back".to_owned()),
            End::Ended => (CloseCode::Policy, "the token has ended".to_owned()),
            End::Unreadable => (CloseCode::Error, "the journal can't be read".to_owned()),
            End::Slow => (CloseCode::Again, too_slow(self.seq)),
            End::Silent => (CloseCode::Policy, "no ping was answered".to_owned()),
            End::Unwanted => (CloseCode::Unsupported, "nothing but pings is taken here".to_owned()),
            End::Gone => return None,
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// The number of the record that a delivery is, as it stands at its end.
fn seq_of(line: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"vnd.postbell.seq\":";
    let at = line.windows(KEY.len()).rposition(|window| window == KEY)?;
    let digits = line.get(at + KEY.len()..)?;
    let end = digits.iter().position(|digit| !digit.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(SAID_OCTETS_MAX)
        .max_message_size(Some(SAID_OCTETS_MAX))
        .max_frame_size(Some(SAID_OCTETS_MAX))
        .write_buffer_size(WRITTEN_OCTETS)
}

/// What a client may say at once: a ping or a farewell has 125 octets.
const SAID_OCTETS_MAX: usize = 4 * 1024;

/// Octets gathered before they are written; a piece has about as many.
const WRITTEN_OCTETS: usize = 64 * 1024;

/// Pings a client may leave unanswered, one each quarter of a minute.
const UNANSWERED_MAX: u32 = 3;

/// Pings and answers to pings between two pieces, which are a quarter of a minute apart at most.
const HEARD_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_delivery_is_the_last_that_is_called_so() {
        let line = br#"{"vnd.x":"\"vnd.postbell.seq\":7","vnd.postbell.seq":42,"vnd.postbell.prevSeq":40}"#;
        assert_eq!(seq_of(line), Some(42));
        assert_eq!(seq_of(br#"{"vnd.postbell.seq":9"#), Some(9));
        assert_eq!(seq_of(br#"{"type":"urn:x"}"#), None);
    }
}
