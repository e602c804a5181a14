//! The same scenarios on every store.
//!
//! A scenario does what people's mail programs do, through the protocols they speak, and knows
//! nothing of the store behind them. What is told of it is written down whole, parameter by
//! parameter, and held against one file that a person can read, `tests/stores/expected`, in which
//! every store's part is marked with a rule that says why it differs (`tests/stores/rules.rs`).

mod account;
pub mod plays;
mod stage;
mod store;

pub(crate) use account::Account;
pub use stage::Stage;
pub use store::{Deed, MARKER, MailStore};
