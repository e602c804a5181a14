//! Where events come from, one module per dialect.
//!
//! A source turns what it sees into [`Observation`](postbell_engine::Observation)s and hands
//! them to an [`Intake`]; it decides nothing about what they mean.

pub mod cyrus;
mod door;
#[cfg_attr(not(test), expect(dead_code, reason = "not everything is called yet"))]
pub mod dovecot;
pub mod maildir;
pub mod publish;
mod saved;
mod spool;
mod standing;

pub use door::{Batch, Count, Health, Intake, Pair, Snapshot, State, Stop, Stopped};
