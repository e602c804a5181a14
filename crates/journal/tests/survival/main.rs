//! What the journal survives: being killed anywhere, failing and full disks, damaged files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helps a test fails with it")]

mod crash;
mod damage;
mod faults;
mod full;
mod loss;
mod support;
