//! The JSON form: one flat object, `event` and RFC 5423's parameter names as they are.
//!
//! Output is strict, and judged by the published [`SCHEMA`](crate::SCHEMA). Input may be
//! lenient: [`from_slice`] makes of it what it must have meant and lists each [`Repair`].
//! [`check`] is for the many events that are strict already: it allocates nothing and the bytes
//! can be kept as they are.

mod check;
mod members;
mod read;
mod spelling;
mod write;

pub use check::{Checked, NotStrict, Span, check, check_spelled};
pub(crate) use members::depth;
pub use read::from_slice;
pub use spelling::{Spelled, Spelling};
pub(crate) use write::string as write_string;
pub use write::{canonical, to_string, to_vec};

use crate::{BindingError, Event, InvalidName, Repair};

/// How an event is written.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Profile {
    /// As the schema has it.
    #[default]
    Strict,
    /// As consumers of Cyrus' notifications expect it: flags joined by spaces, tags by commas,
    /// MODSEQ always a number.
    Cyrus,
}

/// An event as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The event, strict now.
    pub event: Event,
    /// What had to be changed for that, in the order it was found; empty if it was strict.
    pub repairs: Vec<Repair>,
}

/// Why bytes are not an event.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It breaks the binding.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The event's own name holds a byte that may not stand in one (R17).
    #[error("event: {name:?}: {source}")]
    EventName {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// A parameter is given twice.
    #[error("{parameter}: given twice")]
    Duplicate {
        /// The parameter.
        parameter: String,
    },
    /// A parameter's value can't be understood.
    #[error("{parameter}: {message}")]
    Invalid {
        /// The parameter.
        parameter: String,
        /// What is wrong with it.
        message: String,
    },
    /// `event`, `uri` or `timestamp` is missing.
    #[error("{parameter}: missing")]
    Missing {
        /// The parameter.
        parameter: &'static str,
    },
    /// A parameter's name holds a byte that may not stand in one (R17).
    #[error("{name:?}: {source}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    Syntax(String),
    /// Longer than [`EVENT_OCTETS_MAX`](crate::limits::EVENT_OCTETS_MAX).
    #[error("an event of {octets} octets is over the limit")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

impl JsonError {
    /// The parameter at fault, where one is.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Binding(error) => Some(error.parameter()),
            Self::Duplicate { parameter } | Self::Invalid { parameter, .. } => Some(parameter),
            Self::Missing { parameter } => Some(parameter),
            Self::EventName { .. } => Some("event"),
            Self::Name { name, .. } => Some(name),
            Self::Syntax(_) | Self::TooLong { .. } => None,
        }
    }

    /// The requirement broken, where one is.
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Binding(error) => Some(error.rule()),
            Self::EventName { .. } | Self::Name { .. } => Some("R17"),
            Self::Invalid { parameter, .. } => form(parameter),
            Self::Missing { parameter: "uri" } => Some("R145"),
            Self::Missing { parameter: "timestamp" } => Some("R137"),
            Self::Missing { .. } => Some("R15"),
            Self::Duplicate { .. } | Self::Syntax(_) | Self::TooLong { .. } => None,
        }
    }
}

/// The requirement that says how a parameter is written, where one does.
fn form(parameter: &str) -> Option<&'static str> {
    match parameter {
        "envelope" => Some("R110"),
        "flagNames" => Some("R114"),
        "timestamp" => Some("R140"),
        "uidset" => Some("R144"),
        "uri" => Some("R147"),
        _ => None,
    }
}
