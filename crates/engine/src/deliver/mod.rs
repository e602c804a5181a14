//! What becomes of a delivery: done, tried again, given up; and which is attempted next.

mod delivery;
mod lanes;

pub use delivery::{Delivery, Moment, Next, Outcome, Schedule};
pub use lanes::{Attempt, Lanes};
