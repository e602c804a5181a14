//! A subscription as `hub.db` keeps it.

use postbell_engine::Selection;
use serde::{Deserialize, Serialize};

use super::{Begin, SubscriptionState};

/// All that survives a restart, but for the cursors: those stand in the journal.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) selection: Selection,
    pub(super) begin: Begin,
    /// The number before the first one wanted.
    pub(super) start: u64,
    pub(super) url: String,
    /// What deliveries are signed with; hence the file's mode.
    pub(super) secret: String,
    pub(super) state: SubscriptionState,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) created: String,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Kept");
        text.field("selection", &self.selection).field("secret", &format_args!("…"));
        text.field("state", &self.state).finish_non_exhaustive()
    }
}

impl Kept {
    /// As it is written.
    pub(super) fn body(&self) -> String {
        // Plain texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}
