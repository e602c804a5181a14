//! Tests only: the whole way, driven by real mail software.
//!
//! A [`Bench`] is a hub on a temporary folder that watches somebody's mail, and a stream that
//! tells what it says. What the tests expect stands readable in `tests/whole/snapshots`.

mod bench;
pub mod scenario;
mod script;
mod told;

pub use bench::{Bench, Door};
pub use script::Script;
pub use told::Told;
