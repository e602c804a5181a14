//! What was changed about an event on its way in.

use std::fmt;

/// One change made so that an event says strictly what it meant.
///
/// Names what was changed and how, never the value: a repair may be shown where the value may
/// not.
///
/// ```
/// use mail_event::json;
///
/// let parsed = json::from_slice(
///     br#"{"event":"QuotaChange","uri":"imap://h/","timestamp":"2026-08-20T11:34:14Z"}"#,
/// )?;
/// assert_eq!(parsed.repairs[0].to_string(), "timestamp was rewritten in its strict form");
/// # Ok::<(), json::JsonError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repair {
    parameter: Box<str>,
    change: Change,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Change {
    Rewritten,
    Dropped(&'static str),
    Moved(Box<str>),
    Taken(&'static str),
}

impl Repair {
    /// The value said the same in another form.
    #[must_use]
    pub fn rewritten(parameter: &str) -> Self {
        Self { parameter: parameter.into(), change: Change::Rewritten }
    }

    /// The value could not stay, because of `reason`.
    #[must_use]
    pub fn dropped(parameter: &str, reason: &'static str) -> Self {
        Self { parameter: parameter.into(), change: Change::Dropped(reason) }
    }

    /// The value was kept under another name.
    #[must_use]
    pub fn moved(parameter: &str, to: &str) -> Self {
        Self { parameter: parameter.into(), change: Change::Moved(to.into()) }
    }

    /// The value was missing, and stood in parameter `from`.
    #[must_use]
    pub fn taken(parameter: &str, from: &'static str) -> Self {
        Self { parameter: parameter.into(), change: Change::Taken(from) }
    }

    /// The parameter changed; `event` for the event's name.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.parameter
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Rewritten => write!(f, "{} was rewritten in its strict form", self.parameter),
            Change::Dropped(reason) => write!(f, "{} was dropped: {reason}", self.parameter),
            Change::Moved(to) => write!(f, "{} was kept as {to}", self.parameter),
            Change::Taken(from) => write!(f, "{} was taken from {from}", self.parameter),
        }
    }
}
