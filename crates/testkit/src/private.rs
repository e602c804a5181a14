//! Files with something secret in them.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::Error;

/// Makes a file that only its owner may read, as postbell wants those that hold a password.
///
/// # Errors
/// [`Error::Io`] where it can't be written, or is there already.
pub fn private_file(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io("write a secret"))
}
