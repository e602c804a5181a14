//! What a Dovecot of the test bench does beyond the usual.

use std::path::PathBuf;

/// What a [`Dovecot`](crate::Dovecot) does beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A quota of each user.
    pub quota: Option<Quota>,
    /// How much of Dovecot runs.
    pub extent: Extent,
    /// How mail is stored.
    pub format: Format,
    /// At which command of LMTP a full mailbox is noticed.
    pub overquota: Overquota,
    /// Whether sessions that idle for a second hibernate: `imap_hibernate_timeout`.
    pub hibernates: bool,
    /// Whether URLs are authorised (URLAUTH, RFC 4467): `imap_urlauth_host`.
    pub url_auth: bool,
    /// postbell's script, if Dovecot loads it.
    pub notify: Option<Notify>,
    /// What it loads in that script's place, to see what Dovecot costs without ours.
    pub script: Option<String>,
}

impl Options {
    /// Everything in use at once, and postbell's script in it.
    #[must_use]
    pub fn whole(notify: Notify) -> Self {
        Self { extent: Extent::Whole, notify: Some(notify), ..Self::default() }
    }
}

/// How much of Dovecot runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Extent {
    /// IMAP, POP3 and LMTP. A quota is written to `maildirsize` (Maildir++).
    #[default]
    Plain,
    /// Beside them Sieve, ACL with `shared/<user>/`, master users, a Trash that is made at login
    /// and a Spam that expunges itself after a second. A quota is counted by Dovecot.
    Whole,
}

/// At which command of LMTP a full mailbox is noticed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overquota {
    /// When the message is there (DATA).
    #[default]
    AtData,
    /// Before (RCPT): `lmtp_rcpt_check_quota`.
    AtRecipient,
}

/// How mail is stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Maildir++.
    #[default]
    Maildir,
    /// Dovecot's own, many messages in a file.
    Mdbox,
    /// Dovecot's own, a message in a file.
    Sdbox,
}

/// postbell's script in Dovecot.
#[derive(Clone, Debug)]
pub struct Notify {
    /// The folder it writes to; made where it is missing.
    pub spool: PathBuf,
    /// How large a file in it may become; `None` leaves the script's own limit.
    pub spool_max_octets: Option<u64>,
    /// Where Dovecot's exporter posts to; `None` means where nobody listens.
    pub exporter: Option<String>,
}

impl Notify {
    /// A script that writes to `spool`, beside an exporter that nobody hears.
    #[must_use]
    pub fn into_spool(spool: impl Into<PathBuf>) -> Self {
        Self { spool: spool.into(), spool_max_octets: None, exporter: None }
    }
}

/// A quota for each user.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Storage in units of 1024 octets.
    pub storage_kib: u64,
    /// Number of messages.
    pub messages: u64,
}
