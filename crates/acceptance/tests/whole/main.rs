//! The whole way: real mail software, the hub, its stream.

#[cfg(test)]
mod agents;
#[cfg(test)]
mod demand;
#[cfg(test)]
mod disk_full;
#[cfg(test)]
mod dovecot;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod webhook;
