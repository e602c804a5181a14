//! What Dovecot's stats process exports over HTTP, one JSON object for each of its own events.
//!
//! It is lossy by nature, so it only annotates: the spool says what happened, and this says with
//! which SMTP envelope, by which command and for which reason. A little is known here alone: that
//! an operation was refused for want of quota, that access was granted or taken, how a session
//! ended.
//!
//! The hub hands each body to [`Exporter::take`]; the source's thread is woken by
//! [`Exporter::wake_fd`] and takes what gathered with [`Exporter::drain`].

mod access;
mod annotations;
mod beside;
mod decode;
mod envelope;
#[cfg(test)]
mod real;
mod recipient;
mod refusal;

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use decode::Said;
use mail_event::{Envelope, Timestamp};
use recipient::Recipients;
use rustix::event::{EventfdFlags, eventfd};

pub(super) use access::Access;
pub(super) use annotations::{Annotations, Ending};
#[cfg(test)]
pub(super) use beside::refused_append;
pub(super) use beside::{Beside, beside};

/// Where the hub leaves what Dovecot's stats process posts. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Exporter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// Readable while something is in the queue; `None` where the process had no descriptor left
    /// for it, and then the source looks at its next turn.
    wake: Option<OwnedFd>,
}

impl Default for Inner {
    fn default() -> Self {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        if let Err(error) = &wake {
            tracing::warn!(%error, "what Dovecot exports is looked at late");
        }
        Self { queue: Mutex::default(), wake: wake.ok() }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Exported>,
    /// Octets of their bodies.
    octets: usize,
    heard: Option<Instant>,
    recipients: Recipients,
    counts: ExporterCounts,
}

/// What became of what was posted, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ExporterCounts {
    /// Bodies that were understood and kept.
    pub taken: u64,
    /// Bodies about events that nobody here wants.
    pub ignored: u64,
    /// Bodies that were no exported event.
    pub malformed: u64,
    /// Bodies refused because the source had not kept up.
    pub refused: u64,
}

impl Exporter {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the body of one POST; an event nobody wants is counted and passed over.
    ///
    /// # Errors
    ///
    /// Where it is no exported event, or where the source has not kept up and the queue is full.
    /// Dovecot posts nothing twice, so either way it is gone.
    pub fn take(&self, body: &[u8]) -> Result<(), ExportError> {
        let decoded = decode::decode(body);
        let mut queue = self.queue();
        let said = match decoded {
            Err(error) => {
                queue.counts.malformed += 1;
                return Err(error);
            }
            Ok(said) => said,
        };
        queue.heard = Some(Instant::now());
        let exported = match said {
            None => {
                queue.counts.ignored += 1;
                return Ok(());
            }
            Some(Said::Whole(exported)) => exported,
            Some(Said::Half(half)) => match queue.recipients.join(half) {
                Some(exported) => exported,
                None => {
                    queue.counts.taken += 1;
                    return Ok(());
                }
            },
        };
        if queue.waiting.len() >= WAITING_MAX || queue.octets + body.len() > WAITING_OCTETS_MAX {
            queue.counts.refused += 1;
            return Err(ExportError::Full);
        }
        queue.counts.taken += 1;
        queue.octets += body.len();
        queue.waiting.push(exported);
        let is_first = queue.waiting.len() == 1;
        drop(queue);
        if is_first {
            self.wake();
        }
        Ok(())
    }

    /// What became of what was posted.
    #[must_use]
    pub fn counts(&self) -> ExporterCounts {
        self.queue().counts
    }

    /// How long ago something was posted, whatever it was about.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.queue().heard.map(|heard| heard.elapsed())
    }

    /// Becomes readable when something waits, until [`Exporter::drain`]; only for `poll`.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.wake.as_ref().map(|wake| wake.as_fd())
    }

    /// Everything that waits, oldest first.
    pub(super) fn drain(&self) -> Vec<Exported> {
        if let Some(wake) = &self.0.wake {
            // Nothing to read means that nobody had rung: that is fine, too.
            let _rung = rustix::io::read(wake, &mut [0_u8; 8]).is_ok();
        }
        let mut queue = self.queue();
        queue.octets = 0;
        std::mem::take(&mut queue.waiting)
    }

    fn wake(&self) {
        let Some(wake) = &self.0.wake else { return };
        if let Err(error) = rustix::io::write(wake, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the source was not woken for what Dovecot exported");
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        // A thread that died while holding the lock left a queue behind, not a broken promise.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event of Dovecot's that says something about mail.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Exported {
    /// Our own named event, sent after a line went to the spool.
    Transaction {
        /// Whose line: the script's run.
        run: String,
        /// Which line of it.
        seq: u64,
        /// What it adds to the line.
        annotation: Annotation,
    },
    /// `mail_user_session_finished`: everything of a session is done, the log line written.
    Session {
        /// Whose and where from.
        whence: Whence,
        /// From the user's first moment to the last.
        duration: Duration,
    },
    /// `imap_client_hibernated`: the session goes on without a process.
    Hibernated {
        /// Whose and where from.
        whence: Whence,
    },
    /// `imap_command_finished` of a command that may mean something by itself.
    Command {
        /// Whose and where from.
        whence: Whence,
        /// As Dovecot names it: `APPEND`, `UID COPY`, `SETACL`.
        name: String,
        /// The client's tag.
        tag: String,
        /// The arguments as IMAP writes them; empty where unknown.
        arguments: String,
        /// The tagged answer, without the tag.
        reply: String,
    },
    /// `mail_delivery_finished`.
    Delivery {
        /// Whose and where from.
        whence: Whence,
        /// The envelope of this delivery alone.
        envelope: Option<Envelope>,
        /// Why it failed, if it did.
        error: Option<String>,
        /// How large the message was.
        size_octets: Option<u64>,
    },
    /// A recipient was refused before there was a message, because the mailbox is full.
    Recipient {
        /// Whose and where from.
        whence: Whence,
        /// How large the message was said to be.
        size_octets: Option<u64>,
    },
    /// `auth_request_finished` of a login that succeeded.
    Auth {
        /// Whose and where from.
        whence: Whence,
        /// What it was like.
        login: Login,
    },
}

/// Whose event it is and where from, as far as it says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Whence {
    /// When it ended.
    pub(super) at: Option<Timestamp>,
    /// When it began, as Dovecot writes it: part of what tells it from others.
    pub(super) began: String,
    /// The user.
    pub(super) user: Option<String>,
    /// The session.
    pub(super) session: Option<String>,
    /// `imap`, `pop3`, `lmtp`…
    pub(super) service: Option<String>,
    /// The client.
    pub(super) client: Option<SocketAddr>,
    /// The address and port the client came to.
    pub(super) server: Option<SocketAddr>,
    /// Why, in Dovecot's words: `imap:cmd_move`, `storage:autoexpunge`.
    pub(super) reasons: Vec<String>,
}

/// What Dovecot's authentication says of a login.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Login {
    /// `PLAIN`, `SCRAM-SHA-256`…
    pub(super) mechanism: Option<String>,
    /// `TLS`; or `trusted` or `insecure`, where nothing protects it.
    pub(super) transport: Option<String>,
    /// The client.
    pub(super) client: Option<SocketAddr>,
    /// The address and port the client came to.
    pub(super) server: Option<SocketAddr>,
}

/// What is added to a line of the spool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotation {
    /// Why, in Dovecot's words: `imap:cmd_move`, `storage:autoexpunge`, `doveadm:cmd_expunge`.
    pub(super) reasons: Vec<String>,
    /// The IMAP command under way: `UID STORE`.
    pub(super) command: Option<String>,
    /// The SMTP envelope of this delivery alone.
    pub(super) envelope: Option<Envelope>,
    /// The client.
    pub(super) client: Option<SocketAddr>,
    /// The address and port the client came to.
    pub(super) server: Option<SocketAddr>,
}

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// More waits than the source gets through.
    #[error("more waits than the source gets through")]
    Full,
    /// No JSON, or no event.
    #[error("not an event that Dovecot exports: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Larger than any event.
    #[error("{octets} octets are more than the {BODY_OCTETS_MAX} of an exported event")]
    TooLarge {
        /// How large.
        octets: usize,
    },
}

/// Octets of one body. The arguments of a command are the longest part, and Dovecot takes command
/// lines of 64 KiB; as JSON they may take twice that.
pub const BODY_OCTETS_MAX: usize = 256 * 1024;

/// Events that wait for the source: some seconds of a busy server.
const WAITING_MAX: usize = 16_384;

/// Octets of their bodies together.
const WAITING_OCTETS_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    const TRANSACTION: &[u8] = br#"{"event":"postbell_transaction","fields":{"postbell_run":"00112233445566778899aabbccddeeff","postbell_seq":7,"reason_code":["imap:cmd_store"],"cmd_name":"UID STORE"}}"#;

    fn is_awake(exporter: &Exporter) -> bool {
        let fd = exporter.wake_fd().unwrap();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn what_is_taken_wakes_the_source_until_it_is_drained() {
        let exporter = Exporter::new();
        assert!(!is_awake(&exporter));
        exporter.clone().take(TRANSACTION).unwrap();
        exporter.take(TRANSACTION).unwrap();
        assert!(is_awake(&exporter));
        assert_eq!(exporter.drain().len(), 2);
        assert!(!is_awake(&exporter) && exporter.drain().is_empty());
        exporter.take(TRANSACTION).unwrap();
        assert!(is_awake(&exporter));
    }

    #[test]
    fn r157_a_full_queue_refuses_and_counts() {
        let exporter = Exporter::new();
        for _ in 0..WAITING_MAX {
            exporter.take(TRANSACTION).unwrap();
        }
        assert!(matches!(exporter.take(TRANSACTION), Err(ExportError::Full)));
        assert_eq!(exporter.counts().refused, 1);
        assert_eq!(exporter.drain().len(), WAITING_MAX);
        exporter.take(TRANSACTION).unwrap();
    }

    #[test]
    fn an_event_nobody_wants_is_a_sign_of_life_all_the_same() {
        let exporter = Exporter::new();
        assert!(exporter.silent_for().is_none());
        exporter.take(br#"{"event":"http_request_finished","fields":{}}"#).unwrap();
        assert!(exporter.silent_for().is_some() && exporter.drain().is_empty());
        assert!(exporter.take(b"GET / HTTP/1.1").is_err());
        assert!(exporter.take(&[b' '; BODY_OCTETS_MAX + 1]).is_err());
        let counts = ExporterCounts { ignored: 1, malformed: 2, ..ExporterCounts::default() };
        assert_eq!(exporter.counts(), counts);
    }
}
