//! `postbell serve` as a process of its own: what the README promises, and what `kill -9` can't take.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod cyrus;
#[cfg(test)]
mod ended;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod fsync;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod log;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod systemd;
