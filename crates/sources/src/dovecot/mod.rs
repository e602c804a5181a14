//! Dovecot as a source of events.
//!
//! Our script in Dovecot writes one line for each transaction into a spool; the spool is the
//! truth, and a line is let go of only when what it says is journalled. Dovecot's own exporter
//! adds what the script can't know, where it is heard; and a master user, where one is named, lets
//! postbell ask the server for what nobody says.

mod record;
mod secret;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Health, Intake, Stop, Stopped};
pub use secret::Secret;

/// What a Dovecot source is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder our script writes to (`postbell_spool`).
    pub spool: PathBuf,
    /// What stands between the levels of a mailbox's name in Dovecot.
    pub separator: char,
    /// Prefixes of other users' mailboxes, `%u` standing for the owner: `shared/%u/`.
    pub shared: Vec<String>,
    /// Which expunges are the server's policy and not a user's wish.
    pub expire: Vec<ExpireRule>,
    /// How long a line waits for what the exporter says of it, while the exporter is heard.
    pub annotation_window: Duration,
    /// The name of this server, for `serverFQDN`.
    pub server_fqdn: Option<String>,
    /// How to ask the server, if at all.
    pub master: Option<Master>,
    /// Whether `bodyStructure` is made, for which each message is asked for.
    pub body_structure: bool,
    /// Up to which size a message's content is asked for and handed on; `None` means never.
    pub content_max_octets: Option<u64>,
    /// What Dovecot's exporter posts.
    pub exporter: Exporter,
}

/// Expunges that are told as `MessageExpire` (R31).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExpireRule {
    /// The reason code Dovecot gives, `*` standing for anything: `doveadm:cmd_expunge`.
    pub reason: String,
    /// Only in this user's mailboxes.
    pub user: Option<String>,
    /// Only in mailboxes that this pattern fits, with the wildcards of IMAP's LIST.
    pub mailbox: Option<String>,
    /// What the policy is called (`vnd.postbell.expirePolicy`).
    pub policy: String,
}

/// How to ask Dovecot over IMAP what nobody says.
#[derive(Clone, Debug)]
pub struct Master {
    /// Where IMAP is spoken.
    pub address: SocketAddr,
    /// The master user.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// What stands between the user and the master user in a login: `alice*postbell`.
    pub separator: char,
}

/// What Dovecot's exporter posts, on its way to the source.
#[derive(Clone, Debug, Default)]
pub struct Exporter;

impl Exporter {
    /// One nobody has heard of yet.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

/// Why a Dovecot source ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DovecotError {
    /// The journal takes nothing any more.
    #[error(transparent)]
    Journal(#[from] Stopped),
}

/// Follows the spool until told to stop. Blocks: it wants a thread of its own.
///
/// # Errors
///
/// Where the journal has stopped.
pub fn run(
    _options: &Options,
    _intake: &dyn Intake,
    _health: &Health,
    _stop: &Stop,
) -> Result<(), DovecotError> {
    Ok(())
}
