//! The Cyrus source and the process in notifyd's place, against senders of our own and a real
//! Cyrus.

#[cfg(test)]
mod asked;
#[cfg(test)]
mod ended;
mod notifyd;
#[cfg(test)]
mod real;
#[cfg(test)]
mod rig;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
