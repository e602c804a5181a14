//! For tests only: contract suites, a pretend clock, launchers of real servers.
