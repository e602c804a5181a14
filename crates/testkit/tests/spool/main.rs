//! What postbell's script in a real Dovecot writes into the spool, and what that costs nobody.

#[cfg(test)]
mod demand;
#[cfg(test)]
mod harm;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod parallel;
#[cfg(test)]
mod script;
#[cfg(test)]
mod spool;
