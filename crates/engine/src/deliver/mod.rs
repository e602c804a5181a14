//! What becomes of a delivery: done, tried again, given up; and which is attempted next.

mod delivery;
mod lanes;
mod pace;

pub use delivery::{Delivery, Moment, Next, Outcome, Schedule};
pub use lanes::{Attempt, Lanes};
pub use pace::Pace;
