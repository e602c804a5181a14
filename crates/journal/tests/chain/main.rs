//! What `verify` finds in a journal.

#[cfg(test)]
mod changes;
