//! What becomes of a delivery: done, tried again, given up; and which is attempted next.

mod breaker;
mod delivery;
mod lanes;
mod pace;

pub use breaker::{Breaker, Turn};
pub use delivery::{Delivery, Moment, Next, Outcome, Schedule};
pub use lanes::{Attempt, BatchLimits, Lanes};
pub use pace::Pace;
