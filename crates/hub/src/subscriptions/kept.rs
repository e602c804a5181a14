//! A subscription as `hub.db` keeps it.

use std::num::NonZeroU32;
use std::time::Duration;

use postbell_engine::{Role, Selection};
use postbell_sinks::webhook::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::batch::Batching;
use super::{Begin, ShownSink, SubscriptionState, time};
use crate::CommandConfig;
use crate::access::{Grant, folded, user_of};

/// All that survives a restart, but for the cursors: those stand in the journal.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    pub(super) selection: Selection,
    pub(super) begin: Begin,
    /// The number before the first one wanted.
    pub(super) start: u64,
    /// How often it was begun anew; each time it has other cursors.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) begun_anew: u32,
    /// What its owner had lost of others by the time it was made or begun anew, as losses are counted:
    /// none of that was to come.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) losses: u64,
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
    /// Who made it; none where it was whoever runs the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<Owner>,
    /// When it ends, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_unix_millis: Option<i64>,
    /// The handshake its receiver has to pass; none where it is left out, or it was made before
    /// there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) handshake: Option<Handshake>,
    /// How its deliveries go together; each by itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<Batching>,
    /// The certificate its receiver is shown, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_certificate: Option<String>,
    /// Since when there was nothing but failure, in milliseconds since 1970, where its receiver takes
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failing_since_unix_millis: Option<i64>,
    /// The program it runs, where the configuration made it; then none of this is kept.
    #[serde(skip)]
    pub(super) command: Option<Box<CommandConfig>>,
}

fn is_none<Count: Default + PartialEq>(count: &Count) -> bool {
    *count == Count::default()
}

/// What came of asking a receiver whether it agrees to be delivered to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Handshake {
    /// Whether it has agreed.
    pub(super) passed: bool,
    /// How many requests a minute it takes; as many as come where it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) per_minute: Option<NonZeroU32>,
}

/// Whose a subscription is. It delivers what their token may see, as long as that is good.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Owner {
    /// The id of the token it was made, or last resumed, with.
    pub(super) token: String,
    /// The user, where it is a user's: theirs it is with every token of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The stores that user is of; none where it is the hub's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) elsewhere: Option<String>,
}

impl Owner {
    /// Whoever is let in by a grant; none for whoever runs the hub.
    pub(super) fn of(grant: &Grant) -> Option<Self> {
        let principal = grant.principal();
        let user = match (principal.role(), principal.users()) {
            (Role::Admin, _) => return None,
            (Role::User, Some([user])) => Some(user.to_string()),
            (Role::User | Role::Service, _) => None,
        };
        let elsewhere = user.as_ref().and_then(|_| principal.stores().elsewhere());
        // Only whoever runs the hub has no token of a name.
        Some(Self { token: grant.id()?.to_owned(), user, elsewhere })
    }

    /// As whoever runs the hub is told: the user, or the id of a service's token.
    pub(super) fn shown(self) -> String {
        self.user.unwrap_or(self.token)
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (&self.user, &other.user) {
            (None, None) => self.token == other.token,
            (one, another) => one == another && self.elsewhere == other.elsewhere,
        }
    }

    /// Whether both count against the same limits: a user does by whichever spelling of their name.
    pub(super) fn counts_with(&self, other: &Self) -> bool {
        match (&self.user, &other.user) {
            (Some(one), Some(another)) => {
                folded(one) == folded(another) && self.elsewhere == other.elsewhere
            }
            _ => self.is(other),
        }
    }

    /// A subscription's name among all there are: two owners may call theirs the same, and nobody
    /// learns what another's is called.
    pub(super) fn qualified(&self, name: &str) -> String {
        match &self.user {
            Some(user) => format!("{name}@{}", user_of(user, self.elsewhere.as_deref())),
            None => format!("{name}@token:{}", self.token),
        }
    }
}

/// A secret that was replaced.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
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
    /// How it stands where nobody holds it and nothing has ended it.
    pub(super) fn awake(&self) -> SubscriptionState {
        match self.handshake {
            Some(Handshake { passed: false, .. }) => SubscriptionState::Unverified,
            Some(Handshake { passed: true, .. }) | None => SubscriptionState::Active,
        }
    }

    /// For how long there was nothing but failure by then.
    pub(super) fn failing_for(&self, now: jiff::Timestamp) -> Option<Duration> {
        let millis = now.as_millisecond().saturating_sub(self.failing_since_unix_millis?);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// How many requests a minute its receiver takes, where it said.
    pub(super) fn per_minute(&self) -> Option<NonZeroU32> {
        self.handshake.and_then(|handshake| handshake.per_minute)
    }

    /// When it ends, as it is shown.
    pub(super) fn expires(&self) -> Option<String> {
        let at = jiff::Timestamp::from_millisecond(self.expires_unix_millis?);
        at.ok().map(time)
    }

    /// Whether it has come to its end by then.
    pub(super) fn is_expired(&self, now: jiff::Timestamp) -> bool {
        self.expires_unix_millis.is_some_and(|at| at <= now.as_millisecond())
    }

    /// Has it deliver nothing any more, and says why.
    pub(super) fn end(&mut self, why: String) {
        self.state = SubscriptionState::Ended;
        self.detail = Some(why);
    }

    /// What is told where its owner's token is over.
    pub(super) fn over(&self) -> &'static str {
        match &self.owner {
            Some(Owner { user: None, .. }) => OVER_FOR_A_SERVICE,
            Some(Owner { user: Some(_), .. }) | None => OVER_FOR_A_USER,
        }
    }

    /// The entity tag of the subscription with this id, as far as anybody can change it: the same
    /// only where all of that is (RFC 9110, section 8.8.3).
    pub(super) fn etag(&self, id: &str) -> String {
        let mut hash = Sha256::new_with_prefix(id);
        hash.update(self.body());
        let hex = hash.finalize().into_iter().take(ETAG_OCTETS).map(|octet| format!("{octet:02x}"));
        format!("\"{}\"", hex.collect::<String>())
    }

    /// Where deliveries go, without what they are signed with.
    pub(super) fn shown_sink(&self) -> ShownSink {
        if let Some(command) = &self.command {
            return ShownSink::Command { run: command.run.clone(), jobs: command.jobs };
        }
        let now = jiff::Timestamp::now().as_second();
        let previous = self.previous.as_ref().filter(|previous| previous.until > now);
        let until = previous.and_then(|one| jiff::Timestamp::from_second(one.until).ok());
        ShownSink::Webhook {
            url: self.url.clone(),
            secret: None,
            public_key: Secret::parse(&self.secret).ok().and_then(|secret| secret.public()),
            previous_until: until.map(time),
            per_minute: self.per_minute().map(NonZeroU32::get),
            batch: self.batch.clone(),
            client_certificate: self.client_certificate.clone(),
        }
    }

    /// As it is written.
    pub(super) fn body(&self) -> String {
        // Plain texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why a user's subscription delivers nothing any more.
const OVER_FOR_A_USER: &str =
    "its owner's token was revoked or has expired (resume it with another one of theirs)";

/// Why a service's does: it is its token's alone, and no other token can resume it.
const OVER_FOR_A_SERVICE: &str = "its owner's token was revoked or has expired, and a service's subscription ends with its token (make it anew with another one)";

/// Octets of an entity tag: no two states of a subscription meet by chance.
const ETAG_OCTETS: usize = 12;
