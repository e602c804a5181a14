//! The hub: configuration, wiring, supervision, HTTP API, metrics.

mod config;

pub use config::{
    Config, ConfigError, Form, HttpConfig, JournalConfig, LogConfig, LogFormat, LogLevel,
    PolicyConfig, PublishConfig, Reach, SourceConfig, SourceKind, StoreConfig, WebhooksConfig,
    markdown as config_markdown,
};
