//! Where events go, one module per transport.

pub mod collector;
pub mod command;
pub mod stream;
pub mod webhook;
