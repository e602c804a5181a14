//! The vocabulary of RFC 5423, *Internet Message Store Events*: 18 events with 27 parameters.
//!
//! For whoever sends or receives word of what happens in a mail store: an [`Event`] that can't
//! be built wrong, its JSON and CloudEvents forms, and the things it speaks of: [`ImapUrl`],
//! [`UidSet`], [`Flags`], [`Envelope`]. No I/O, no async runtime, no clock.
//!
//! ```
//! use mail_event::{Event, EventName, ImapUrl, json};
//!
//! let message = ImapUrl::server("imap.example.org", None)?
//!     .with_user("john@example.org")
//!     .with_mailbox("INBOX", Some(1411487714))
//!     .with_uid(6);
//! let event = Event::builder(
//!     EventName::MessageNew,
//!     message.into(),
//!     "2026-08-20T13:34:14.966+02:00".parse()?,
//! )
//! .message_size(976)
//! .service("lmtp")
//! .build()?;
//! let text = json::to_string(&event);
//! assert_eq!(json::from_slice(text.as_bytes())?.event, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Names outside the registry that begin with `vnd.` are kept and forwarded untouched (RFC 5423,
//! section 6). What must stand on which event is in [`binding`].

pub mod binding;
mod builder;
pub mod cloudevents;
mod content;
mod envelope;
mod event;
mod event_id;
mod flags;
mod imap_url;
pub mod json;
pub mod limits;
mod modseq;
pub mod mutf7;
mod name;
mod parameter;
mod percent;
mod repair;
mod timestamp;
mod uid_set;
mod uri;

pub use binding::{BindingError, Presence};
pub use builder::Builder;
pub use content::MessageContent;
pub use envelope::{Envelope, InvalidEnvelope};
pub use event::Event;
pub use event_id::{EventId, InvalidEventId};
pub use flags::{Flag, Flags, InvalidFlag};
pub use imap_url::{ImapUrl, InvalidImapUrl};
pub use modseq::Modseq;
pub use name::{EventGroup, EventName, InvalidName, OtherName, UnknownGroup};
pub use parameter::ParameterName;
pub use repair::Repair;
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use uid_set::{InvalidUidSet, UidSet};
pub use uri::{InvalidUri, OtherUri, Uri};

/// Holds the README's examples to what the code does.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The value of a parameter outside the registry: any JSON.
pub type Value = serde_json::Value;

/// The JSON Schema of the strict form (draft 2020-12).
pub const SCHEMA: &str = include_str!("../schema/event.schema.json");
