//! What postbell decides: normalise, match, deliver; no clock, disk or socket.

mod observation;

pub use observation::{
    Actor, Certainty, Identity, Mailbox, Message, Observation, Origin, Origination, Quota, Status,
    What,
};
