//! `postbell setup` against real mail software with a configuration as it is installed.

#[cfg(test)]
mod command;
#[cfg(test)]
mod cyrus;
#[cfg(test)]
mod dovecot;
