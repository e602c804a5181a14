//! A certificate and its key, as they stand in files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::TlsError;

/// A server's certificate, with those that lead to its authority.
#[derive(Clone)]
pub struct Certificate {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    ends: Timestamp,
}

impl Certificate {
    /// Reads the PEM file at `path`, the server's own certificate first.
    ///
    /// # Errors
    ///
    /// Where it can't be read, or holds none.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates("tls.certificate", path)?;
        let malformed = |why| TlsError::Malformed {
            key: "tls.certificate".to_owned(),
            path: path.to_owned(),
            why,
        };
        let Some(own) = chain.first() else {
            let (key, path) = ("tls.certificate".to_owned(), path.to_owned());
            return Err(TlsError::Nothing { key, path, wanted: CERTIFICATE });
        };
        let (_, parsed) =
            X509Certificate::from_der(own).map_err(|error| malformed(error.to_string()))?;
        let ends = parsed.validity().not_after.timestamp();
        let ends = Timestamp::from_second(ends).map_err(|error| malformed(error.to_string()))?;
        let names = server_names(&parsed).map_err(malformed)?;
        Ok(Self { path: path.to_owned(), chain, names, ends })
    }

    /// The certificates in the file, the server's own first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The names and addresses it is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A name by which the server can be asked so that the certificate is for it.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        // Any name will do in the star's place.
        self.names.first().map(|name| name.replacen('*', "postbell", 1))
    }

    /// When it ends.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Whether it has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ends <= Timestamp::now()
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.join(", ");
        write!(f, "{}: for {names} until {}", self.path.display(), self.ends)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({self})")
    }
}

/// What is in the name of the server alone: the common name has not been looked at by anybody for
/// years (RFC 9525, section 2).
fn server_names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        })
        .collect())
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Every certificate in a PEM file; `key` is what names the file in the configuration.
pub(crate) fn read_certificates(
    key: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (text, _) = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            let (key, path) = (key.to_owned(), path.to_owned());
            Err(TlsError::Nothing { key, path, wanted: CERTIFICATE })
        }
        Err(error) => {
            let why = in_words(&error);
            Err(TlsError::Malformed { key: key.to_owned(), path: path.to_owned(), why })
        }
    }
}

/// The key in a PEM file, which is refused where its mode has a bit of `forbidden`; `key` is what
/// names the file in the configuration.
pub(super) fn read_key(
    key: &str,
    path: &Path,
    forbidden: u32,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (text, mode) = read(key, path)?;
    let (key, path) = (key.to_owned(), path.to_owned());
    if mode & forbidden != 0 {
        let change = if forbidden == 0o007 { "o" } else { "go" };
        return Err(TlsError::Exposed { key, change, path, mode });
    }
    let wanted = "private key in PEM without a password";
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Nothing { key, path, wanted })
}

/// A file up to a bound, and its mode.
fn read(key: &str, path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let io = |source| TlsError::Io { key: key.to_owned(), path: path.to_owned(), source };
    // Looked at before it is opened: a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is no file")));
    }
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    let mut text = Vec::new();
    let octets = file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut text).map_err(io)?;
    if octets as u64 > FILE_OCTETS_MAX {
        return Err(io(io::Error::other(format!("it is larger than {FILE_OCTETS_MAX} octets"))));
    }
    Ok((text, mode))
}

fn in_words(error: &pem::Error) -> String {
    error.to_string()
}

/// A chain has some kilobytes, and the authorities of a whole system 250.
const FILE_OCTETS_MAX: u64 = 1 << 20;

const CERTIFICATE: &str = "certificate in PEM";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorities.pem");
        let max = usize::try_from(FILE_OCTETS_MAX).unwrap();
        std::fs::write(&path, vec![b'\n'; max]).unwrap();
        assert_eq!(read("key", &path).unwrap().0.len(), max);
        std::fs::write(&path, vec![b'\n'; max + 1]).unwrap();
        let error = crate::sources::chain(&read("key", &path).unwrap_err());
        assert!(error.contains("larger than 1048576 octets"), "{error}");
    }
}
