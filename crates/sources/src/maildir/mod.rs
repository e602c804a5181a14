//! Maildir and Maildir++ as a source of events.
//!
//! What is on disk is the truth: each look reads it and is held against what is remembered, so a
//! notice that inotify lost, or a time when postbell was down, costs a delay and never an event.
//! inotify only says when to look, and what lay in `new` in between.
//!
//! A message that came and went, or a flag set and cleared again, between two looks is not seen.

mod apply;
mod bell;
mod body_structure;
mod content;
mod folder;
mod header;
mod known;
mod layout;
mod listing;
mod look;
mod message;
mod side;
mod source;
mod tell;
mod tree;
mod uid_list;

use std::time::Duration;

use postbell_engine::Quota;

use crate::{Health, Intake, State, Stop, Stopped};
pub use content::content;
use source::Source;

/// What a Maildir source is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Maildir, `%u` standing for the user: `/var/mail/%u/Maildir`.
    pub root: String,
    /// Whose mail it is, where `root` holds no `%u`.
    pub user: Option<String>,
    /// How long at most until the next look, should inotify say nothing.
    pub scan_interval: Duration,
    /// A limit where the store keeps no `maildirsize`.
    pub quota: Option<Quota>,
    /// The name of this server, for `serverFQDN`.
    pub server_fqdn: Option<String>,
    /// Whether `bodyStructure` is made, for which each message is read.
    pub body_structure: bool,
    /// Up to which size a message's content is read and handed on; `None` means never.
    pub content_max_octets: Option<u64>,
}

/// Why a Maildir source ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum MaildirError {
    /// The journal takes nothing any more.
    #[error(transparent)]
    Journal(#[from] Stopped),
    /// The pattern holds no `%u`, and no user is named.
    #[error("{root}: neither %u in it nor a user named beside it")]
    NoUser {
        /// The pattern.
        root: String,
    },
}

/// Follows the Maildirs until told to stop. Blocks: it wants a thread of its own.
///
/// The first look at a user's Maildir is remembered and not told, lest a thousand old messages
/// be announced as new.
///
/// # Errors
///
/// Where the journal has stopped, or the options name no user.
pub fn run(
    options: &Options,
    intake: &dyn Intake,
    health: &Health,
    stop: &Stop,
) -> Result<(), MaildirError> {
    if options.user.is_none() && !options.root.contains("%u") {
        return Err(MaildirError::NoUser { root: options.root.clone() });
    }
    let ended = Source::new(options, intake, health).run(stop);
    if let Err(error) = &ended {
        health.set_error(error);
        health.set_state(State::Failed, error.to_string());
    }
    ended
}
