//! How the store is named in URIs.

use mail_event::{ImapUrl, Uri};

use crate::Mailbox;

/// The store's name on the network: the host part of every IMAP URL made for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store {
    server: ImapUrl,
}

impl Store {
    /// A store reached as `host`, at `port` where that isn't IMAP's own 143.
    ///
    /// # Errors
    ///
    /// [`InvalidStore`] where `host` is not a domain name or address that an IMAP URL can hold
    /// (RFC 5092).
    pub fn new(host: &str, port: Option<u16>) -> Result<Self, InvalidStore> {
        match ImapUrl::server(host, port) {
            Ok(server) => Ok(Self { server }),
            Err(_) => Err(InvalidStore { host: host.to_owned() }),
        }
    }

    /// The host as given.
    #[must_use]
    pub fn host(&self) -> &str {
        self.server.host()
    }

    /// The port, where it isn't IMAP's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.server.port()
    }

    /// The server itself, or one owner's part of it (R146: access and quota events).
    #[must_use]
    pub fn server(&self, owner: Option<&str>) -> Uri {
        Uri::Imap(self.scope(owner))
    }

    /// A mailbox in `owner`'s naming scope (R146: mailbox events).
    #[must_use]
    pub fn mailbox(&self, owner: Option<&str>, mailbox: &Mailbox) -> Uri {
        Uri::Imap(self.place(owner, mailbox))
    }

    /// A message (R146, R147).
    #[must_use]
    pub fn message(&self, owner: Option<&str>, mailbox: &Mailbox, uid: u32) -> Uri {
        Uri::Imap(self.place(owner, mailbox).with_uid(uid))
    }

    fn scope(&self, owner: Option<&str>) -> ImapUrl {
        match owner {
            Some(owner) => self.server.clone().with_user(owner),
            None => self.server.clone(),
        }
    }

    fn place(&self, owner: Option<&str>, mailbox: &Mailbox) -> ImapUrl {
        self.scope(owner).with_mailbox(&mailbox.name, mailbox.uid_validity)
    }
}

/// A host that can't stand in an IMAP URL.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("\"{host}\" is not a host name or address")]
pub struct InvalidStore {
    /// What was given.
    pub host: String,
}
