//! Where events come from, one module per dialect.
//!
//! A source turns what it sees into [`Observation`](postbell_engine::Observation)s and hands
//! them to an [`Intake`]; it decides nothing about what they mean. `publish` is the exception:
//! publishers hand in finished events.

mod door;

pub use door::{Batch, Count, Health, Intake, Snapshot, State, Stop, Stopped};
