//! The Maildir source at work on real folders, with and without real mail software.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test's helpers may fail as a test may, and print what was measured"
)]

mod agents;
mod deliveries;
mod dovecot;
mod hostile;
mod law;
mod rig;
mod scale;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
