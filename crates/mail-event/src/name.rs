//! Event names and the groups they are in, as RFC 5423 and the IANA registry spell them.

use std::fmt;
use std::str::FromStr;

use crate::limits::NAME_OCTETS_MAX;

/// What happened in a message store (RFC 5423, section 4).
///
/// Variants carry the registry's spelling and stand in the document's order. A name this version
/// has never heard of is kept whole, because stores coin their own and the subscriber who asked
/// for one should still be told.
///
/// ```
/// use mail_event::EventName;
///
/// let name: EventName = "MessageNew".parse()?;
/// assert_eq!(name, EventName::MessageNew);
/// # Ok::<(), mail_event::InvalidName>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EventName {
    /// A message was appended by a message access client (section 4.1).
    MessageAppend,
    /// Messages were removed by server expiration policy (section 4.1).
    MessageExpire,
    /// Messages were expunged by a client (section 4.1).
    MessageExpunge,
    /// A message arrived by delivery (section 4.1).
    MessageNew,
    /// An operation failed because a quota was exceeded (section 4.1).
    QuotaExceed,
    /// Usage fell back under the quota (section 4.1).
    QuotaWithin,
    /// The quota itself was changed (section 4.1).
    QuotaChange,
    /// Messages were marked as read (section 4.2).
    MessageRead,
    /// Messages were marked for deletion (section 4.2).
    MessageTrash,
    /// Flags or keywords were set (section 4.2).
    FlagsSet,
    /// Flags or keywords were cleared (section 4.2).
    FlagsClear,
    /// A user logged in (section 4.3).
    Login,
    /// A user logged out or was disconnected (section 4.3).
    Logout,
    /// A mailbox was created or became accessible (section 4.4).
    MailboxCreate,
    /// A mailbox was deleted or became inaccessible (section 4.4).
    MailboxDelete,
    /// A mailbox was renamed, its children with it (section 4.4).
    MailboxRename,
    /// A mailbox was added to a subscription list (section 4.4).
    MailboxSubscribe,
    /// A mailbox was removed from a subscription list (section 4.4).
    MailboxUnSubscribe,
    /// A name outside the registry, such as `vnd.example.Snooze`.
    Other(OtherName),
}

/// The registered events that are switched on and off together (R22).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EventGroup {
    /// Message addition and removal.
    Message,
    /// Flags and keywords.
    Flags,
    /// Quota.
    Quota,
    /// Login and Logout.
    Access,
    /// Mailbox creation, deletion and renaming.
    Mailbox,
    /// The subscription list.
    Subscription,
    /// Everything outside the registry.
    Vendor,
}

impl EventName {
    /// The registry's eighteen, in the document's order.
    pub const REGISTERED: [Self; 18] = [
        Self::MessageAppend,
        Self::MessageExpire,
        Self::MessageExpunge,
        Self::MessageNew,
        Self::QuotaExceed,
        Self::QuotaWithin,
        Self::QuotaChange,
        Self::MessageRead,
        Self::MessageTrash,
        Self::FlagsSet,
        Self::FlagsClear,
        Self::Login,
        Self::Logout,
        Self::MailboxCreate,
        Self::MailboxDelete,
        Self::MailboxRename,
        Self::MailboxSubscribe,
        Self::MailboxUnSubscribe,
    ];

    /// The name as it goes on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::MessageAppend => "MessageAppend",
            Self::MessageExpire => "MessageExpire",
            Self::MessageExpunge => "MessageExpunge",
            Self::MessageNew => "MessageNew",
            Self::QuotaExceed => "QuotaExceed",
            Self::QuotaWithin => "QuotaWithin",
            Self::QuotaChange => "QuotaChange",
            Self::MessageRead => "MessageRead",
            Self::MessageTrash => "MessageTrash",
            Self::FlagsSet => "FlagsSet",
            Self::FlagsClear => "FlagsClear",
            Self::Login => "Login",
            Self::Logout => "Logout",
            Self::MailboxCreate => "MailboxCreate",
            Self::MailboxDelete => "MailboxDelete",
            Self::MailboxRename => "MailboxRename",
            Self::MailboxSubscribe => "MailboxSubscribe",
            Self::MailboxUnSubscribe => "MailboxUnSubscribe",
            Self::Other(name) => name.as_str(),
        }
    }

    /// The group it belongs to.
    #[must_use]
    pub fn group(&self) -> EventGroup {
        match self {
            Self::MessageAppend | Self::MessageExpire | Self::MessageExpunge | Self::MessageNew => {
                EventGroup::Message
            }
            Self::QuotaExceed | Self::QuotaWithin | Self::QuotaChange => EventGroup::Quota,
            Self::MessageRead | Self::MessageTrash | Self::FlagsSet | Self::FlagsClear => {
                EventGroup::Flags
            }
            Self::Login | Self::Logout => EventGroup::Access,
            Self::MailboxCreate | Self::MailboxDelete | Self::MailboxRename => EventGroup::Mailbox,
            Self::MailboxSubscribe | Self::MailboxUnSubscribe => EventGroup::Subscription,
            Self::Other(_) => EventGroup::Vendor,
        }
    }

    /// Its place in the document's order; nothing for a name outside the registry.
    pub(crate) const fn index(&self) -> Option<usize> {
        Some(match self {
            Self::MessageAppend => 0,
            Self::MessageExpire => 1,
            Self::MessageExpunge => 2,
            Self::MessageNew => 3,
            Self::QuotaExceed => 4,
            Self::QuotaWithin => 5,
            Self::QuotaChange => 6,
            Self::MessageRead => 7,
            Self::MessageTrash => 8,
            Self::FlagsSet => 9,
            Self::FlagsClear => 10,
            Self::Login => 11,
            Self::Logout => 12,
            Self::MailboxCreate => 13,
            Self::MailboxDelete => 14,
            Self::MailboxRename => 15,
            Self::MailboxSubscribe => 16,
            Self::MailboxUnSubscribe => 17,
            Self::Other(_) => return None,
        })
    }

    /// The registered name spelled so, whatever its case.
    pub(crate) fn registered_ignoring_case(text: &str) -> Option<Self> {
        Self::REGISTERED.into_iter().find(|name| name.as_str().eq_ignore_ascii_case(text))
    }
}

impl EventGroup {
    /// All groups.
    pub const ALL: [Self; 7] = [
        Self::Message,
        Self::Flags,
        Self::Quota,
        Self::Access,
        Self::Mailbox,
        Self::Subscription,
        Self::Vendor,
    ];

    /// The group's name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Flags => "flags",
            Self::Quota => "quota",
            Self::Access => "access",
            Self::Mailbox => "mailbox",
            Self::Subscription => "subscription",
            Self::Vendor => "vendor",
        }
    }
}

impl FromStr for EventName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::REGISTERED.into_iter().find(|name| name.as_str() == text);
        known.map_or_else(|| text.parse().map(Self::Other), Ok)
    }
}

impl FromStr for EventGroup {
    type Err = UnknownGroup;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|group| group.as_str() == text);
        known.ok_or_else(|| UnknownGroup(text.to_owned()))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for EventGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A well-formed name that the registry does not hold: printable US-ASCII without spaces (R17).
///
/// Inside an [`EventName`] or a [`crate::ParameterName`] it never hides a registered one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OtherName(Box<str>);

impl OtherName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Where it is empty, over [`NAME_OCTETS_MAX`], or holds a byte outside 0x21–0x7E.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// The name as it goes on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is in the space for private use (RFC 5423, section 6).
    #[must_use]
    pub fn is_vendor(&self) -> bool {
        is_vendor(&self.0)
    }
}

impl FromStr for OtherName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for OtherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a name begins with `vnd.` and goes on.
pub(crate) fn is_vendor(text: &str) -> bool {
    text.len() > 4 && text.starts_with("vnd.")
}

pub(crate) fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > NAME_OCTETS_MAX {
        return Err(InvalidName::TooLong { octets: text.len() });
    }
    match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => Err(InvalidName::ForbiddenByte { at }),
        None => Ok(()),
    }
}

/// Why a text is not a name.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing at all.
    #[error("a name may not be empty")]
    Empty,
    /// A space, a control character or a byte outside ASCII.
    #[error("byte {at} may not stand in a name")]
    ForbiddenByte {
        /// Where it stands, counted from 0.
        at: usize,
    },
    /// Longer than [`NAME_OCTETS_MAX`].
    #[error("a name of {octets} octets is over the limit of {NAME_OCTETS_MAX}")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

/// A text that names no group.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a group of events")]
pub struct UnknownGroup(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r26_every_registered_name_survives_the_round_trip() {
        for name in EventName::REGISTERED {
            assert_eq!(name.as_str().parse::<EventName>().unwrap(), name);
        }
    }

    #[test]
    fn r153_an_unknown_name_survives_the_round_trip() {
        let name: EventName = "vnd.example.Snooze".parse().unwrap();
        assert_eq!(name.as_str(), "vnd.example.Snooze");
        assert_eq!(name.group(), EventGroup::Vendor);
    }

    #[test]
    fn r17_a_bad_byte_is_pointed_at_where_it_stands() {
        let error = "vnd.a b".parse::<EventName>().unwrap_err();
        assert_eq!(error, InvalidName::ForbiddenByte { at: 5 });
        assert_eq!("".parse::<EventName>().unwrap_err(), InvalidName::Empty);
        assert_eq!(OtherName::new("vnd.ä").unwrap_err(), InvalidName::ForbiddenByte { at: 4 });
    }

    #[test]
    fn r22_every_group_can_be_named() {
        for group in EventGroup::ALL {
            assert_eq!(group.as_str().parse::<EventGroup>().unwrap(), group);
        }
    }
}
