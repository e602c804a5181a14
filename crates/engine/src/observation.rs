//! What a source saw, before anyone decided what it means.

use std::net::SocketAddr;

use mail_event::{
    Envelope, EventGroup, Flags, MessageContent, Modseq, OtherName, Timestamp, UidSet, Value,
};

use crate::memory::Resource;

/// One thing a source saw happen in a store.
///
/// A source reports facts in its own terms; [`crate::normalise`] turns them into RFC 5423
/// events under the operator's policy. What a source can't know it leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What makes this happening itself and no other: the same happening seen again carries the
    /// same identity, so that its events get the same ids and collapse.
    pub identity: Identity,
    /// When it happened, as well as the source knows.
    pub at: Timestamp,
    /// Whether the source saw it happen or worked it out afterwards.
    pub certainty: Certainty,
    /// In whose naming scope the mailbox names stand: the `enc-user` of its IMAP URLs.
    pub owner: Option<String>,
    /// Who did it, where a message access protocol was used.
    pub actor: Actor,
    /// Which process saw it.
    pub origin: Origin,
    /// What happened.
    pub what: What,
    /// Parameters beyond the registry's, kept as they are (`vnd.*`).
    pub extras: Vec<(OtherName, Value)>,
}

impl Observation {
    /// Says that it was found at [`Observation::at`] and happened at most so many milliseconds
    /// before (`vnd.postbell.timeAccuracy`, R138).
    #[must_use]
    pub fn within(mut self, millis: u64) -> Self {
        // Well-formed by a look at it.
        if let Ok(name) = OtherName::new("vnd.postbell.timeAccuracy") {
            self.extras.push((name, millis.into()));
        }
        self
    }
}

/// The source's own name for one happening; any octets.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Identity(pub Vec<u8>);

/// How a source came to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Certainty {
    /// Seen as it happened, or read from a record the store keeps.
    Seen,
    /// Worked out from a difference between two looks (`vnd.postbell.inferred`).
    Inferred,
}

/// Who acted, and from where (RFC 5423, section 5: user, admin, clientIP, service).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Actor {
    /// The authorization identity.
    pub user: Option<String>,
    /// The authentication identity; dropped where it equals `user` (R101).
    pub admin: Option<String>,
    /// The client's address and port.
    pub client: Option<SocketAddr>,
    /// The service as the source spells it; aliases are resolved in `normalise` (R133).
    pub service: Option<String>,
    /// The source's name for the session (`vnd.postbell.sessionId`).
    pub session: Option<String>,
}

/// The process and server an observation comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The process's name.
    pub process: Option<String>,
    /// The process's id.
    pub pid: Option<u32>,
    /// The server's fully qualified domain name.
    pub server_fqdn: Option<String>,
    /// The domain name or address used to reach the server.
    pub server_domain: Option<String>,
    /// The port used to reach the server.
    pub server_port: Option<u16>,
}

/// A mailbox as a source knows it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Mailbox {
    /// The full name, UTF-8, with `/` between the levels.
    pub name: String,
    /// Its UIDVALIDITY, where known.
    pub uid_validity: Option<u32>,
}

/// Counts of a mailbox right after the change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Number of messages (STATUS MESSAGES).
    pub messages: Option<u64>,
    /// The next UID (STATUS UIDNEXT).
    pub uidnext: Option<u32>,
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The mailbox it came into.
    pub mailbox: Mailbox,
    /// Its UID there.
    pub uid: u32,
    /// The mailbox's counts with it.
    pub status: Status,
    /// The flags it came with; `\Recent` is dropped in `normalise`.
    pub flags: Flags,
    /// Length of BODY[] in octets, line ends as CRLF (R121).
    pub size_octets: Option<u64>,
    /// Its BODYSTRUCTURE in IMAP's parenthesised form.
    pub body_structure: Option<String>,
    /// The whole message, where policy lets the source read it.
    pub content: Option<MessageContent>,
    /// Its MODSEQ.
    pub modseq: Option<Modseq>,
    /// Where it was copied or moved from, if the source could tell.
    pub copied_from: Option<Origination>,
}

/// The other end of a copy or a move.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origination {
    /// Whose it is; nothing where it is nobody's.
    pub owner: Option<String>,
    /// The mailbox.
    pub mailbox: Mailbox,
    /// The UIDs there.
    pub uids: UidSet,
}

/// A limit and how much of it is used, both where known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// The quota root's name; empty where the store has but one per user.
    pub root: String,
    /// Storage limit in units of 1024 octets; absent means no limit.
    pub disk_limit_kib: Option<u64>,
    /// Storage in use, in units of 1024 octets.
    pub disk_used_kib: Option<u64>,
    /// Limit on the number of messages; absent means no limit.
    pub messages_limit: Option<u64>,
    /// Messages that count against it.
    pub messages_used: Option<u64>,
}

impl Quota {
    /// The limit of one resource, and what of it is used.
    pub(crate) fn of(&self, resource: Resource) -> (Option<u64>, Option<u64>) {
        match resource {
            Resource::Storage => (self.disk_limit_kib, self.disk_used_kib),
            Resource::Message => (self.messages_limit, self.messages_used),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A delivery agent put a message in (R38).
    Delivered {
        /// The message.
        message: Message,
        /// The SMTP envelope, if the source has it.
        envelope: Option<Envelope>,
    },
    /// A client or tool put a message in (R27).
    Appended(Message),
    /// Messages were expunged (R35).
    Expunged {
        /// From where.
        mailbox: Mailbox,
        /// Which.
        uids: UidSet,
        /// The counts without them.
        status: Status,
        /// Where they went, if this was a move.
        moved_to: Option<Origination>,
    },
    /// Server policy removed messages (R31).
    Expired {
        /// From where.
        mailbox: Mailbox,
        /// Which.
        uids: UidSet,
        /// The counts without them.
        status: Status,
        /// The policy applied, if named (`vnd.postbell.expirePolicy`).
        policy: Option<String>,
    },
    /// Flags of existing messages changed; each list holds only real changes (R59, R64).
    FlagsChanged {
        /// Where.
        mailbox: Mailbox,
        /// On which messages.
        uids: UidSet,
        /// Flags that were not there and now are.
        set: Flags,
        /// Flags that were there and now are not.
        cleared: Flags,
        /// The MODSEQ, where `uids` names one message.
        modseq: Option<Modseq>,
        /// The counts, where known.
        status: Status,
    },
    /// One change set flags, and different ones on different messages; each group holds only real
    /// changes (R59).
    FlagsSet {
        /// Where.
        mailbox: Mailbox,
        /// Which flags on which messages.
        groups: Vec<(UidSet, Flags)>,
        /// The counts, where known.
        status: Status,
    },
    /// A mailbox came to be, or came into view (R79).
    MailboxCreated(Mailbox),
    /// A mailbox went, or went out of view; children stay (R85, R86).
    MailboxDeleted(Mailbox),
    /// A mailbox got another name, its children with it (R89).
    MailboxRenamed {
        /// Whose it was; nothing where it was nobody's.
        from_owner: Option<String>,
        /// As it was.
        from: Mailbox,
        /// As it is.
        to: Mailbox,
    },
    /// The user's subscription list gained a mailbox, which need not exist (R97).
    Subscribed(Mailbox),
    /// The user's subscription list lost a mailbox, which need not exist (R99).
    Unsubscribed(Mailbox),
    /// An operation was refused for want of quota (R46).
    QuotaRefused {
        /// The quota.
        quota: Quota,
        /// The mailbox it was meant for, if known.
        mailbox: Option<Mailbox>,
    },
    /// A look at a quota; edges are found in `normalise` (R46, R52, R53).
    QuotaSeen(Quota),
    /// The store itself said that usage is within a quota again (R52).
    QuotaWithin(Quota),
    /// The store itself said that a quota was changed (R53).
    QuotaChanged(Quota),
    /// Somebody logged in.
    LoggedIn,
    /// Somebody's session ended.
    LoggedOut,
    /// Things may have happened that nobody can tell (`vnd.postbell.Gap`).
    Missed {
        /// The mailbox concerned, if only one.
        mailbox: Option<Mailbox>,
        /// Why, in a few words for a person.
        reason: String,
    },
    /// Something outside the registry, told under the store's own name with what the extras say
    /// (R153).
    Other {
        /// The event's name.
        name: OtherName,
        /// The mailbox concerned, if one is.
        mailbox: Option<Mailbox>,
        /// The messages concerned, if any are.
        uids: Option<UidSet>,
    },
}

impl What {
    /// The group that all events of an observation belong to; none where it is told whatever is
    /// switched off, since somebody misses something.
    #[must_use]
    pub fn group(&self) -> Option<EventGroup> {
        Some(match self {
            Self::Delivered { .. }
            | Self::Appended(_)
            | Self::Expunged { .. }
            | Self::Expired { .. } => EventGroup::Message,
            Self::FlagsChanged { .. } | Self::FlagsSet { .. } => EventGroup::Flags,
            Self::MailboxCreated(_) | Self::MailboxDeleted(_) | Self::MailboxRenamed { .. } => {
                EventGroup::Mailbox
            }
            Self::Subscribed(_) | Self::Unsubscribed(_) => EventGroup::Subscription,
            Self::QuotaRefused { .. }
            | Self::QuotaSeen(_)
            | Self::QuotaWithin(_)
            | Self::QuotaChanged(_) => EventGroup::Quota,
            Self::LoggedIn | Self::LoggedOut => EventGroup::Access,
            Self::Missed { .. } => return None,
            Self::Other { .. } => EventGroup::Vendor,
        })
    }
}
