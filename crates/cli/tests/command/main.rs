//! The command as people and programs meet it: the real binary, its words and its exit codes.

mod files;
mod help;
mod hub;
mod mistakes;
mod run;
