//! Which events, and what of each: the same options wherever some are chosen.

use clap::Args;

/// Which events, and which of their parameters.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhichArgs {
    /// Only this user's: the mailbox's owner or who acted; may be given several times.
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Vec<String>,
    /// Only mailboxes of this name; * and % as in IMAP's LIST; may be given several times.
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) mailbox: Vec<String>,
    /// Only where this is true of an event's parameters, such as 'messageSize > 1000000'; see
    /// docs/subscriptions.md.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Only these parameters, besides the mandatory ones; may be given several times.
    #[arg(short, long, alias = "parameters", value_name = "NAME")]
    pub(crate) parameter: Vec<String>,
}

/// In which form flags are told.
#[derive(Args, Clone, Debug)]
pub(crate) struct FormArgs {
    /// In which form it is told that \Seen was set: simple (MessageRead) or flags (FlagsSet) [default:
    /// as the hub's policy has it].
    #[arg(long, value_name = "FORM", value_parser = ["simple", "flags"])]
    pub(crate) seen_form: Option<String>,
    /// The same of \Deleted: simple (MessageTrash) or flags (FlagsSet).
    #[arg(long, value_name = "FORM", value_parser = ["simple", "flags"])]
    pub(crate) deleted_form: Option<String>,
}
