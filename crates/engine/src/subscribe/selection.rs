//! The grammar of a subscription, compiled once.

use serde::{Deserialize, Serialize};

use super::{Filter, Projection};
use crate::Policy;

/// What a subscription or a stream asks for; an empty list asks for everything of its kind.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selection {
    /// Events and groups of events, by name.
    pub events: Vec<String>,
    /// Users: who owns the mailbox, or who acted.
    pub users: Vec<String>,
    /// Mailboxes, with IMAP's wildcards `*` and `%`.
    pub mailboxes: Vec<String>,
    /// Parameters, by name; `*` is every one that is not private.
    pub parameters: Vec<String>,
    /// Tags put on each delivery (R135).
    pub tags: Vec<String>,
}

impl Selection {
    /// Checks the selection and makes it ready for use under `policy`.
    ///
    /// # Errors
    ///
    /// Names the first thing that can't be.
    pub fn compile(&self, policy: &Policy) -> Result<(Filter, Projection), InvalidSelection> {
        let _ = policy;
        Ok((Filter {}, Projection {}))
    }
}

/// Why a selection can't be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidSelection {
    /// Where in the selection's JSON, as a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}
