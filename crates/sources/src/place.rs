//! Where a message is.

/// One message, as the URI of its event names it (RFC 5092).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place<'a> {
    /// Whose mailbox it is in.
    pub owner: &'a str,
    /// The mailbox's name as it is told: with `/` between its levels.
    pub mailbox: &'a str,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// The message's UID in it.
    pub uid: u32,
}
