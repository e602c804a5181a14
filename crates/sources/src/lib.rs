//! Where events come from, one module per dialect.
