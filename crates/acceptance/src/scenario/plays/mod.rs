//! What is played.

pub mod delivery;
pub mod flags;
pub mod mailboxes;
pub mod messages;
pub mod quota;
pub mod removal;
pub mod sessions;
pub mod sharing;
pub mod truth;
pub mod web;
