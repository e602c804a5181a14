//! Which parameters of an event leave, and what is put on it as it does.

use mail_event::EventId;

use crate::View;

/// What a delivery carries beside its event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// The event's id.
    pub id: EventId,
    /// The record's number.
    pub seq: u64,
    /// The number of the delivery before it, if there was one.
    pub prev_seq: Option<u64>,
}

/// A compiled choice of parameters.
#[derive(Clone, Debug)]
pub struct Projection {}

impl Projection {
    /// Appends the event as it is delivered; `view` is of `json`.
    pub fn write(&self, out: &mut Vec<u8>, json: &[u8], view: &View<'_>, stamp: &Stamp) {
        let _ = (view, stamp);
        out.extend_from_slice(json);
    }
}
