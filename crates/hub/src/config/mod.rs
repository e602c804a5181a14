//! The configuration file: TOML in, a checked [`Config`] out, one line for each mistake.

mod clear;
mod keys;
mod limits;
mod oidc;
mod print;
mod read;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_event::EventGroup;
use mail_event::limits::EVENT_OCTETS_MAX;
use postbell_engine::{Ceiling, ParametersOf, Policy, Selection};
use serde::{Deserialize, Serialize};

pub(crate) use clear::in_clear;
#[cfg(test)]
use keys::SECTIONS as SECTIONS_FOR_TESTS;
pub(crate) use oidc::is_http_here;
pub use oidc::{OidcAlgorithm, OidcConfig, OidcRole, OidcRoleConfig};
pub use print::markdown;
pub(crate) use values::{parse_duration, parse_network};

/// Everything the hub can be told. Read it with [`Config::load`] or [`Config::parse`].
///
/// `Config::default()` is a hub without sources on `127.0.0.1:5423`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Config {
    /// The folder for the journal, the subscriptions and the token.
    pub data: PathBuf,
    /// Address and port of the HTTP API; loopback only, unless there is TLS.
    pub listen: SocketAddr,
    /// How the mail store is named in the URI of every event.
    pub store: StoreConfig,
    /// What may be made and what may leave.
    pub policy: PolicyConfig,
    /// The sources by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The Unix stream for publishers.
    pub publish: PublishConfig,
    /// The journal.
    pub journal: JournalConfig,
    /// TLS on the HTTP API.
    pub tls: TlsConfig,
    /// Users' passwords for tokens of theirs.
    pub login: LoginConfig,
    /// JWTs of an OpenID Connect issuer.
    pub oidc: OidcConfig,
    /// What users may have beside their own.
    pub access: AccessConfig,
    /// Limits of the HTTP API.
    pub http: HttpConfig,
    /// Deliveries to webhooks.
    pub webhooks: WebhooksConfig,
    /// Programs that are run for events, by name.
    pub commands: BTreeMap<String, CommandConfig>,
    /// What the operator is told.
    pub log: LogConfig,
    /// The way of events, told to OpenTelemetry's collector.
    pub traces: TracesConfig,
}

/// How the mail store is named in the URI of every event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct StoreConfig {
    /// Host.
    pub host: String,
    /// Port; 0 writes none.
    pub port: u16,
    /// What `serverFQDN` says; empty takes the machine's own name.
    pub fqdn: String,
}

/// Which form a set `\Seen` or `\Deleted` takes (R62, R63).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `MessageRead` or `MessageTrash`.
    Simple,
    /// `FlagsSet`.
    Flags,
}

/// The ceiling on what may be made and what may leave.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PolicyConfig {
    /// The form of a set `\Seen`.
    pub seen_form: Form,
    /// The form of a set `\Deleted`.
    pub deleted_form: Form,
    /// Size up to which a message may carry `messageContent`; `None` is never.
    #[serde(with = "values::octets_or_never")]
    pub content_max_octets: Option<u64>,
    /// Size up to which content goes into its event.
    #[serde(with = "values::octets")]
    pub content_inline_octets: u64,
    /// How long a link to larger content is good.
    #[serde(with = "values::duration")]
    pub content_link_lifetime: Duration,
    /// Who makes the reference to larger content.
    pub content_reference: ContentReference,
    /// Whether `bodyStructure` may be made and leave.
    pub body_structure: bool,
    /// Whether `envelope` may leave.
    pub envelope: bool,
    /// Groups of events that aren't made at all.
    pub groups_off: Vec<Group>,
    /// What of the rest is recorded.
    pub record: Record,
    /// How long what somebody wanted is recorded still.
    #[serde(with = "values::duration")]
    pub record_linger: Duration,
    /// How much of that services get.
    pub service: RoleConfig,
    /// How much of it users get.
    pub user: RoleConfig,
}

/// Who makes the reference to content that is too large for its event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentReference {
    /// The hub: a link of its own.
    Link,
    /// The store, where it can: a URL it authorises (RFC 4467).
    UrlAuth,
}

/// What is recorded of what policy lets be made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// All of it.
    Everything,
    /// What a subscription, a command or a stream wants.
    Wanted,
}

impl Record {
    /// The word for it in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Wanted => "wanted",
        }
    }
}

/// A group of events, as subscriptions name it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "docs/subscriptions.md says what is in each")]
pub enum Group {
    Message,
    Flags,
    Quota,
    Access,
    Mailbox,
    Subscription,
    Vendor,
}

impl From<Group> for EventGroup {
    fn from(group: Group) -> Self {
        match group {
            Group::Message => Self::Message,
            Group::Flags => Self::Flags,
            Group::Quota => Self::Quota,
            Group::Access => Self::Access,
            Group::Mailbox => Self::Mailbox,
            Group::Subscription => Self::Subscription,
            Group::Vendor => Self::Vendor,
        }
    }
}

/// How much one role gets of what may leave at all.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct RoleConfig {
    /// The largest content; `None` is never.
    #[serde(with = "values::octets_or_never")]
    pub content_max_octets: Option<u64>,
    /// Whether it gets `bodyStructure`.
    pub body_structure: bool,
    /// Whether it gets `envelope`.
    pub envelope: bool,
    /// Whether it gets `vnd.postbell.raw`.
    pub raw: bool,
    /// The largest event, as JSON.
    #[serde(with = "values::octets")]
    pub event_max_octets: u64,
    /// Subscriptions of one user, or one token of a service.
    pub subscriptions: u32,
    /// Streams of one.
    pub streams: u32,
    /// Events a minute to one subscription, or down one stream; `None` is as many as come.
    #[serde(with = "values::rate_or_unlimited")]
    pub events_per_minute: Option<NonZeroU32>,
}

/// What kind of source.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A Maildir or Maildir++, for one user or many.
    Maildir,
    /// A Dovecot that our script was added to.
    Dovecot,
    /// A Cyrus that tells our process in notifyd's place.
    Cyrus,
}

impl SourceKind {
    /// All there are.
    pub(crate) const ALL: [Self; 3] = [Self::Maildir, Self::Dovecot, Self::Cyrus];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::Dovecot => "dovecot",
            Self::Cyrus => "cyrus",
        }
    }
}

/// Cyrus's `virtdomains`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Virtdomains {
    /// Users have no domain of their own.
    Off,
    /// A user's domain is in the name.
    Userid,
    /// The same, or what the server's address says.
    On,
}

impl Virtdomains {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Userid => "userid",
            Self::On => "on",
        }
    }
}

/// Expunges that are told as `MessageExpire`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpireConfig {
    /// Dovecot's reason code, `*` standing for anything.
    pub reason: String,
    /// The mailbox's owner; empty for all.
    pub user: String,
    /// The mailbox, with the wildcards of IMAP's LIST; empty for all.
    pub mailbox: String,
    /// What the policy is called.
    pub policy: String,
}

/// One source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct SourceConfig {
    /// What watches it.
    pub kind: SourceKind,
    /// The Maildir, or a pattern with `%u`.
    pub root: PathBuf,
    /// The owner where `root` has no `%u`.
    pub user: String,
    /// How often everything is looked at anew.
    #[serde(with = "values::duration")]
    pub scan_interval: Duration,
    /// Each user's storage limit where the store keeps no `maildirsize`, in octets.
    #[serde(with = "values::octets_or_never")]
    pub quota_storage: Option<u64>,
    /// The same for the number of messages; 0 sets none.
    pub quota_messages: u64,
    /// The folder Dovecot's processes write to.
    pub spool: PathBuf,
    /// What stands between the levels of a mailbox's name.
    pub separator: char,
    /// Prefixes of other users' mailboxes, with `%u`.
    pub shared: Vec<String>,
    /// Which expunges are policy.
    pub expire: Vec<ExpireConfig>,
    /// How long a happening waits for what the exporter says of it.
    #[serde(with = "values::duration")]
    pub annotation_window: Duration,
    /// A master user; empty for none.
    pub master_user: String,
    /// The file with its password.
    pub master_password_file: PathBuf,
    /// What stands between user and master user in a login.
    pub master_separator: char,
    /// Where IMAP is spoken.
    pub master_address: SocketAddr,
    /// The folder `postbell notifyd` writes to.
    pub notify_spool: PathBuf,
    /// Where Cyrus sends datagrams; empty for none.
    pub notify_socket: PathBuf,
    /// Where Cyrus connects to (`dlist:`); empty for none.
    pub notify_stream: PathBuf,
    /// Users that may send.
    pub notify_users: Vec<String>,
    /// Whether events keep what Cyrus said.
    pub notify_raw: bool,
    /// Cyrus's `unixhierarchysep`.
    pub unixhierarchysep: bool,
    /// Cyrus's `altnamespace`.
    pub altnamespace: bool,
    /// Cyrus's `virtdomains`.
    pub virtdomains: Virtdomains,
    /// Cyrus's `userprefix`.
    pub userprefix: String,
    /// Cyrus's `sharedprefix`.
    pub sharedprefix: String,
}

/// The Unix stream for publishers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PublishConfig {
    /// Path, relative to the data folder; empty for none.
    pub socket: PathBuf,
    /// User ids that may connect besides the hub's own and root.
    pub allowed_uids: Vec<u32>,
    /// For which stores some of them speak; the others for the hub's own.
    pub uid_stores: Vec<UidStoresConfig>,
}

/// For which stores a user's programs speak.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UidStoresConfig {
    /// The user's id.
    pub uid: u32,
    /// Hosts of the stores; `*` for any.
    pub stores: Vec<String>,
}

/// The journal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct JournalConfig {
    /// The file signed checkpoints are added to; empty writes none.
    pub checkpoint_file: PathBuf,
    /// How often one is added.
    #[serde(with = "values::duration")]
    pub checkpoint_interval: Duration,
    /// How long records are kept.
    #[serde(with = "values::duration_or_never")]
    pub retention_age: Option<Duration>,
    /// How many octets are kept.
    #[serde(with = "values::octets_or_never")]
    pub retention_size: Option<u64>,
    /// Octets of one segment file.
    #[serde(with = "values::octets")]
    pub segment_size: u64,
    /// Among how many records a repeat is recognised.
    pub window_records: u32,
}

/// TLS on the HTTP API.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TlsConfig {
    /// PEM file of the server's certificate, and those that lead to its authority; empty for no TLS.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities whose certificates clients may show; empty for none.
    pub client_ca: PathBuf,
    /// PEM file of further authorities for those the hub connects to; empty for none.
    pub authorities: PathBuf,
    /// Where this machine's programs are served without TLS beside that; loopback.
    #[serde(with = "values::address_or_none")]
    pub local_listen: Option<SocketAddr>,
}

impl TlsConfig {
    /// Whether there is to be TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

/// Users' passwords for tokens of theirs, checked by the store.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LoginConfig {
    /// Where the store speaks IMAP; none for no logins.
    #[serde(with = "values::address_or_none")]
    pub imap: Option<SocketAddr>,
    /// Whom its certificate is for; empty for no TLS.
    pub host: String,
    /// PEM file of the authorities that certificate may be from.
    pub ca: PathBuf,
    /// How long a token lives.
    #[serde(with = "values::duration")]
    pub lifetime: Duration,
}

impl Default for LoginConfig {
    fn default() -> Self {
        let lifetime = Duration::from_secs(60 * 60);
        Self { imap: None, host: String::new(), ca: PathBuf::new(), lifetime }
    }
}

/// What users may have beside their own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct AccessConfig {
    /// Whether they see the events of mailboxes that others share with them.
    pub shared_mailboxes: bool,
}

/// Limits of the HTTP API.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct HttpConfig {
    /// Where subscribers reach the API; empty takes the address listened on.
    pub public_url: String,
    /// Octets of the largest request body.
    #[serde(with = "values::octets")]
    pub max_body: u64,
    /// Connections held at once.
    pub max_connections: u32,
    /// Streams followed at once.
    pub max_streams: u32,
    /// How long a client may take to send a request's head.
    #[serde(with = "values::duration")]
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    #[serde(with = "values::duration")]
    pub body_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    #[serde(with = "values::duration")]
    pub stall_timeout: Duration,
    /// Origins whose pages may ask, as browsers have it.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word is taken for whom a request is from.
    pub trusted_proxies: Vec<String>,
}

/// Where a webhook's URL may lead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Only outside this network.
    Public,
    /// There, and this machine.
    Loopback,
    /// No restriction.
    Anywhere,
}

/// Deliveries to webhooks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct WebhooksConfig {
    /// Where a URL may lead.
    pub reach: Reach,
    /// How long a receiver may take to answer.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
    /// Mailboxes delivered side by side per subscription.
    pub lanes: u32,
    /// Whether receivers on other machines are asked whether they agree before the first delivery.
    pub verify: bool,
    /// Events that may go together in one request.
    pub batch_events: u32,
    /// Octets that may.
    #[serde(with = "values::octets")]
    pub batch_octets: u64,
    /// Certificates that receivers may be shown, by name.
    pub client_certificates: BTreeMap<String, ClientCertificateConfig>,
}

/// A certificate that receivers may be shown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ClientCertificateConfig {
    /// The PEM file with it, and those that lead to its authority.
    pub certificate: PathBuf,
    /// The PEM file with its key.
    pub key: PathBuf,
    /// Tokens of services that may have it shown, by name.
    pub services: Vec<String>,
}

/// A program that is run for each event, and for which.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct CommandConfig {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Events and groups of events; none for all.
    pub events: Vec<String>,
    /// Users; none for all.
    pub users: Vec<String>,
    /// Mailboxes; none for all.
    pub mailboxes: Vec<String>,
    /// A condition on the parameters; empty for none.
    #[serde(rename = "where")]
    pub condition: String,
    /// Parameters; none for all that policy lets out, but the private ones.
    pub parameters: Vec<String>,
    /// The same by event or group of events, in the place of those; none for all alike.
    pub parameters_of: ParametersOf,
    /// Tags put on each event.
    pub tags: Vec<String>,
    /// How long a run may take.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
    /// Runs that go side by side.
    pub jobs: u32,
}

impl CommandConfig {
    /// What it selects.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            events: self.events.clone(),
            users: self.users.clone(),
            mailboxes: self.mailboxes.clone(),
            condition: Some(self.condition.clone()).filter(|text| !text.is_empty()),
            parameters: self.parameters.clone(),
            parameters_of: Some(self.parameters_of.clone()).filter(|lists| !lists.is_empty()),
            tags: self.tags.clone(),
            ..Selection::default()
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are tracing's own")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As `tracing` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What the operator is told. The hub only carries it: whoever starts the hub sets the log up.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LogConfig {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// The way of events, told to OpenTelemetry's collector: docs/tracing.md.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TracesConfig {
    /// Where a collector takes OTLP over HTTP; empty for no traces.
    pub endpoint: String,
    /// A file of headers it wants to see; empty for none.
    pub headers_file: PathBuf,
    /// The share of traces that are told, from 0 to 1.
    pub share: f64,
    /// What the hub is called in them.
    pub service_name: String,
}

impl Config {
    /// The path of the publisher socket, if there is to be one.
    #[must_use]
    pub fn publish_socket(&self) -> Option<PathBuf> {
        let socket = &self.publish.socket;
        (!socket.as_os_str().is_empty()).then(|| self.data.join(socket))
    }

    /// Where this machine's programs are served without TLS, if anywhere.
    #[must_use]
    pub fn plain_listener(&self) -> Option<SocketAddr> {
        if self.tls.is_on() { self.tls.local_listen } else { Some(self.listen) }
    }

    /// The path of the file that holds the API's token.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.data.join("token")
    }

    /// The path of the file that holds the secret of a Dovecot's exporter.
    #[must_use]
    pub fn exporter_secret_file(&self, source: &str) -> PathBuf {
        self.data.join(format!("dovecot-{source}.secret"))
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    ///
    /// One line for everything wrong in it, each naming file and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        read::load(path)
    }

    /// Checks the `text` of a configuration; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// One line for everything wrong in it, each naming file and key.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        read::parse(file, text)
    }

    /// The whole configuration as TOML: every key, its value, its default and the reason.
    #[must_use]
    pub fn print(&self) -> String {
        print::toml(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/postbell"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5423)),
            store: StoreConfig::default(),
            policy: PolicyConfig::default(),
            sources: BTreeMap::new(),
            publish: PublishConfig::default(),
            journal: JournalConfig::default(),
            tls: TlsConfig::default(),
            login: LoginConfig::default(),
            oidc: OidcConfig::default(),
            access: AccessConfig::default(),
            http: HttpConfig::default(),
            webhooks: WebhooksConfig::default(),
            commands: BTreeMap::new(),
            log: LogConfig::default(),
            traces: TracesConfig::default(),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 0, fqdn: String::new() }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            seen_form: Form::Simple,
            deleted_form: Form::Simple,
            content_max_octets: None,
            content_inline_octets: Policy::default().content_inline_octets,
            content_link_lifetime: Duration::from_secs(24 * 60 * 60),
            content_reference: ContentReference::Link,
            body_structure: false,
            envelope: false,
            groups_off: Vec::new(),
            record: Record::Everything,
            record_linger: Duration::from_secs(30),
            service: RoleConfig::default(),
            user: RoleConfig::default(),
        }
    }
}

impl RoleConfig {
    /// As the engine judges by it.
    pub(crate) fn ceiling(&self) -> Ceiling {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ceiling {
            content_max_octets: self.content_max_octets,
            body_structure: self.body_structure,
            envelope: self.envelope,
            raw: self.raw,
            event_max_octets: usize::try_from(self.event_max_octets).unwrap_or(usize::MAX),
            subscriptions: size(self.subscriptions),
            streams: size(self.streams),
            events_per_minute: self.events_per_minute,
        }
    }
}

impl Default for RoleConfig {
    fn default() -> Self {
        let ceiling = Ceiling::default();
        let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let octets_max = EVENT_OCTETS_MAX as u64;
        Self {
            content_max_octets: ceiling.content_max_octets.map(|max| max.min(octets_max)),
            body_structure: ceiling.body_structure,
            envelope: ceiling.envelope,
            raw: ceiling.raw,
            event_max_octets: octets_max,
            subscriptions: whole(ceiling.subscriptions),
            streams: whole(ceiling.streams),
            events_per_minute: ceiling.events_per_minute,
        }
    }
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            kind: SourceKind::Maildir,
            root: PathBuf::new(),
            user: String::new(),
            scan_interval: Duration::from_secs(60),
            quota_storage: None,
            quota_messages: 0,
            spool: PathBuf::from("/var/spool/postbell/dovecot"),
            separator: '/',
            shared: Vec::new(),
            expire: Vec::new(),
            annotation_window: Duration::from_millis(250),
            master_user: String::new(),
            master_password_file: PathBuf::new(),
            master_separator: '*',
            master_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 143)),
            notify_spool: PathBuf::from("/var/spool/postbell/cyrus"),
            notify_socket: PathBuf::from("/run/postbell/cyrus/notify"),
            notify_stream: PathBuf::new(),
            notify_users: vec!["cyrus".to_owned()],
            notify_raw: false,
            unixhierarchysep: true,
            altnamespace: true,
            virtdomains: Virtdomains::Off,
            userprefix: "Other Users".to_owned(),
            sharedprefix: "Shared Folders".to_owned(),
        }
    }
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("publish.sock"),
            allowed_uids: Vec::new(),
            uid_stores: Vec::new(),
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            checkpoint_file: PathBuf::new(),
            checkpoint_interval: Duration::from_secs(10 * 60),
            retention_age: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            retention_size: Some(10 << 30),
            segment_size: 64 << 20,
            window_records: 65_536,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            max_body: 16 << 20,
            max_connections: 1024,
            max_streams: 512,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(5 * 60),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            reach: Reach::Public,
            timeout: Duration::from_secs(15),
            lanes: 16,
            verify: true,
            batch_events: 500,
            batch_octets: 1 << 20,
            client_certificates: BTreeMap::new(),
        }
    }
}

impl Default for CommandConfig {
    fn default() -> Self {
        Self {
            run: Vec::new(),
            events: Vec::new(),
            users: Vec::new(),
            mailboxes: Vec::new(),
            condition: String::new(),
            parameters: Vec::new(),
            parameters_of: ParametersOf::default(),
            tags: Vec::new(),
            timeout: Duration::from_secs(60),
            jobs: 1,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers_file: PathBuf::new(),
            share: 1.0,
            service_name: "postbell".to_owned(),
        }
    }
}

/// All that is wrong in a configuration; `Display` gives one line each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    /// The mistakes, one line each, in the order of the file's keys.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
