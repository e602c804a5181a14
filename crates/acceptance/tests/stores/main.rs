//! The scenarios, on each store.

#[cfg(test)]
mod cyrus;
#[cfg(test)]
mod dovecot;
#[cfg(test)]
mod expected;
#[cfg(test)]
mod hibernation;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod shared;
