//! The `postbell` command.

fn main() {}
