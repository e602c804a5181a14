//! Subscriptions as clients of the API write and read them.

use postbell_engine::{FlagForms, ParametersOf, Selection};
use postbell_sinks::webhook::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::batch::Batching;

/// A subscription to be made. An empty list asks for everything of its kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "name": "phone",
    "events": ["message", "MailboxRename"],
    "users": ["john@example.org"],
    "mailboxes": ["INBOX", "Lists/%"],
    "tags": ["home"],
    "begin": "now",
    "sink": {"kind": "webhook", "url": "https://example.org/hook"}
}))]
pub(crate) struct NewSubscription {
    /// A name of its own: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub(crate) name: String,
    /// Events and groups of events (`message`, `flags`, `quota`, `access`, `mailbox`,
    /// `subscription`, `vendor`).
    #[serde(default)]
    pub(crate) events: Vec<String>,
    /// Users: who owns the mailbox, or who acted.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    /// Mailboxes; `*` stands for anything, `%` for anything without a `/`.
    #[serde(default)]
    pub(crate) mailboxes: Vec<String>,
    /// A condition on the event's parameters (docs/subscriptions.md), such as
    /// `messageSize > 1000000`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<String>,
    /// Parameters; `*` is every one that is not private.
    #[serde(default)]
    pub(crate) parameters: Vec<String>,
    /// The same by event or group of events: of these such a list stands in the place of `parameters`,
    /// and an event's own name goes before its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Vec<String>>>, example = json!({"FlagsSet": ["uri"]}))]
    pub(crate) parameters_of: Option<ParametersOf>,
    /// Tags put on each delivery.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// In which form it is told that `\Seen` (`seen`) and `\Deleted` (`deleted`) were set: `simple` or
    /// `flags`; as the policy has it where absent.
    #[serde(default, skip_serializing_if = "FlagForms::is_default")]
    #[schema(value_type = Object)]
    pub(crate) flag_forms: FlagForms,
    /// Where to begin.
    #[serde(default)]
    pub(crate) begin: Begin,
    /// When it ends: a time (RFC 3339), or how long from now (`12h`, `30d`); never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    /// Where to.
    pub(crate) sink: NewSink,
}

/// From where a subscription is to deliver anew.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Replay {
    /// Where to begin; `now` leaves out what it has not come to yet.
    pub(crate) begin: Begin,
}

/// Which dead letters are to be delivered again: those with these numbers, or all.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Redrive {
    /// The numbers of their records.
    pub(crate) seqs: Vec<u64>,
    /// Every one there is.
    pub(crate) all: bool,
}

/// Until when a subscription is to go on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Renewal {
    /// When it ends: a time (RFC 3339), how long from now (`12h`, `30d`), or `never`.
    pub(crate) expires: String,
}

/// Where a subscription begins.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Begin {
    /// With the first record after this moment.
    #[default]
    Now,
    /// With the record of this number.
    Seq(u64),
    /// With the first record journalled at this time (RFC 3339) or later.
    Time(String),
}

/// Where deliveries are to go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub(crate) enum NewSink {
    /// An HTTP endpoint (Standard Webhooks).
    Webhook {
        /// Its URL.
        url: String,
        /// How deliveries are signed where no secret is given.
        #[serde(default)]
        signature: Signature,
        /// The secret deliveries are signed with, `whsec_…` or `whsk_…`; made where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// Whether the receiver is asked whether it agrees, before the first delivery. Where absent
        /// it is, unless it is on the hub's machine or `webhooks.verify` is off; only whoever runs
        /// the hub may leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verify: Option<bool>,
        /// That events go together, several in one request; each by itself where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<Batching>,
        /// The certificate that the receiver is shown where it asks who is there, by its name in the
        /// hub's configuration; for whoever runs the hub, and the services named there.
        #[serde(default, rename = "clientCertificate", skip_serializing_if = "Option::is_none")]
        client_certificate: Option<String>,
    },
}

/// How deliveries are signed (Standard Webhooks 1.0.0).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signature {
    /// HMAC-SHA256, with a key that the receiver has too.
    #[default]
    V1,
    /// Ed25519: the receiver has the public key, and can sign nothing itself.
    V1a,
}

/// Another secret for a webhook.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Rotation {
    /// The secret, `whsec_…` or `whsk_…`; one of the kind there was is made where there is none.
    pub(crate) secret: Option<String>,
    /// Seconds in which deliveries are signed with the one before as well; a day where absent, 30
    /// days at most.
    pub(crate) overlap_seconds: Option<u64>,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Rotation");
        text.field("overlap_seconds", &self.overlap_seconds).finish_non_exhaustive()
    }
}

/// A subscription as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    /// Its id.
    pub(crate) id: String,
    /// Its name, among its owner's.
    pub(crate) name: String,
    /// Whose it is: a user, or the id of a service's token; absent where it is of whoever runs the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Events and groups of events wanted.
    pub(crate) events: Vec<String>,
    /// Users wanted.
    pub(crate) users: Vec<String>,
    /// Mailboxes wanted.
    pub(crate) mailboxes: Vec<String>,
    /// The condition on the event's parameters.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<String>,
    /// Parameters wanted.
    pub(crate) parameters: Vec<String>,
    /// Those wanted of some events instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Vec<String>>>)]
    pub(crate) parameters_of: Option<ParametersOf>,
    /// Tags put on each delivery.
    pub(crate) tags: Vec<String>,
    /// In which form it is told that `\Seen` and `\Deleted` were set.
    #[serde(skip_serializing_if = "FlagForms::is_default")]
    #[schema(value_type = Object)]
    pub(crate) flag_forms: FlagForms,
    /// Where it began.
    pub(crate) begin: Begin,
    /// Where deliveries go.
    pub(crate) sink: ShownSink,
    /// Whether it delivers.
    pub(crate) state: SubscriptionState,
    /// Why it ended, or what keeps it from reading on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The number of the last record it is done with, all before it included.
    pub(crate) cursor: u64,
    /// Records it has yet to pass.
    pub(crate) lag: u64,
    /// The number last delivered since the hub started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_delivered: Option<u64>,
    /// Attempts made since the hub started.
    pub(crate) attempts: u64,
    /// How the last failed attempt ended; absent once nothing is left to be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// Deliveries given up.
    pub(crate) dead_letters: u64,
    /// Those of them that are to be delivered again.
    pub(crate) redriving: u64,
    /// Events since the hub started of which the condition could not be judged; they were not
    /// delivered.
    pub(crate) unclear: u64,
    /// Why the last of them could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_unclear: Option<String>,
    /// When it was made (RFC 3339).
    pub(crate) created: String,
    /// When it ends, or ended (RFC 3339); never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    /// The entity tag of all that a change can change; a header, and not in the body.
    #[serde(skip)]
    pub(crate) etag: String,
}

/// Where deliveries go.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(crate) enum ShownSink {
    /// An HTTP endpoint.
    Webhook {
        /// Its URL.
        url: String,
        /// What deliveries are signed with; shown once, in the answer that made or rotated it.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// What `v1a` signatures are verified with, `whpk_…`.
        #[serde(rename = "publicKey", skip_serializing_if = "Option::is_none")]
        public_key: Option<String>,
        /// Until when deliveries are signed with the secret before as well (RFC 3339).
        #[serde(rename = "previousUntil", skip_serializing_if = "Option::is_none")]
        previous_until: Option<String>,
        /// How many requests a minute the receiver takes, where it said when it was asked.
        #[serde(rename = "perMinute", skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// How events go together.
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<Batching>,
        /// The certificate it is shown.
        #[serde(rename = "clientCertificate", skip_serializing_if = "Option::is_none")]
        client_certificate: Option<String>,
    },
    /// A program on the hub's machine, from its configuration.
    Command {
        /// The program and its arguments.
        run: Vec<String>,
        /// Runs that go side by side.
        jobs: u32,
    },
}

impl ShownSink {
    /// Puts in what a receiver needs; the private half of a pair is not that.
    pub(crate) fn tell(&mut self, made: &Secret) {
        match self {
            Self::Webhook { secret, .. } => {
                *secret = made.public().is_none().then(|| made.reveal());
            }
            Self::Command { .. } => {}
        }
    }
}

/// Whether a subscription delivers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SubscriptionState {
    /// It delivers.
    Active,
    /// For five days there was nothing but failure; nothing is attempted until a person resumes it.
    Disabled,
    /// Its receiver has yet to agree to be delivered to; nothing is delivered before.
    Unverified,
    /// A person holds it; it goes on where it stood.
    Paused,
    /// Its receiver answered 410, it has expired, or its owner's token is over.
    Ended,
}

/// A delivery that was given up.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownDeadLetter {
    /// The record's number.
    pub(crate) seq: u64,
    /// The event's id.
    pub(crate) event_id: String,
    /// When it was given up (RFC 3339).
    pub(crate) at: String,
    /// After how many attempts.
    pub(crate) attempts: u32,
    /// How the last one ended.
    pub(crate) reason: String,
    /// Whether it is to be delivered again.
    pub(crate) redriving: bool,
}

impl NewSubscription {
    /// What it selects.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            events: self.events.clone(),
            users: self.users.clone(),
            mailboxes: self.mailboxes.clone(),
            condition: self.condition.clone(),
            parameters: self.parameters.clone(),
            parameters_of: self.parameters_of.clone(),
            tags: self.tags.clone(),
            flag_forms: self.flag_forms,
        }
    }
}

#[cfg(test)]
mod tests {
    use mail_event::{EventGroup, EventName, ParameterName};
    use serde_json::{Value, json};
    use utoipa::PartialSchema as _;

    use super::*;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../../docs/subscription.schema.json")).unwrap()
    }

    /// The first example of the page.
    fn example() -> Value {
        let page = include_str!("../../../../docs/subscriptions.md");
        let block = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
        serde_json::from_str(block.unwrap()).unwrap()
    }

    #[test]
    fn the_schema_takes_the_pages_example_and_refuses_what_the_api_refuses() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let example = example();
        assert!(schema.is_valid(&example), "{:?}", schema.validate(&example));
        let new: NewSubscription = serde_json::from_value(example.clone()).unwrap();
        let open = postbell_engine::Policy { envelope: true, ..Default::default() };
        new.selection().compile(&open).unwrap();
        for (member, wrong) in [
            ("name", json!("a b")),
            ("events", json!(["MessageGnu"])),
            ("users", json!([""])),
            ("mailboxes", json!(["x".repeat(256)])),
            ("where", json!(["true"])),
            ("where", json!("x".repeat(1_025))),
            ("parameters", json!(["uidSet"])),
            ("parametersOf", json!({})),
            ("parametersOf", json!(["MessageNew"])),
            ("parametersOf", json!({"MessageNew": "uri"})),
            ("parametersOf", json!({"MessageNew": ["uidSet"]})),
            ("parametersOf", json!({"MessageGnu": ["uri"]})),
            ("tags", json!(["a,b"])),
            ("tags", json!(["a", "a"])),
            ("flagForms", json!({"seen": "both"})),
            ("flagForms", json!({"read": "flags"})),
            ("begin", json!({"seq": -1})),
            ("expires", json!(30)),
            ("expires", json!(["30d"])),
            ("sink", json!({"kind": "pigeon", "url": "https://h/"})),
            ("sink", json!({"kind": "webhook", "url": "https://h/", "batch": {"events": 5}})),
            ("sink", json!({"kind": "webhook", "url": "https://h/", "batch": {"maxEvents": -1}})),
            ("wher", json!("true")),
        ] {
            let mut bad = example.clone();
            bad[member] = wrong;
            assert!(!schema.is_valid(&bad), "{bad}");
            let read = serde_json::from_value::<NewSubscription>(bad.clone());
            let refused = read.is_err()
                || read
                    .is_ok_and(|new| new.name == "a b" || new.selection().compile(&open).is_err());
            assert!(refused, "{bad}");
        }
    }

    #[test]
    fn the_schema_knows_every_member_and_every_name() {
        let (schema, api) = (schema(), json!(NewSubscription::schema()));
        let names = |schema: &Value| {
            let members = schema["properties"].as_object().unwrap();
            let mut names: Vec<_> = members.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&schema), names(&api));
        let sink = json!(NewSink::schema());
        assert_eq!(names(&schema["properties"]["sink"]), names(&sink["oneOf"][0]));
        let listed = |at: usize| schema["$defs"]["event"]["anyOf"][at]["enum"].clone();
        assert_eq!(listed(0), json!(EventGroup::ALL.map(|one| json!(one.as_str()))));
        assert_eq!(listed(1), json!(EventName::REGISTERED.map(|one| json!(one.as_str()))));
        for list in ["parameters", "parametersOf"] {
            assert!(
                schema["properties"][list].to_string().contains("#/$defs/parameters"),
                "{list}"
            );
        }
        let parameters = ParameterName::REGISTERED.map(|one| json!(one.as_str()));
        assert_eq!(schema["$defs"]["parameters"]["items"]["anyOf"][1]["enum"], json!(parameters));
    }
}
