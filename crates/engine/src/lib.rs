//! What postbell decides: normalise, match, deliver; no clock, disk or socket.

mod access;
mod admit;
mod ceiling;
mod deliver;
mod identity;
mod keys;
mod members;
mod memory;
mod names;
mod normalise;
mod observation;
mod policy;
mod shared;
mod store;
mod stores;
mod subscribe;
mod telling;
mod words;

pub use access::{InvalidScope, Principal, Role, Scope};
pub use admit::{Admitted, Inadmissible, admit};
pub use ceiling::Ceiling;
pub use deliver::{
    Attempt, BatchLimits, Breaker, Delivery, Lanes, Moment, Next, Outcome, Pace, Schedule, Turn,
};
pub use identity::event_id;
pub use keys::{HEAD_OCTETS, Keys, View};
pub use members::timestamp;
pub use memory::Memory;
pub use names::{DISABLED, GAP};
pub use normalise::{Identified, Meaning, Refused, Suppressed, normalise};
pub use observation::{
    Actor, Certainty, Identity, Mailbox, Message, Observation, Origin, Origination, Quota, Status,
    What,
};
pub use policy::{FlagForm, Groups, InvalidFlagForm, Policy};
pub use shared::Shared;
pub use store::{InvalidStore, Store};
pub use stores::Stores;
pub use subscribe::{
    Demand, Explanation, Filter, FlagForms, Index, InvalidPattern, InvalidSelection, ParametersOf,
    Pattern, Projection, Selection, Stamp, Tally, Verdict,
};
pub use words::in_words;
