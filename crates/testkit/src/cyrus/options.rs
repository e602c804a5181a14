//! What a Cyrus of the test bench is like.

use std::path::PathBuf;

use crate::Quota;

/// What a [`Cyrus`](super::Cyrus) is like. The names are those of `imapd.conf`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who is told of events.
    pub notify: Notify,
    /// Mailbox names have `/` between their parts, else `.`.
    pub unixhierarchysep: bool,
    /// A user's mailboxes stand beside INBOX and others' below [`OTHERS`]; else they stand below
    /// INBOX and others' below `user`.
    pub altnamespace: bool,
    /// Users are `alice@example.org`; else `alice`.
    pub virtdomains: bool,
    /// A quota of each user.
    pub quota: Option<Quota>,
    /// What it calls itself, in its URIs too (`servername`).
    pub server_name: String,
    /// Further keys of `imapd.conf`, or other values for its keys. The README beside the samples
    /// says which make Debian's build crash: `event_groups` with `quota` is one.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    /// What a site of today has: `/`, the alternative namespace, users with domains.
    fn default() -> Self {
        Self {
            notify: Notify::Nobody,
            unixhierarchysep: true,
            altnamespace: true,
            virtdomains: true,
            quota: None,
            server_name: "mail.example.org".to_owned(),
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// The same with somebody told.
    #[must_use]
    pub fn telling(notify: Notify) -> Self {
        Self { notify, ..Self::default() }
    }
}

/// Who is told of events (`notifysocket`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notify {
    /// Nobody: Cyrus makes none.
    Nobody,
    /// Whoever reads datagrams at this path.
    Datagrams(PathBuf),
    /// Whoever answers at this path, a connection for each event (`dlist:`).
    Streams(PathBuf),
    /// Cyrus' own notifyd, which logs them.
    Notifyd,
}

/// Below which name a user sees others' mailboxes ([`Options::altnamespace`]).
pub const OTHERS: &str = "shared";
