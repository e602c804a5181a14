//! Where events go, one module per transport.
