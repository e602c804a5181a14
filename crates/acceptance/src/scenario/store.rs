//! What a scenario may ask of a store.

use std::fmt;
use std::net::SocketAddr;

use postbell_testkit::{Error, Imap, Lmtp, Pop3};

/// A running mail store with postbell beside it, reached as its users and its operator reach it.
///
/// The users [`ALICE`](postbell_testkit::ALICE) and [`BOB`](postbell_testkit::BOB) are there, with
/// empty mailboxes, and so is [`MARKER`].
pub trait MailStore: fmt::Debug {
    /// What it is called: `dovecot`.
    fn name(&self) -> &'static str;

    /// A fresh IMAP session.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    fn imap(&self, user: &str) -> Result<Imap, Error>;

    /// A fresh IMAP session of `user`, opened by the human administrator with their own password.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    fn imap_as_admin(&self, user: &str) -> Result<Imap, Error>;

    /// A fresh POP3 session.
    ///
    /// # Errors
    /// [`Error::Refused`] for an unknown user.
    fn pop3(&self, user: &str) -> Result<Pop3, Error>;

    /// A fresh LMTP session.
    ///
    /// # Errors
    /// [`Error::Io`] where it doesn't answer.
    fn lmtp(&self) -> Result<Lmtp, Error>;

    /// Where it serves JMAP and CalDAV, if it does.
    fn http_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Does what an operator does, with the store's own tools.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the tool printed.
    fn operate(&self, deed: Deed<'_>) -> Result<(), Error>;

    /// Whether it can be seen that mail was refused for want of room.
    fn shows_refusals(&self) -> bool {
        true
    }

    /// The name by which other users reach a mailbox of `owner`.
    fn shared(&self, owner: &str, mailbox: &str) -> String;

    /// The ports of its services and what they are called, so that expectations can name them.
    fn ports(&self) -> Vec<(u16, &'static str)>;

    /// The end of its log, for the message of a failing test.
    fn log(&self) -> String;
}

/// Something an operator does.
#[derive(Clone, Copy, Debug)]
pub enum Deed<'a> {
    /// Removes old messages from a mailbox, as a nightly job does by policy.
    Expire {
        /// Whose.
        user: &'a str,
        /// Which mailbox.
        mailbox: &'a str,
    },
    /// Sets a user's limits.
    Limit {
        /// Whose.
        user: &'a str,
        /// Storage in units of 1024 octets.
        storage_kib: u64,
        /// Number of messages.
        messages: u64,
    },
    /// Kills the process that serves a user's IMAP session.
    Kill {
        /// Whose.
        user: &'a str,
    },
    /// Sorts new mail of a user by a Sieve script.
    Sieve {
        /// Whose.
        user: &'a str,
        /// The script.
        script: &'a str,
    },
}

/// A user whose subscriptions tell when all that was done before has been told.
pub const MARKER: &str = postbell_testkit::CAROL;
