//! The whole way: real mail software, the hub, its stream.

mod agents;
mod disk_full;
mod dovecot;
mod quota;
mod restart;
mod webhook;
