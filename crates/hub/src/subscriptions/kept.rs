//! A subscription as `hub.db` keeps it.

use postbell_engine::Selection;
use postbell_sinks::webhook::Secret;
use serde::{Deserialize, Serialize};

use super::{Begin, ShownSink, SubscriptionState, time};

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
    /// What they were signed with before, and still are for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Previous>,
    pub(super) state: SubscriptionState,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) created: String,
}

/// A secret that was replaced.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Previous {
    pub(super) secret: String,
    /// Until when deliveries are signed with it as well, in seconds since 1970.
    pub(super) until: i64,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Kept");
        text.field("selection", &self.selection).field("secret", &format_args!("…"));
        text.field("state", &self.state).finish_non_exhaustive()
    }
}

impl Kept {
    /// Where deliveries go, without what they are signed with.
    pub(super) fn shown_sink(&self) -> ShownSink {
        let now = jiff::Timestamp::now().as_second();
        let previous = self.previous.as_ref().filter(|previous| previous.until > now);
        let until = previous.and_then(|one| jiff::Timestamp::from_second(one.until).ok());
        ShownSink::Webhook {
            url: self.url.clone(),
            secret: None,
            public_key: Secret::parse(&self.secret).ok().and_then(|secret| secret.public()),
            previous_until: until.map(time),
        }
    }

    /// As it is written.
    pub(super) fn body(&self) -> String {
        // Plain texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}
