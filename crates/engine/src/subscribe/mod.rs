//! What a subscription asks for: which events, and which of their parameters.

mod choices;
mod condition;
mod demand;
mod explain;
mod filter;
mod forms;
mod held;
mod index;
mod nearest;
mod pattern;
mod projection;
mod selection;

pub use choices::ParametersOf;
pub use demand::{Demand, Tally};
pub use explain::Explanation;
pub use filter::{Filter, Verdict};
pub use forms::FlagForms;
pub use index::Index;
pub use pattern::{InvalidPattern, Pattern};
pub(crate) use projection::EVENT_ID;
pub use projection::{Projection, Stamp};
pub use selection::{InvalidSelection, Selection};
