//! Where events go, one module per transport.

pub mod stream;
pub mod webhook;
