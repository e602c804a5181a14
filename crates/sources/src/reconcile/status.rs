//! How a mailbox stood when something was said of it.

/// How a mailbox stood, as far as somebody said.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct BoxStatus {
    /// UIDVALIDITY.
    pub(crate) val: Option<u32>,
    /// MESSAGES.
    pub(crate) messages: Option<u64>,
    /// UIDNEXT.
    pub(crate) uidnext: Option<u32>,
    /// HIGHESTMODSEQ.
    pub(crate) modseq: Option<u64>,
}
