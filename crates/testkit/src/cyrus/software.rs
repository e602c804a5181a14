//! Where a running Cyrus's programs are, for tests that run them themselves.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Cyrus, PROGRAMS};
use crate::Error;

impl Cyrus {
    /// Where one of its programs is, such as `cyr_info`.
    #[must_use]
    pub fn path_of(&self, program: &str) -> PathBuf {
        self.tree.path(PROGRAMS).join(program)
    }

    /// `cyrus.conf`: which services there are.
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.etc("cyrus.conf")
    }

    /// `LD_LIBRARY_PATH` for its programs.
    ///
    /// # Errors
    /// [`Error::Io`] where the tree is not whole.
    pub fn library_path(&self) -> Result<OsString, Error> {
        self.tree.library_path()
    }
}
