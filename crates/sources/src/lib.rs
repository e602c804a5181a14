//! Where events come from, one module per dialect.
//!
//! A source turns what it sees into [`Observation`](postbell_engine::Observation)s and hands
//! them to an [`Intake`]; it decides nothing about what they mean.

mod ask;
pub mod cyrus;
mod door;
pub mod dovecot;
pub mod maildir;
mod place;
pub mod publish;
mod reconcile;
mod saved;
mod secret;
mod spool;
mod standing;
mod words;

pub use ask::{Authorised, Authoriser, Ends, Master, SharedError, Token};
pub use door::{Batch, Count, Health, Intake, Pair, Snapshot, State, Stop, Stopped};
pub use place::Place;
pub use secret::Secret;
