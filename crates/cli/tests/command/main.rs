//! The command as people and programs meet it: the real binary, its words and its exit codes.

#[cfg(test)]
mod busy;
#[cfg(test)]
mod denials;
#[cfg(test)]
mod files;
#[cfg(test)]
mod help;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod on;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod run;
#[cfg(test)]
mod threats;
#[cfg(test)]
mod tls;
