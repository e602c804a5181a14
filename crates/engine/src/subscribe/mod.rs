//! What a subscription asks for: which events, and which of their parameters.

mod filter;
mod projection;
mod selection;

pub use filter::Filter;
pub use projection::{Projection, Stamp};
pub use selection::{InvalidSelection, Selection};
