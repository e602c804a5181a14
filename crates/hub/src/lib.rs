//! The hub: configuration, wiring, supervision, HTTP API, metrics.
