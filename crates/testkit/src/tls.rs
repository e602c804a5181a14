//! Certificates for tests: an authority of one's own, and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::Error;

pub use rcgen::SanType;

/// Who signs certificates, and the folder they are kept in.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file, which its owner alone may read.
    pub key: PathBuf,
}

/// A day: year, month and day of the month.
pub type Day = (i32, u8, u8);

/// Long after any test.
pub const FAR: Day = (2090, 1, 1);

impl Authority {
    /// A new one, whose own certificate is `NAME.pem` in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_after = date_time_ymd(FAR.0, FAR.1, FAR.2);
        let key = KeyPair::generate().map_err(refused("make a key"))?;
        let own = params.self_signed(&key).map_err(refused("sign an authority"))?;
        let path = folder.join(format!("{name}.pem"));
        write(&path, &own.pem(), 0o644)?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// Signs a server's certificate for `names`, as `FILE.pem` and `FILE.key` in the folder. What is
    /// there already is replaced at once, the certificate first.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be written.
    pub fn server(&self, file: &str, names: &[&str], ends: Day) -> Result<Pair, Error> {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).map_err(refused("take a name"))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, params, ends)
    }

    /// Signs a client's certificate whose common name is `name`, with `names` beside it.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be written.
    pub fn client(
        &self,
        file: &str,
        name: &str,
        names: Vec<SanType>,
        ends: Day,
    ) -> Result<Pair, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params, ends)
    }

    fn sign(&self, file: &str, mut params: CertificateParams, ends: Day) -> Result<Pair, Error> {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
        let key = KeyPair::generate().map_err(refused("make a key"))?;
        let signed = params.signed_by(&key, &self.issuer).map_err(refused("sign a certificate"))?;
        let pair = Pair {
            certificate: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        };
        write(&pair.certificate, &signed.pem(), 0o644)?;
        write(&pair.key, &key.serialize_pem(), 0o600)?;
        Ok(pair)
    }
}

/// Writes beside the place and moves there, so that nobody reads half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let beside = path.with_extension("new");
    let doing = || Error::io(format!("write {}", path.display()));
    std::fs::write(&beside, text).map_err(doing())?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).map_err(doing())?;
    std::fs::rename(&beside, path).map_err(doing())
}

fn refused(doing: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let doing = doing.to_owned();
    move |error| Error::io(doing)(std::io::Error::other(error))
}
