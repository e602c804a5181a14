//! Cyrus as a source of events, in notifyd's place.
//!
//! Cyrus sends each event to a Unix socket where its notifyd would listen. A process of its own
//! ([`Notifyd`]) takes the notifications and writes them into a spool; the source ([`run`]) follows
//! the spool, turns what Cyrus says into RFC 5423's terms, and lets go of a line only when what it
//! says is journalled. What Cyrus doesn't say is asked for over IMAP, where somebody is named who may
//! ask.

mod alive;
mod asking;
mod datagram;
mod dlist;
mod entry;
mod namespace;
mod notification;
mod receive;
mod recent;
mod record;
mod signs;
mod source;
mod tell;

use std::path::PathBuf;

use mail_event::MessageContent;
use postbell_engine::Shared;

use crate::ask::{Redeemed, SharedError};
use crate::{Authoriser, Health, Intake, Master, Place, State, Stop, Stopped};
pub use namespace::Namespace;
pub use receive::{
    Notifyd, NotifydError, OPEN_FOLDER, Porter, SocketError, Sockets, bind_datagram, bind_stream,
};
use source::Source;

/// What a Cyrus source is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder the process in notifyd's place writes to.
    pub spool: PathBuf,
    /// How Cyrus names mailboxes.
    pub namespace: Namespace,
    /// Whether what is like IMAP's ENVELOPE may go out (`vnd.cmu.envelope`,
    /// `vnd.fastmail.jmapEmail`).
    pub envelope: bool,
    /// Whether each event carries what Cyrus said, and what was changed of it (`vnd.postbell.raw`,
    /// `vnd.postbell.repairs`).
    pub raw: bool,
    /// The name of this server, where Cyrus doesn't say it.
    pub server_fqdn: Option<String>,
    /// How to ask Cyrus, if at all.
    pub master: Option<Master>,
    /// Whether `bodyStructure` is made, for which messages are asked for where Cyrus leaves it out.
    pub body_structure: bool,
    /// Up to which size a message's content is asked for and handed on; `None` means never.
    pub content_max_octets: Option<u64>,
}

/// Why a Cyrus source ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum CyrusError {
    /// The journal takes nothing any more.
    #[error(transparent)]
    Journal(#[from] Stopped),
    /// Cyrus can't be asked there.
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
) -> Result<(), CyrusError> {
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
    crate::ask::content(master, place, &options.namespace.asked(place.mailbox), max_octets)
}

/// What has the store authorise URLs; nothing where there is no master user to ask as.
///
/// # Errors
///
/// Where the server can't be asked there.
pub fn authoriser(options: &Options) -> Result<Option<Authoriser>, String> {
    let Some(master) = &options.master else { return Ok(None) };
    let namespace = options.namespace.clone();
    let named = move |mailbox: &str| namespace.asked(mailbox);
    Authoriser::new(master, Redeemed::AsWritten, named).map(Some)
}

/// The mailboxes of others that `user` may see and read at the moment; none where there is no master
/// user to ask as. Those that are nobody's aren't among them.
///
/// # Errors
///
/// What keeps the server from saying it.
pub fn shared(options: &Options, user: &str) -> Result<Shared, SharedError> {
    let Some(master) = &options.master else { return Ok(Shared::default()) };
    let namespace = &options.namespace;
    crate::ask::shared(master, user, namespace, |name| {
        let place = namespace.of_others(user, name)?;
        (!place.is_deleted).then_some((place.owner, place.name))
    })
}
