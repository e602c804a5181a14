//! Nothing lost, and no harm to mail: a real server, its clients and the hub as a process of its
//! own, while one of them is killed, stopped or cut off.
//!
//! Whatever the server answered with OK is written down by the clients, and compared with what the
//! journal has.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod client;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod cyrus;
#[cfg(test)]
mod dovecot;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod spool;
#[cfg(test)]
mod store;
#[cfg(test)]
mod systemd;
