//! The hub: configuration, wiring, supervision, HTTP API, metrics.
//!
//! [`Hub::start`] wires sources, journal and subscriptions together and serves the HTTP API and
//! the publishers' socket until [`Hub::shutdown`].

mod access;
mod api;
mod aside;
mod config;
mod contents;
mod demand;
mod examine;
mod feed;
mod hub;
mod intake;
mod links;
mod listen;
mod lock;
mod metrics;
mod outlet;
#[cfg(test)]
mod pretend;
mod publish;
mod references;
mod sharing;
mod signed;
mod signing;
mod sources;
mod state;
mod stream;
mod subscriptions;
mod timer;
mod tls;
mod token;
mod traces;
mod url_auth;
mod websocket;

pub use config::{
    AccessConfig, ClientCertificateConfig, CommandConfig, Config, ConfigError, ContentReference,
    ExpireConfig, Form, Group, HttpConfig, JournalConfig, LogConfig, LogFormat, LogLevel,
    LoginConfig, OidcAlgorithm, OidcConfig, OidcRole, OidcRoleConfig, PolicyConfig, PublishConfig,
    Reach, Record, RoleConfig, SourceConfig, SourceKind, StoreConfig, TlsConfig, TracesConfig,
    UidStoresConfig, Virtdomains, WebhooksConfig, markdown as config_markdown,
};
pub use examine::{examine, examine_keys};
pub use hub::{Hub, StartError, policy};
pub use metrics::markdown as metrics_markdown;
pub use signed::SignedCheckpoints;
pub use signing::{InvalidKey, PublicKey, SigningKey};
pub use state::StateError;
pub use subscriptions::{Refusal, refusals};
pub use tls::{Certificate, TlsError, examine as examine_tls};
pub use token::{PathSecret, Token, TokenError};
pub use traces::TracesError;
