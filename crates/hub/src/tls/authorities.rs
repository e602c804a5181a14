//! Whose certificates are taken of those the hub itself connects to.

use std::path::Path;

use postbell_sinks::webhook::Tls;

use super::TlsError;
use super::certificate::read_certificates;

/// What webhooks and the collector are reached with: Mozilla's authorities, and those of a file, where one
/// is named. Waits for the disk.
pub(crate) fn outward(file: &Path) -> Result<Tls, TlsError> {
    const KEY: &str = "tls.authorities";
    let further = match file.as_os_str().is_empty() {
        true => Vec::new(),
        false => read_certificates(KEY, file)?,
    };
    Tls::trusting_also(further).map_err(|error| TlsError::Malformed {
        key: KEY.to_owned(),
        path: file.to_owned(),
        why: error.to_string(),
    })
}
