//! What the operator lets be made of an observation.

use std::fmt;
use std::str::FromStr;

use mail_event::EventGroup;
use serde::{Deserialize, Serialize};

use crate::{Ceiling, Role, What};

/// The operator's ceiling on what is generated, and on how much of that leaves.
///
/// The default is safe: no content, no structure, no envelope (R158), and the simpler forms of
/// flag changes (R63).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// How setting `\Seen` is told (R62).
    pub seen_form: FlagForm,
    /// How setting `\Deleted` is told (R62).
    pub deleted_form: FlagForm,
    /// The largest message whose content anybody may have, in octets; `None` means never.
    pub content_max_octets: Option<u64>,
    /// The largest whose content goes into its event; in the place of larger content goes a link
    /// (RFC 5423, section 4.1, of MessageNew; R44, R45).
    pub content_inline_octets: u64,
    /// Whether events carry `bodyStructure`.
    pub body_structure: bool,
    /// Whether `MessageNew` carries the SMTP envelope.
    pub envelope: bool,
    /// Which groups of events are generated at all (R22).
    pub groups: Groups,
    /// How much of that services get.
    pub service: Ceiling,
    /// How much of it users get.
    pub user: Ceiling,
    /// For whom it is judged what leaves; whoever runs the hub, where nobody says.
    pub role: Role,
}

impl Policy {
    /// The group of what was seen, where that is switched off (R22).
    #[must_use]
    pub fn switched_off(&self, what: &What) -> Option<EventGroup> {
        what.group().filter(|group| !self.groups.contains(*group))
    }

    /// The largest message a source need read the content of, in octets; `None` where nobody could
    /// get any (R23).
    #[must_use]
    pub fn content_read(&self) -> Option<u64> {
        let makes = self.groups.contains(EventGroup::Message);
        self.content_inline().filter(|_| makes)
    }

    /// The largest content that goes into its event, in octets.
    pub(crate) fn content_inline(&self) -> Option<u64> {
        Some(self.content_max_octets?.min(self.content_inline_octets))
    }

    /// Whether a source need find out the structure of messages.
    #[must_use]
    pub fn structure_read(&self) -> bool {
        self.body_structure && self.groups.contains(EventGroup::Message)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            seen_form: FlagForm::Simple,
            deleted_form: FlagForm::Simple,
            content_max_octets: None,
            content_inline_octets: INLINE_OCTETS,
            body_structure: false,
            envelope: false,
            groups: Groups::all(),
            service: Ceiling::default(),
            user: Ceiling::default(),
            role: Role::Admin,
        }
    }
}

/// How setting `\Seen` or `\Deleted` is told (RFC 5423, section 4.2). Never both ways.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlagForm {
    /// As `MessageRead` or `MessageTrash`.
    #[default]
    Simple,
    /// As `FlagsSet`.
    Flags,
}

impl FlagForm {
    /// The word for it in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Flags => "flags",
        }
    }
}

impl fmt::Display for FlagForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FlagForm {
    type Err = InvalidFlagForm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "simple" => Ok(Self::Simple),
            "flags" => Ok(Self::Flags),
            _ => Err(InvalidFlagForm),
        }
    }
}

/// A text is neither of the two forms.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a form (\"simple\" or \"flags\")")]
pub struct InvalidFlagForm;

/// A set of event groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Groups(u8);

impl Groups {
    /// Every group.
    #[must_use]
    pub const fn all() -> Self {
        Self(0b0111_1111)
    }

    /// No group.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// These and `group`.
    #[must_use]
    pub fn with(self, group: EventGroup) -> Self {
        Self(self.0 | bit(group))
    }

    /// These without `group`.
    #[must_use]
    pub fn without(self, group: EventGroup) -> Self {
        Self(self.0 & !bit(group))
    }

    /// Whether `group` is one of these.
    #[must_use]
    pub fn contains(self, group: EventGroup) -> bool {
        self.0 & bit(group) != 0
    }
}

impl FromIterator<EventGroup> for Groups {
    fn from_iter<I: IntoIterator<Item = EventGroup>>(groups: I) -> Self {
        groups.into_iter().fold(Self::none(), Self::with)
    }
}

fn bit(group: EventGroup) -> u8 {
    match group {
        EventGroup::Message => 1,
        EventGroup::Flags => 1 << 1,
        EventGroup::Quota => 1 << 2,
        EventGroup::Access => 1 << 3,
        EventGroup::Mailbox => 1 << 4,
        EventGroup::Subscription => 1 << 5,
        // The enum is open; a group added to it stands with the vendors' until told apart here.
        _ => 1 << 6,
    }
}

/// What the RFC has in its example.
const INLINE_OCTETS: u64 = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r63_the_default_prefers_the_simple_forms_and_ships_nothing_private() {
        let policy = Policy::default();
        assert_eq!((policy.seen_form, policy.deleted_form), (FlagForm::Simple, FlagForm::Simple));
        assert_eq!(policy.content_max_octets, None);
        assert!(!policy.body_structure && !policy.envelope);
    }

    #[test]
    fn r23_no_message_is_read_for_what_nobody_could_get() {
        let open =
            Policy { content_max_octets: Some(9), body_structure: true, ..Policy::default() };
        assert_eq!((open.content_read(), open.structure_read()), (Some(9), true));
        let off = Policy { groups: Groups::all().without(EventGroup::Message), ..open };
        assert_eq!((off.content_read(), off.structure_read()), (None, false));
        let large = Policy { content_max_octets: Some(100_000), ..Policy::default() };
        assert_eq!(large.content_read(), Some(2_048));
    }

    #[test]
    fn r22_what_is_of_no_group_is_never_switched_off() {
        let none = Policy { groups: Groups::none(), ..Policy::default() };
        assert_eq!(none.switched_off(&What::LoggedIn), Some(EventGroup::Access));
        assert_eq!(Policy::default().switched_off(&What::LoggedIn), None);
        let missed = What::Missed { mailbox: None, reason: String::new() };
        assert_eq!(none.switched_off(&missed), None);
    }

    #[test]
    fn a_form_is_named_as_it_is_written() {
        for form in [FlagForm::Simple, FlagForm::Flags] {
            assert_eq!(form.to_string().parse(), Ok(form));
        }
        assert_eq!("both".parse::<FlagForm>(), Err(InvalidFlagForm));
    }

    #[test]
    fn a_group_can_be_left_out_and_put_back() {
        let groups = Groups::all().without(EventGroup::Flags);
        assert!(!groups.contains(EventGroup::Flags) && groups.contains(EventGroup::Message));
        assert_eq!(groups.with(EventGroup::Flags), Groups::all());
        assert_eq!(Groups::from_iter([EventGroup::Quota]), Groups::none().with(EventGroup::Quota));
    }
}
