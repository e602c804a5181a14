//! The Dovecot source, fed with a spool as our script writes it.

#[cfg(test)]
mod follow;
#[cfg(test)]
mod holes;
#[cfg(test)]
mod law;
#[cfg(test)]
mod real;
#[cfg(test)]
mod rig;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
