//! What publishers hand in, made strict and given its id.

use mail_event::json::{self, JsonError, Profile};
use mail_event::{EventId, Repair};

use crate::{Keys, Policy, event_id};

/// An event handed in by a publisher, fit for the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// Its id: its own, or one made for it.
    pub id: EventId,
    /// What it is matched on.
    pub keys: Keys,
    /// Its strict form, where the octets handed in are not that already.
    pub rewritten: Option<Vec<u8>>,
    /// What was changed, in the order it was found.
    pub repairs: Vec<Repair>,
}

/// Looks at an event handed in by `source`: strict ones are kept as they are, others are read
/// leniently and written anew.
///
/// The id is the event's own `vnd.postbell.eventId`; else it is made from `identity`, where the
/// publisher gave one beside the event; else from the strict octets.
///
/// # Errors
///
/// Where it can't be understood, or breaks the binding.
pub fn admit(
    policy: &Policy,
    source: &str,
    json: &[u8],
    identity: Option<&[u8]>,
) -> Result<Admitted, JsonError> {
    let _ = policy;
    let parsed = json::from_slice(json)?;
    let strict = json::to_vec(&parsed.event, Profile::Strict);
    let checked = json::check(&strict).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let id = checked
        .event_id
        .unwrap_or_else(|| event_id(source, identity.unwrap_or(&strict), 0, checked.unix_millis));
    let keys = Keys::new(&checked, &strict);
    Ok(Admitted { id, keys, rewritten: Some(strict), repairs: parsed.repairs })
}
