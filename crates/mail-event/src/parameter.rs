//! Parameter names, as RFC 5423 and the IANA registry spell them.

use std::fmt;
use std::str::FromStr;

use crate::{InvalidName, OtherName};

/// A named value of an event (RFC 5423, section 5).
///
/// ```
/// use mail_event::ParameterName;
///
/// let name: ParameterName = "clientIP".parse()?;
/// assert_eq!(name, ParameterName::ClientIp);
/// # Ok::<(), mail_event::InvalidName>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ParameterName {
    /// `admin`: the authentication identity, where it differs from `user`.
    Admin,
    /// `bodyStructure`: the IMAP BODYSTRUCTURE of the message.
    BodyStructure,
    /// `clientIP`: the address of the message store access client.
    ClientIp,
    /// `clientPort`: the port of the message store access client.
    ClientPort,
    /// `diskQuota`: the disk quota limit in units of 1024 octets.
    DiskQuota,
    /// `diskUsed`: the disk space used that counts against the quota, in units of 1024 octets.
    DiskUsed,
    /// `envelope`: the message transfer envelope: MAIL FROM and RCPT TO lines.
    Envelope,
    /// `flagNames`: IMAP flags and keywords, never `\Recent`.
    FlagNames,
    /// `mailboxID`: a URI describing the mailbox; on a rename the new name.
    MailboxId,
    /// `maxMessages`: the quota limit on the number of messages.
    MaxMessages,
    /// `messageContent`: the entire message itself.
    MessageContent,
    /// `messageSize`: the size of the message in octets, as BODY[] has it.
    MessageSize,
    /// `messages`: the number of messages in the mailbox, or counting against the quota.
    Messages,
    /// `modseq`: the MODSEQ of the one message referred to.
    Modseq,
    /// `oldMailboxID`: a URI describing the old name of a renamed mailbox.
    OldMailboxId,
    /// `pid`: the id of the process that generated the notification.
    Pid,
    /// `process`: the name of the process that generated the notification.
    Process,
    /// `serverDomain`: the domain name or address used to access the server.
    ServerDomain,
    /// `serverPort`: the port used to access the server.
    ServerPort,
    /// `serverFQDN`: the fully qualified domain name of the server that generated the event.
    ServerFqdn,
    /// `service`: the name of the service that triggered the event.
    Service,
    /// `tags`: tags given when the subscription was created.
    Tags,
    /// `timestamp`: when the event occurred, in local time with the offset from UTC.
    Timestamp,
    /// `uidnext`: the UID projected to be assigned next.
    Uidnext,
    /// `uidset`: the set of UIDs referenced.
    Uidset,
    /// `uri`: a reference to the server, mailbox or message.
    Uri,
    /// `user`: the authorization identity used when the client connected.
    User,
    /// A name outside the registry, such as `vnd.example.session`.
    Other(OtherName),
}

impl ParameterName {
    /// The registry's twenty-seven, in its order.
    pub const REGISTERED: [Self; 27] = [
        Self::Admin,
        Self::BodyStructure,
        Self::ClientIp,
        Self::ClientPort,
        Self::DiskQuota,
        Self::DiskUsed,
        Self::Envelope,
        Self::FlagNames,
        Self::MailboxId,
        Self::MaxMessages,
        Self::MessageContent,
        Self::MessageSize,
        Self::Messages,
        Self::Modseq,
        Self::OldMailboxId,
        Self::Pid,
        Self::Process,
        Self::ServerDomain,
        Self::ServerPort,
        Self::ServerFqdn,
        Self::Service,
        Self::Tags,
        Self::Timestamp,
        Self::Uidnext,
        Self::Uidset,
        Self::Uri,
        Self::User,
    ];

    /// The parameters that leave only where policy and subscription both ask (R158).
    pub const PRIVATE: [Self; 3] = [Self::BodyStructure, Self::Envelope, Self::MessageContent];

    /// Names outside the registry under which known software says the same as the private ones do:
    /// who writes to whom, and about what.
    pub const PRIVATE_VENDORS: [&'static str; 4] = [
        "vnd.cmu.envelope",
        "vnd.fastmail.jmapEmail",
        "vnd.postbell.contentUrl",
        "vnd.postbell.raw",
    ];

    /// The name as it goes on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Admin => "admin",
            Self::BodyStructure => "bodyStructure",
            Self::ClientIp => "clientIP",
            Self::ClientPort => "clientPort",
            Self::DiskQuota => "diskQuota",
            Self::DiskUsed => "diskUsed",
            Self::Envelope => "envelope",
            Self::FlagNames => "flagNames",
            Self::MailboxId => "mailboxID",
            Self::MaxMessages => "maxMessages",
            Self::MessageContent => "messageContent",
            Self::MessageSize => "messageSize",
            Self::Messages => "messages",
            Self::Modseq => "modseq",
            Self::OldMailboxId => "oldMailboxID",
            Self::Pid => "pid",
            Self::Process => "process",
            Self::ServerDomain => "serverDomain",
            Self::ServerPort => "serverPort",
            Self::ServerFqdn => "serverFQDN",
            Self::Service => "service",
            Self::Tags => "tags",
            Self::Timestamp => "timestamp",
            Self::Uidnext => "uidnext",
            Self::Uidset => "uidset",
            Self::Uri => "uri",
            Self::User => "user",
            Self::Other(name) => name.as_str(),
        }
    }

    /// Its place in the registry's order; nothing for a name outside it.
    pub(crate) const fn index(&self) -> Option<u32> {
        Some(match self {
            Self::Admin => 0,
            Self::BodyStructure => 1,
            Self::ClientIp => 2,
            Self::ClientPort => 3,
            Self::DiskQuota => 4,
            Self::DiskUsed => 5,
            Self::Envelope => 6,
            Self::FlagNames => 7,
            Self::MailboxId => 8,
            Self::MaxMessages => 9,
            Self::MessageContent => 10,
            Self::MessageSize => 11,
            Self::Messages => 12,
            Self::Modseq => 13,
            Self::OldMailboxId => 14,
            Self::Pid => 15,
            Self::Process => 16,
            Self::ServerDomain => 17,
            Self::ServerPort => 18,
            Self::ServerFqdn => 19,
            Self::Service => 20,
            Self::Tags => 21,
            Self::Timestamp => 22,
            Self::Uidnext => 23,
            Self::Uidset => 24,
            Self::Uri => 25,
            Self::User => 26,
            Self::Other(_) => return None,
        })
    }

    /// The registered name spelled so, whatever its case.
    pub(crate) fn registered_ignoring_case(text: &str) -> Option<Self> {
        Self::REGISTERED.into_iter().find(|name| name.as_str().eq_ignore_ascii_case(text))
    }
}

impl FromStr for ParameterName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::REGISTERED.into_iter().find(|name| name.as_str() == text);
        known.map_or_else(|| text.parse().map(Self::Other), Ok)
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r151_every_registered_parameter_survives_the_round_trip() {
        for name in ParameterName::REGISTERED {
            assert_eq!(name.as_str().parse::<ParameterName>().unwrap(), name);
        }
    }
}
