//! Dovecot as a source of events.
//!
//! Our script in Dovecot writes one line for each transaction into a spool; the spool is the
//! truth, and a line is let go of only when what it says is journalled. Dovecot's own exporter
//! adds what the script can't know, where it is heard; and a master user, where one is named, lets
//! postbell ask the server for what nobody says.

mod connections;
mod exporter;
mod holes;
pub(crate) mod names;
mod open_holes;
mod record;
mod sessions;
mod source;
mod tell;

use std::path::PathBuf;
use std::time::Duration;

use mail_event::MessageContent;
use postbell_engine::{Pattern, Shared};

use crate::ask::{NamingScope as _, Redeemed, SharedError};
use crate::spool::Said;
pub use crate::spool::{DEMAND_FILE, is_misleading, is_told, remove_unfinished, tell_demand};
use crate::{Authoriser, Health, Intake, Master, Place, State, Stop, Stopped};
pub use exporter::{BODY_OCTETS_MAX, ExportError, Exporter, ExporterCounts};
use names::Names;
use record::Transaction;
use source::Source;

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
    /// How long the server has to say what a hole held before the hole is told as a gap; only where
    /// there is a master user. [`HOLE_WINDOW`] is enough for a server that is restarted.
    pub hole_window: Duration,
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
    /// Only in mailboxes that this pattern fits.
    pub mailbox: Option<Pattern>,
    /// What the policy is called (`vnd.postbell.expirePolicy`).
    pub policy: String,
}

/// How long a server may be away before what it would have said is told as missed.
pub const HOLE_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Why a Dovecot source ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DovecotError {
    /// The journal takes nothing any more.
    #[error(transparent)]
    Journal(#[from] Stopped),
    /// The server can't be asked there.
    #[error("{0}")]
    Master(String),
}

/// Follows the spool until told to stop. Blocks: it wants a thread of its own.
///
/// A spool that isn't there yet is waited for.
///
/// # Errors
///
/// Where the journal has stopped, or the options can't be followed.
pub fn run(
    options: &Options,
    intake: &dyn Intake,
    health: &Health,
    stop: &Stop,
) -> Result<(), DovecotError> {
    let ended = Source::new(options, intake, health).and_then(|mut source| source.run(stop));
    if let Err(error) = &ended {
        health.set_error(error);
        health.set_state(State::Failed, error.to_string());
    }
    ended
}

/// The content of one message, where it is still there and has at most `max_octets`; nothing
/// where there is no master user to ask as.
///
/// # Errors
///
/// What keeps the server from being asked, in words.
pub fn content(
    options: &Options,
    place: &Place<'_>,
    max_octets: u64,
) -> Result<Option<MessageContent>, String> {
    let Some(master) = &options.master else { return Ok(None) };
    // What changes places on the way out changes back.
    let name = Names::new(options.separator, &options.shared).told(place.mailbox);
    crate::ask::content(master, place, &name, max_octets)
}

/// What has the store authorise URLs; nothing where there is no master user to ask as. Where
/// somebody else than the owner redeems one, Dovecot 2.3's `imap-urlauth-worker` crashes: such are
/// refused.
///
/// # Errors
///
/// Where the server can't be asked there.
pub fn authoriser(options: &Options) -> Result<Option<Authoriser>, String> {
    let Some(master) = &options.master else { return Ok(None) };
    let names = Names::new(options.separator, &options.shared);
    let named = move |mailbox: &str| names.told(mailbox);
    Authoriser::new(master, Redeemed::ByOwners, named).map(Some)
}

/// The mailboxes of others that `user` may see and read at the moment; none where there is no master
/// user to ask as.
///
/// # Errors
///
/// What keeps the server from saying it.
pub fn shared(options: &Options, user: &str) -> Result<Shared, SharedError> {
    let Some(master) = &options.master else { return Ok(Shared::default()) };
    let names = Names::new(options.separator, &options.shared);
    crate::ask::shared(master, user, &names, |name| {
        let (owner, rest) = names.place(user, name);
        Some((Some(owner), names.told(&rest)))
    })
}

impl Said for Transaction {
    const LINE_OCTETS_MAX: usize = record::LINE_OCTETS_MAX;

    const BEGINS: &'static [u8] = br#"{"v":1,"run":""#;

    fn read(line: &[u8]) -> Result<Self, String> {
        record::parse(line).map_err(|error| error.to_string())
    }
}
