//! One event, as it was built: it can't be wrong.

use std::net::IpAddr;

use crate::{
    Builder, Envelope, EventName, Flags, MessageContent, Modseq, ParameterName, Timestamp, UidSet,
    Uri, Value,
};

/// Something that happened in a message store (RFC 5423, section 3).
///
/// Only [`Event::builder`] and the readers in [`crate::json`] and [`crate::cloudevents`] make
/// one, so holding it proves that it keeps the [binding](crate::binding).
///
/// ```
/// use mail_event::{Event, EventName, ImapUrl, UidSet};
///
/// let mailbox = ImapUrl::server("imap.example.org", None)?
///     .with_user("john@example.org")
///     .with_mailbox("INBOX", Some(1411487714));
/// let event = Event::builder(
///     EventName::MessageExpunge,
///     mailbox.into(),
///     "2026-08-20T13:34:14.966+02:00".parse()?,
/// )
/// .uidset(UidSet::from_uids([3, 5, 6]))
/// .build()?;
/// assert_eq!(event.uidset().map(ToString::to_string).as_deref(), Some("3,5:6"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub(crate) name: EventName,
    pub(crate) uri: Uri,
    pub(crate) timestamp: Timestamp,
    pub(crate) admin: Option<Box<str>>,
    pub(crate) body_structure: Option<Box<str>>,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) client_port: Option<u16>,
    pub(crate) disk_quota: Option<u64>,
    pub(crate) disk_used: Option<u64>,
    pub(crate) envelope: Option<Envelope>,
    pub(crate) flag_names: Option<Flags>,
    pub(crate) mailbox_id: Option<Uri>,
    pub(crate) max_messages: Option<u64>,
    pub(crate) message_content: Option<MessageContent>,
    pub(crate) message_size: Option<u64>,
    pub(crate) messages: Option<u64>,
    pub(crate) modseq: Option<Modseq>,
    pub(crate) old_mailbox_id: Option<Uri>,
    pub(crate) pid: Option<u64>,
    pub(crate) process: Option<Box<str>>,
    pub(crate) server_domain: Option<Box<str>>,
    pub(crate) server_port: Option<u16>,
    pub(crate) server_fqdn: Option<Box<str>>,
    pub(crate) service: Option<Box<str>>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) uidnext: Option<u32>,
    pub(crate) uidset: Option<UidSet>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) vendors: Vec<(Box<str>, Vendor)>,
}

/// The JSON text of a parameter outside the registry, on one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Vendor(pub(crate) Box<str>);

impl Event {
    /// Begins an event; [`Builder::build`] checks it.
    pub fn builder(name: EventName, uri: Uri, timestamp: Timestamp) -> Builder {
        Builder::new(name, uri, timestamp)
    }

    /// What happened (RFC 5423, section 4).
    #[must_use]
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// The server, mailbox or message it is about (`uri`: RFC 5423, section 5).
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// When it happened (`timestamp`: RFC 5423, section 5).
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The authentication identity, where it differs from [`Event::user`] (`admin`: RFC 5423,
    /// section 5).
    #[must_use]
    pub fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// The BODYSTRUCTURE in IMAP's parenthesised form (`bodyStructure`: RFC 5423, section 5).
    #[must_use]
    pub fn body_structure(&self) -> Option<&str> {
        self.body_structure.as_deref()
    }

    /// The client's address (`clientIP`: RFC 5423, section 5).
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }

    /// The client's port (`clientPort`: RFC 5423, section 5).
    #[must_use]
    pub fn client_port(&self) -> Option<u16> {
        self.client_port
    }

    /// The limit on storage, in units of 1024 octets (`diskQuota`: RFC 5423, section 5).
    #[must_use]
    pub fn disk_quota(&self) -> Option<u64> {
        self.disk_quota
    }

    /// The storage in use, in units of 1024 octets (`diskUsed`: RFC 5423, section 5).
    #[must_use]
    pub fn disk_used(&self) -> Option<u64> {
        self.disk_used
    }

    /// The SMTP envelope (`envelope`: RFC 5423, section 5).
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    /// Flags and keywords set, cleared, or there from the start (`flagNames`: RFC 5423, section 5).
    #[must_use]
    pub fn flag_names(&self) -> Option<&Flags> {
        self.flag_names.as_ref()
    }

    /// The mailbox; on a rename its new name (`mailboxID`: RFC 5423, section 5).
    #[must_use]
    pub fn mailbox_id(&self) -> Option<&Uri> {
        self.mailbox_id.as_ref()
    }

    /// The limit on the number of messages (`maxMessages`: RFC 5423, section 5).
    #[must_use]
    pub fn max_messages(&self) -> Option<u64> {
        self.max_messages
    }

    /// The whole message (`messageContent`: RFC 5423, section 5).
    #[must_use]
    pub fn message_content(&self) -> Option<&MessageContent> {
        self.message_content.as_ref()
    }

    /// The size of BODY[] in octets (`messageSize`: RFC 5423, section 5).
    #[must_use]
    pub fn message_size(&self) -> Option<u64> {
        self.message_size
    }

    /// Messages in the mailbox, or counting against the quota (`messages`: RFC 5423, section 5).
    #[must_use]
    pub fn messages(&self) -> Option<u64> {
        self.messages
    }

    /// The MODSEQ of the one message referred to (`modseq`: RFC 5423, section 5).
    #[must_use]
    pub fn modseq(&self) -> Option<Modseq> {
        self.modseq
    }

    /// The old name of a renamed mailbox (`oldMailboxID`: RFC 5423, section 5).
    #[must_use]
    pub fn old_mailbox_id(&self) -> Option<&Uri> {
        self.old_mailbox_id.as_ref()
    }

    /// The id of the process that told (`pid`: RFC 5423, section 5).
    #[must_use]
    pub fn pid(&self) -> Option<u64> {
        self.pid
    }

    /// The name of the process that told (`process`: RFC 5423, section 5).
    #[must_use]
    pub fn process(&self) -> Option<&str> {
        self.process.as_deref()
    }

    /// The name or address the client used to reach the server (`serverDomain`: RFC 5423, section
    /// 5).
    #[must_use]
    pub fn server_domain(&self) -> Option<&str> {
        self.server_domain.as_deref()
    }

    /// The port the client used to reach the server (`serverPort`: RFC 5423, section 5).
    #[must_use]
    pub fn server_port(&self) -> Option<u16> {
        self.server_port
    }

    /// The server that told (`serverFQDN`: RFC 5423, section 5).
    #[must_use]
    pub fn server_fqdn(&self) -> Option<&str> {
        self.server_fqdn.as_deref()
    }

    /// The service that caused it (`service`: RFC 5423, section 5).
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Tags of the subscription (`tags`: RFC 5423, section 5).
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// The UID projected to be assigned next (`uidnext`: RFC 5423, section 5).
    #[must_use]
    pub fn uidnext(&self) -> Option<u32> {
        self.uidnext
    }

    /// The UIDs referred to, where they do not stand in [`Event::uri`] (`uidset`: RFC 5423,
    /// section 5).
    #[must_use]
    pub fn uidset(&self) -> Option<&UidSet> {
        self.uidset.as_ref()
    }

    /// The authorization identity (`user`: RFC 5423, section 5).
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A parameter outside the registry; nothing where it is absent, or holds a number too large
    /// for [`Value`] (see [`Event::vendor_json`]).
    #[must_use]
    pub fn vendor(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.vendor_json(name)?).ok()
    }

    /// The JSON text of a parameter outside the registry, on one line, as it came.
    #[must_use]
    pub fn vendor_json(&self, name: &str) -> Option<&str> {
        self.vendors().find(|(known, _)| *known == name).map(|(_, json)| json)
    }

    /// All parameters outside the registry with their JSON texts, in the order they came.
    pub fn vendors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vendors.iter().map(|(name, value)| (&**name, &*value.0))
    }

    /// Whether a registered parameter is present.
    #[must_use]
    pub fn has(&self, parameter: &ParameterName) -> bool {
        use ParameterName as P;
        match parameter {
            P::Uri | P::Timestamp => true,
            P::Admin => self.admin.is_some(),
            P::BodyStructure => self.body_structure.is_some(),
            P::ClientIp => self.client_ip.is_some(),
            P::ClientPort => self.client_port.is_some(),
            P::DiskQuota => self.disk_quota.is_some(),
            P::DiskUsed => self.disk_used.is_some(),
            P::Envelope => self.envelope.is_some(),
            P::FlagNames => self.flag_names.is_some(),
            P::MailboxId => self.mailbox_id.is_some(),
            P::MaxMessages => self.max_messages.is_some(),
            P::MessageContent => self.message_content.is_some(),
            P::MessageSize => self.message_size.is_some(),
            P::Messages => self.messages.is_some(),
            P::Modseq => self.modseq.is_some(),
            P::OldMailboxId => self.old_mailbox_id.is_some(),
            P::Pid => self.pid.is_some(),
            P::Process => self.process.is_some(),
            P::ServerDomain => self.server_domain.is_some(),
            P::ServerPort => self.server_port.is_some(),
            P::ServerFqdn => self.server_fqdn.is_some(),
            P::Service => self.service.is_some(),
            P::Tags => !self.tags.is_empty(),
            P::Uidnext => self.uidnext.is_some(),
            P::Uidset => self.uidset.is_some(),
            P::User => self.user.is_some(),
            P::Other(name) => self.vendor_json(name.as_str()).is_some(),
        }
    }

    /// The registered parameters that are present.
    pub fn parameters(&self) -> impl Iterator<Item = ParameterName> + '_ {
        ParameterName::REGISTERED.into_iter().filter(|parameter| self.has(parameter))
    }

    /// A builder that begins with all of this event, to make another from it.
    pub fn to_builder(&self) -> Builder {
        Builder::from(self.clone())
    }
}
