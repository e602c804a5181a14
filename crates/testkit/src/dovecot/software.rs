//! Where a running Dovecot's programs are, for tests that run them themselves.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Dovecot, MODULES};
use crate::Error;

impl Dovecot {
    /// One of its programs, such as `usr/bin/doveconf`.
    #[must_use]
    pub fn program(&self, relative: &str) -> PathBuf {
        self.tree.path(relative)
    }

    /// The folder of its modules.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.tree.path(MODULES)
    }

    /// `LD_LIBRARY_PATH` for its programs.
    ///
    /// # Errors
    /// [`Error::Io`] where the tree is not whole.
    pub fn library_path(&self) -> Result<OsString, Error> {
        self.tree.library_path()
    }
}
